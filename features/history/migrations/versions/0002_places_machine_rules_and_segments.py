"""Where a fact took place, the rule that calls it machine-made, tags and segments."""

import sqlalchemy as sa
from alembic import op

from features.history.tables import Document, RowId, UtcMoment

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_RULE_IN_ATTRIBUTES = {
    "postgresql": "attributes ->> 'machine_rule'",
    "sqlite": "json_extract(attributes, '$.machine_rule')",
}


def upgrade() -> None:
    # Added one by one: a table that is altered by copying would be copied whole.
    op.add_column(
        "interactions",
        sa.Column("place", sa.String(length=16), nullable=True, comment="models.domain.interaction.Place"),
    )
    op.add_column(
        "interactions",
        sa.Column(
            "machine_rule",
            sa.String(length=32),
            nullable=True,
            comment="models.domain.machine_made.MachineRule; null: a person",
        ),
    )
    said = _RULE_IN_ATTRIBUTES[op.get_bind().dialect.name]
    op.execute(f"UPDATE interactions SET machine_rule = coalesce({said}, 'stated') WHERE machine_made")  # noqa: S608
    op.drop_index("ix_interactions_decision_id", table_name="interactions")
    answers = sa.text("decision_id IS NOT NULL")
    op.create_index(
        "ix_interactions_decision_id",
        "interactions",
        ["decision_id"],
        postgresql_where=answers,
        sqlite_where=answers,
    )
    op.create_table(
        "tags",
        sa.Column("tag_id", RowId, autoincrement=True, nullable=False),
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("tag", sa.String(length=64), nullable=False),
        sa.Column("present", sa.Boolean(), nullable=False, comment="false where the tag was taken off"),
        sa.Column("since", UtcMoment, nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.customer_id"], name="fk_tags_customer_id"),
        sa.PrimaryKeyConstraint("tag_id", name="pk_tags"),
        sa.UniqueConstraint(
            "customer_id", "tag", "since", "present", name="uq_tags_customer_id_tag_since_present"
        ),
    )
    op.create_index("ix_tags_tag", "tags", ["tag"])
    op.create_table(
        "segments",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", Document, nullable=False, comment="features.segments.language.Segment"),
        sa.Column("created_at", UtcMoment, nullable=False),
        sa.PrimaryKeyConstraint("name", "version", name="pk_segments"),
    )


def downgrade() -> None:
    op.drop_table("segments")
    op.drop_table("tags")
    op.drop_index("ix_interactions_decision_id", table_name="interactions")
    op.create_index("ix_interactions_decision_id", "interactions", ["decision_id"])
    op.drop_column("interactions", "machine_rule")
    op.drop_column("interactions", "place")

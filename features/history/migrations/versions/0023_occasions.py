"""Rules that decide on dates and facts of customers, and what was decided by them."""

import sqlalchemy as sa
from alembic import op

from features.history.tables import Document, UtcMoment

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_SELDOM = sa.text("kind IN ('called', 'converted', 'followed', 'issue_raised', 'purchased', 'registered')")


def upgrade() -> None:
    op.create_table(
        "occasions",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True, comment="the latest holds"),
        sa.Column("document", Document, comment="serving.occasions.occasion.Occasion; null: deleted"),
        sa.Column("created_at", UtcMoment(), nullable=False),
    )
    op.create_table(
        "occasion_passes",
        sa.Column("name", sa.String(64), primary_key=True, comment="of the occasion"),
        sa.Column("passed_at", UtcMoment(), comment="when the last complete pass began; null: look at once"),
        sa.Column("holder", sa.String(36), comment="the process that is at it"),
        sa.Column("held_until", UtcMoment(), comment="by the machine's clock"),
    )
    op.create_table(
        "occurrences",
        sa.Column("decision_id", sa.String(64), primary_key=True, comment="of name, customer and occurrence"),
        sa.Column("name", sa.String(64), nullable=False, comment="of the occasion"),
        sa.Column("customer_id", sa.String(128), nullable=False),
        sa.Column(
            "recorded_as",
            sa.String(128),
            nullable=False,
            server_default="",
            comment="the id that the row came with; empty where that is customer_id",
        ),
        sa.Column(
            "occurrence",
            sa.String(32),
            nullable=False,
            comment="which one of the customer; empty once erased",
        ),
        sa.Column("due_at", UtcMoment(), comment="null once erased"),
        sa.Column("settled_at", UtcMoment(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False, comment="serving.occasions.book.OccurrenceStatus"),
        sa.Column("contacted", sa.Boolean(), nullable=False, comment="the decision is to contact"),
        sa.Column("reason", sa.String(128), comment="why it was dropped"),
    )
    op.create_index("ix_occurrences_customer_id", "occurrences", ["customer_id"])
    op.create_index("ix_occurrences_name_customer_id", "occurrences", ["name", "customer_id"])
    op.create_index(
        "ix_interactions_seldom",
        "interactions",
        ["kind", "occurred_at"],
        postgresql_where=_SELDOM,
        sqlite_where=_SELDOM,
    )


def downgrade() -> None:
    op.drop_index("ix_interactions_seldom", "interactions")
    for table in ("occurrences", "occasion_passes", "occasions"):
        op.drop_table(table)

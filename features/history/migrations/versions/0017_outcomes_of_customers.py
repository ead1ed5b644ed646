"""What came of every customer of a campaign, kept up to date by settling, and whom there is still to settle.

Both begin empty: the first time that rewards are settled everybody is noted.
"""

import sqlalchemy as sa
from alembic import op

from features.history.tables import RowId, UtcMoment

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "rewards",
        sa.Column(
            "closes_at",
            UtcMoment(),
            nullable=True,
            comment="when it becomes final; null where it was settled before this was kept",
        ),
    )
    open_ones = (
        sa.text("final IS false") if op.get_bind().dialect.name == "postgresql" else sa.text("final IS 0")
    )
    op.create_index(
        "ix_rewards_closes_at", "rewards", ["closes_at"], postgresql_where=open_ones, sqlite_where=open_ones
    )
    op.create_table(
        "outcomes",
        sa.Column("campaign_id", sa.String(128), primary_key=True),
        sa.Column("arm", sa.String(16), primary_key=True),
        sa.Column("customer_id", sa.String(128), primary_key=True),
        sa.Column("n_decisions", sa.Integer, nullable=False),
        sa.Column("contacted", sa.Boolean, nullable=False, comment="a contact was made or is planned"),
        sa.Column("cost_minor", sa.Float(53), nullable=False),
        sa.Column("converted", sa.Boolean, nullable=False),
        sa.Column(
            "value_minor", sa.Float(53), nullable=False, comment="of conversions since the first decision"
        ),
        sa.Column("before_minor", sa.Float(53), nullable=False, comment="of conversions in the pre-period"),
        sa.Column(
            "interaction_id", RowId, nullable=False, comment="the newest fact of all when this was worked out"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_outcomes_customer_id", "outcomes", ["customer_id"])
    op.create_table(
        "channel_outcomes",
        sa.Column("campaign_id", sa.String(128), primary_key=True),
        sa.Column("channel", sa.String(64), primary_key=True),
        sa.Column("customer_id", sa.String(128), primary_key=True),
        sa.Column("planned", sa.Integer, nullable=False, comment="this and the next five: decisions"),
        *(
            sa.Column(name, sa.Integer, nullable=False)
            for name in ("sent", "delivered", "opened", "clicked", "converted")
        ),
        sa.Column("cost_minor", sa.Float(53), nullable=False),
        sa.Column("value_minor", sa.Float(53), nullable=False, comment="of their rewards"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_channel_outcomes_customer_id", "channel_outcomes", ["customer_id"])
    op.create_table(
        "unsettled",
        sa.Column("note_id", RowId, primary_key=True, autoincrement=True),
        sa.Column("campaign_id", sa.String(128), nullable=False),
        sa.Column(
            "customer_id",
            sa.String(128),
            nullable=False,
            comment="whose rewards and outcomes are not up to date",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_unsettled_campaign_id_customer_id", "unsettled", ["campaign_id", "customer_id"])
    op.create_table(
        "settlement_marks",
        sa.Column("mark", sa.Integer, primary_key=True, autoincrement=False, comment="0: there is one row"),
        sa.Column(
            "decided_at",
            UtcMoment(),
            nullable=False,
            comment="up to this decision all are noted or settled",
        ),
        sa.Column("decision_id", sa.String(64), nullable=False),
        sa.Column("interaction_id", RowId, nullable=False, comment="the same of facts"),
    )


def downgrade() -> None:
    for name in ("settlement_marks", "unsettled", "channel_outcomes", "outcomes"):
        op.drop_table(name)
    op.drop_index("ix_rewards_closes_at", table_name="rewards")
    op.drop_column("rewards", "closes_at")

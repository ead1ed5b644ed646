"""Requests that were looked at, from which it is known who is still expected to ask; the shadow prices of a decision."""

import sqlalchemy as sa
from alembic import op

from features.history.tables import Document, RowId, UtcMoment

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "asks",
        sa.Column("ask_id", RowId, primary_key=True, autoincrement=True),
        sa.Column("asked_at", UtcMoment(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False, comment="requests that it stands for"),
        sa.Column("campaigns", Document, nullable=False, comment="ids of those that were asked"),
        sa.Column("options", Document, nullable=False, comment="serving.pacing.ask.Option"),
    )
    op.create_index("ix_asks_asked_at", "asks", ["asked_at"])
    op.add_column(
        "decisions",
        sa.Column(
            "shadow_prices",
            sa.Text(),
            nullable=True,
            comment="JSON: what a message of each channel took of what was scarce, minor units; null for nothing",
        ),
    )


def downgrade() -> None:
    op.drop_column("decisions", "shadow_prices")
    op.drop_table("asks")

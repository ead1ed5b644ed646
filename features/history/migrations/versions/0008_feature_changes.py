"""Announcements of feature rows that are being replaced."""

import sqlalchemy as sa
from alembic import op

from features.history.tables import RowId, UtcMoment

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "feature_changes",
        sa.Column("change_id", RowId, autoincrement=True, nullable=False),
        sa.Column("customer_id", sa.String(length=128), nullable=True, comment="null: everybody"),
        sa.Column("as_of", UtcMoment, nullable=False, comment="moment of the row that is being written"),
        sa.Column("announced_at", UtcMoment, nullable=False),
        sa.PrimaryKeyConstraint("change_id", name="pk_feature_changes"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("feature_changes")

"""When a decision's message was first opened and first followed by a conversion."""

import sqlalchemy as sa
from alembic import op

from features.history.tables import UtcMoment

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "rewards",
        sa.Column(
            "opened_at", UtcMoment, nullable=True, comment="first open, or click where no open was told"
        ),
    )
    op.add_column("rewards", sa.Column("converted_at", UtcMoment, nullable=True, comment="first conversion"))
    # The moments are in the interactions: what is not final is settled again, before anything is trained.
    op.execute("UPDATE rewards SET final = false WHERE converted OR opened")


def downgrade() -> None:
    op.drop_column("rewards", "converted_at")
    op.drop_column("rewards", "opened_at")

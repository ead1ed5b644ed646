"""Which channel the optimiser chose for each customer at their first decision, in the holdout too.

Outcomes that are settled already stay without: what it would have chosen for the holdout was not logged, and a treatment of that
time has nobody to be compared with.
"""

import sqlalchemy as sa
from alembic import op

from features.history.tables import UtcMoment

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "outcomes",
        sa.Column(
            "first_decided_at",
            UtcMoment(),
            nullable=True,
            comment="the first decision of the arm; null where it was settled before this was kept",
        ),
    )
    op.add_column(
        "outcomes",
        sa.Column(
            "first_choice",
            sa.String(64),
            nullable=True,
            comment="channel that the optimiser chose at it, empty for no contact; null where that is not known",
        ),
    )


def downgrade() -> None:
    op.drop_column("outcomes", "first_choice")
    op.drop_column("outcomes", "first_decided_at")

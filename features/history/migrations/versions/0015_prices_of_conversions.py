"""Whether a decision was followed by a conversion at a discount."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "rewards",
        sa.Column(
            "discounted",
            sa.Boolean(),
            nullable=True,
            comment="a conversion was made at a discount; null where none or no price was told",
        ),
    )
    # The prices are in the interactions: what is not final is settled again, before anything is trained.
    op.execute("UPDATE rewards SET final = false WHERE converted")


def downgrade() -> None:
    op.drop_column("rewards", "discounted")

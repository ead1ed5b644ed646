"""Messages that were handed to a provider in one call."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "outbox",
        sa.Column(
            "batch_id", sa.String(length=36), nullable=True, comment="key of the call that it went out with"
        ),
    )
    op.create_index("ix_outbox_batch_id", "outbox", ["batch_id"])


def downgrade() -> None:
    op.drop_index("ix_outbox_batch_id", "outbox")
    op.drop_column("outbox", "batch_id")

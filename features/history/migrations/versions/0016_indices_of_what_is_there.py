"""Indices of the outbox without the messages that have nothing to find in them: those that were not sent yet."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_COLUMNS = {
    "ix_outbox_provider_provider_message_id": ["provider", "provider_message_id"],
    "ix_outbox_batch_id": ["batch_id"],
}


def upgrade() -> None:
    for name, columns in _COLUMNS.items():
        there = sa.text(f"{columns[-1]} IS NOT NULL")
        op.drop_index(name, table_name="outbox")
        op.create_index(name, "outbox", columns, postgresql_where=there, sqlite_where=there)


def downgrade() -> None:
    for name, columns in _COLUMNS.items():
        op.drop_index(name, table_name="outbox")
        op.create_index(name, "outbox", columns)

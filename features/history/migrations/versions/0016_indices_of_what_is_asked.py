"""Indices that hold what decisions ask for, and nothing that is never asked for.

Which kinds of contact points somebody has is read from the index alone. A message that was not sent yet has no provider
and no batch to be found by.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_OF_WHAT_IS_THERE = {
    "ix_outbox_provider_provider_message_id": ["provider", "provider_message_id"],
    "ix_outbox_batch_id": ["batch_id"],
}


def upgrade() -> None:
    for name, columns in _OF_WHAT_IS_THERE.items():
        there = sa.text(f"{columns[-1]} IS NOT NULL")
        op.drop_index(name, table_name="outbox")
        op.create_index(name, "outbox", columns, postgresql_where=there, sqlite_where=there)
    op.drop_index("ix_identities_customer_id", table_name="identities")
    op.create_index(
        "ix_identities_customer_id_linked_at_kind", "identities", ["customer_id", "linked_at", "kind"]
    )


def downgrade() -> None:
    for name, columns in _OF_WHAT_IS_THERE.items():
        op.drop_index(name, table_name="outbox")
        op.create_index(name, "outbox", columns)
    op.drop_index("ix_identities_customer_id_linked_at_kind", table_name="identities")
    op.create_index("ix_identities_customer_id", "identities", ["customer_id"])

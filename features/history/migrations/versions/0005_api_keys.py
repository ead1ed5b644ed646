"""Keys of the API."""

import sqlalchemy as sa
from alembic import op

from features.history.tables import Document, UtcMoment

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(length=16), nullable=False, comment="the readable part of the key"),
        sa.Column("name", sa.String(length=64), nullable=False, comment="who calls; two live keys at most"),
        sa.Column(
            "digest", sa.String(length=64), nullable=False, comment="SHA-256 of the whole key, hexadecimal"
        ),
        sa.Column("scopes", Document, nullable=False),
        sa.Column("created_at", UtcMoment, nullable=False),
        sa.Column("expires_at", UtcMoment),
        sa.Column("revoked_at", UtcMoment),
        sa.Column("last_used_at", UtcMoment, comment="to the minute"),
        sa.PrimaryKeyConstraint("key_id", name="pk_api_keys"),
    )
    op.create_index("ix_api_keys_name", "api_keys", ["name"])


def downgrade() -> None:
    op.drop_table("api_keys")

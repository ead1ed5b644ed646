"""Answers by idempotency key; decisions listed by time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from features.history.tables import UtcMoment

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column(
            "caller",
            sa.String(length=64),
            nullable=False,
            comment="digest of the credential; empty without one",
        ),
        sa.Column("idempotency_key", sa.String(length=255), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False, comment="digest of method, path and body"),
        sa.Column(
            "execution",
            sa.String(length=36),
            nullable=False,
            comment="decision ids of the request derive from it",
        ),
        sa.Column("fencing_token", sa.BigInteger(), nullable=False, comment="grows with every claim"),
        sa.Column("lease_until", UtcMoment, nullable=True, comment="null once there is an answer"),
        sa.Column(
            "decision_id", sa.String(length=64), nullable=True, comment="the decision that is the answer"
        ),
        sa.Column("status", sa.Integer(), nullable=True, comment="of the HTTP answer"),
        sa.Column("content_type", sa.String(length=128), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True, comment="its body, compressed by zlib"),
        sa.Column("expires_at", UtcMoment, nullable=False),
        sa.PrimaryKeyConstraint("caller", "idempotency_key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"])
    op.create_index("ix_decisions_decided_at_decision_id", "decisions", ["decided_at", "decision_id"])


def downgrade() -> None:
    op.drop_index("ix_decisions_decided_at_decision_id", "decisions")
    op.drop_table("idempotency_keys")

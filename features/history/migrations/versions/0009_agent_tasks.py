"""Tasks that people work through, for example calls."""

import sqlalchemy as sa
from alembic import op

from features.history.tables import UtcMoment

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_RECORDED = "the id that the row came with; empty where that is customer_id"


def upgrade() -> None:
    op.create_table(
        "agent_tasks",
        sa.Column("task_id", sa.String(length=36), nullable=False, comment="of the outbox"),
        sa.Column("decision_id", sa.String(length=64), nullable=False),
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("recorded_as", sa.String(length=128), nullable=False, server_default="", comment=_RECORDED),
        sa.Column("campaign_id", sa.String(length=128), nullable=False),
        sa.Column("offer_id", sa.String(length=128), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("due_at", UtcMoment, nullable=False),
        sa.Column("expires_at", UtcMoment, nullable=False),
        sa.Column("taken_by", sa.String(length=64), nullable=True, comment="the agent who holds it"),
        sa.Column("taken_until", UtcMoment, nullable=True),
        sa.Column("outcome", sa.String(length=32), nullable=True, comment="null while it is open"),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("ended_at", UtcMoment, nullable=True),
        sa.Column("ended_by", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("task_id", name="pk_agent_tasks"),
    )
    op.create_index("ix_agent_tasks_customer_id", "agent_tasks", ["customer_id"])
    op.create_index("ix_agent_tasks_outcome_due_at", "agent_tasks", ["outcome", "due_at"])


def downgrade() -> None:
    op.drop_table("agent_tasks")

"""Plans: an audience that is decided for in the background."""

import sqlalchemy as sa
from alembic import op

from features.history.tables import Document, UtcMoment

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "plans",
        sa.Column("plan_id", sa.String(36), primary_key=True),
        sa.Column("campaign_id", sa.String(128), nullable=False),
        sa.Column("segment", sa.String(64), comment="whose members are decided for; null: everybody"),
        sa.Column("starts", sa.Boolean, nullable=False, comment="as soon as the forecast is there"),
        sa.Column("status", sa.String(16), nullable=False, comment="serving.plans.plan.PlanStatus"),
        sa.Column("created_at", UtcMoment(), nullable=False),
        sa.Column("started_at", UtcMoment()),
        sa.Column("ended_at", UtcMoment()),
        sa.Column("forecast", Document, comment="serving.plans.plan.Forecast"),
        sa.Column("shadow_prices", Document, comment="minor units by channel, as they are now"),
        sa.Column("n_members", sa.Integer, comment="when it began or went on for the last time"),
        sa.Column("n_decided", sa.Integer, nullable=False),
        sa.Column("contacts", Document, nullable=False, comment="decided on, by channel"),
        sa.Column("n_problems", sa.Integer, nullable=False),
        sa.Column("problem", sa.Text, comment="the last one"),
        sa.Column("cost_minor", sa.Float(53), nullable=False, comment="of the contacts"),
        sa.Column(
            "net_value_minor",
            sa.Float(53),
            comment="expected of the contacts, shadow prices not taken off",
        ),
        sa.Column(
            "reached", sa.String(32), nullable=False, comment="whose turn was last, in the plan's order"
        ),
        sa.Column("holder", sa.String(36), comment="the process that works on it"),
        sa.Column("held_until", UtcMoment()),
    )
    op.create_index("ix_plans_status_created_at", "plans", ["status", "created_at"])
    op.create_index("ix_plans_created_at_plan_id", "plans", ["created_at", "plan_id"])


def downgrade() -> None:
    op.drop_table("plans")

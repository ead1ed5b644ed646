"""Receipts of providers, conversations and their follow-ups, dead contact points, sending rates."""

import sqlalchemy as sa
from alembic import op

from features.history.tables import Document, UtcMoment

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None

_RECORDED = "the id that the row came with; empty where that is customer_id"


def upgrade() -> None:
    op.create_table(
        "receipts",
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("event_id", sa.String(length=128), nullable=False),
        sa.Column("provider_message_id", sa.String(length=256), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("occurred_at", UtcMoment, nullable=False),
        sa.Column("received_at", UtcMoment, nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column(
            "message_id",
            sa.String(length=36),
            nullable=True,
            comment="null until the message that it speaks of is known",
        ),
        sa.PrimaryKeyConstraint("provider", "event_id", name="pk_receipts"),
    )
    op.create_index("ix_receipts_message_id_received_at", "receipts", ["message_id", "received_at"])
    op.create_table(
        "hard_bounces",
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("recorded_as", sa.String(length=128), nullable=False, server_default="", comment=_RECORDED),
        sa.Column("kind", sa.String(length=32), nullable=False, comment="of identity"),
        sa.Column("bounced_at", UtcMoment, nullable=False),
        sa.PrimaryKeyConstraint("customer_id", "recorded_as", "kind", name="pk_hard_bounces"),
    )
    op.create_table(
        "conversations",
        sa.Column(
            "conversation_id",
            sa.String(length=64),
            nullable=False,
            comment="its first decision, or what began it",
        ),
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("recorded_as", sa.String(length=128), nullable=False, server_default="", comment=_RECORDED),
        sa.Column("began_at", UtcMoment, nullable=False),
        sa.Column("n_steps", sa.Integer(), nullable=False, comment="follow-ups that were decided"),
        sa.Column("most_steps", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("conversation_id", name="pk_conversations"),
    )
    op.create_index("ix_conversations_customer_id", "conversations", ["customer_id"])
    op.create_table(
        "follow_ups",
        sa.Column(
            "follow_up_id",
            sa.String(length=64),
            nullable=False,
            comment="also the id of the decision that it takes",
        ),
        sa.Column("conversation_id", sa.String(length=64), nullable=False),
        sa.Column(
            "parent_id",
            sa.String(length=64),
            nullable=True,
            comment="the decision that it follows; null after an event",
        ),
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("recorded_as", sa.String(length=128), nullable=False, server_default="", comment=_RECORDED),
        sa.Column("campaign_id", sa.String(length=128), nullable=False, comment="that is decided for"),
        sa.Column("trigger", sa.String(length=32), nullable=False, comment="models.domain.follow_up.Trigger"),
        sa.Column(
            "offers", Document, nullable=False, comment="offers to choose from; none: all of the campaign"
        ),
        sa.Column("due_at", UtcMoment, nullable=False),
        sa.Column(
            "status", sa.String(length=16), nullable=False, comment="waiting, decided, cancelled or dropped"
        ),
        sa.Column("reason", sa.Text(), nullable=True, comment="why it was cancelled or dropped"),
        sa.Column("settled_at", UtcMoment, nullable=True),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.conversation_id"], name="fk_follow_ups_conversation_id"
        ),
        sa.PrimaryKeyConstraint("follow_up_id", name="pk_follow_ups"),
    )
    op.create_index("ix_follow_ups_conversation_id", "follow_ups", ["conversation_id"])
    op.create_index("ix_follow_ups_status_due_at", "follow_ups", ["status", "due_at"])
    op.create_table(
        "sending_rates",
        sa.Column("account", sa.String(length=64), nullable=False, comment="name of the adapter"),
        sa.Column(
            "tokens", sa.Float(precision=53), nullable=False, comment="messages that may go out at once"
        ),
        sa.Column("filled_at", UtcMoment, nullable=False),
        sa.PrimaryKeyConstraint("account", name="pk_sending_rates"),
    )
    op.add_column(
        "outbox",
        sa.Column(
            "receipt",
            sa.String(length=32),
            nullable=True,
            comment="the furthest receipt: delivered, opened, clicked and so on",
        ),
    )
    op.create_index("ix_outbox_provider_provider_message_id", "outbox", ["provider", "provider_message_id"])


def downgrade() -> None:
    op.drop_index("ix_outbox_provider_provider_message_id", "outbox")
    op.drop_column("outbox", "receipt")
    op.drop_table("sending_rates")
    op.drop_table("follow_ups")
    op.drop_table("conversations")
    op.drop_table("hard_bounces")
    op.drop_table("receipts")

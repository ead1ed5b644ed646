"""Answers of a channel by keywords, chats of customers with it, and the lines that were said."""

import sqlalchemy as sa
from alembic import op

from features.history.tables import Document, RowId, UtcMoment

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def _recorded_as() -> sa.Column[str]:
    return sa.Column(
        "recorded_as",
        sa.String(128),
        nullable=False,
        server_default="",
        comment="the id that the row came with; empty where that is customer_id",
    )


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("channel", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column(
            "document", Document, comment="serving.chat.document.Answers; null where they were taken away"
        ),
        sa.Column("created_at", UtcMoment(), nullable=False),
    )
    op.create_table(
        "chats",
        sa.Column("chat_id", sa.String(36), primary_key=True),
        sa.Column("customer_id", sa.String(128), nullable=False),
        _recorded_as(),
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column(
            "position",
            Document,
            nullable=False,
            comment="words of the menu that was shown last, from the top",
        ),
        sa.Column("position_at", UtcMoment(), comment="when it was shown"),
        sa.Column("heard_at", UtcMoment(), nullable=False, comment="the customer's last word"),
        sa.Column("state", sa.String(16), nullable=False, comment="automatic or handed_over"),
        sa.Column("due_at", UtcMoment(), comment="from when on it is in the queue"),
        sa.Column("silent_until", UtcMoment(), comment="rules say nothing between due_at and then"),
        sa.Column("taken_by", sa.String(64), comment="the agent who holds it"),
        sa.Column("taken_until", UtcMoment()),
        sa.UniqueConstraint("customer_id", "recorded_as", "channel", name="uq_chats_customer"),
    )
    op.create_index("ix_chats_customer_id", "chats", ["customer_id"])
    op.create_index("ix_chats_state_due_at", "chats", ["state", "due_at"])
    op.create_table(
        "chat_lines",
        sa.Column("line_no", RowId, primary_key=True, autoincrement=True),
        sa.Column("line_id", sa.String(36), nullable=False, comment="the provider's key of what is sent"),
        sa.Column("chat_id", sa.String(36), comment="null where a stranger is answered"),
        sa.Column("customer_id", sa.String(128)),
        _recorded_as(),
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("speaker", sa.String(16), nullable=False, comment="customer, rules or agent"),
        sa.Column("agent", sa.String(64)),
        sa.Column("said_at", UtcMoment(), nullable=False),
        sa.Column("text", sa.Text, nullable=False, comment="for people to read"),
        sa.Column("content_kind", sa.String(16)),
        sa.Column("content", Document, comment="what is sent: models.domain.campaign.Content"),
        sa.Column("choices", Document, comment="words to choose from below it"),
        sa.Column("version", sa.Integer, comment="of the answers"),
        sa.Column("why", sa.String(16), comment="serving.chat.reaction.Why"),
        sa.Column("reply_token", sa.Text, comment="the provider's, while it may be of use"),
        sa.Column("token_at", UtcMoment()),
        sa.Column("status", sa.String(16), nullable=False, comment="heard, or as in outbox"),
        sa.Column("due_at", UtcMoment()),
        sa.Column("expires_at", UtcMoment()),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("fencing_token", sa.Integer, nullable=False),
        sa.Column("lease_until", UtcMoment()),
        sa.Column("in_doubt", sa.Boolean, nullable=False, comment="perhaps it was taken, and no key tells"),
        sa.Column("settled_at", UtcMoment()),
        sa.Column("detail", sa.Text),
        sa.UniqueConstraint("line_id", name="uq_chat_lines_line_id"),
    )
    op.create_index("ix_chat_lines_customer_id", "chat_lines", ["customer_id"])
    op.create_index("ix_chat_lines_status_due_at", "chat_lines", ["status", "due_at"])
    op.create_index("ix_chat_lines_chat_id_line_no", "chat_lines", ["chat_id", "line_no"])


def downgrade() -> None:
    op.drop_table("chat_lines")
    op.drop_table("chats")
    op.drop_table("answers")

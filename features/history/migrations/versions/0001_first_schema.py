"""Every table of the first release."""

import sqlalchemy as sa
from alembic import op

from features.history.tables import Document, RowId, UtcMoment

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "campaigns",
        sa.Column("campaign_id", sa.String(length=128), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", Document, nullable=False, comment="models.domain.campaign.Campaign"),
        sa.Column("created_at", UtcMoment, nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "version", name="pk_campaigns"),
    )
    op.create_table(
        "channels",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("document", Document, nullable=False, comment="models.domain.channel.Channel"),
        sa.Column("updated_at", UtcMoment, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_channels"),
    )
    op.create_table(
        "customers",
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("time_zone", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcMoment, nullable=False),
        sa.Column("attributes", Document, nullable=False, comment="number or text by name"),
        sa.PrimaryKeyConstraint("customer_id", name="pk_customers"),
    )
    op.create_table(
        "decisions",
        sa.Column("decision_id", sa.String(length=64), nullable=False),
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("campaign_id", sa.String(length=128), nullable=False),
        sa.Column("campaign_version", sa.Integer(), nullable=False),
        sa.Column("decided_at", UtcMoment, nullable=False),
        sa.Column("arm", sa.String(length=16), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("policy", sa.String(length=64), nullable=False),
        sa.Column("policy_version", sa.String(length=64), nullable=False),
        sa.Column(
            "offer_id", sa.String(length=128), nullable=True, comment="null with channel and slot: no contact"
        ),
        sa.Column("channel", sa.String(length=64), nullable=True),
        sa.Column("slot", sa.Integer(), nullable=True),
        sa.Column("send_at", UtcMoment, nullable=True),
        sa.Column("expires_at", UtcMoment, nullable=True),
        sa.Column("propensity", sa.Float(precision=53), nullable=False),
        sa.Column("cost_minor", sa.Float(precision=53), nullable=False),
        sa.Column("p_open", sa.Float(precision=53), nullable=True),
        sa.Column("p_convert", sa.Float(precision=53), nullable=True),
        sa.Column("p_convert_no_contact", sa.Float(precision=53), nullable=True),
        sa.Column("net_value_minor", sa.Float(precision=53), nullable=True),
        sa.Column("degraded", Document, nullable=False),
        sa.Column(
            "document",
            Document,
            nullable=True,
            comment="models.domain.decision.Decision; null where imported",
        ),
        sa.Column("parent_id", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("decision_id", name="pk_decisions"),
    )
    op.create_index("ix_decisions_campaign_id_decided_at", "decisions", ["campaign_id", "decided_at"])
    op.create_index("ix_decisions_customer_id_decided_at", "decisions", ["customer_id", "decided_at"])

    op.create_table(
        "interactions",
        sa.Column("interaction_id", RowId, autoincrement=True, nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("event_id", sa.String(length=128), nullable=False),
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("occurred_at", UtcMoment, nullable=False),
        sa.Column("received_at", UtcMoment, nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=True),
        sa.Column("campaign_id", sa.String(length=128), nullable=True),
        sa.Column("offer_id", sa.String(length=128), nullable=True),
        sa.Column("decision_id", sa.String(length=64), nullable=True),
        sa.Column("value_minor", sa.Float(precision=53), nullable=True),
        sa.Column("machine_made", sa.Boolean(), nullable=False),
        sa.Column("attributes", Document, nullable=False),
        sa.PrimaryKeyConstraint("interaction_id", name="pk_interactions"),
        sa.UniqueConstraint("source", "event_id", name="uq_interactions_source_event_id"),
    )
    op.create_index("ix_interactions_customer_id_occurred_at", "interactions", ["customer_id", "occurred_at"])
    op.create_index("ix_interactions_decision_id", "interactions", ["decision_id"])

    op.create_table(
        "resource_usage",
        sa.Column(
            "resource",
            sa.String(length=192),
            nullable=False,
            comment="budget:<campaign> or capacity:<channel>:<day>",
        ),
        sa.Column("used", sa.Float(precision=53), nullable=False, comment="minor units, or messages"),
        sa.PrimaryKeyConstraint("resource", name="pk_resource_usage"),
    )
    op.create_table(
        "consents",
        sa.Column("consent_id", RowId, autoincrement=True, nullable=False),
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("since", UtcMoment, nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.customer_id"], name="fk_consents_customer_id"),
        sa.PrimaryKeyConstraint("consent_id", name="pk_consents"),
        sa.UniqueConstraint(
            "customer_id",
            "channel",
            "purpose",
            "since",
            "status",
            name="uq_consents_customer_id_channel_purpose_since_status",
        ),
    )
    op.create_table(
        "identities",
        sa.Column("identity_id", RowId, autoincrement=True, nullable=False),
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("value", sa.String(length=512), nullable=False),
        sa.Column("linked_at", UtcMoment, nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.customer_id"], name="fk_identities_customer_id"),
        sa.PrimaryKeyConstraint("identity_id", name="pk_identities"),
        sa.UniqueConstraint("kind", "value", name="uq_identities_kind_value"),
    )
    op.create_index("ix_identities_customer_id", "identities", ["customer_id"])

    op.create_table(
        "outbox",
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("decision_id", sa.String(length=64), nullable=False),
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("campaign_id", sa.String(length=128), nullable=False),
        sa.Column("offer_id", sa.String(length=128), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.Column("content_kind", sa.String(length=16), nullable=False),
        sa.Column("send_at", UtcMoment, nullable=False),
        sa.Column("expires_at", UtcMoment, nullable=False),
        sa.Column(
            "status", sa.String(length=16), nullable=False, comment="pending, claimed, or a settled state"
        ),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", UtcMoment, nullable=False, comment="send_at, later after a failed attempt"),
        sa.Column("lease_until", UtcMoment, nullable=True),
        sa.Column("fencing_token", sa.BigInteger(), nullable=False, comment="grows with every claim"),
        sa.Column("provider", sa.String(length=64), nullable=True),
        sa.Column("provider_message_id", sa.String(length=256), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True, comment="the provider's last words"),
        sa.Column("settled_at", UtcMoment, nullable=True),
        sa.ForeignKeyConstraint(["decision_id"], ["decisions.decision_id"], name="fk_outbox_decision_id"),
        sa.PrimaryKeyConstraint("message_id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_customer_id", "outbox", ["customer_id"])
    op.create_index("ix_outbox_decision_id", "outbox", ["decision_id"])
    op.create_index("ix_outbox_status_due_at", "outbox", ["status", "due_at"])

    op.create_table(
        "reservations",
        sa.Column("decision_id", sa.String(length=64), nullable=False),
        sa.Column("resource", sa.String(length=192), nullable=False),
        sa.Column("amount", sa.Float(precision=53), nullable=False),
        sa.Column("reserved_at", UtcMoment, nullable=False),
        sa.Column("released_at", UtcMoment, nullable=True),
        sa.ForeignKeyConstraint(
            ["decision_id"], ["decisions.decision_id"], name="fk_reservations_decision_id"
        ),
        sa.PrimaryKeyConstraint("decision_id", "resource", name="pk_reservations"),
    )
    op.create_table(
        "rewards",
        sa.Column("decision_id", sa.String(length=64), nullable=False),
        sa.Column("opened", sa.Boolean(), nullable=True, comment="null where the channel cannot tell"),
        sa.Column("clicked", sa.Boolean(), nullable=True),
        sa.Column("converted", sa.Boolean(), nullable=False),
        sa.Column("value_minor", sa.Float(precision=53), nullable=False),
        sa.Column("cost_minor", sa.Float(precision=53), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("as_of", UtcMoment, nullable=False),
        sa.ForeignKeyConstraint(["decision_id"], ["decisions.decision_id"], name="fk_rewards_decision_id"),
        sa.PrimaryKeyConstraint("decision_id", name="pk_rewards"),
    )


def downgrade() -> None:
    op.drop_table("rewards")
    op.drop_table("reservations")
    op.drop_table("outbox")
    op.drop_table("identities")
    op.drop_table("consents")
    op.drop_table("resource_usage")
    op.drop_table("interactions")
    op.drop_table("decisions")
    op.drop_table("customers")
    op.drop_table("channels")
    op.drop_table("campaigns")

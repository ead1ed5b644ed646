"""Every table, in one place.

Facts (`interactions`, `consents`, `tags`, `decisions`) are insert-only. Money is in minor currency units, moments
are aware UTC. Where several customers turned out to be one person, their rows carry the person's id as
`customer_id` and the id that they came with as `recorded_as`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import JSON, TypeDecorator, TypeEngine

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class UtcMoment(TypeDecorator[datetime]):
    """An aware moment: `timestamptz` on PostgreSQL, integer microseconds since 1970 on SQLite.

    SQLite has no type for time; integers sort, compare and index exactly.
    """

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column type for the database."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], datetime | int | None]:
        """What takes a moment to the database; one without a time zone is refused.

        SQLAlchemy would put a function of its own around `process_bind_param`: nine moments a decision.
        """
        return _aware if dialect.name == "postgresql" else _microseconds

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """The same for one moment."""
        return self.bind_processor(dialect)(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From the database, in UTC."""
        return None if value is None else moment_from(value)


def _aware(moment: datetime | None) -> datetime | None:
    if moment is not None and moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    return moment


def _microseconds(moment: datetime | None) -> int | None:
    try:
        return None if moment is None else (moment - _EPOCH) // _MICROSECOND
    except TypeError:
        _aware(moment)
        raise


def moment_from(stored: datetime | int) -> datetime:
    """A moment as the driver gives it, in UTC."""
    if isinstance(stored, datetime):
        return stored.astimezone(UTC)
    return _EPOCH + timedelta(microseconds=stored)


Document = JSON().with_variant(postgresql.JSONB(), "postgresql")
RowId = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _where_known(column: str) -> dict[str, Any]:
    """Options of an index that leaves out rows which have nothing in that column."""
    known = text(f"{column} IS NOT NULL")
    return {"postgresql_where": known, "sqlite_where": known}


def _recorded_as(primary_key: bool = False) -> Column[str]:
    return Column(
        "recorded_as",
        String(128),
        primary_key=primary_key,
        nullable=False,
        default="",
        server_default="",
        comment="the id that the row came with; empty where that is customer_id",
    )


customers = Table(
    "customers",
    metadata,
    Column("customer_id", String(128), primary_key=True),
    Column("time_zone", String(64), nullable=False),
    Column("created_at", UtcMoment, nullable=False),
    Column("attributes", Document, nullable=False, default=dict, comment="number or text by name"),
    Column(
        "anonymous",
        Boolean,
        nullable=False,
        default=False,
        server_default=false(),
        comment="a visitor of whom only a device is known",
    ),
)

identities = Table(
    "identities",
    metadata,
    Column("identity_id", RowId, primary_key=True, autoincrement=True),
    Column("customer_id", ForeignKey("customers.customer_id"), nullable=False),
    _recorded_as(),
    Column("kind", String(32), nullable=False),
    Column("lookup", String(43), nullable=False, comment="keyed hash of the normal form"),
    Column("key_id", String(16), nullable=False, comment="which key sealed it"),
    Column("sealed", Text, nullable=False, comment="AES-256-GCM, bound to kind and recorded customer"),
    Column("linked_at", UtcMoment, nullable=False),
    Column("source", String(64), nullable=False),
    UniqueConstraint("kind", "lookup"),
    # Which kinds somebody has is asked at every decision, and answered from here.
    Index(None, "customer_id", "linked_at", "kind"),
)

consents = Table(
    "consents",
    metadata,
    Column("consent_id", RowId, primary_key=True, autoincrement=True),
    Column("customer_id", ForeignKey("customers.customer_id"), nullable=False),
    _recorded_as(),
    Column("channel", String(64), nullable=False),
    Column("purpose", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("since", UtcMoment, nullable=False),
    Column("source", String(64), nullable=False),
    # The latest row by (since, consent_id) holds; older ones answer "as of" questions.
    UniqueConstraint(
        "customer_id", "channel", "purpose", "since", "status", "recorded_as", name="uq_consents_statement"
    ),
)

interactions = Table(
    "interactions",
    metadata,
    Column("interaction_id", RowId, primary_key=True, autoincrement=True),
    Column("source", String(64), nullable=False),
    Column("event_id", String(128), nullable=False),
    Column("customer_id", String(128), nullable=False),
    _recorded_as(),
    Column("kind", String(32), nullable=False),
    Column("occurred_at", UtcMoment, nullable=False),
    Column("received_at", UtcMoment, nullable=False),
    Column("channel", String(64)),
    Column("campaign_id", String(128)),
    Column("offer_id", String(128)),
    Column("decision_id", String(64)),
    Column("value_minor", Float(53)),
    Column("place", String(16), comment="models.domain.interaction.Place"),
    Column("machine_made", Boolean, nullable=False, default=False),
    Column("machine_rule", String(32), comment="models.domain.machine_made.MachineRule; null: a person"),
    Column("attributes", Document, nullable=False, default=dict),
    UniqueConstraint("source", "event_id"),
    Index(None, "customer_id", "occurred_at"),
)
# Most facts answer no decision: leaving those out makes the index small, and adding them cheap.
Index("ix_interactions_decision_id", interactions.c.decision_id, **_where_known("decision_id"))
# Few facts are what customers do of their own accord and seldom; a query says the same words to use the index.
SELDOM_KINDS = ("called", "converted", "followed", "issue_raised", "purchased", "registered")
SELDOM = text(f"kind IN ({', '.join(map(repr, SELDOM_KINDS))})")
Index(
    "ix_interactions_seldom",
    interactions.c.kind,
    interactions.c.occurred_at,
    postgresql_where=SELDOM,
    sqlite_where=SELDOM,
)

tags = Table(
    "tags",
    metadata,
    Column("tag_id", RowId, primary_key=True, autoincrement=True),
    Column("customer_id", ForeignKey("customers.customer_id"), nullable=False),
    _recorded_as(),
    Column("tag", String(64), nullable=False),
    Column("present", Boolean, nullable=False, comment="false where the tag was taken off"),
    Column("since", UtcMoment, nullable=False),
    Column("source", String(64), nullable=False),
    # The latest row by (since, tag_id) holds, as with consents.
    UniqueConstraint("customer_id", "tag", "since", "present", "recorded_as", name="uq_tags_statement"),
    Index(None, "tag"),
)

segments = Table(
    "segments",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Document, nullable=False, comment="features.segments.language.Segment"),
    Column("created_at", UtcMoment, nullable=False),
)

former_attributes = Table(
    "former_attributes",
    metadata,
    Column("former_id", RowId, primary_key=True, autoincrement=True),
    Column("customer_id", String(128), nullable=False, index=True),
    _recorded_as(),
    Column("attributes", Document, nullable=False, comment="of customers, as they were"),
    Column("until", UtcMoment, nullable=False, comment="when others were told"),
)

channels = Table(
    "channels",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("document", Document, nullable=False, comment="models.domain.channel.Channel"),
    Column("updated_at", UtcMoment, nullable=False),
)

campaigns = Table(
    "campaigns",
    metadata,
    Column("campaign_id", String(128), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Document, nullable=False, comment="models.domain.campaign.Campaign"),
    Column("created_at", UtcMoment, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("decision_id", String(64), primary_key=True),
    Column("customer_id", String(128), nullable=False),
    _recorded_as(),
    Column("campaign_id", String(128), nullable=False),
    Column("campaign_version", Integer, nullable=False),
    Column("decided_at", UtcMoment, nullable=False),
    Column("arm", String(16), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("policy", String(64), nullable=False),
    Column("policy_version", String(64), nullable=False),
    Column("offer_id", String(128), comment="null with channel and slot: no contact"),
    Column("channel", String(64)),
    Column("slot", Integer),
    Column("send_at", UtcMoment),
    Column("expires_at", UtcMoment),
    Column("propensity", Float(53), nullable=False),
    Column("cost_minor", Float(53), nullable=False),
    Column("p_open", Float(53)),
    Column("p_convert", Float(53)),
    Column("p_convert_no_contact", Float(53)),
    Column("net_value_minor", Float(53)),
    Column("degraded", Document, nullable=False, default=list),
    Column("document", Document, comment="models.domain.decision.Decision; null where imported"),
    Column("parent_id", String(64)),
    Column(
        "evidence",
        LargeBinary,
        comment="numbers of the decision's evidence: features.history.evidence; older ones are in the document",
    ),
    Column(
        "shadow_prices",
        Text,
        comment="JSON: what a message of each channel took of what was scarce, minor units; null for nothing",
    ),
    Index(None, "customer_id", "decided_at"),
    Index(None, "campaign_id", "decided_at"),
    Index(None, "decided_at", "decision_id"),
)

feature_orders = Table(
    "feature_orders",
    metadata,
    Column("digest", String(64), primary_key=True, comment="SHA-256 of the names"),
    Column("names", Document, nullable=False, comment="of features, as decisions.evidence has them"),
)

resource_usage = Table(
    "resource_usage",
    metadata,
    Column(
        "resource", String(192), primary_key=True, comment="budget:<campaign> or capacity:<channel>:<day>"
    ),
    Column("used", Float(53), nullable=False, comment="minor units, or messages"),
)

reservations = Table(
    "reservations",
    metadata,
    Column("decision_id", ForeignKey("decisions.decision_id"), primary_key=True),
    Column("resource", String(192), primary_key=True),
    Column("amount", Float(53), nullable=False),
    Column("reserved_at", UtcMoment, nullable=False),
    Column("released_at", UtcMoment),
)

outbox = Table(
    "outbox",
    metadata,
    Column("message_id", String(36), primary_key=True),
    Column("decision_id", ForeignKey("decisions.decision_id"), nullable=False, index=True),
    Column("customer_id", String(128), nullable=False),
    _recorded_as(),
    Column("campaign_id", String(128), nullable=False),
    Column("offer_id", String(128), nullable=False),
    Column("channel", String(64), nullable=False),
    Column("content_kind", String(16), nullable=False),
    Column("send_at", UtcMoment, nullable=False),
    Column("expires_at", UtcMoment, nullable=False),
    Column("status", String(16), nullable=False, comment="pending, claimed, or a settled state"),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", UtcMoment, nullable=False, comment="send_at, later after a failed attempt"),
    Column("lease_until", UtcMoment),
    Column("fencing_token", BigInteger, nullable=False, default=0, comment="grows with every claim"),
    Column("provider", String(64)),
    Column("provider_message_id", String(256)),
    Column("detail", Text, comment="the provider's last words"),
    Column("settled_at", UtcMoment),
    Column("receipt", String(32), comment="the furthest receipt: delivered, opened, clicked and so on"),
    Column("batch_id", String(36), comment="key of the call that it went out with"),
    Index(None, "status", "due_at"),
    Index(None, "customer_id"),
    # Of a message that nobody has sent yet there is nothing to find.
    Index(None, "provider", "provider_message_id", **_where_known("provider_message_id")),
    Index(None, "batch_id", **_where_known("batch_id")),
)

receipts = Table(
    "receipts",
    metadata,
    Column("provider", String(64), primary_key=True),
    Column("event_id", String(128), primary_key=True),
    Column("provider_message_id", String(256), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("occurred_at", UtcMoment, nullable=False),
    Column("received_at", UtcMoment, nullable=False),
    Column("detail", Text, nullable=False),
    Column("message_id", String(36), comment="null until the message that it speaks of is known"),
    Index(None, "message_id", "received_at"),
)

plans = Table(
    "plans",
    metadata,
    Column("plan_id", String(36), primary_key=True),
    Column("campaign_id", String(128), nullable=False),
    Column("segment", String(64), comment="whose members are decided for; null: everybody"),
    Column("starts", Boolean, nullable=False, comment="as soon as the forecast is there"),
    Column("status", String(16), nullable=False, comment="serving.plans.plan.PlanStatus"),
    Column("created_at", UtcMoment, nullable=False),
    Column("started_at", UtcMoment),
    Column("ended_at", UtcMoment),
    Column("forecast", Document, comment="serving.plans.plan.Forecast"),
    Column("shadow_prices", Document, comment="minor units by channel, as they are now"),
    Column("n_members", Integer, comment="when it began or went on for the last time"),
    Column("n_decided", Integer, nullable=False, default=0),
    Column("contacts", Document, nullable=False, default=dict, comment="decided on, by channel"),
    Column("n_problems", Integer, nullable=False, default=0),
    Column("problem", Text, comment="the last one"),
    Column("cost_minor", Float(53), nullable=False, default=0.0, comment="of the contacts"),
    Column("net_value_minor", Float(53), comment="expected of the contacts, shadow prices not taken off"),
    Column(
        "reached", String(32), nullable=False, default="", comment="whose turn was last, in the plan's order"
    ),
    Column("holder", String(36), comment="the process that works on it"),
    Column("held_until", UtcMoment),
    Index(None, "status", "created_at"),
    Index(None, "created_at", "plan_id"),
)

asks = Table(
    "asks",
    metadata,
    Column("ask_id", RowId, primary_key=True, autoincrement=True),
    Column("asked_at", UtcMoment, nullable=False, index=True),
    Column("n", Integer, nullable=False, comment="requests that it stands for"),
    Column("campaigns", Document, nullable=False, comment="ids of those that were asked"),
    Column("options", Document, nullable=False, comment="serving.pacing.ask.Option"),
)

hard_bounces = Table(
    "hard_bounces",
    metadata,
    Column("customer_id", String(128), primary_key=True),
    _recorded_as(primary_key=True),
    Column("kind", String(32), primary_key=True, comment="of identity"),
    # Contact points that were linked by then are dead; one that is linked later is not.
    Column("bounced_at", UtcMoment, nullable=False),
)

conversations = Table(
    "conversations",
    metadata,
    Column("conversation_id", String(64), primary_key=True, comment="its first decision, or what began it"),
    Column("customer_id", String(128), nullable=False, index=True),
    _recorded_as(),
    Column("began_at", UtcMoment, nullable=False),
    Column("n_steps", Integer, nullable=False, default=0, comment="follow-ups that were decided"),
    Column("most_steps", Integer, nullable=False),
)

follow_ups = Table(
    "follow_ups",
    metadata,
    Column("follow_up_id", String(64), primary_key=True, comment="also the id of the decision that it takes"),
    Column("conversation_id", ForeignKey("conversations.conversation_id"), nullable=False, index=True),
    Column("parent_id", String(64), comment="the decision that it follows; null after an event"),
    Column("customer_id", String(128), nullable=False),
    _recorded_as(),
    Column("campaign_id", String(128), nullable=False, comment="that is decided for"),
    Column("trigger", String(32), nullable=False, comment="models.domain.follow_up.Trigger"),
    Column("offers", Document, nullable=False, comment="offers to choose from; none: all of the campaign"),
    Column("due_at", UtcMoment, nullable=False),
    Column("status", String(16), nullable=False, comment="waiting, decided, cancelled or dropped"),
    Column("reason", Text, comment="why it was cancelled or dropped"),
    Column("settled_at", UtcMoment),
    Index(None, "status", "due_at"),
)

sending_rates = Table(
    "sending_rates",
    metadata,
    Column("account", String(64), primary_key=True, comment="name of the adapter"),
    Column("tokens", Float(53), nullable=False, comment="messages that may go out at once"),
    Column("filled_at", UtcMoment, nullable=False),
)

agent_tasks = Table(
    "agent_tasks",
    metadata,
    Column("task_id", String(36), primary_key=True, comment="of the outbox"),
    Column("decision_id", String(64), nullable=False),
    Column("customer_id", String(128), nullable=False, index=True),
    _recorded_as(),
    Column("campaign_id", String(128), nullable=False),
    Column("offer_id", String(128), nullable=False),
    Column("channel", String(64), nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("due_at", UtcMoment, nullable=False),
    Column("expires_at", UtcMoment, nullable=False),
    Column("taken_by", String(64), comment="the agent who holds it"),
    Column("taken_until", UtcMoment),
    Column("outcome", String(32), comment="null while it is open"),
    Column("note", Text),
    Column("ended_at", UtcMoment),
    Column("ended_by", String(64)),
    Index(None, "outcome", "due_at"),
)

incentives = Table(
    "incentives",
    metadata,
    Column("campaign_id", String(128), primary_key=True),
    Column("offer_id", String(128), primary_key=True),
    Column("version", Integer, primary_key=True, comment="the latest holds for whoever gets one from now on"),
    Column("document", Document, comment="serving.incentives.incentive.Incentive; null: taken back"),
    Column("secret", String(64), comment="of a draw, hexadecimal; told when the draw is over"),
    Column("created_at", UtcMoment, nullable=False),
)

coupon_codes = Table(
    "coupon_codes",
    metadata,
    Column("code", String(64), primary_key=True, comment="made by the shop system"),
    Column("campaign_id", String(128), nullable=False),
    Column("offer_id", String(128), nullable=False),
    Column("decision_id", String(64), comment="who has it; null while it is free"),
)
_FREE = text("decision_id IS NULL")
Index(
    "ix_coupon_codes_free",
    coupon_codes.c.campaign_id,
    coupon_codes.c.offer_id,
    coupon_codes.c.code,
    postgresql_where=_FREE,
    sqlite_where=_FREE,
)

vouchers = Table(
    "vouchers",
    metadata,
    Column("decision_id", String(64), primary_key=True),
    Column("customer_id", String(128), nullable=False, index=True),
    _recorded_as(),
    Column("campaign_id", String(128), nullable=False),
    Column("offer_id", String(128), nullable=False),
    Column("version", Integer, nullable=False, comment="of the incentive, whose terms hold for it"),
    Column("code", String(64), nullable=False, index=True),
    Column("shared", Boolean, nullable=False, comment="others have the same code"),
    Column("given_at", UtcMoment, nullable=False),
    Index(None, "campaign_id", "offer_id"),
)
_OWN = text("NOT shared")
Index("uq_vouchers_own_code", vouchers.c.code, unique=True, postgresql_where=_OWN, sqlite_where=_OWN)

redemptions = Table(
    "redemptions",
    metadata,
    Column("decision_id", String(64), primary_key=True, comment="a voucher is redeemed once"),
    Column("source", String(64), nullable=False),
    Column("event_id", String(128), nullable=False),
    Column("customer_id", String(128), nullable=False, index=True),
    _recorded_as(),
    Column("campaign_id", String(128), nullable=False),
    Column("offer_id", String(128), nullable=False),
    Column("occurred_at", UtcMoment, nullable=False),
    Column("received_at", UtcMoment, nullable=False),
    Column("shop_id", String(128), comment="of the incentive's shops, the one that was near"),
    Column("distance_metres", Integer, comment="to that shop, rounded; the position is not kept"),
    Column("value_minor", Float(53)),
    Column("order_id", String(128), comment="of the sale: its other reports do not count beside this one"),
    Column("cost_minor", Float(53), nullable=False),
    Column("drawn", String(64), comment="prize that the draw gave; null: none"),
    Column("prize", String(64), comment="the same where one was left"),
    UniqueConstraint("source", "event_id"),
    Index(None, "campaign_id", "offer_id"),
)

redemption_counts = Table(
    "redemption_counts",
    metadata,
    Column("campaign_id", String(128), primary_key=True),
    Column("offer_id", String(128), primary_key=True),
    Column("prize_id", String(64), primary_key=True, comment="empty: redemptions, whatever was won"),
    Column("n", Integer, nullable=False),
    Column("cost_minor", Float(53), nullable=False),
)

points_entries = Table(
    "points_entries",
    metadata,
    Column("decision_id", String(64), primary_key=True),
    Column("reason", String(16), primary_key=True, comment="given or redeemed"),
    Column("customer_id", String(128), nullable=False, index=True),
    _recorded_as(),
    Column("points", Integer, nullable=False, comment="below zero where they were redeemed"),
    Column("at", UtcMoment, nullable=False),
    Column("lapses_at", UtcMoment, comment="from when on neither entry of the decision counts; null: never"),
)

survey_answers = Table(
    "survey_answers",
    metadata,
    Column("decision_id", String(64), primary_key=True),
    Column("question_id", String(64), primary_key=True),
    Column("customer_id", String(128), nullable=False, index=True),
    _recorded_as(),
    Column("campaign_id", String(128), nullable=False),
    Column("offer_id", String(128), nullable=False),
    Column("answer", Document, nullable=False, comment="value: option, options, number or text"),
    Column("answered_at", UtcMoment, nullable=False),
    Index(None, "campaign_id", "offer_id", "decision_id", "question_id"),
)

answers = Table(
    "answers",
    metadata,
    Column("channel", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Document, comment="serving.chat.document.Answers; null where they were taken away"),
    Column("created_at", UtcMoment, nullable=False),
)

chats = Table(
    "chats",
    metadata,
    Column("chat_id", String(36), primary_key=True),
    Column("customer_id", String(128), nullable=False, index=True),
    _recorded_as(),
    Column("channel", String(64), nullable=False),
    Column(
        "position", Document, nullable=False, comment="words of the menu that was shown last, from the top"
    ),
    Column("position_at", UtcMoment, comment="when it was shown"),
    Column("heard_at", UtcMoment, nullable=False, comment="the customer's last word"),
    Column("state", String(16), nullable=False, comment="automatic or handed_over"),
    Column("due_at", UtcMoment, comment="from when on it is in the queue"),
    Column("silent_until", UtcMoment, comment="rules say nothing between due_at and then"),
    Column("taken_by", String(64), comment="the agent who holds it"),
    Column("taken_until", UtcMoment),
    UniqueConstraint("customer_id", "recorded_as", "channel", name="uq_chats_customer"),
    Index(None, "state", "due_at"),
)

chat_lines = Table(
    "chat_lines",
    metadata,
    Column("line_no", RowId, primary_key=True, autoincrement=True),
    Column("line_id", String(36), nullable=False, comment="the provider's key of what is sent"),
    Column("chat_id", String(36), comment="null where a stranger is answered"),
    Column("customer_id", String(128), index=True),
    _recorded_as(),
    Column("channel", String(64), nullable=False),
    Column("speaker", String(16), nullable=False, comment="customer, rules or agent"),
    Column("agent", String(64)),
    Column("said_at", UtcMoment, nullable=False),
    Column("text", Text, nullable=False, comment="for people to read"),
    Column("content_kind", String(16)),
    Column("content", Document, comment="what is sent: models.domain.campaign.Content"),
    Column("choices", Document, comment="words to choose from below it"),
    Column("version", Integer, comment="of the answers"),
    Column("why", String(16), comment="serving.chat.reaction.Why"),
    Column("reply_token", Text, comment="the provider's, while it may be of use"),
    Column("token_at", UtcMoment),
    Column("status", String(16), nullable=False, comment="heard, or as in outbox"),
    Column("due_at", UtcMoment),
    Column("expires_at", UtcMoment),
    Column("attempts", Integer, nullable=False, default=0),
    Column("fencing_token", Integer, nullable=False, default=0),
    Column("lease_until", UtcMoment),
    Column(
        "in_doubt", Boolean, nullable=False, default=False, comment="perhaps it was taken, and no key tells"
    ),
    Column("settled_at", UtcMoment),
    Column("detail", Text),
    UniqueConstraint("line_id", name="uq_chat_lines_line_id"),
    Index(None, "status", "due_at"),
    Index(None, "chat_id", "line_no"),
)

occasions = Table(
    "occasions",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True, comment="the latest holds"),
    Column("document", Document, comment="serving.occasions.occasion.Occasion; null: deleted"),
    Column("created_at", UtcMoment, nullable=False),
)

occasion_passes = Table(
    "occasion_passes",
    metadata,
    Column("name", String(64), primary_key=True, comment="of the occasion"),
    Column("passed_at", UtcMoment, comment="when the last complete pass began; null: look at once"),
    Column("holder", String(36), comment="the process that is at it"),
    Column("held_until", UtcMoment, comment="by the machine's clock"),
)

occurrences = Table(
    "occurrences",
    metadata,
    Column("decision_id", String(64), primary_key=True, comment="of name, customer and occurrence"),
    Column("name", String(64), nullable=False, comment="of the occasion"),
    Column("customer_id", String(128), nullable=False, index=True),
    _recorded_as(),
    Column("occurrence", String(32), nullable=False, comment="which one of the customer; empty once erased"),
    Column("due_at", UtcMoment, comment="null once erased"),
    Column("settled_at", UtcMoment, nullable=False),
    Column("status", String(16), nullable=False, comment="serving.occasions.book.OccurrenceStatus"),
    Column("contacted", Boolean, nullable=False, comment="the decision is to contact"),
    Column("reason", String(128), comment="why it was dropped"),
    Index(None, "name", "customer_id"),
)

rewards = Table(
    "rewards",
    metadata,
    Column("decision_id", ForeignKey("decisions.decision_id"), primary_key=True),
    Column("opened", Boolean, comment="null where the channel cannot tell"),
    Column("clicked", Boolean),
    Column("converted", Boolean, nullable=False),
    Column("value_minor", Float(53), nullable=False),
    Column("cost_minor", Float(53), nullable=False),
    Column("final", Boolean, nullable=False),
    Column(
        "closes_at",
        UtcMoment,
        comment="when it becomes final; null where it was settled before this was kept",
    ),
    Column("as_of", UtcMoment, nullable=False),
    Column("opened_at", UtcMoment, comment="first open, or click where no open was told"),
    Column("converted_at", UtcMoment, comment="first conversion"),
    Column(
        "discounted",
        Boolean,
        comment="a conversion was made at a discount; null where none or no price was told",
    ),
)
# Those that wait for their window to close; final ones, which are most, are left out.
Index(
    "ix_rewards_closes_at",
    rewards.c.closes_at,
    postgresql_where=rewards.c.final.is_(False),
    sqlite_where=rewards.c.final.is_(False),
)

# A report reads these two in the order of their keys: arms and channels are added up without sorting.
outcomes = Table(
    "outcomes",
    metadata,
    Column("campaign_id", String(128), primary_key=True),
    Column("arm", String(16), primary_key=True),
    Column("customer_id", String(128), primary_key=True),
    Column("n_decisions", Integer, nullable=False),
    Column("contacted", Boolean, nullable=False, comment="a contact was made or is planned"),
    Column("cost_minor", Float(53), nullable=False),
    Column("converted", Boolean, nullable=False),
    Column("value_minor", Float(53), nullable=False, comment="of conversions since the first decision"),
    Column("before_minor", Float(53), nullable=False, comment="of conversions in the pre-period"),
    Column(
        "interaction_id", RowId, nullable=False, comment="the newest fact of all when this was worked out"
    ),
    Column(
        "first_decided_at",
        UtcMoment,
        comment="the first decision of the arm; null where it was settled before this was kept",
    ),
    Column(
        "first_choice",
        String(64),
        comment="channel that the optimiser chose at it, empty for no contact; null where that is not known",
    ),
    Index(None, "customer_id"),
    sqlite_with_rowid=False,
)

channel_outcomes = Table(
    "channel_outcomes",
    metadata,
    Column("campaign_id", String(128), primary_key=True),
    Column("channel", String(64), primary_key=True),
    Column("customer_id", String(128), primary_key=True),
    Column("planned", Integer, nullable=False, comment="this and the next five: decisions"),
    Column("sent", Integer, nullable=False),
    Column("delivered", Integer, nullable=False),
    Column("opened", Integer, nullable=False),
    Column("clicked", Integer, nullable=False),
    Column("converted", Integer, nullable=False),
    Column("cost_minor", Float(53), nullable=False),
    Column("value_minor", Float(53), nullable=False, comment="of their rewards"),
    Index(None, "customer_id"),
    sqlite_with_rowid=False,
)

unsettled = Table(
    "unsettled",
    metadata,
    Column("note_id", RowId, primary_key=True, autoincrement=True),
    Column("campaign_id", String(128), nullable=False),
    Column(
        "customer_id", String(128), nullable=False, comment="whose rewards and outcomes are not up to date"
    ),
    Index(None, "campaign_id", "customer_id"),
    sqlite_autoincrement=True,  # a number is never given twice, also when every row has been deleted
)

settlement_marks = Table(
    "settlement_marks",
    metadata,
    Column("mark", Integer, primary_key=True, autoincrement=False, comment="0: there is one row"),
    Column("decided_at", UtcMoment, nullable=False, comment="up to this decision all are noted or settled"),
    Column("decision_id", String(64), nullable=False),
    Column("interaction_id", RowId, nullable=False, comment="the same of facts"),
)

customer_members = Table(
    "customer_members",
    metadata,
    Column("customer_id", String(128), primary_key=True),
    Column("person_id", String(128), nullable=False, index=True, comment="under whose id they are now"),
    Column("parent_id", String(128), comment="whom they were merged into; null for the person's own id"),
    Column("time_zone", String(64), nullable=False, comment="this and the next three: as they were alone"),
    Column("created_at", UtcMoment, nullable=False),
    Column("attributes", Document, nullable=False, default=dict),
    Column("anonymous", Boolean, nullable=False),
)

identity_journal = Table(
    "identity_journal",
    metadata,
    Column("entry_id", RowId, primary_key=True, autoincrement=True),
    Column("at", UtcMoment, nullable=False),
    Column("action", String(16), nullable=False, comment="link, merge, split or dismiss"),
    Column("customer_id", String(128), nullable=False, index=True),
    Column("other_id", String(128), index=True, comment="whom they were merged into or split from"),
    Column("kind", String(32), comment="of the contact point that was linked or shared"),
    Column("actor", String(64), nullable=False, comment="who or what did it"),
    Column("reason", String(512), nullable=False),
)

identity_conflicts = Table(
    "identity_conflicts",
    metadata,
    Column("conflict_id", RowId, primary_key=True, autoincrement=True),
    Column("kind", String(32), nullable=False),
    Column("lookup", String(43), nullable=False),
    Column("customer_id", String(128), nullable=False, index=True, comment="who claims the contact point"),
    Column("holder_id", String(128), nullable=False, index=True, comment="who has it"),
    Column("reason", String(32), nullable=False),
    Column("source", String(64), nullable=False),
    Column("found_at", UtcMoment, nullable=False),
    Column("settled_at", UtcMoment),
    Column("settled_as", String(16), comment="merged or dismissed"),
    UniqueConstraint("kind", "lookup", "customer_id", "holder_id"),
)

suppressions = Table(
    "suppressions",
    metadata,
    Column("digest", String(43), primary_key=True, comment="keyed hash of an erased contact point or id"),
    Column("erased_at", UtcMoment, nullable=False),
)

erasures = Table(
    "erasures",
    metadata,
    Column(
        "tombstone_id", String(64), primary_key=True, comment="random; stands where the customer's id was"
    ),
    Column("subject", Document, comment="the erased ids, until nothing holds them any more"),
    Column("requested_at", UtcMoment, nullable=False),
    Column("finished_at", UtcMoment),
    Column(
        "rows", Document, nullable=False, default=dict, comment="rows made anonymous or removed, by table"
    ),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String(16), primary_key=True, comment="the readable part of the key"),
    Column("name", String(64), nullable=False, index=True, comment="who calls; two live keys at most"),
    Column("digest", String(64), nullable=False, comment="SHA-256 of the whole key, hexadecimal"),
    Column("scopes", Document, nullable=False),
    Column("created_at", UtcMoment, nullable=False),
    Column("expires_at", UtcMoment),
    Column("revoked_at", UtcMoment),
    Column("last_used_at", UtcMoment, comment="to the minute"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("caller", String(64), primary_key=True, comment="digest of the credential; empty without one"),
    Column("idempotency_key", String(255), primary_key=True),
    Column("request", String(64), nullable=False, comment="digest of method, path and body"),
    Column("execution", String(36), nullable=False, comment="decision ids of the request derive from it"),
    Column("fencing_token", BigInteger, nullable=False, comment="grows with every claim"),
    Column("lease_until", UtcMoment, comment="null once there is an answer"),
    Column("decision_id", String(64), comment="the decision that is the answer"),
    Column("status", Integer, comment="of the HTTP answer"),
    Column("content_type", String(128)),
    Column("answer", LargeBinary, comment="its body, compressed by zlib"),
    Column("expires_at", UtcMoment, nullable=False, index=True),
)

feature_changes = Table(
    "feature_changes",
    metadata,
    Column("change_id", RowId, primary_key=True, autoincrement=True),
    Column("customer_id", String(128), comment="null: everybody"),
    Column("as_of", UtcMoment, nullable=False, comment="moment of the row that is being written"),
    Column("announced_at", UtcMoment, nullable=False),
    sqlite_autoincrement=True,  # a number is never given twice, also when every row has been deleted
)

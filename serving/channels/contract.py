"""What a channel adapter must be and do; the one module of this service that an adapter imports.

ChannelError
├── FinalRefusalError      the provider will never take this message; do not send it again
│   └── ReplyExpiredError  the reply token was used or is too old; the message may be sent otherwise
├── RetryLaterError        not now; the same message may be sent again, after `retry_after`
│   ├── QuotaError         not now because a rate or a quota of the account is used up
│   └── RecipientBusyError not now for this recipient; the provider itself works
├── UnknownOutcomeError    nobody knows whether the provider took it: the answer was lost
└── ForgedEventsError      the body of a webhook does not come from the provider
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, Self, runtime_checkable

from models.domain.campaign import Content
from models.domain.channel import ContentKind, CostUnit, LengthUnit
from models.domain.errors import NextchannelError
from models.domain.interaction import InteractionKind
from models.domain.message import Message, Receipt

__all__ = [
    "REPLY_TOKEN",
    "AdapterContext",
    "AgentTask",
    "AgentTasks",
    "AnswersHandshake",
    "Capabilities",
    "ChannelAdapter",
    "ChannelError",
    "ChecksAccount",
    "CostUnit",
    "DeliveryEvent",
    "FinalRefusalError",
    "ForgedEventsError",
    "Idempotency",
    "Limit",
    "Links",
    "QuotaError",
    "RecipientBusyError",
    "Replies",
    "ReplyExpiredError",
    "RetryLaterError",
    "SendsBatches",
    "ShowsChoices",
    "UnknownOutcomeError",
]


# Names of attributes of an event: what the person said or chose, and what `Replies.reply` takes.
SAID = "text"
REPLY_TOKEN = "reply_token"  # noqa: S105 - the name of an attribute


class ChannelError(NextchannelError):
    """A provider did not take what it was given."""


class FinalRefusalError(ChannelError):
    """The provider will never take this message; sending it again is wrong."""


class ReplyExpiredError(FinalRefusalError):
    """The reply token was used before or is too old: by it nothing was sent now, nor ever will be."""


class RetryLaterError(ChannelError):
    """The provider does not take this message now and certainly has not taken it.

    Args:
        detail: The provider's words.
        retry_after: How long the provider asks to be left alone; None where it does not say.
    """

    def __init__(self, detail: str, retry_after: timedelta | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(detail)


class QuotaError(RetryLaterError):
    """A rate or a quota of the provider account is used up."""


class RecipientBusyError(RetryLaterError):
    """Not now for this recipient, for example a full mailbox; the provider itself works and takes other messages."""


class UnknownOutcomeError(ChannelError):
    """The message was handed over and the answer was lost: it may or may not be on its way."""


class ForgedEventsError(ChannelError):
    """The body of a webhook does not carry the provider's signature."""


class Idempotency(StrEnum):
    """What a provider does with a message id that it has seen before."""

    KEYED = "keyed"
    """It takes our key and sends once."""
    NONE = "none"
    """It sends again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A bound that the provider sets.

    Attributes:
        subject: What is bounded, for example `text` or `whole message`.
        at_most: The bound.
        unit: Of the bound, for example `characters` or `bytes`.
        source: Address of the page that states it.
        kind: Where the bound is one of the body of that content kind, `Capabilities.require` enforces it.
    """

    subject: str
    at_most: int
    unit: str
    source: str
    kind: ContentKind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an adapter can do, as data.

    Attributes:
        content_kinds: Content that it carries; any other is refused as final.
        receipts: Outcomes that it, or the tracking of what it sends, can report.
        idempotency: Whether sending a message twice is harmless.
        limits: Bounds of the provider; a message beyond one is refused as final.
        cost_unit: What the provider charges for; a receipt says how many there were.
        batch_size: Most messages that one call can carry; more than one needs `SendsBatches`.
    """

    content_kinds: frozenset[ContentKind]
    receipts: frozenset[InteractionKind]
    idempotency: Idempotency
    limits: tuple[Limit, ...] = ()
    cost_unit: CostUnit = CostUnit.MESSAGE
    batch_size: int = 1

    def require(self, message: Message) -> None:
        """Refuse what cannot be carried before anything is sent.

        Raises:
            FinalRefusalError: the content kind is not carried, or its body is longer than the provider takes.
        """
        kind, body = message.content_kind, message.content.body
        if kind not in self.content_kinds:
            raise FinalRefusalError(f"content kind {kind} is not carried by this adapter")
        self.require_length(kind, body)

    def require_length(self, kind: ContentKind, text: str) -> None:
        """Refuse a text longer than the provider takes as the body of that kind.

        Raises:
            FinalRefusalError: it is longer.
        """
        for limit in self.limits:
            if limit.kind is kind and (length := LengthUnit(limit.unit).length(text)) > limit.at_most:
                raise FinalRefusalError(f"{limit.subject}: {length} {limit.unit}, must be <= {limit.at_most}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryEvent:
    """What a provider reports about a message after it took it, or about the person who got it.

    `provider_message_id` or `message_id` names the message. With `identity` instead the event is about the person (a
    reply, a follow, an unsubscription), or, where `up_to` is set, about every message sent to them until then.

    Attributes:
        provider: Name of the adapter.
        event_id: The provider's own id of the event: a repeated report has the same. At most 128 characters.
        kind: What happened.
        occurred_at: When it happened, aware UTC; when it was read, where the provider does not say.
        provider_message_id: The id that `send` returned in its receipt.
        message_id: Our own id, where the provider hands it back.
        identity: Contact point of the person, of the channel's identity kind.
        up_to: A watermark: every message sent to `identity` until this moment.
        detail: The provider's words, for people.
        attributes: Anything else worth keeping: under `SAID` what the person wrote or which word they chose, under
            `REPLY_TOKEN` what a reply to it takes.
    """

    provider: str
    event_id: str
    kind: InteractionKind
    occurred_at: datetime
    provider_message_id: str = ""
    message_id: str = ""
    identity: str = ""
    up_to: datetime | None = None
    detail: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


class Links(Protocol):
    """Addresses of this service that belong to one message; each holds a signed token."""

    def pixel(self, message_id: str) -> str:
        """An invisible picture; fetching it says that the message was opened."""
        ...

    def click(self, message_id: str, number: int) -> str:
        """A redirect to the message's target of that number."""
        ...

    def unsubscribe(self, message_id: str) -> str:
        """Leaves the channel: POST at once (RFC 8058), GET shows a page that asks."""
        ...

    def redeem(self, message_id: str) -> str:
        """A page that shows what the message's offer gives; only its form redeems."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTask:
    """What a person is asked to do for one customer, for example to call them.

    It holds no contact point: that is read when somebody takes the task.

    Attributes:
        task_id: The message's id; the same task twice is one.
        due_at: Not before, aware.
        expires_at: Not after, aware.
    """

    task_id: str
    decision_id: str
    customer_id: str
    campaign_id: str
    offer_id: str
    channel: str
    subject: str
    body: str
    due_at: datetime
    expires_at: datetime


class AgentTasks(Protocol):
    """The queue that people work through."""

    def add(self, task: AgentTask) -> bool:
        """Put a task into the queue; False where it is there already. Blocks: call it in a thread."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterContext:
    """What an adapter gets from outside.

    Attributes:
        links: Makes the addresses that the adapter puts into what it sends.
        settings: The adapter's own settings, text by name; it parses and checks them in `build`.
        webhook_url: Where the provider reaches `parse_events`, for example
            `https://news.example/v1/receipts/sms`; empty where nobody listens.
        tasks: The queue of people's tasks; None where there is none.
        report: Takes the events of a provider that reports over a connection of the adapter's own instead of to
            `parse_events`; it blocks, and what it raises was not recorded. None where nobody listens.
    """

    links: Links
    settings: Mapping[str, str] = field(default_factory=dict)
    webhook_url: str = ""
    tasks: AgentTasks | None = None
    report: Callable[[Sequence[DeliveryEvent]], None] | None = None


@runtime_checkable
class ChannelAdapter(Protocol):
    """The plug-in that executes messages on one or several channels.

    An adapter is built once and used from one event loop, by many tasks at a time.
    """

    name: str
    capabilities: Capabilities

    @classmethod
    def build(cls, context: AdapterContext, transport: Any = None) -> Self:
        """Make an adapter; nothing is connected yet.

        Args:
            context: Settings and links.
            transport: The wire, where it is not the real one; its type is the adapter's own.

        Raises:
            InvalidInputError: a setting is missing or wrong.
        """
        ...

    async def send(self, message: Message) -> Receipt:
        """Hand a message to the provider, once, within the adapter's own time limit.

        Returns:
            A receipt with status `accepted`.

        Raises:
            FinalRefusalError: never send it again.
            RetryLaterError: certainly not taken; send it again later.
            UnknownOutcomeError: the answer was lost.
        """
        ...

    def parse_events(self, body: bytes, headers: Mapping[str, str]) -> Sequence[DeliveryEvent]:
        """Read what the provider posted to our webhook.

        Args:
            body: As it came over the wire, since signatures cover bytes.
            headers: Names in lower case; `:path` (RFC 9113 section 8.3.1) is path and query of the request.

        Returns:
            Events in the order of the body; none for a report that means nothing to us.

        Raises:
            ForgedEventsError: the signature is missing or wrong, or what it covers cannot be read.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


@runtime_checkable
class AnswersHandshake(Protocol):
    """An adapter whose provider asks the webhook for a proof by GET before it posts to it."""

    def answer_handshake(self, query: Mapping[str, str]) -> str:
        """What to answer, as plain text.

        Raises:
            ForgedEventsError: the question does not come from the provider.
        """
        ...


@runtime_checkable
class ChecksAccount(Protocol):
    """An adapter that can ask its provider whether the account works, without sending anything."""

    async def check_account(self) -> str:
        """What the provider says of the account, for people.

        Raises:
            ChannelError: the account does not work.
        """
        ...


@runtime_checkable
class Replies(Protocol):
    """An adapter whose provider lets an event be answered once, by a token that comes with it."""

    reply_within: timedelta
    """For so long after the event arrived a token is worth trying."""

    async def reply(self, reply_token: str, message: Message) -> Receipt:
        """Answer the event that came with the token. The same token is taken once, however often it is used.

        Raises:
            ReplyExpiredError: the token was used before, or is too old.
            ChannelError: as `send`.
        """
        ...


@runtime_checkable
class ShowsChoices(Protocol):
    """An adapter whose provider can show words to choose from; choosing one says it."""

    def with_choices(self, content: Content, choices: Sequence[str]) -> tuple[ContentKind, Content]:
        """A text with the words below it, as content that `send` and `reply` take.

        Args:
            content: Of kind `text`.
            choices: Up to 13 words, each of at most 100 characters.
        """
        ...


@runtime_checkable
class SendsBatches(Protocol):
    """An adapter whose provider takes several messages in one call."""

    async def send_batch(self, messages: Sequence[Message], batch_id: str) -> Sequence[Receipt]:
        """Send up to `capabilities.batch_size` messages of equal content; all are taken, or none.

        Args:
            messages: To different recipients.
            batch_id: A UUID, the key under which the provider takes them once however often they are sent. When
                they are sent again it may be without some that must not go out any more.

        Returns:
            A receipt for each, in order.

        Raises:
            ChannelError: as `send`, for all of them.
        """
        ...

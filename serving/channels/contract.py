"""What a channel adapter must be and do; the one module of this service that an adapter imports.

ChannelError
├── FinalRefusalError      the provider will never take this message; do not send it again
├── RetryLaterError        not now; the same message may be sent again, after `retry_after`
│   ├── QuotaError         not now because a rate or a quota of the account is used up
│   └── RecipientBusyError not now for this recipient; the provider itself works
├── UnknownOutcomeError    nobody knows whether the provider took it: the answer was lost
└── ForgedEventsError      the body of a webhook does not come from the provider
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, Self, runtime_checkable

from models.domain.channel import ContentKind
from models.domain.errors import NextchannelError
from models.domain.interaction import InteractionKind
from models.domain.message import Message, Receipt

__all__ = [
    "AdapterContext",
    "Capabilities",
    "ChannelAdapter",
    "ChannelError",
    "DeliveryEvent",
    "FinalRefusalError",
    "ForgedEventsError",
    "Idempotency",
    "Limit",
    "Links",
    "QuotaError",
    "RecipientBusyError",
    "RetryLaterError",
    "UnknownOutcomeError",
]


class ChannelError(NextchannelError):
    """A provider did not take what it was given."""


class FinalRefusalError(ChannelError):
    """The provider will never take this message; sending it again is wrong."""


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
    """

    subject: str
    at_most: int
    unit: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an adapter can do, as data.

    Attributes:
        content_kinds: Content that it carries; any other is refused as final.
        receipts: Outcomes that it, or the tracking of what it sends, can report.
        idempotency: Whether sending a message twice is harmless.
        limits: Bounds of the provider; a message beyond one is refused as final.
    """

    content_kinds: frozenset[ContentKind]
    receipts: frozenset[InteractionKind]
    idempotency: Idempotency
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryEvent:
    """What a provider reports about a message after it took it.

    Attributes:
        provider: Name of the adapter.
        event_id: The provider's own id of the event: a repeated report has the same.
        provider_message_id: The id that `send` returned in its receipt.
        kind: What happened.
        occurred_at: When it happened, aware UTC.
        detail: The provider's words, for people.
    """

    provider: str
    event_id: str
    provider_message_id: str
    kind: InteractionKind
    occurred_at: datetime
    detail: str = ""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterContext:
    """What an adapter gets from outside.

    Attributes:
        settings: The adapter's own settings, text by name; it parses and checks them in `build`.
        links: Makes the addresses that the adapter puts into what it sends.
    """

    links: Links
    settings: Mapping[str, str] = field(default_factory=dict)


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
            headers: Names in lower case.

        Raises:
            ForgedEventsError: the signature is missing or wrong.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...

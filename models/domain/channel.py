"""A way to reach a customer: what it costs, what it can carry and what it can report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from models.domain.bounds import NotEmpty, Within, check_bounds
from models.domain.errors import require
from models.domain.interaction import InteractionKind as Kind


class Touch(StrEnum):
    """The class of a channel by the human effort that it takes."""

    TECH = "tech"
    LOW = "low"
    HIGH = "high"


class IdentityKind(StrEnum):
    """What an account or contact point is."""

    EMAIL = "email"
    PHONE = "phone"
    LINE = "line"
    DEVICE = "device"
    WEB_PUSH = "web_push"
    WHATSAPP = "whatsapp"
    MESSENGER = "messenger"
    INSTAGRAM = "instagram"
    WECHAT = "wechat"
    ADDRESS = "address"
    WEBHOOK = "webhook"
    COOKIE = "cookie"


class ContentKind(StrEnum):
    """A form that content can take; channels differ in which they carry."""

    TEXT = "text"
    HTML = "html"
    IMAGE = "image"
    VIDEO = "video"
    STICKER = "sticker"
    TEMPLATE = "template"
    CARD = "card"


class LengthUnit(StrEnum):
    """What a provider counts when it measures a text."""

    CHARACTERS = "characters"
    UTF16_UNITS = "utf16_units"
    BYTES = "bytes"

    def length(self, text: str) -> int:
        """Length of a text in this unit; bytes are those of UTF-8.

        Example:
            >>> [unit.length("\U0001f34e") for unit in LengthUnit]
            [1, 2, 4]
        """
        if self is LengthUnit.CHARACTERS:
            return len(text)
        if self is LengthUnit.UTF16_UNITS:
            return len(text.encode("utf-16-le")) // 2
        return len(text.encode())


class CostUnit(StrEnum):
    """What a provider charges for."""

    MESSAGE = "message"
    SEGMENT = "segment"
    """Each part of an SMS: `models.domain.sms.sms_length`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLimit:
    """The longest body of one content kind that a provider takes."""

    kind: ContentKind
    longest: Annotated[int, Within(1)]
    unit: LengthUnit = LengthUnit.CHARACTERS

    def __post_init__(self) -> None:
        check_bounds(self, "text_limit.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One channel as the operator configured it.

    Attributes:
        name: Unique short name, for example `email`.
        touch: Human effort that a contact takes.
        identity_kind: The identity a customer needs to be reached here.
        content_kinds: Content the channel can carry.
        receipts: Outcomes the channel can report. An outcome that is not listed is
            unknown, never "did not happen".
        cost_minor: Cost of one message, or of one unit, minor currency units, >= 0; None where
            nobody has said yet: such a channel cannot be used until the operator sets it.
        cost_source: Where the cost comes from, with its date.
        capacity_per_day: Most messages a day; None for no limit.
        needs_consent: Whether marketing needs an opt-in (otherwise opt-out suffices).
        provider_window_seconds: The provider takes messages only this long after the
            customer's last message; None for no such window.
        kinds_outside_window: Content kinds that it takes at any time all the same.
        text_limits: Longest body by content kind; none for a kind without a limit.
        enabled: Whether the operator has it switched on; decisions leave out one that is off.
        cost_unit: What `cost_minor` is the cost of; `models.domain.price.priced` makes it a message's.
    """

    name: Annotated[str, NotEmpty()]
    touch: Touch
    identity_kind: IdentityKind
    content_kinds: frozenset[ContentKind]
    receipts: frozenset[Kind]
    cost_minor: Annotated[float, Within(0)] | None
    cost_source: str
    capacity_per_day: Annotated[int, Within(0)] | None = None
    needs_consent: bool = True
    provider_window_seconds: int | None = None
    kinds_outside_window: frozenset[ContentKind] = frozenset()
    text_limits: tuple[TextLimit, ...] = ()
    enabled: bool = True
    cost_unit: CostUnit = CostUnit.MESSAGE

    def __post_init__(self) -> None:
        check_bounds(self, "channel.")
        require(
            not self.name or self.name.isidentifier(), "channel.name", self.name, "must be a plain identifier"
        )
        require(
            self.cost_minor is None or self.cost_minor < float("inf"),
            "channel.cost_minor",
            self.cost_minor,
            "must be finite",
        )
        limited = [limit.kind for limit in self.text_limits]
        require(len(set(limited)) == len(limited), "channel.text_limits", limited, "must not repeat a kind")

    def takes(self, kind: ContentKind, body: str, *, in_window: bool = True) -> bool:
        """Whether the channel carries that kind, the body is short enough, and the provider takes it now.

        Args:
            kind: Content kind.
            body: Its text.
            in_window: Whether the provider window is open; of no account where the channel has none.
        """
        return (
            kind in self.content_kinds
            and self.fits(kind, body)
            and (in_window or self.provider_window_seconds is None or kind in self.kinds_outside_window)
        )

    def fits(self, kind: ContentKind, body: str) -> bool:
        """Whether the body is no longer than the provider takes."""
        for limit in self.text_limits:
            if limit.kind is kind:
                return limit.unit.length(body) <= limit.longest
        return True

    def reports(self, kind: Kind) -> bool:
        """Whether the absence of `kind` on this channel means that it did not happen."""
        return kind in self.receipts


_UNKNOWN = "no public price was found: set your own"

# Costs are US cents a message, from the providers' public lists; the operator confirms them.
DEFAULT_CHANNELS: tuple[Channel, ...] = (
    Channel(
        name="email",
        touch=Touch.TECH,
        identity_kind=IdentityKind.EMAIL,
        content_kinds=frozenset({ContentKind.TEXT, ContentKind.HTML, ContentKind.IMAGE}),
        receipts=frozenset({Kind.BOUNCED, Kind.OPENED, Kind.CLICKED, Kind.UNSUBSCRIBED, Kind.COMPLAINED}),
        cost_minor=0.01,
        cost_source="Amazon SES list price 0.0001 USD, second hand, 2026-11",
    ),
    Channel(
        name="push",
        touch=Touch.TECH,
        identity_kind=IdentityKind.DEVICE,
        content_kinds=frozenset({ContentKind.TEXT, ContentKind.IMAGE}),
        receipts=frozenset({Kind.OPENED, Kind.CLICKED, Kind.FAILED}),
        cost_minor=0.0,
        cost_source="no fee a message (FCM, APNs), 2026-11",
        # FCM takes payloads of 4096 bytes: https://firebase.google.com/docs/cloud-messaging/concept-options
        text_limits=(TextLimit(kind=ContentKind.TEXT, longest=4_096, unit=LengthUnit.BYTES),),
    ),
    Channel(
        name="web_push",
        touch=Touch.TECH,
        identity_kind=IdentityKind.WEB_PUSH,
        content_kinds=frozenset({ContentKind.TEXT}),
        receipts=frozenset({Kind.DELIVERED, Kind.CLICKED, Kind.FAILED}),
        cost_minor=0.0,
        cost_source="no fee a message (RFC 8030 push services), 2026-11",
        # RFC 8291, section 4: 3993 bytes of plain text fit into what every push service must take.
        text_limits=(TextLimit(kind=ContentKind.TEXT, longest=3_993, unit=LengthUnit.BYTES),),
    ),
    Channel(
        name="line",
        touch=Touch.TECH,
        identity_kind=IdentityKind.LINE,
        content_kinds=frozenset(
            {
                ContentKind.TEXT,
                ContentKind.IMAGE,
                ContentKind.VIDEO,
                ContentKind.STICKER,
                ContentKind.TEMPLATE,
                ContentKind.CARD,
            }
        ),
        receipts=frozenset({Kind.CLICKED, Kind.REPLIED, Kind.FOLLOWED, Kind.UNFOLLOWED}),
        cost_minor=0.3,
        cost_source="LINE Japan list price 15,000 JPY for 30,000 messages (about 0.003 USD), 2026-11",
        # https://developers.line.biz/en/docs/messaging-api/text-character-count/
        text_limits=(TextLimit(kind=ContentKind.TEXT, longest=5_000, unit=LengthUnit.UTF16_UNITS),),
    ),
    Channel(
        name="sms",
        touch=Touch.TECH,
        identity_kind=IdentityKind.PHONE,
        content_kinds=frozenset({ContentKind.TEXT}),
        receipts=frozenset({Kind.DELIVERED, Kind.FAILED, Kind.CLICKED}),
        cost_minor=1.45,
        cost_source="Twilio US list price 0.0083 USD a segment + up to 0.0062 USD carrier fee, 2026-11",
        # https://www.twilio.com/docs/api/errors/21617
        text_limits=(TextLimit(kind=ContentKind.TEXT, longest=1_600),),
        cost_unit=CostUnit.SEGMENT,
    ),
    Channel(
        name="whatsapp",
        touch=Touch.TECH,
        identity_kind=IdentityKind.WHATSAPP,
        content_kinds=frozenset(
            {ContentKind.TEXT, ContentKind.IMAGE, ContentKind.VIDEO, ContentKind.TEMPLATE}
        ),
        receipts=frozenset({Kind.SENT, Kind.DELIVERED, Kind.OPENED, Kind.FAILED, Kind.REPLIED, Kind.CLICKED}),
        cost_minor=None,
        cost_source="Meta marketing messages 0.0109-0.1597 USD by country, 2026-04: set your country's",
        # Outside 24 h after the customer's message only approved templates go out:
        # https://developers.facebook.com/docs/whatsapp/cloud-api/guides/send-messages
        provider_window_seconds=24 * 3600,
        kinds_outside_window=frozenset({ContentKind.TEMPLATE}),
        text_limits=(
            TextLimit(kind=ContentKind.TEXT, longest=4_096),
            TextLimit(kind=ContentKind.TEMPLATE, longest=1_024),
        ),
    ),
    Channel(
        name="messenger",
        touch=Touch.TECH,
        identity_kind=IdentityKind.MESSENGER,
        content_kinds=frozenset({ContentKind.TEXT, ContentKind.IMAGE, ContentKind.TEMPLATE}),
        receipts=frozenset({Kind.DELIVERED, Kind.OPENED, Kind.REPLIED, Kind.CLICKED}),
        cost_minor=0.0,
        cost_source="no fee a message, 2026-11",
        provider_window_seconds=24 * 3600,
        # https://developers.facebook.com/docs/messenger-platform/reference/send-api
        text_limits=(TextLimit(kind=ContentKind.TEXT, longest=2_000),),
    ),
    Channel(
        name="instagram",
        touch=Touch.TECH,
        identity_kind=IdentityKind.INSTAGRAM,
        content_kinds=frozenset({ContentKind.TEXT, ContentKind.IMAGE, ContentKind.TEMPLATE}),
        receipts=frozenset({Kind.OPENED, Kind.REPLIED, Kind.CLICKED}),
        cost_minor=0.0,
        cost_source="no fee a message, 2026-11",
        provider_window_seconds=24 * 3600,
        # https://developers.facebook.com/docs/messenger-platform/instagram/features/send-message
        text_limits=(TextLimit(kind=ContentKind.TEXT, longest=1_000, unit=LengthUnit.BYTES),),
    ),
    Channel(
        name="wechat",
        touch=Touch.TECH,
        identity_kind=IdentityKind.WECHAT,
        content_kinds=frozenset({ContentKind.TEXT, ContentKind.IMAGE, ContentKind.TEMPLATE}),
        receipts=frozenset({Kind.DELIVERED, Kind.FAILED, Kind.CLICKED, Kind.FOLLOWED, Kind.UNFOLLOWED}),
        cost_minor=0.0,
        cost_source="no fee a message, 2026-11",
        provider_window_seconds=48 * 3600,
    ),
    Channel(
        name="call",
        touch=Touch.HIGH,
        identity_kind=IdentityKind.PHONE,
        content_kinds=frozenset({ContentKind.TEXT}),
        receipts=frozenset({Kind.DELIVERED, Kind.OPENED, Kind.REPLIED, Kind.CONVERTED}),
        cost_minor=None,
        cost_source=_UNKNOWN,
    ),
    Channel(
        name="direct_mail",
        touch=Touch.LOW,
        identity_kind=IdentityKind.ADDRESS,
        content_kinds=frozenset({ContentKind.TEXT, ContentKind.IMAGE}),
        receipts=frozenset(),
        cost_minor=None,
        cost_source=_UNKNOWN,
        needs_consent=False,
    ),
    Channel(
        name="webhook",
        touch=Touch.TECH,
        identity_kind=IdentityKind.WEBHOOK,
        content_kinds=frozenset(ContentKind),
        receipts=frozenset({Kind.DELIVERED, Kind.FAILED}),
        cost_minor=None,
        cost_source=_UNKNOWN,
    ),
)

"""One person: accounts, permission to contact them, and how often that was used of late."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from models.domain.channel import IdentityKind
from models.domain.errors import InvalidInputError, require

# A consent on this channel speaks of every channel: a refusal closes them all, until one on it is granted again.
EVERY_CHANNEL = "*"
# Every zone's name has this form; which names there are, the time zone database says, and it changes.
ZONE_FORM = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$"


class MessageClass(StrEnum):
    """Why a message is sent: to promote something, or because the customer is owed it."""

    MARKETING = "marketing"
    TRANSACTIONAL = "transactional"


class ConsentStatus(StrEnum):
    """What the customer last said about a channel and purpose."""

    GRANTED = "granted"
    WITHDRAWN = "withdrawn"
    UNSUBSCRIBED = "unsubscribed"
    COMPLAINED = "complained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """An account or contact point that belongs to a customer."""

    customer_id: str
    kind: IdentityKind
    value: str
    linked_at: datetime
    source: str

    def __post_init__(self) -> None:
        require(bool(self.value), "identity.value", self.value, "must not be empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """Permission for a channel and purpose, from a point in time on."""

    customer_id: str
    channel: str
    purpose: str
    status: ConsentStatus
    since: datetime
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PastContact:
    """A contact that was planned or made: what frequency caps count."""

    channel: str
    campaign_id: str
    contacted_at: datetime
    message_class: MessageClass = MessageClass.MARKETING


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """What eligibility needs to know about one person, as of now.

    Attributes:
        customer_id: ONE_ID.
        time_zone: IANA name; slots and quiet hours are local to it.
        identities: Kinds of contact points that they have; the contact points themselves are read when sending.
        consents: Latest status by (channel, purpose); absent means never asked. `EVERY_CHANNEL` is a channel here.
        contacts: Contacts within the longest cap window, any order.
        earlier_contacts: How many there were before it, by campaign.
        replied_at: Last message from the customer by channel, for provider windows.
    """

    customer_id: str
    time_zone: str
    identities: Collection[IdentityKind] = frozenset()
    consents: dict[tuple[str, str], ConsentStatus] = field(default_factory=dict)
    contacts: tuple[PastContact, ...] = ()
    earlier_contacts: dict[str, int] = field(default_factory=dict)
    replied_at: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        zone(self.time_zone)


def zone(name: str) -> ZoneInfo:
    """The IANA time zone of that name.

    Raises:
        InvalidInputError: there is no such zone.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as exc:
        raise InvalidInputError(
            "time_zone", name, "must be an IANA time zone, for example Asia/Taipei"
        ) from exc

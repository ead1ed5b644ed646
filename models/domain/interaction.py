"""One fact in the history of a customer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from models.domain.bounds import Between
from models.domain.errors import require

# The longest texts that are kept; `features.history.tables` has columns of these widths.
LONGEST_ID = 128
LONGEST_NAME = 64
LONGEST_TEXT = 512
MOST_ATTRIBUTES = 50
# Any earlier or later moment is a broken clock or a missing value.
FIRST_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MOMENT = datetime(2200, 1, 1, tzinfo=UTC)
KNOWN_TIME = Between(FIRST_MOMENT, LAST_MOMENT)


class InteractionKind(StrEnum):
    """What happened. `docs/reference/interactions.md` says what each kind means and which fields it carries."""

    PLANNED = "planned"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    BOUNCED = "bounced"
    SUPPRESSED = "suppressed"
    OPENED = "opened"
    CLICKED = "clicked"
    REPLIED = "replied"
    CONVERTED = "converted"
    UNSUBSCRIBED = "unsubscribed"
    COMPLAINED = "complained"
    FOLLOWED = "followed"
    UNFOLLOWED = "unfollowed"
    VISITED = "visited"
    VIEWED = "viewed"
    CARTED = "carted"
    CART_ABANDONED = "cart_abandoned"
    REGISTERED = "registered"
    REGISTRATION_ABANDONED = "registration_abandoned"
    PURCHASED = "purchased"
    CALLED = "called"
    ISSUE_RAISED = "issue_raised"


class Place(StrEnum):
    """Where a purchase, a registration or a contact took place."""

    ONLINE = "online"
    SHOP = "shop"
    PHONE = "phone"
    CHAT = "chat"


# What importers and shops say of the price of a purchase or conversion, in its attribute `price`.
PRICE, DISCOUNTED, FULL_PRICE = "price", "discounted", "full"

# A message that met one of these reached nobody: its decision earns no reward, not a zero.
NOT_REACHED = frozenset({InteractionKind.FAILED, InteractionKind.BOUNCED, InteractionKind.SUPPRESSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """One fact, insert-only, unique by (source, event_id).

    Attributes:
        source: The system that reports it.
        event_id: That system's own id of the event.
        customer_id: Whom it concerns.
        kind: What happened.
        occurred_at: When it happened, aware UTC.
        channel: On which channel, where one was involved.
        campaign_id: For which campaign, where known.
        offer_id: Which offer was shown, where known.
        decision_id: The decision that it answers, where known.
        value_minor: Net value of a conversion or amount of a purchase, minor units.
        place: Where it took place, where that is known.
        machine_made: Whether a proxy or scanner made it; such facts are never learned from.
        machine_rule: The rule that says so; None where a person made it, or where only the source says so.
        attributes: Anything else worth keeping, as text.
    """

    source: str
    event_id: str
    customer_id: str
    kind: InteractionKind
    occurred_at: datetime
    channel: str | None = None
    campaign_id: str | None = None
    offer_id: str | None = None
    decision_id: str | None = None
    value_minor: float | None = None
    place: Place | None = None
    machine_made: bool = False
    machine_rule: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value, longest in (
            ("source", self.source, LONGEST_NAME),
            ("event_id", self.event_id, LONGEST_ID),
            ("customer_id", self.customer_id, LONGEST_ID),
        ):
            require(bool(value), name, value, "must not be empty")
            require_text(name, value, longest)
        for name, optional, longest in (
            ("channel", self.channel, LONGEST_NAME),
            ("campaign_id", self.campaign_id, LONGEST_ID),
            ("offer_id", self.offer_id, LONGEST_ID),
            ("decision_id", self.decision_id, LONGEST_NAME),
        ):
            if optional is not None:
                require_text(name, optional, longest)
        if self.occurred_at.tzinfo is None:
            require(
                False,
                "occurred_at",
                self.occurred_at.isoformat(),
                "must carry a time zone, for example 2026-01-31T09:00:00Z",
            )
        require_moment("occurred_at", self.occurred_at)
        require(
            self.value_minor is None or abs(self.value_minor) < float("inf"),
            "value_minor",
            self.value_minor,
            "must be finite",
        )
        require(
            self.machine_made or self.machine_rule is None,
            "machine_rule",
            self.machine_rule,
            "must be empty where a person made it",
        )
        if self.attributes:
            require(
                len(self.attributes) <= MOST_ATTRIBUTES,
                "attributes",
                len(self.attributes),
                f"must be at most {MOST_ATTRIBUTES}",
            )
            for name, value in self.attributes.items():
                require_text("attributes", name, LONGEST_NAME)
                require_text(f"attributes.{name}", value, LONGEST_TEXT)

    @property
    def discounted(self) -> bool | None:
        """Whether the price was a reduced one; None where it is not told."""
        return {DISCOUNTED: True, FULL_PRICE: False}.get(self.attributes.get(PRICE, ""))


def require_text(field: str, text: str, longest: int) -> None:
    """Refuse a text that is too long or has control characters, which no database column takes alike.

    Raises:
        InvalidInputError: names the field.
    """
    if len(text) > longest:
        require(False, field, text, f"must have at most {longest} characters")
    require(
        text.isprintable() or not any(character < " " or character == "\x7f" for character in text),
        field,
        text,
        "must have no control characters",
    )


def require_moment(field: str, moment: datetime) -> None:
    """Refuse an aware moment that is out of `[FIRST_MOMENT, LAST_MOMENT)`.

    Raises:
        InvalidInputError: names the field.
    """
    if not KNOWN_TIME.holds(moment):
        require(False, field, moment.isoformat(), KNOWN_TIME.words)

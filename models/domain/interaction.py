"""One fact in the history of a customer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from models.domain.errors import require


class InteractionKind(StrEnum):
    """What happened."""

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
    CARTED = "carted"
    CART_ABANDONED = "cart_abandoned"
    REGISTERED = "registered"
    REGISTRATION_ABANDONED = "registration_abandoned"
    PURCHASED = "purchased"
    CALLED = "called"


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
        machine_made: Whether a proxy or scanner made it; such facts are never learned from.
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
    machine_made: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(bool(self.source), "source", self.source, "must not be empty")
        require(bool(self.event_id), "event_id", self.event_id, "must not be empty")
        require(bool(self.customer_id), "customer_id", self.customer_id, "must not be empty")
        require(
            self.occurred_at.tzinfo is not None,
            "occurred_at",
            self.occurred_at.isoformat(),
            "must carry a time zone, for example 2026-01-31T09:00:00Z",
        )
        require(
            self.value_minor is None or abs(self.value_minor) < float("inf"),
            "value_minor",
            self.value_minor,
            "must be finite",
        )

"""What a campaign does next: after silence another channel, after an answer another offer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated
from uuid import UUID, uuid5

from models.domain.bounds import Within, check_bounds
from models.domain.errors import require
from models.domain.interaction import InteractionKind as Kind

# More is a slip of units, milliseconds for seconds.
LONGEST_WAIT_SECONDS = 366 * 86_400
# Namespace of follow-ups; fixed for ever, or a restart would decide them twice.
_NAMESPACE = UUID("0c0a2c51-7a0e-5c8e-9a63-3f1f5a8f6b77")


class Trigger(StrEnum):
    """What a follow-up waits for."""

    UNDELIVERED = "undelivered"
    UNOPENED = "unopened"
    UNCLICKED = "unclicked"
    OPENED = "opened"
    CLICKED = "clicked"
    REPLIED = "replied"
    CONVERTED = "converted"
    CART_ABANDONED = "cart_abandoned"
    REGISTRATION_ABANDONED = "registration_abandoned"


_LEFT = frozenset({Kind.UNSUBSCRIBED, Kind.COMPLAINED})
_BOUGHT = frozenset({Kind.CONVERTED, Kind.PURCHASED})

# Silence: the wait ends with the first of these. A channel that cannot report opens is silent until a click or reply.
_UNCLICKED = _BOUGHT | _LEFT | {Kind.CLICKED, Kind.REPLIED}
ANSWERS: Mapping[Trigger, frozenset[Kind]] = {
    Trigger.UNDELIVERED: _UNCLICKED | {Kind.DELIVERED, Kind.OPENED},
    Trigger.UNOPENED: _UNCLICKED | {Kind.OPENED},
    Trigger.UNCLICKED: _UNCLICKED,
}
# An answer to a message: the first of these sets the follow-up off. Who clicked or replied has opened.
SET_OFF_BY: Mapping[Trigger, frozenset[Kind]] = {
    Trigger.OPENED: frozenset({Kind.OPENED, Kind.CLICKED, Kind.REPLIED}),
    Trigger.CLICKED: frozenset({Kind.CLICKED}),
    Trigger.REPLIED: frozenset({Kind.REPLIED}),
    Trigger.CONVERTED: _BOUGHT,
}
# An event that answers no message sets the follow-up off, unless one of these comes before it is due.
EVENTS: Mapping[Trigger, Kind] = {
    Trigger.CART_ABANDONED: Kind.CART_ABANDONED,
    Trigger.REGISTRATION_ABANDONED: Kind.REGISTRATION_ABANDONED,
}
TAKEN_BACK_BY: Mapping[Trigger, frozenset[Kind]] = {
    Trigger.CART_ABANDONED: _BOUGHT,
    Trigger.REGISTRATION_ABANDONED: frozenset({Kind.REGISTERED, Kind.CONVERTED}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUpRule:
    """One rule: decide again, for this campaign or another.

    After silence the decision leaves out the channels that the conversation has used; after an answer or an event its
    message goes out at once, unless hours are quiet.

    Attributes:
        on: What sets it off.
        after_seconds: How long silence must last from the moment of sending, or how long to wait after an answer.
        campaign_id: The campaign to decide for; None for this one.
        offers: Its offers to choose from; none stands for all.
    """

    on: Trigger
    after_seconds: Annotated[int, Within(0, LONGEST_WAIT_SECONDS)] = 0
    campaign_id: str | None = None
    offers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_bounds(self, "follow_ups.")
        require(
            self.on not in ANSWERS or self.after_seconds > 0,
            "follow_ups.after_seconds",
            self.after_seconds,
            f"must be > 0 for {self.on}",
        )
        require(
            self.on not in SET_OFF_BY or bool(self.offers) or self.campaign_id is not None,
            "follow_ups.offers",
            self.offers,
            f"must name an offer, or campaign_id a campaign, for {self.on}: the same again is no follow-up",
        )


def follow_up_id(cause: str, rule: int) -> str:
    """Id of a follow-up and of the decision that it takes: the same cause gives the same, so that it is taken once.

    Args:
        cause: Id of the decision that it follows, or of the event.
        rule: Place of the rule in its campaign.
    """
    return str(uuid5(_NAMESPACE, f"{cause}/{rule}"))

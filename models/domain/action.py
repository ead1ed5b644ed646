"""What can be done for a customer: (offer, channel, slot), or no contact.

All arrays over actions share one order, that of `ActionGrid`: offer-major, then channel,
then slot, and *no contact* last.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time
from enum import StrEnum


class ReasonCode(StrEnum):
    """Why an action is not a candidate."""

    NO_IDENTITY = "no_identity"
    NO_CONSENT = "no_consent"
    UNSUBSCRIBED = "unsubscribed"
    COMPLAINED = "complained"
    REFUSED = "refused"
    CONTENT_KIND_UNSUPPORTED = "content_kind_unsupported"
    CONTENT_TOO_LONG = "content_too_long"
    CHANNEL_PINNED = "channel_pinned"
    CHANNEL_DOWN = "channel_down"
    QUIET_HOURS = "quiet_hours"
    OUTSIDE_SEND_WINDOW = "outside_send_window"
    FREQUENCY_CAP = "frequency_cap"
    CAMPAIGN_CAP = "campaign_cap"
    BUDGET_EXHAUSTED = "budget_exhausted"
    CAPACITY_EXHAUSTED = "capacity_exhausted"
    PROVIDER_WINDOW = "provider_window"
    TOUCH_LEVEL = "touch_level"
    COST_UNKNOWN = "cost_unknown"
    CHANNEL_USED = "channel_used"
    OFFER_NOT_ASKED = "offer_not_asked"
    NOT_AT_ONCE = "not_at_once"


REASON_WORDS: dict[ReasonCode, str] = {
    ReasonCode.NO_IDENTITY: "the customer has no account on this channel",
    ReasonCode.NO_CONSENT: "the customer has not agreed to this channel for this purpose",
    ReasonCode.UNSUBSCRIBED: "the customer unsubscribed from this channel",
    ReasonCode.COMPLAINED: "the customer complained about this channel",
    ReasonCode.REFUSED: "the customer wants no contact at all for this purpose",
    ReasonCode.CONTENT_KIND_UNSUPPORTED: "the offer has no content that this channel carries",
    ReasonCode.CONTENT_TOO_LONG: "the offer's content is longer than this channel takes",
    ReasonCode.CHANNEL_PINNED: "the campaign is pinned to another channel",
    ReasonCode.CHANNEL_DOWN: "the channel is switched off or failing",
    ReasonCode.QUIET_HOURS: "the slot lies in the customer's quiet hours",
    ReasonCode.OUTSIDE_SEND_WINDOW: "the slot lies outside the campaign's send window",
    ReasonCode.FREQUENCY_CAP: "the customer has had as many contacts as the cap allows",
    ReasonCode.CAMPAIGN_CAP: "the customer has had as many contacts of this campaign as it allows",
    ReasonCode.BUDGET_EXHAUSTED: "the campaign's budget is spent",
    ReasonCode.CAPACITY_EXHAUSTED: "the channel's capacity for the day is used up",
    ReasonCode.PROVIDER_WINDOW: "the provider's reply window has closed",
    ReasonCode.TOUCH_LEVEL: "the campaign does not use channels of this touch level",
    ReasonCode.COST_UNKNOWN: "nobody has set what a message on this channel costs",
    ReasonCode.CHANNEL_USED: "the conversation has used this channel already",
    ReasonCode.OFFER_NOT_ASKED: "the follow-up does not ask for this offer",
    ReasonCode.NOT_AT_ONCE: "the follow-up goes out at once",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A contact that can be made: which offer, where and when."""

    offer: str
    channel: str
    slot: int
    send_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """Why a part of the grid holds no candidate; None stands for "every one"."""

    reason: ReasonCode
    offer: str | None = None
    channel: str | None = None
    slot: int | None = None

    @property
    def words(self) -> str:
        """The reason as a sentence."""
        return REASON_WORDS[self.reason]


@dataclass(frozen=True, slots=True)
class ActionGrid:
    """The axes of a decision and the one order of its actions.

    Action `(o, c, s)` has index `(o * n_channels + c) * n_slots + s`; no contact has the
    last index, `n_actions - 1`.

    Attributes:
        offers: Offer ids.
        channels: Channel names.
        slots: Local times of day at which a message may go out.
    """

    offers: tuple[str, ...]
    channels: tuple[str, ...]
    slots: tuple[time, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_offers, n_channels, n_slots)."""
        return len(self.offers), len(self.channels), len(self.slots)

    @property
    def n_actions(self) -> int:
        """Number of actions, no contact included."""
        return len(self.offers) * len(self.channels) * len(self.slots) + 1

    @property
    def no_contact(self) -> int:
        """Index of *no contact*."""
        return self.n_actions - 1

    def index(self, offer: int, channel: int, slot: int) -> int:
        """Flat index of a contact."""
        return (offer * len(self.channels) + channel) * len(self.slots) + slot

    def unravel(self, index: int) -> tuple[int, int, int] | None:
        """(offer, channel, slot) of a flat index, or None for no contact."""
        rest, slot = divmod(index, len(self.slots))
        offer, channel = divmod(rest, len(self.channels))
        return None if offer == len(self.offers) else (offer, channel, slot)

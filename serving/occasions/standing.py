"""Whether the campaign of an occasion can be decided for, and between which moments what is due is decided."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from models.domain.campaign import Campaign
from serving.occasions.occasion import Occasion


class OccasionStanding(StrEnum):
    """Whether an occasion works."""

    ACTIVE = "active"
    NOT_OPEN_YET = "campaign_not_open_yet"
    CLOSED = "campaign_closed"


def standing(campaign: Campaign, now: datetime) -> OccasionStanding:
    """Whether an occasion for the campaign works now: from the start of its send window until it has closed."""
    if now >= campaign.send_window.closes_at:
        return OccasionStanding.CLOSED
    return OccasionStanding.ACTIVE if now >= campaign.send_window.starts_at else OccasionStanding.NOT_OPEN_YET


@dataclass(frozen=True, slots=True)
class Window:
    """What is due in `(after, until]`, aware."""

    after: datetime
    until: datetime


def caught_up(occasion: Occasion, now: datetime) -> Window:
    """What is decided by a look at that moment."""
    return Window(now - timedelta(days=occasion.catch_up_days), now)

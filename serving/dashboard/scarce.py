"""What the page of a campaign shows of what is scarce."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from models.domain.campaign import Campaign
from serving.pacing.scarcity import Pace


@dataclass(frozen=True, slots=True, kw_only=True)
class ScarceRow:
    """A channel with a capacity, or any channel that takes of a scarce budget.

    Attributes:
        channel: Its name.
        left: Messages by day, in order of the days; nothing without a capacity.
        price_minor: What room for one more message would be worth, minor units; None where there is enough.
    """

    channel: str
    left: Sequence[tuple[date, int]]
    price_minor: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScarcePanel:
    """What can run out of one campaign.

    Attributes:
        as_of: When prices were worked out.
        n_expected: Requests that are expected by the end of tomorrow, UTC.
        budget_left_minor: Of the campaign; None without a budget.
        rows: Channels that have a capacity or a price, the dearest first.
    """

    as_of: datetime
    n_expected: float
    budget_left_minor: float | None
    rows: Sequence[ScarceRow]

    @classmethod
    def of(cls, pace: Pace, campaign: Campaign) -> ScarcePanel | None:
        """None where nothing can run out."""
        prices = pace.prices.get(campaign.campaign_id, {})
        rows = []
        for name in campaign.channels:
            left = [
                (one.day, int(one.left)) for one in pace.scarce if one.channel == name and one.day is not None
            ]
            if left or name in prices:
                rows.append(ScarceRow(channel=name, left=sorted(left), price_minor=prices.get(name)))
        budgets = [one.left for one in pace.scarce if one.campaign_id == campaign.campaign_id]
        if not rows and not budgets:
            return None
        return cls(
            as_of=pace.as_of,
            n_expected=pace.n_expected.get(campaign.campaign_id, 0.0),
            budget_left_minor=budgets[0] if budgets else None,
            rows=sorted(rows, key=lambda row: (-(row.price_minor or 0.0), row.channel)),
        )

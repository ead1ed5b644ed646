"""What one message takes of what is scarce, for requests that come by themselves.

Looked ahead is to the end of tomorrow, UTC, since a message falls on the day of its decision or on the next. A capacity
is shared among those who are expected until its day ends. A campaign's budget is shared among those who are expected until
the campaign closes: against those of them who come by the end of tomorrow stands their part of it.

Letters in shapes: e requests of an even sample of those who are expected, p options of theirs, R resources, U different
ways to use them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta

import numpy as np

from models.allocation.dual import IntArray
from models.allocation.pacing import DAY_SECONDS, NEAR_SECONDS, Expected, expected_requests, paced_prices
from models.choice import BoolArray, FloatArray
from models.domain.campaign import Campaign
from serving.pacing.memory import Memory, Offered, Place
from serving.store.resources import N_MESSAGE_DAYS

# Prices from some thousand of those who are expected are worth .9997 of those from all of them.
_MOST_SAMPLED = 8_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scarce:
    """A capacity or a budget: what is left, and what a unit of it is worth.

    Attributes:
        channel: Whose capacity on `day`, UTC; None for a budget.
        campaign_id: Whose budget; None for a capacity.
        left: Messages, or minor units.
        shadow_price_minor: Minor units a message, or a minor unit of money; 0 where there is enough for all.
    """

    channel: str | None = None
    day: date | None = None
    campaign_id: str | None = None
    left: float
    shadow_price_minor: float = 0.0

    def taken_by(self, place: Place, day: date, cost_minor: float) -> float:
        """What a message takes of it that goes out on that day."""
        if self.campaign_id is not None:
            return cost_minor if place.campaign_id == self.campaign_id else 0.0
        return float((place.channel, day) == (self.channel, self.day))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Shadow prices of a moment.

    Attributes:
        as_of: When they were worked out.
        n_expected: Requests that are expected by the end of tomorrow, UTC, by campaign; one for several campaigns counts
            for each of them.
        scarce: Every capacity and budget.
        prices: What one message takes of them, minor units, by campaign and channel; only what is above 0.
    """

    as_of: datetime
    n_expected: Mapping[str, float] = field(default_factory=dict)
    scarce: Sequence[Scarce] = ()
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def pace(
    memory: Memory,
    campaigns: Mapping[str, Campaign],
    cost_minor: Mapping[Place, float],
    left: Sequence[Scarce],
    now: datetime,
) -> Pace:
    """Shadow prices by who is still expected.

    Args:
        memory: Who asked on the days before.
        campaigns: Those that somebody can be decided for now, by id.
        cost_minor: Of a message.
        left: What is left of every capacity and budget, without prices.
        now: Aware.
    """
    ahead = _look_ahead(memory, campaigns, now)
    uses, way = _ways_to_use(memory.places, left, ahead.days, cost_minor)
    taken_in = way[ahead.offered.place, ahead.day]
    value = np.full((ahead.n_sampled, len(uses)), -np.inf)
    value[:, ~uses.any(axis=1)] = 0.0  # no contact
    by_value = ~np.isnan(ahead.offered.value_minor)
    np.maximum.at(
        value, (ahead.offered.row[by_value], taken_in[by_value]), ahead.offered.value_minor[by_value]
    )
    each = ahead.n_expected / max(ahead.n_sampled, 1)
    anyway = each * (np.bincount(taken_in, ahead.offered.messages, len(uses)) @ uses)
    capacity = np.array([one.left * ahead.part_of(one) for one in left])
    price = paced_prices(value, ahead.n_expected, uses, np.maximum(capacity - anyway, 0.0))
    message = (uses @ price)[way]
    prices: dict[str, dict[str, float]] = {}
    for at, (place, share) in enumerate(zip(memory.places, ahead.day_share(len(memory.places)), strict=True)):
        taken = float(message[at] @ share)
        if taken > 0 and place.campaign_id in campaigns:
            prices.setdefault(place.campaign_id, {})[place.channel] = taken
    return Pace(
        as_of=now,
        n_expected=ahead.n_by_campaign,
        scarce=tuple(
            replace(one, shadow_price_minor=float(worth)) for one, worth in zip(left, price, strict=True)
        ),
        prices=prices,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ahead:
    """Who is expected by the end of tomorrow.

    Attributes:
        days: Today, tomorrow and what comes after, UTC.
        n_expected: How many.
        n_by_campaign: The same of each campaign.
        budget_part: By campaign which part of those who are expected until it closes.
        n_sampled: Size of the sample.
        soon: Which of the sample come within half an hour, shape (e,).
        offered: What the sample could be given.
        day: On which of the days, shape (p,).
    """

    days: Sequence[date]
    n_expected: float
    n_by_campaign: Mapping[str, float]
    budget_part: Mapping[str, float]
    n_sampled: int
    soon: BoolArray
    offered: Offered
    day: IntArray

    def part_of(self, one: Scarce) -> float:
        """Which part of what is left is for those who are expected by the end of tomorrow."""
        return 1.0 if one.campaign_id is None else self.budget_part[one.campaign_id]

    def day_share(self, n_places: int) -> FloatArray:
        """On which of the days messages fall that are decided on now, by place, shape (n_places, D).

        Where nobody is expected soon it is said by all who are expected; where nobody is, they fall on today.
        """
        first = np.zeros((n_places, len(self.days)))
        first[:, 0] = 1.0
        share = first
        for some in (np.ones(len(self.soon), np.bool_), self.soon):
            of = some[self.offered.row]
            count = np.zeros_like(first)
            np.add.at(count, (self.offered.place[of], self.day[of]), 1.0)
            known = count.sum(axis=1, keepdims=True)
            share = np.where(known > 0, count / np.maximum(known, 1.0), share)
        return share


def _look_ahead(memory: Memory, campaigns: Mapping[str, Campaign], now: datetime) -> _Ahead:
    today = now.astimezone(UTC).date()
    midnight = datetime.combine(today, time(), tzinfo=UTC)
    until = midnight + timedelta(days=N_MESSAGE_DAYS)
    expected = expected_requests(memory.asked, now.timestamp(), until.timestamp())
    n_by_campaign, budget_part = {}, {}
    for campaign_id, campaign in campaigns.items():
        n_by_campaign[campaign_id], budget_part[campaign_id] = _of_campaign(memory, expected, campaign, until)
    sample = expected.sample(_MOST_SAMPLED)
    offered = memory.offered(sample.row)
    closes_at = np.array(
        [
            campaigns[place.campaign_id].send_window.closes_at.timestamp()
            if place.campaign_id in campaigns
            else -np.inf
            for place in memory.places
        ]
    )
    at = sample.at[offered.row]
    offered = offered.some(at < closes_at[offered.place])
    asked_on = ((sample.at[offered.row] - midnight.timestamp()) // DAY_SECONDS).astype(np.intp)
    return _Ahead(
        days=[today + timedelta(days=ahead) for ahead in range(N_MESSAGE_DAYS + 1)],
        n_expected=float(expected.n.sum()),
        n_by_campaign=n_by_campaign,
        budget_part=budget_part,
        n_sampled=len(sample.row),
        soon=sample.at <= now.timestamp() + NEAR_SECONDS,
        offered=offered,
        day=np.minimum(asked_on + offered.days_ahead, N_MESSAGE_DAYS),
    )


def _of_campaign(
    memory: Memory, expected: Expected, campaign: Campaign, until: datetime
) -> tuple[float, float]:
    """How many are expected to ask for it up to that midnight, and which part that is of all until it closes."""
    closes_at = campaign.send_window.closes_at
    asks_it = np.array([campaign.campaign_id in stream for stream in memory.streams], np.bool_)
    of = asks_it[memory.asked.stream[expected.row]] & (expected.at < closes_at.timestamp())
    n = float(expected.n[of].sum())
    a_day = float(expected.n[of & (expected.at > until.timestamp() - DAY_SECONDS)].sum())
    beyond = a_day * max(0.0, (closes_at - until).total_seconds() / DAY_SECONDS)
    return n, n / (n + beyond) if n else 1.0


def _ways_to_use(
    places: Sequence[Place], left: Sequence[Scarce], days: Sequence[date], cost_minor: Mapping[Place, float]
) -> tuple[FloatArray, IntArray]:
    """The different ways to use what is scarce, no contact included.

    Returns:
        What each takes of each resource, shape (U, R), and which of them a message is, by place and day, shape
        (places, D).
    """
    taken = [
        [one.taken_by(place, day, cost_minor.get(place, 0.0)) for one in left]
        for place in places
        for day in days
    ]
    whole = np.array([[0.0] * len(left), *taken]).reshape(len(taken) + 1, len(left))
    uses, way = np.unique(whole, axis=0, return_inverse=True)
    return uses, way.ravel()[1:].reshape(len(places), len(days))

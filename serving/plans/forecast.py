"""What an audience would be decided on, and what one message takes of what is scarce: shadow prices.

Members are asked as a dry run. Of everybody for whom values decide, the best candidate of each channel is kept;
`models.allocation` finds the prices at which they, deciding alone, use what is left of budgets and capacities. Whom a
rule decides for, or nobody (control, holdout), takes what the rule says, whatever the price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from sqlalchemy import Connection

from models.allocation.prices import allocate, asking_prices
from models.choice import BoolArray, FloatArray
from models.domain.campaign import LEARNED, Campaign
from models.domain.channel import Channel
from models.domain.decision import Decision
from serving.plans.plan import Forecast
from serving.store.ledger import Ledger
from serving.store.resources import N_MESSAGE_DAYS, message_days

MOST_SAMPLED = 20_000
"""Members that a forecast looks at: prices from a part of fifty thousand are worth .9997 of those from all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """m members of an audience, over the C channels of the campaign.

    Attributes:
        value: What the best candidate of each channel is worth, cost taken off, minor units; -inf where there is none;
            the last column is no contact, shape (m, C + 1).
        by_value: For whom values decide, shape (m,).
        messages: Expected messages by channel of the others, shape (m, C).
        worth: What they are expected to be worth, minor units, shape (m,); NaN without predictions.
        on_day: Messages by channel that fall on each of `message_days`, shape (C, D).
    """

    value: FloatArray
    by_value: BoolArray
    messages: FloatArray
    worth: FloatArray
    on_day: FloatArray

    @classmethod
    def of_nobody(cls, campaign: Campaign) -> Survey:
        """Before anybody was looked at."""
        n_channels = len(campaign.grid.channels)
        nothing = np.empty((0, n_channels))
        return cls(
            value=np.empty((0, n_channels + 1)),
            by_value=np.empty(0, dtype=np.bool_),
            messages=nothing,
            worth=np.empty(0),
            on_day=np.zeros((n_channels, N_MESSAGE_DAYS)),
        )

    def __len__(self) -> int:
        return len(self.value)

    def behind(self, n: int) -> Survey:
        """Without the first n."""
        return replace(
            self,
            value=self.value[n:],
            by_value=self.by_value[n:],
            messages=self.messages[n:],
            worth=self.worth[n:],
        )

    def __add__(self, other: Survey) -> Survey:
        """Both together, the others behind."""
        return Survey(
            value=np.concatenate((self.value, other.value)),
            by_value=np.concatenate((self.by_value, other.by_value)),
            messages=np.concatenate((self.messages, other.messages)),
            worth=np.concatenate((self.worth, other.worth)),
            on_day=self.on_day + other.on_day,
        )

    @property
    def day_share(self) -> FloatArray:
        """Of the messages of each channel the shares of the days, shape (C, D).

        Of a channel that nobody was decided on all of its messages could fall on either day.
        """
        n = self.on_day.sum(axis=1, keepdims=True)
        return np.where(n > 0, self.on_day / np.maximum(n, 1.0), 1.0)


@dataclass(frozen=True, slots=True)
class Scarce:
    """What is left, R resources.

    Attributes:
        use: What one message of each channel takes of each resource, the last row no contact, shape (C + 1, R).
        left: Minor units, or messages, shape (R,).
    """

    use: FloatArray
    left: FloatArray


def survey(campaign: Campaign, decisions: Sequence[Decision]) -> Survey:
    """Lay out what dry runs of m members say.

    Args:
        campaign: That was asked.
        decisions: One a member.
    """
    grid = campaign.grid
    n_channels, n_slots = len(grid.channels), len(grid.slots)
    n_pairs = n_channels * n_slots
    value = np.full((len(decisions), n_channels + 1), -np.inf)
    value[:, -1] = 0.0
    messages = np.zeros((len(decisions), n_channels))
    worth = np.full(len(decisions), np.nan)
    by_value = np.zeros(len(decisions), dtype=np.bool_)
    on_day = np.zeros((n_channels, N_MESSAGE_DAYS))
    for row, decision in enumerate(decisions):
        values, evidence = decision.evidence.net_value_minor, decision.evidence
        by_value[row] = bool(values) and decision.policy in LEARNED
        if by_value[row]:
            for index, each in values.items():
                if index != grid.no_contact:
                    channel = index % n_pairs // n_slots
                    value[row, channel] = max(value[row, channel], each)
        else:
            if values:
                worth[row] = sum(p * values.get(index, 0.0) for index, p in evidence.distribution.items())
            for index, p in evidence.distribution.items():
                if index != grid.no_contact:
                    messages[row, index % n_pairs // n_slots] += p
        if decision.action is not None:
            day = message_days(decision.decided_at).index(decision.action.send_at.astimezone(UTC).date())
            on_day[grid.channels.index(decision.action.channel), day] += 1
    return Survey(value=value, by_value=by_value, messages=messages, worth=worth, on_day=on_day)


def scarce(
    conn: Connection,
    campaign: Campaign,
    channels: Mapping[str, Channel],
    now: datetime,
    found: Survey,
) -> Scarce:
    """What is left of the campaign's budget and of its channels' capacities.

    A channel closes when one of its days is full: its capacity is the least of what a day has left over the share of
    its messages that falls on that day.

    Args:
        conn: Only read.
        campaign: Whose budget.
        channels: Channels of the campaign, by name, at what one message of the campaign costs.
        now: Aware.
        found: Says on which days the messages fall.
    """
    names = campaign.grid.channels
    ledger = Ledger(conn, (), now)
    by_day = [ledger.limits(campaign, channels, (day,)) for day in message_days(now)]
    columns, left = [], []
    budget = by_day[0].budget_left_minor
    if budget is not None:
        columns.append([channels[name].cost_minor or 0.0 for name in names])
        left.append(budget)
    for at, name in enumerate(names):
        if name in by_day[0].capacity_left:
            columns.append([float(other == name) for other in names])
            shares = zip(by_day, found.day_share[at], strict=True)
            left.append(min(one.capacity_left[name] / share for one, share in shares if share > 0))
    use = np.zeros((len(names) + 1, len(columns)))
    if columns:
        use[:-1] = np.array(columns).T
    return Scarce(use, np.maximum(np.array(left, dtype=np.float64), 0.0))


def prices(campaign: Campaign, found: Survey, resources: Scarce, n_left: int) -> dict[str, float]:
    """The shadow price of a message by channel, minor units; a channel that is not scarce is absent.

    Args:
        campaign: Whose channels.
        found: Of those whom the prices are for, or of a random part of them.
        resources: What is left.
        n_left: How many they are.
    """
    value = found.value[found.by_value]
    capacity = resources.left * (len(found) / n_left)
    taken = _taken_anyway(found, resources.use, capacity) @ resources.use[:-1]
    made = allocate(value, resources.use, np.maximum(capacity - taken, 0.0))
    return _by_channel(campaign.grid.channels, resources, asking_prices(value, resources.use, made))


def forecast(
    campaign: Campaign,
    channels: Mapping[str, Channel],
    found: Survey,
    resources: Scarce,
    n_members: int,
    now: datetime,
) -> Forecast:
    """What the audience is expected to be decided on.

    Where rules alone would send more than there is, what is beyond it is left out, and its worth in proportion.

    Args:
        campaign: That is asked.
        channels: Its channels, by name, at what one message of the campaign costs.
        found: Of a random part of the audience.
        resources: What is left.
        n_members: Size of the audience.
        now: Aware.
    """
    names = campaign.grid.channels
    share = len(found) / n_members if len(found) else 1.0
    value = found.value[found.by_value]
    capacity = resources.left * share
    taken = _taken_anyway(found, resources.use, capacity)
    made = allocate(value, resources.use, np.maximum(capacity - taken @ resources.use[:-1], 0.0))
    chosen = np.bincount(made.choice, minlength=len(names) + 1)[:-1]
    messages = (chosen + taken) / share
    ruled = found.worth[~found.by_value]
    predicted = bool(found.by_value.any()) or not np.isnan(ruled).any()
    wanted = found.messages.sum()
    others = float(np.nansum(ruled)) * (taken.sum() / wanted if wanted else 1.0)
    cost = np.array([channels[name].cost_minor or 0.0 for name in names])
    return Forecast(
        as_of=now,
        n_members=n_members,
        n_sampled=len(found),
        contacts={name: float(n) for name, n in zip(names, messages, strict=True) if n > 0},
        cost_minor=float(cost @ messages),
        net_value_minor=(made.value + others) / share if predicted else None,
        most_minor=(made.bound + others) / share if predicted else None,
        shadow_prices=_by_channel(names, resources, asking_prices(value, resources.use, made)),
    )


def _by_channel(names: Sequence[str], resources: Scarce, price: FloatArray) -> dict[str, float]:
    """What a message of each channel takes at these prices of resources, minor units; none where it is 0."""
    taken = resources.use[:-1] @ price
    return {name: float(each) for name, each in zip(names, taken, strict=True) if each > 0}


def _taken_anyway(found: Survey, use: FloatArray, capacity: FloatArray) -> FloatArray:
    """Messages by channel of those for whom values do not decide, as far as there is something left, shape (C,)."""
    messages = found.messages.sum(axis=0)
    wanted = messages @ use[:-1]
    suffices = np.ones(len(capacity))
    np.divide(capacity, wanted, out=suffices, where=wanted > capacity)
    share = np.where(use[:-1] > 0, suffices, 1.0).min(axis=1, initial=1.0)
    taken: FloatArray = messages * share
    return taken

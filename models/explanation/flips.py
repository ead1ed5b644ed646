"""What would have to be different for another action to be the best: thresholds in closed form.

Every net value is a straight line in each of the quantities that an operator can change,

    net_value(a) = margin(offer) * effect(a) - price(channel),   effect(a) = (net_value(a) + price) / margin,

so the best action loses where another candidate's line crosses its own. Nothing is searched for, and all else is
held: the same candidates, the same predictions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from models.choice import BoolArray, FloatArray
from models.domain.action import ActionGrid

# Nobody changes a margin by more than these factors: thresholds beyond are left out. (Lines of one price also
# meet at a margin of 0, where nothing is worth anything.)
LEAST_TIMES_MARGIN, MOST_TIMES_MARGIN = 0.01, 10.0


class FlipKind(StrEnum):
    """What changes, and in which direction."""

    COST_BELOW = "cost_below"
    COST_ABOVE = "cost_above"
    MARGIN_BELOW = "margin_below"
    MARGIN_ABOVE = "margin_above"
    ALL_MARGINS_BELOW = "all_margins_below"
    NOT_BEFORE = "not_before"
    NOT_AFTER = "not_after"
    OPENED = "opened"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """What a greedy choice for one customer looks at.

    Attributes:
        grid: Axes.
        mask: Candidates, shape (A,); no contact is one.
        net_value_minor: Shape (A,); no contact is 0; only candidates are looked at.
        price_minor: Cost, shadow price and attention price by channel, shape (C,), >= 0.
        cost_minor: Cost of a message by channel, shape (C,).
        margin_minor: Of a conversion by offer, shape (O,).
        send_at: Send time by slot, seconds since 1970, shape (S,).
    """

    grid: ActionGrid
    mask: BoolArray
    net_value_minor: FloatArray
    price_minor: FloatArray
    cost_minor: FloatArray
    margin_minor: FloatArray
    send_at: FloatArray

    @property
    def best(self) -> int:
        """The candidate of the highest net value; no contact unless a contact is worth more than 0."""
        return self.best_of(self.mask)

    def best_of(self, mask: BoolArray) -> int:
        """The same among fewer candidates; no contact is always one."""
        first = self.first_of(mask)
        worth = first != self.grid.no_contact and self.net_value_minor[first] > 0.0
        return first if worth else self.grid.no_contact

    def first_of(self, mask: BoolArray) -> int:
        """The contact of the highest net value, whether above 0 or not; no contact where there is none.

        Of equal values the cheaper, then the earlier, then the first: the order in which policies break ties.
        """
        contacts = np.flatnonzero(mask[:-1])
        if not len(contacts):
            return self.grid.no_contact
        keys = (self.moments()[contacts], self.costs()[contacts], -self.net_value_minor[contacts])
        return int(contacts[np.lexsort(keys)[0]])

    def of_channel(self, channel: int) -> BoolArray:
        """The actions on a channel, shape (A,)."""
        return np.asarray(self._axis(1) == channel)

    def of_offer(self, offer: int) -> BoolArray:
        """The actions with an offer, shape (A,)."""
        return np.asarray(self._axis(0) == offer)

    def prices(self) -> FloatArray:
        """Price of every action, shape (A,); 0 for no contact."""
        return self._by_action(self.price_minor, 1)

    def margins(self) -> FloatArray:
        """Margin of every action, shape (A,); 0 for no contact."""
        return self._by_action(self.margin_minor, 0)

    def moments(self) -> FloatArray:
        """Send time of every action, shape (A,); 0 for no contact."""
        return self._by_action(self.send_at, 2)

    def costs(self) -> FloatArray:
        """Cost of every action, shape (A,); 0 for no contact."""
        return self._by_action(self.cost_minor, 1)

    def _by_action(self, by_axis: FloatArray, axis: int) -> FloatArray:
        return np.append(by_axis[self._axis(axis)[:-1]], 0.0)

    def _axis(self, axis: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """Index of the offer (0), channel (1) or slot (2) of every action; -1 for no contact."""
        flat = np.arange(self.grid.n_actions - 1)
        return np.append(np.unravel_index(flat, self.grid.shape)[axis], -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """One change that makes another action the best.

    Attributes:
        kind: What changes.
        winner: Index of the action that wins beyond the threshold.
        threshold: The changed quantity at which both are worth the same: minor units for costs and margins, a share
            of every margin for `all_margins_below`, seconds since 1970 for times; None for `opened`.
        present: What that quantity is now.
        offer: Index of the offer whose margin changes.
        channel: Index of the channel whose cost changes, or that is opened.
        gain_minor: How much more than the present best the winner would be worth; only for `opened`.
    """

    kind: FlipKind
    winner: int
    threshold: float | None = None
    present: float | None = None
    offer: int | None = None
    channel: int | None = None
    gain_minor: float | None = None


def find_flips(ranking: Ranking) -> tuple[Flip, ...]:
    """Every flip of costs, margins and times that there is for the best action.

    Args:
        ranking: What the choice looked at.
    """
    return (*_cost_flips(ranking), *_margin_flips(ranking), *_time_flips(ranking))


def opened_flip(ranking: Ranking, channel: int, allowed: BoolArray) -> Flip | None:
    """What opening an excluded channel would bring, or None where no action on it would be the best.

    Args:
        ranking: With net values for the actions of that channel too.
        channel: The channel that is excluded now.
        allowed: The actions on it that nothing else excludes, shape (A,).
    """
    best = ranking.best
    winner = ranking.best_of(ranking.mask | (allowed & ranking.of_channel(channel)))
    if not ranking.of_channel(channel)[winner]:
        return None
    gain = float(ranking.net_value_minor[winner] - _value(ranking, best))
    return Flip(kind=FlipKind.OPENED, winner=winner, channel=channel, gain_minor=gain)


def _cost_flips(ranking: Ranking) -> Iterator[Flip]:
    """Cost of a message: every line has slope -1 in the cost of its own channel, 0 in that of others."""
    best = ranking.best
    value = _value(ranking, best)
    used = ranking.mask & ~_no_contact(ranking)
    for channel, cost in enumerate(ranking.cost_minor.tolist()):
        here = ranking.of_channel(channel)
        if here[best]:
            winner = ranking.best_of(ranking.mask & ~here)
            threshold = cost + value - _value(ranking, winner)
            kind = FlipKind.COST_ABOVE
        elif (used & here).any():
            winner = ranking.first_of(used & here)
            threshold = cost - (value - _value(ranking, winner))
            kind = FlipKind.COST_BELOW
            if threshold < 0:  # it would not win if it cost nothing
                continue
        else:
            continue
        yield Flip(kind=kind, winner=winner, threshold=threshold, present=cost, channel=channel)


def _margin_flips(ranking: Ranking) -> Iterator[Flip]:
    """Margin of an offer: every line has the slope `effect(a)` in the margin of its own offer."""
    best, silence = ranking.best, ranking.grid.no_contact
    prices, margins = ranking.prices(), ranking.margins()
    value = np.where(ranking.mask, ranking.net_value_minor, 0.0)
    value[silence] = 0.0
    gross = np.where(ranking.mask, value + prices, 0.0)
    effect = np.divide(gross, margins, out=np.zeros_like(prices), where=margins != 0)
    silence_named = False
    for offer, margin in enumerate(ranking.margin_minor.tolist()):
        if margin <= 0:
            continue
        slope = np.where(ranking.of_offer(offer), effect, 0.0)
        down = bool(ranking.of_offer(offer)[best])
        # Where both lines meet: margin + (value gap) / (slope gap); the nearest that is overtaken counts.
        gap = slope[best] - slope if down else slope - slope[best]
        usable = ranking.mask & (gap > 0)
        if not usable.any():
            continue
        distance = np.divide(value[best] - value, gap, out=np.full_like(gap, np.inf), where=usable)
        winner = int(distance.argmin())
        threshold = margin - distance[winner] if down else margin + distance[winner]
        if not LEAST_TIMES_MARGIN * margin < threshold <= MOST_TIMES_MARGIN * margin:
            continue
        kind = FlipKind.MARGIN_BELOW if down else FlipKind.MARGIN_ABOVE
        silence_named |= down and winner == silence
        yield Flip(kind=kind, winner=winner, threshold=float(threshold), present=margin, offer=offer)
    if best != silence and not silence_named:
        share = float((prices[gross > 0] / gross[gross > 0]).min())
        if share > LEAST_TIMES_MARGIN:
            yield Flip(kind=FlipKind.ALL_MARGINS_BELOW, winner=silence, threshold=share, present=1.0)


def _time_flips(ranking: Ranking) -> Iterator[Flip]:
    """Send window: who wins if nothing may go out until a moment has passed, or only before it.

    The first moment is the best action's own; where its channel wins again, further moments follow until another
    channel, or no contact, wins.
    """
    best, silent = ranking.best, _no_contact(ranking)
    moments = ranking.moments()
    for kind in (FlipKind.NOT_BEFORE, FlipKind.NOT_AFTER):
        winner = best
        while not silent[winner]:
            moment = float(moments[winner])
            allowed = moments > moment if kind is FlipKind.NOT_BEFORE else moments < moment
            left = ranking.mask & (allowed | silent)
            if not (left & ~silent).any():
                break
            first, winner = winner == best, ranking.best_of(left)
            elsewhere = not _same_channel(ranking, winner, best)
            if first or elsewhere:
                yield Flip(kind=kind, winner=winner, threshold=moment, present=float(moments[best]))
            if elsewhere:
                break


def _same_channel(ranking: Ranking, one: int, other: int) -> bool:
    places = [ranking.grid.unravel(action) for action in (one, other)]
    return None not in places and len({place[1] for place in places if place}) == 1


def _no_contact(ranking: Ranking) -> BoolArray:
    return np.asarray(np.arange(ranking.grid.n_actions) == ranking.grid.no_contact)


def _value(ranking: Ranking, action: int) -> float:
    return 0.0 if action == ranking.grid.no_contact else float(ranking.net_value_minor[action])

"""Prices for requests that come by themselves: what is left is shared with those who are still expected to ask.

Whoever asks first would otherwise take what is scarce. The past days' requests, at the same times of day, stand for those
who are still to come; the shadow prices are those at which these, deciding alone, would use what is left.

Letters in shapes: m requests that were looked at; e expected ones; K choices; R resources.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.allocation.dual import INDIFFERENT, Dual, IntArray, descend, first_prices
from models.choice import FloatArray
from models.compiled import plain

DAY_SECONDS = 86_400.0
MOST_DAYS = 7
"""Days that are looked back upon: every day of the week once."""
NEAR_SECONDS = 1_800.0
"""By so much may those who come every day be early or late."""
# How busy today is shows in so many seconds, and counts for half to double.
_LATELY_SECONDS = 3 * 3_600.0
_QUIETEST, _BUSIEST = 0.5, 2.0
# So many requests more or less say nothing of how busy a day is.
_USUAL = 50.0
# How often all prices are gone through.
_SWEEPS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Requests that were looked at, each of which stands for some.

    Attributes:
        at: When, seconds since 1970, shape (m,).
        n: Requests it stands for, > 0, shape (m,).
        stream: Which stream of requests it belongs to, shape (m,): those that ask the same campaigns.
    """

    at: FloatArray
    n: FloatArray
    stream: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Requests that are still expected.

    Attributes:
        row: Which of those that were looked at comes again, shape (e,).
        at: When, seconds since 1970, shape (e,).
        n: How many they are, shape (e,).
    """

    row: IntArray
    at: FloatArray
    n: FloatArray

    def sample(self, most: int) -> Expected:
        """An even sample: at most so many, each of which stands for as many, in proportion to what they stand for here."""
        total = float(self.n.sum())
        size = min(most, max(len(self.n), round(total)))
        places = (np.arange(size) + 0.5) * (total / max(size, 1))
        some = np.minimum(np.searchsorted(np.cumsum(self.n), places), max(len(self.n) - 1, 0))
        return Expected(row=self.row[some], at=self.at[some], n=np.full(size, total / max(size, 1)))


def expected_requests(asked: Asked, now: float, until: float) -> Expected:
    """Who is still to come, by who came on the days before.

    A stream that has been there for D whole days, seven at most, is expected to go on as on these days, at the same times:
    each request of theirs comes again once a day, as 1/D of what it stands for. On its first day nobody is expected.

    Streams may come a little earlier or later than usual. Of those who usually come between half an hour ago and half an hour
    from now, who came in the last half-hour are taken off, in proportion. Until the end of a day (24 hours from now) the
    rest is multiplied by how busy the last three hours were compared with the same hours before, between a half and twice.

    Args:
        asked: In any order; none after `now`.
        now: Seconds since 1970.
        until: The same; nobody is expected after it.
    """
    parts = [
        _of_stream(asked, np.flatnonzero(asked.stream == stream), now, until)
        for stream in np.unique(asked.stream)
    ]
    if not parts:
        nothing = np.empty(0)
        return Expected(row=np.empty(0, np.intp), at=nothing, n=nothing)
    return Expected(
        row=np.concatenate([one.row for one in parts]),
        at=np.concatenate([one.at for one in parts]),
        n=np.concatenate([one.n for one in parts]),
    )


def paced_prices(value: FloatArray, n_expected: float, use: FloatArray, capacity: FloatArray) -> FloatArray:
    """The shadow prices at which those who are expected use what is left.

    They minimise the Lagrangian dual one price at a time, which may stall where prices would have to move together; what
    that costs is seen at the next turn, when what is left is known again. Nobody is given anything here.

    Args:
        value: What a choice is worth, minor units, to an even sample of those who are expected, shape (e, K); -inf where it
            is not open. Everybody has a choice that uses nothing.
        n_expected: How many are expected.
        use: What a choice takes of each resource, shape (K, R).
        capacity: What is left of each, shape (R,).

    Returns:
        Minor units a unit of each resource, shape (R,); 0 where nobody is expected.

    >>> value = np.array([[9.0, 0.0], [5.0, 0.0], [4.0, 0.0]])
    >>> use = np.array([[1.0], [0.0]])
    >>> paced_prices(value, 30.0, use, np.array([20.0])).round(3).tolist()
    [4.0]
    >>> paced_prices(value, 30.0, use, np.array([30.0])).tolist()
    [0.0]
    """
    if not len(value) or not n_expected:
        return np.zeros(len(capacity))
    dual = Dual(plain(value.T), plain(use), plain(capacity * (len(value) / n_expected)))
    return (1 - INDIFFERENT) * descend(dual, first_prices(dual), _SWEEPS)


def _of_stream(asked: Asked, rows: IntArray, now: float, until: float) -> Expected:
    at, n = asked.at[rows], asked.n[rows]
    recent = now - NEAR_SECONDS
    days = _whole_days(at, recent)
    usual = (at > recent - days * DAY_SECONDS) & (at <= recent)
    rows, n_usual = rows[usual], n[usual] / max(days, 1)
    # The next time of each that lies after `recent`.
    back = recent - at[usual]
    first = recent + DAY_SECONDS - back % DAY_SECONDS
    near = first <= now + NEAR_SECONDS
    usually = float(n_usual[near].sum())
    came = float(n[at > recent].sum())
    to_come = max(0.0, 1.0 - came / usually) if usually else 0.0
    today = np.where(near, to_come, _busyness(at, n, recent)) * n_usual
    copies = [(rows, np.maximum(first, now), today)]
    n_days = int(max(0.0, until - recent) // DAY_SECONDS)
    copies += [(rows, first + ahead * DAY_SECONDS, n_usual) for ahead in range(1, n_days + 1)]
    whole = [np.concatenate(each) for each in zip(*copies, strict=True)]
    comes = (whole[1] <= until) & (whole[2] > 0)
    return Expected(row=whole[0][comes], at=whole[1][comes], n=whole[2][comes])


def _busyness(at: FloatArray, n: FloatArray, recent: float) -> float:
    """How many came lately for one that came at the same time on the days before."""
    began = recent - _LATELY_SECONDS
    days = _whole_days(at, began)
    if not days:
        return 1.0
    before = (at > began - days * DAY_SECONDS) & (at <= began)
    same_hours = (recent - at[before]) % DAY_SECONDS < _LATELY_SECONDS
    usually = float(n[before][same_hours].sum()) / days
    lately = float(n[(at > began) & (at <= recent)].sum())
    return min(_BUSIEST, max(_QUIETEST, (lately + _USUAL) / (usually + _USUAL)))


def _whole_days(at: FloatArray, moment: float) -> int:
    """Whole days, seven at most, from the first of them to the moment."""
    return int(min(MOST_DAYS, max(0.0, moment - float(at.min())) // DAY_SECONDS))

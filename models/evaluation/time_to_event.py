"""The share that has moved on by a day, where many have not been watched for that long yet.

Who entered yesterday has not failed to move on within 30 days. So a day's chance is taken over those who were watched on
that day and had not moved before, and the chances are multiplied (Kaplan and Meier 1958). It is right as long as those who were watched
for a shorter time are like the others: where who enters changes with the season, it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.choice import FloatArray
from models.domain.errors import require
from models.evaluation.share import Share, wilson
from models.logged import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedOn:
    """The share that has moved on, by day.

    Attributes:
        n: Who entered.
        days: Days on which anybody moved, in order, shape (k,).
        share: Who has moved on by the end of each, in [0, 1], shape (k,).
        variance: Of `share`, Greenwood's, shape (k,); 0 where all have moved.
        last_at_risk: Who was watched on each and had not moved before, shape (k,).
        watched: Of everybody the last day that is known, in order, shape (m,).
        watched_n: How many that is the last day of, shape (m,).
        confidence: Of the intervals.
    """

    n: int
    days: IntArray
    share: FloatArray
    variance: FloatArray
    last_at_risk: IntArray
    watched: IntArray
    watched_n: IntArray
    confidence: float

    def at_risk(self, day: int) -> int:
        """Who was watched on a day and had not moved before."""
        return int(self.watched_n[self.watched >= day].sum())

    def by(self, day: int) -> Share | None:
        """Who has moved on by the end of a day; None after the last day on which anybody was watched, unless all have moved.

        The interval is Wilson's, with as many customers as would have Greenwood's variance: without anybody who was watched for a
        shorter time, those who entered. Where that variance says nothing (none have moved, or all), with those at risk.

        References:
            Rothman (1978), Estimation of confidence limits for the cumulative probability of survival in life table
            analysis, Journal of Chronic Diseases 31.
        """
        at_risk = self.at_risk(day)
        last = int(np.searchsorted(self.days, day, side="right")) - 1
        share = float(self.share[last]) if last >= 0 else 0.0
        if share >= 1.0:
            return wilson(1.0, float(self.last_at_risk[last]), self.confidence)
        if not at_risk:
            return None
        if last < 0:
            return wilson(0.0, at_risk, self.confidence)
        return wilson(share, share * (1.0 - share) / float(self.variance[last]), self.confidence)

    def median(self) -> int | None:
        """The first day by whose end half have moved on; None where that is not reached while anybody is watched.

        Half of all who entered, those who never move on too: it is longer than the usual time of those who do.
        """
        reached = self.days[self.share >= 0.5 - 1e-12]
        return int(reached[0]) if len(reached) else None


def moved_on(day: IntArray, moved: NDArray[np.bool_], n: IntArray, confidence: float = 0.95) -> MovedOn:
    """Estimate how many have moved on by each day, by Kaplan and Meier.

    `share(d) = 1 - prod over days i <= d of (1 - moved_i / at_risk_i)`, its variance
    `(1 - share)^2 * sum of moved_i / (at_risk_i (at_risk_i - moved_i))` (Greenwood 1926). Who was watched until a day and has not moved
    was at risk on that day.

    Args:
        day: When customers moved on, or the last day on which they were watched, >= 0, shape (k,).
        moved: Whether they moved on, shape (k,).
        n: How many customers each row stands for, >= 0, shape (k,).
        confidence: Of the intervals.

    Raises:
        InvalidInputError: shapes differ, or a number is below 0.

    References:
        Kaplan and Meier (1958), Nonparametric estimation from incomplete observations, JASA 53.

    Example:
        >>> found = moved_on(np.array([2, 3, 5, 6]), np.array([True, False, True, False]), np.ones(4, dtype=np.int64))
        >>> found.median(), [round(float(share), 3) for share in found.share]
        (5, [0.25, 0.625])
    """
    require(
        day.shape == moved.shape == n.shape,
        "rows",
        (day.shape, moved.shape, n.shape),
        "must be as many of each",
    )
    require(not (day < 0).any(), "day", day.min(initial=0), "must be >= 0")
    require(not (n < 0).any(), "n", n.min(initial=0), "must be >= 0")
    watched, row = np.unique(day, return_inverse=True)
    ended = np.bincount(row, weights=n, minlength=len(watched)).astype(np.int64)
    moves = np.bincount(row, weights=n * moved, minlength=len(watched)).astype(np.int64)
    at_risk = ended[::-1].cumsum()[::-1]
    some = moves > 0
    d, risk = moves[some], at_risk[some]
    stays = np.cumprod(1.0 - d / risk)
    # Where all move nobody is left to divide by, and nobody stays whose share could vary.
    spread = np.cumsum(d / (risk * np.maximum(risk - d, 1)))
    return MovedOn(
        n=int(n.sum()),
        days=watched[some],
        share=1.0 - stays,
        variance=stays**2 * spread,
        last_at_risk=risk,
        watched=watched,
        watched_n=ended,
        confidence=confidence,
    )

"""Kinds of day: at what hours a customer is about, learned from when people come by unasked.

Everybody has one of K kinds of day, and a visit of kind k falls into part b of the day with probability
hours[k, b]. Kinds and their shares are found by expectation-maximisation over everybody's visits, without any
message having been sent; a customer's own few visits then give a posterior over the kinds:

    P(k | visits) ~ share[k] * prod over b of hours[k, b] ** visits[b]
    habit(x, t) = sum over k of P(k | visits) * log(density[k](t) / density of everybody(t))

`habit` is what `p_open` at a slot leans on before the customer's answers say more: opens only tell when we wrote.

References:
    Dempster, Laird and Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import time

import numpy as np

from models.choice import FloatArray
from models.compiled import compiled, plain
from models.domain.visits import FIRST_VISIT_HOUR, PRIOR_VISITS, VISIT_PARTS, VISITS_COUNTED, visit_share

N_KINDS = 6
# With fewer visits in all nothing is said of anybody's day.
_MIN_VISITS = 200
_MOST_ROWS = 20_000
_STEPS = 100
# Visits that every kind is given beforehand, spread as everybody's are; and members.
_PRIOR_VISITS, _PRIOR_MEMBERS = 4.0, 1.0
# How blurred the kinds begin, as a share of the day.
_BLUR = 0.1
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(32)
_WIDTHS = np.array([FIRST_VISIT_HOUR, *(last - first for first, last in VISIT_PARTS)], dtype=np.float64)
_PRIOR_OF_PARTS = PRIOR_VISITS / 24 * _WIDTHS[1:]
_CENTRES = np.array([FIRST_VISIT_HOUR / 2, *((first + last) / 2 for first, last in VISIT_PARTS)])


@dataclass(frozen=True, slots=True, kw_only=True)
class DayKinds:
    """K kinds of day over B parts: the night, then `VISIT_PARTS`.

    Attributes:
        columns: Features that hold the shares of `VISIT_PARTS`, and last their number, shape (B,); empty where
            the features tell of no visits: then there is one kind and no habit.
        share: Of customers, shape (K,).
        hours: Probability of a visit in every part, shape (K, B).
        centre: Mean of a kind's log density ratio over the slots learned from, shape (K,): taken off.
    """

    columns: np.ndarray
    share: FloatArray
    hours: FloatArray
    centre: FloatArray
    _log_share: FloatArray = field(init=False, repr=False, compare=False)
    _log_hours: FloatArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_log_share", np.log(self.share))
        object.__setattr__(self, "_log_hours", np.log(self.hours))

    @classmethod
    def nothing(cls) -> DayKinds:
        """Nothing is known of anybody's day."""
        return cls(
            columns=np.zeros(0, dtype=np.intp),
            share=np.ones(1),
            hours=np.ones((1, 1)),
            centre=np.zeros(1),
        )

    @property
    def known(self) -> bool:
        """Whether visits told of any habits."""
        return bool(len(self.columns))

    def visits(self, features: np.ndarray) -> FloatArray:
        """Visits by part of the day, out of the shrunk shares, shape (n, B)."""
        counts = np.empty((len(features), len(self.columns)))
        _count(plain(features), self.columns, _PRIOR_OF_PARTS, PRIOR_VISITS, counts)
        return counts

    def kinds(self, features: np.ndarray) -> FloatArray:
        """Posterior over the kinds, shape (n, K)."""
        if not self.known:
            return np.ones((len(features), 1))
        return _softmax(self.visits(features), self._log_share, self._log_hours)

    def habits(self, slots: Sequence[time]) -> FloatArray:
        """Log density ratio of every kind at some times of day, shape (K, S); between parts it is interpolated."""
        if not self.known:
            return np.zeros((1, len(slots)))
        return self._ratios(slots) - self.centre[:, None]

    def centred_on(self, slots: Sequence[time]) -> DayKinds:
        """The same, with no habit in the mean over these slots."""
        if not self.known:
            return self
        return DayKinds(
            columns=self.columns,
            share=self.share,
            hours=self.hours,
            centre=self._ratios(slots).mean(axis=1),
        )

    def _ratios(self, slots: Sequence[time]) -> FloatArray:
        """`habits` before anything is taken off."""
        asked = np.array([s.hour + s.minute / 60 + s.second / 3600 for s in slots])
        log_ratio = np.log(self.hours / (self.share @ self.hours))
        return np.stack([np.interp(asked, _CENTRES, one, period=24) for one in log_ratio])

    def contributions(self, features: np.ndarray, lift: FloatArray) -> tuple[float, FloatArray]:
        """What the visits of one customer add to `kinds(features) @ lift`, feature by feature.

        The gradient by visits is integrated from no visit to all of them, evenly.

        Args:
            features: Shape (1, F).
            lift: Of every kind, shape (K,).

        Returns:
            What somebody without visits has, and the amount of every column of `columns`, shape (B,); the night,
            which has no feature of its own, goes to the number of visits, with what the integral rounds.

        References:
            Sundararajan, Taly and Yan (2017), Axiomatic Attribution for Deep Networks.
        """
        base = float(self.share @ lift)
        if not self.known:
            return base, np.zeros(0)
        visits = self.visits(features)
        at = _posterior((_NODES[:, None] + 1) / 2 * visits, self.share, self.hours)
        slope = (at * (lift - (at @ lift)[:, None])) @ np.log(self.hours)
        amounts = visits[0, 1:] * (_NODE_WEIGHTS / 2 @ slope)[1:]
        whole = float(self.kinds(features)[0] @ lift) - base
        return base, np.append(amounts, whole - amounts.sum())


def fit_day_kinds(features: np.ndarray, feature_names: Sequence[str], seed: int) -> DayKinds:
    """Find the kinds of day.

    Args:
        features: One row a decision, shape (m, F); NaN where missing.
        feature_names: Of the columns.
        seed: Draws the rows that are looked at, where there are very many.
    """
    wanted = [*(visit_share(part) for part in VISIT_PARTS), VISITS_COUNTED]
    if not set(wanted) <= set(feature_names):
        return DayKinds.nothing()
    columns = np.array([list(feature_names).index(name) for name in wanted], dtype=np.intp)
    some = np.random.default_rng(seed).permutation(len(features))[:_MOST_ROWS]
    blank = DayKinds(columns=columns, share=np.ones(1), hours=np.ones((1, len(columns))), centre=np.zeros(1))
    visits = blank.visits(features[some])
    if visits.sum() < _MIN_VISITS:
        return DayKinds.nothing()
    usual = visits.sum(axis=0) + _WIDTHS / _WIDTHS.sum()
    usual /= usual.sum()
    # Every kind begins around its own quantile of everybody's visits.
    middle = np.interp((np.arange(N_KINDS) + 0.5) / N_KINDS, np.cumsum(usual) - usual / 2, _CENTRES)
    apart = np.abs((_CENTRES - middle[:, None] + 12) % 24 - 12) / 24
    hours = usual * (np.exp(-0.5 * (apart / _BLUR) ** 2) + 0.3)
    hours /= hours.sum(axis=1, keepdims=True)
    share = np.full(N_KINDS, 1 / N_KINDS)
    for _ in range(_STEPS):
        kinds = _posterior(visits, share, hours)
        hours = kinds.T @ visits + _PRIOR_VISITS * usual
        hours /= hours.sum(axis=1, keepdims=True)
        share = kinds.sum(axis=0) + _PRIOR_MEMBERS
        share /= share.sum()
    return DayKinds(columns=columns, share=share, hours=hours, centre=np.zeros(N_KINDS))


def _posterior(visits: FloatArray, share: FloatArray, hours: FloatArray) -> FloatArray:
    """P(k | visits), shape (n, K)."""
    return _softmax(visits, np.log(share), np.log(hours))


def _softmax(visits: FloatArray, log_share: FloatArray, log_hours: FloatArray) -> FloatArray:
    odds = np.empty((len(visits), len(log_share)))
    _believe(visits, log_share, log_hours, odds)
    return odds


@compiled(
    "void(float32[:, ::1], int64[::1], float64[::1], float64, float64[:, ::1])",
    "void(float64[:, ::1], int64[::1], float64[::1], float64, float64[:, ::1])",
)
def _count(
    features: np.ndarray, columns: np.ndarray, prior: FloatArray, prior_visits: float, counts: FloatArray
) -> None:
    """Write what `DayKinds.visits` returns into `counts`; what is missing is no visit."""
    n_parts = len(columns) - 1
    for i in range(len(features)):
        total = np.float64(features[i, np.uint64(columns[n_parts])])
        night = total
        for b in range(n_parts):
            share = np.float64(features[i, np.uint64(columns[b])])
            count = share * (total + prior_visits) - prior[b]
            night -= count
            counts[i, 1 + b] = count if count > 0.0 else 0.0
        counts[i, 0] = night if night > 0.0 else 0.0


@compiled("void(float64[:, ::1], float64[::1], float64[:, ::1], float64[:, ::1])")
def _believe(visits: FloatArray, log_share: FloatArray, log_hours: FloatArray, odds: FloatArray) -> None:
    """Write the posterior over the kinds into `odds`."""
    n, n_kinds = odds.shape
    for i in range(n):
        most = -np.inf
        for k in range(n_kinds):
            log_odds = log_share[k]
            for b in range(visits.shape[1]):
                log_odds += visits[i, b] * log_hours[k, b]
            odds[i, k] = log_odds
            most = max(most, log_odds)
        whole = 0.0
        for k in range(n_kinds):
            odds[i, k] = np.exp(odds[i, k] - most)
            whole += odds[i, k]
        for k in range(n_kinds):
            odds[i, k] /= whole

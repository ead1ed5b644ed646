"""How soon a conversion followed: one that contact caused comes soon, one that would have come anyway at any time.

Within the attribution window (length 1, a contact at 0, an open at t0) the lags of conversions after contacts are a
mixture

    density(t) = share * rate * exp(-rate * (t - t0)) / F for t >= t0,  plus  (1 - share) * 1

The *early sign* of a conversion at t is

    sign(t) = (rate * exp(-rate * (t - t0)) [t >= t0] - F) / (rate / 2 * (1 - exp(-2 rate (1 - t0))) / F - F),
    F = 1 - exp(-rate * (1 - t0))

It has mean 0 over conversions that would have come anyway, which are even over the window, and mean 1 over those that
the message caused. So its mean over all decisions, conversions or not, is the effect of the contact by itself: no row
without contact has to be subtracted, and those who are keener to buy are not mistaken for those who were moved. It
says nothing of purchases that a contact *prevents*.

References:
    Farewell (1982), mixture models for survival with long-term survivors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.choice import BoolArray, FloatArray
from models.logged import LoggedRows

# Candidates for the mean lag, all alike before any data.
_MEAN_LAGS = np.geomspace(0.02, 0.5, 33)
_HALVINGS = 25
# Twice the gain in log-likelihood that a caused share must bring before moments are believed to tell anything.
_LEAST_EVIDENCE = 10.0
# Without contact the early sign has mean 0, or conversions are not even over the window (decisions that a visit
# triggers come just before a purchase): more standard errors than these apart, and the moments are not used.
_MOST_UNEVEN = 3.0
# An offer's conversions at the full price are not its own: within this many standard errors of none, and at most this share.
_FEW, _SMALL = 2.0, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How the conversions that contacts cause lie in the attribution window.

    Attributes:
        rate: Of their exponential lags, per attribution window.
        share: Share of the conversions after contacts that were caused, in [0, 1].
        evidence: Twice the gain in log-likelihood over lags that are even throughout.
    """

    rate: float
    share: float
    evidence: float

    def sign(self, after: FloatArray, since: FloatArray) -> FloatArray:
        """The early sign of conversions, shape (n,).

        Args:
            after: Moments of the conversions, shape (n,), in [0, 1).
            since: Moments from which they can have been caused, shape (n,), in [0, 1).
        """
        left = 1.0 - since
        reached = -np.expm1(-self.rate * left)
        caused = self.rate / 2 * -np.expm1(-2 * self.rate * left) / reached
        density = np.where(
            after >= since, self.rate * np.exp(-self.rate * np.maximum(after - since, 0.0)), 0.0
        )
        return np.asarray((density - reached) / (caused - reached))


def fit_lag(rows: LoggedRows) -> Lag | None:
    """Fit the mixture to the conversions after contacts; None where their moments tell nothing.

    Opens that are known start the clock; a conversion before its open, or without one, is counted from the start.
    None too where conversions without contact are not even over the window, or some have no moment.
    """
    if rows.converted_after is None or np.isnan(rows.converted_after[rows.converted > 0]).any():
        return None
    at = rows.contacted & ~np.isnan(rows.converted_after)
    if not at.any():
        return None
    since = since_open(rows)[at]
    since = np.where(rows.converted_after[at] < since, 0.0, since)
    lag, left = rows.converted_after[at] - since, 1.0 - since
    # Most of what is caused is caused by opens, and by a discount at a discount: shares of their own make the lags far clearer.
    kind = (known_opens(rows)[at] == 1).astype(np.intp)
    if rows.discounted is not None:
        kind += 2 * (rows.discounted[at] == 1)
    kinds = [np.flatnonzero(kind == each) for each in np.unique(kind)]
    evidence, shares = np.empty(len(_MEAN_LAGS)), np.empty(len(_MEAN_LAGS))
    for k, mean in enumerate(_MEAN_LAGS):
        # Both densities are of what can be seen before the window closes.
        ratio = left * np.exp(-lag / mean) / mean / -np.expm1(-left / mean)
        share = np.empty(len(ratio))
        for each in kinds:
            share[each] = _best_share(ratio[each])
        evidence[k], shares[k] = 2 * float(np.log1p(share * (ratio - 1)).sum()), share.mean()
    # Few conversions leave the lag wide open: the mean (of its logarithm) of what is believed is steadier than the mode.
    belief = np.exp((evidence - evidence.max()) / 2)
    belief /= belief.sum()
    found = Lag(
        rate=float(np.exp(-belief @ np.log(_MEAN_LAGS))),
        share=float(belief @ shares),
        evidence=float(evidence.max()),
    )
    return found if found.evidence >= _LEAST_EVIDENCE and _even(rows, found) else None


def _best_share(ratio: FloatArray) -> float:
    """The caused share of greatest likelihood, given how much more likely each lag is if caused; 0 of none."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        # The log-likelihood is concave in the share.
        if ((ratio - 1) / (1 + share * (ratio - 1))).sum() > 0:
            low = share
        else:
            high = share
    return low


def early_signs(rows: LoggedRows, lag: Lag) -> FloatArray:
    """The early sign of every row; 0 where there was no conversion, or none that the contact can have caused, shape (n,)."""
    assert rows.converted_after is not None
    converted = ~np.isnan(rows.converted_after)
    signs = np.zeros(len(rows))
    signs[converted] = lag.sign(rows.converted_after[converted], since_open(rows)[converted])
    signs[_not_by_the_offer(rows, signs)] = 0.0
    return signs


def _not_by_the_offer(rows: LoggedRows, signs: FloatArray) -> BoolArray:
    """Conversions at the full price after an offer that moves nobody to pay it, shape (n,).

    Of a discount those who were moved by it make use. Whether that is so, its conversions at the full price show: where
    the sum of their signs is 0 within two standard errors, and at most a quarter of the offer's even then, they
    came at any time, and what is left in them is noise.
    """
    silent = np.zeros(len(rows), dtype=np.bool_)
    if rows.discounted is None:
        return silent
    for offer in range(len(rows.offers)):
        full = (rows.offer == offer) & (rows.discounted == 0)
        doubt = _FEW * float(np.sqrt((signs[full] ** 2).sum()))
        said, of_all = float(signs[full].sum()), float(signs[rows.offer == offer].sum())
        silent |= full & (abs(said) <= doubt and said + doubt <= _SMALL * of_all)
    return silent


def _even(rows: LoggedRows, lag: Lag) -> bool:
    """Whether conversions without contact lie evenly in the window."""
    alone = early_signs(rows, lag)[~rows.contacted]
    return abs(float(alone.sum())) <= _MOST_UNEVEN * float(np.sqrt((alone**2).sum() + 1.0))


def since_open(rows: LoggedRows) -> FloatArray:
    """Moment of the known open, else 0, shape (n,)."""
    if rows.opened_after is None:
        return np.zeros(len(rows))
    return np.where(known_opens(rows) == 1, np.nan_to_num(rows.opened_after), 0.0)


def known_opens(rows: LoggedRows) -> FloatArray:
    """1 or 0, NaN without contact and on channels that tell of no message that it was *not* opened, shape (n,).

    Where a channel cannot report opens, a click still proves one: such rows alone would be a choice of the keen.
    """
    tells = np.array(
        [bool((rows.opened[rows.channel == c] == 0).any()) for c in range(len(rows.channels))] + [False]
    )
    return np.where(tells[rows.channel], rows.opened, np.nan)

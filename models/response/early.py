"""The effect of contact from how soon conversions followed: the early signs of the contacted rows.

    sign = q * a(x, o, c) + b(x, o, c) + noise

The sign of a row has the effect of its contact as its mean (see `models.response.lag`), so nobody's base rate has to be
known, and `q` may be the open that really happened: people who open more would also have bought more, but not sooner.
Knowing who opened tells several times more of the effect of an open than knowing who was likely to.

What a contact *prevents* lies evenly in the window and is seen only against rows without contact. One number for all
contacts is learned of it. It cannot be above 0, and few rows are without contact: what counts is its mean over what the
log leaves possible, not what the log makes likeliest, which would be none half of the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.choice import FloatArray
from models.logged import LoggedRows
from models.response.contrast import CHUNK
from models.response.design import Columns, Part, n_columns
from models.response.evidence import Moments
from models.response.lag import Lag, early_signs, known_opens
from models.response.nuisance import Nuisance
from models.response.standardiser import Standardiser

# Weights by the expected noise trust the expectation half-way: where it is too low by chance, a row would count too much.
_TRUST = 0.5
# Width of what every contact prevents, as a share of the mean conversion rate.
_PREVENTED = 0.1


def early_moments(
    rows: LoggedRows,
    nuisance: Nuisance,
    lag: Lag,
    standardiser: Standardiser,
    parts: Sequence[Part],
    unit: float,
    rate: float,
) -> Moments:
    """X'X, X'y and y'y of the early signs of contacted rows, each over the standard deviation of its noise."""
    n_offers, n_channels = len(rows.offers), len(rows.channels)
    design = Columns(parts, n_offers, n_channels)
    size = sum(n_columns(part, 1 + len(standardiser.columns)) for part in parts)
    gram, moment, total = np.zeros((size, size)), np.zeros(size), 0.0
    made = np.flatnonzero(rows.contacted)
    sign = early_signs(rows, lag)[made]
    known = known_opens(rows)
    opens = np.where(np.isnan(known), nuisance.mediator, known)[made]
    expected = rate + _TRUST * (nuisance.outcome[made] - rate)
    root = 1.0 / np.sqrt(expected * _noise(sign, opens >= 1, expected))
    pair = rows.offer[made] * n_channels + rows.channel[made]
    for start in range(0, len(made), CHUNK):
        at = slice(start, start + CHUNK)
        inputs = standardiser.apply(rows.features[made[at]])
        direct = np.zeros((len(inputs), n_offers * n_channels))
        direct[np.arange(len(inputs)), pair[at]] = 1.0
        through = direct * (opens[at] / unit)[:, None]
        x = (design.of((through, direct), inputs) * root[at][:, None]).astype(np.float32)
        y = (sign[at] * root[at]).astype(np.float32)
        gram += x.T @ x
        moment += x.T @ y
        total += float(y @ y)
    return Moments(gram=gram, moment=moment, total=total, n=len(made))


def _noise(sign: FloatArray, opened: np.ndarray, expected: FloatArray) -> FloatArray:
    """Mean square of the sign for an expected conversion, of those who opened and of the others, shape (n,)."""
    noise = np.empty(len(sign))
    for group in (opened, ~opened):
        # One square is added, so that a group without a conversion is not taken to be free of noise.
        noise[group] = ((sign[group] ** 2).sum() + 1.0) / max(float(expected[group].sum()), 1.0)
    return noise


def prevented(
    rows: LoggedRows, nuisance: Nuisance, effect: FloatArray, usual: FloatArray, rate: float
) -> tuple[float, float]:
    """Conversions that every contact prevents, as a number <= 0, and its variance.

    Robinson's residual of what the early effects leave, on contact less expected contact:

        converted - E[converted | x] - (effect - E[effect | x]) = level * (contacted - E[contacted | x]) + noise

    Before the log, the level is half-normal, `-|N(0, w2)|` with w a tenth of the mean conversion rate; the noise is
    Gaussian. So what is left is a normal distribution cut off above 0, and its mean and variance are returned.

    Args:
        rows: The log.
        nuisance: Cross-fitted expectations.
        effect: Early effect of the contact that was made, 0 without one, shape (n,).
        usual: The same expected under the log's choices, shape (n,).
        rate: Mean conversion rate.
    """
    from scipy.stats import norm  # a process that decides does without

    expected = rate + _TRUST * (nuisance.outcome - rate)
    precision = 1.0 / (expected * (1 - expected))
    contact = rows.contacted - nuisance.contact.sum(axis=(1, 2))
    left = rows.converted - nuisance.outcome - (effect - usual)
    information = float((precision * contact**2).sum()) + 1.0 / (_PREVENTED * rate) ** 2
    spread = 1.0 / np.sqrt(information)
    at = float((precision * contact * left).sum()) * spread
    # Mills' ratio of the part below 0; through logarithms, for it is tiny where the log speaks against any harm.
    below = float(np.exp(norm.logpdf(at) - norm.logcdf(-at)))
    return (at - below) * spread, (1.0 + (at - below) * below) * spread**2

"""A share with an interval that stays in [0, 1], also where nobody or everybody did it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.domain.errors import require
from models.evaluation.estimate import normal_quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share and how sure it is, all in [0, 1].

    Attributes:
        value: The share that was seen.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedShare(Share):
    """So many of n.

    Attributes:
        n: Cases, >= 1.
        n_hits: Those that count, in [0, n].
    """

    n: int
    n_hits: int


def wilson(value: float, n: float, confidence: float = 0.95) -> Share:
    """A share of independent trials with Wilson's score interval.

    `(value + z^2 / 2n +- z sqrt(value (1 - value) / n + z^2 / 4n^2)) / (1 + z^2 / n)`.

    Args:
        value: Share of successes, in [0, 1].
        n: Trials, > 0; of an estimate with another variance than `value (1 - value) / n` the trials that would have it.
        confidence: Of the interval.

    Raises:
        InvalidInputError: a value is out of its range.

    References:
        Wilson (1927), Probable inference, the law of succession, and statistical inference, JASA 22.

    Example:
        >>> found = wilson(15 / 50, 50)
        >>> f"{found.value:.2f} [{found.low:.3f}, {found.high:.3f}]"
        '0.30 [0.191, 0.438]'
    """
    require(0 <= value <= 1, "value", value, "must be in [0, 1]")
    require(n > 0, "n", n, "must be > 0")
    square = normal_quantile(confidence) ** 2
    centre = value + square / (2 * n)
    reach = math.sqrt(square * (value * (1 - value) / n + square / (4 * n**2)))
    return Share(
        value=value,
        # Exactly, where rounding leaves a little.
        low=0.0 if value == 0 else (centre - reach) / (1 + square / n),
        high=1.0 if value == 1 else (centre + reach) / (1 + square / n),
    )


def counted_share(n_hits: int, n: int, confidence: float = 0.95) -> CountedShare:
    """The share of n independent cases that count, with Wilson's interval.

    Raises:
        InvalidInputError: n is below 1, or n_hits is outside [0, n].
    """
    require(n >= 1, "n", n, "must be >= 1")
    require(0 <= n_hits <= n, "n_hits", n_hits, f"must be in [0, {n}]")
    found = wilson(n_hits / n, n, confidence)
    return CountedShare(n=n, n_hits=n_hits, value=found.value, low=found.low, high=found.high)

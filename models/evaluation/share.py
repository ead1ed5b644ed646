"""A share of counted cases with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.domain.errors import require
from models.evaluation.estimate import normal_quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """So many of n.

    Attributes:
        n: Cases, >= 1.
        n_hits: Those that count, in [0, n].
        value: `n_hits / n`.
        low: Lower end of the interval, in [0, value].
        high: Upper end, in [value, 1].
    """

    n: int
    n_hits: int
    value: float
    low: float
    high: float


def wilson(n_hits: int, n: int, *, confidence: float = 0.95) -> Share:
    """A share with Wilson's interval, which stays inside [0, 1] and has a width also where nobody or everybody counts.

    `(p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)`, with `p = n_hits / n`.

    Args:
        n_hits: Cases that count.
        n: Independent cases.
        confidence: Of the interval, in (0, 1).

    Raises:
        InvalidInputError: n is below 1, or n_hits is outside [0, n].

    References:
        Wilson (1927), Probable inference, the law of succession, and statistical inference, JASA 22.

    Example:
        >>> found = wilson(1, 10)
        >>> f"{found.value:.2f} [{found.low:.3f}, {found.high:.3f}]"
        '0.10 [0.018, 0.404]'
    """
    require(n >= 1, "n", n, "must be >= 1")
    require(0 <= n_hits <= n, "n_hits", n_hits, f"must be in [0, {n}]")
    p, z = n_hits / n, normal_quantile(confidence)
    middle = p + z * z / (2 * n)
    reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Where nobody or everybody counts an end is exactly 0 or 1; rounding must not put it beyond.
    return Share(
        n=n,
        n_hits=n_hits,
        value=p,
        low=max(0.0, (middle - reach) / scale) if n_hits else 0.0,
        high=min(1.0, (middle + reach) / scale) if n_hits < n else 1.0,
    )

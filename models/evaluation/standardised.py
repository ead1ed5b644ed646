"""How two groups differ in one number, told in units of the number's own spread, so that numbers can be ranked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from models.choice import FloatArray
from models.domain.errors import require
from models.evaluation.estimate import normal_quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardisedDifference:
    """A group against another one.

    Attributes:
        n: Values of the group.
        other_n: Values of the other one.
        mean: Of the group, in the unit of the values; of values that are 0 or 1 this is the share of ones.
        other_mean: Of the other one.
        value: Cohen's d, difference of the means over the pooled standard deviation. Infinite where the means differ and
            nobody differs within either group.
        low: Lower end of its interval.
        high: Upper end.
    """

    n: int
    other_n: int
    mean: float
    other_mean: float
    value: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def standardised_difference(
    group: FloatArray, other: FloatArray, *, confidence: float = 0.95
) -> StandardisedDifference:
    """Compare two groups.

        d = (mean - other mean) / s,  s = sqrt(((n - 1) v + (m - 1) w) / (n + m - 2))

    with n, m the numbers of values and v, w their variances. The interval is `d +- z sqrt(v / n + w / m) / s`: Welch's for
    the difference of the means, with s as if it were known, normal. To tell which of k numbers differ, ask for the
    confidence `1 - alpha / k` (Bonferroni): the chance of one wrong answer or more among all of them is then alpha at most.

    Args:
        group: Known values, shape (n,), n >= 2.
        other: Known values, shape (m,), m >= 2.
        confidence: Of the interval, in (0, 1).

    Raises:
        InvalidInputError: a group has fewer than two values.

    References:
        Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, 2nd edition, chapter 2.

    Example:
        >>> found = standardised_difference(np.array([3.0, 5.0]), np.array([1.0, 3.0]))
        >>> f"{found.value:.3f} [{found.low:.2f}, {found.high:.2f}]"
        '1.414 [-0.55, 3.37]'
    """
    n, m = len(group), len(other)
    require(min(n, m) >= 2, "values", min(n, m), "must be >= 2 in both groups")
    (mean, variance), (other_mean, other_variance) = _moments(group), _moments(other)
    difference = mean - other_mean
    spread = math.sqrt(((n - 1) * variance + (m - 1) * other_variance) / (n + m - 2))
    if spread == 0.0:
        value, reach = math.copysign(math.inf, difference) if difference else 0.0, 0.0
    else:
        value = difference / spread
        reach = normal_quantile(confidence) * math.sqrt(variance / n + other_variance / m) / spread
    return StandardisedDifference(
        n=n,
        other_n=m,
        mean=mean,
        other_mean=other_mean,
        value=value,
        low=value - reach,
        high=value + reach,
    )


def _moments(values: FloatArray) -> tuple[float, float]:
    """Mean and variance; the variance of values that are all the same is 0, not what rounding leaves of it."""
    if values.min() == values.max():
        return float(values[0]), 0.0
    return float(values.mean()), float(np.var(values, ddof=1))

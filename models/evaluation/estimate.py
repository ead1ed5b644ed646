"""An estimated mean with its standard error, interval and effective sample size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from models.choice import FloatArray
from models.domain.errors import require
from models.logged import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean per customer and how sure it is.

    Attributes:
        value: In the unit of the rewards.
        standard_error: Of `value`; infinite where one cluster holds every row.
        low: Lower end of the interval.
        high: Upper end of the interval.
        ess: Effective sample size `(sum w)**2 / sum w**2` of the weights, in (0, n]; n where rows are
            not weighted.
        n: Rows.
        mean_weight: Mean of the weights; 1 up to noise where the log could have done all that the policy does, and where rows
            are not weighted. Of a difference that of the policy which has less.
    """

    value: float
    standard_error: float
    low: float
    high: float
    ess: float
    n: int
    mean_weight: float = 1.0

    @property
    def ess_share(self) -> float:
        """`ess / n`, in [0, 1]."""
        return self.ess / self.n

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def normal_quantile(confidence: float) -> float:
    """Half the width of a two-sided normal interval, in standard errors; 1.96 for 0.95."""
    require(0 < confidence < 1, "confidence", confidence, "must be in (0, 1)")
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def estimate_of(
    value: float,
    influence: FloatArray,
    ess: float,
    clusters: IntArray | None,
    confidence: float,
    mean_weight: float = 1.0,
) -> Estimate:
    """The estimate whose rows have these influences.

    `se = sqrt(G / (G - 1) * sum_g (sum of g's influences)**2) / n`, with G clusters, or G = n rows.

    Args:
        value: The estimate.
        influence: What each row adds to `n * (value - truth)`, summing to about 0, shape (n,).
        ess: Effective sample size.
        clusters: Number of each row's cluster, shape (n,), or None for independent rows.
        confidence: Of the interval.
        mean_weight: Of the rows.

    Raises:
        InvalidInputError: fewer than two rows, or clusters of another shape.
    """
    n = len(influence)
    require(n >= 2, "rows", n, "must be >= 2")
    sums = influence
    if clusters is not None:
        require(clusters.shape == (n,), "clusters", clusters.shape, f"must have shape ({n},)")
        _, member = np.unique(clusters, return_inverse=True)
        sums = np.bincount(member, weights=influence).astype(np.float64)
    groups = len(sums)
    spread = math.inf
    if groups > 1:
        spread = math.sqrt(groups / (groups - 1) * float(sums @ sums)) / n
    reach = normal_quantile(confidence) * spread
    return Estimate(
        value=value,
        standard_error=spread,
        low=value - reach,
        high=value + reach,
        ess=ess,
        n=n,
        mean_weight=mean_weight,
    )

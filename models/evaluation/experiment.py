"""What a randomised experiment shows: arms, their differences, and whether the split itself is sound.

Works on sufficient statistics (`Moments`), so that a database can sum up and nothing else travels. All
outcomes are one number a customer, whether or not the customer was contacted (intention to treat).

Two intervals stand beside each other. The *fixed* one is right if it is looked at once, at a time chosen
in advance. The *always-valid* one may be looked at every day, and the experiment stopped by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.choice import FloatArray
from models.domain.errors import require
from models.domain.experiment import Arm, Experiment
from models.evaluation.estimate import normal_quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Sums over the customers of one arm.

    Attributes:
        n: Customers, >= 0.
        total: Sum of the outcome.
        total_squares: Sum of its squares, >= 0.
    """

    n: int
    total: float
    total_squares: float

    def __post_init__(self) -> None:
        require(self.n >= 0, "n", self.n, "must be >= 0")
        for name in ("total", "total_squares"):
            value: float = getattr(self, name)
            require(math.isfinite(value), name, value, "must be finite")
        require(self.total_squares >= 0, "total_squares", self.total_squares, "must be >= 0")

    @classmethod
    def of(cls, outcome: FloatArray) -> Moments:
        """Sum up one outcome a customer, shape (n,)."""
        return cls(n=len(outcome), total=float(outcome.sum()), total_squares=float(outcome @ outcome))

    @classmethod
    def of_arms(cls, arm: NDArray[np.str_], outcome: FloatArray) -> dict[Arm, Moments]:
        """Sum up by arm.

        Args:
            arm: Arm of each customer as text, shape (n,).
            outcome: Shape (n,).
        """
        return {each: cls.of(outcome[arm == each.value]) for each in Arm}

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            n=self.n + other.n,
            total=self.total + other.total,
            total_squares=self.total_squares + other.total_squares,
        )

    @property
    def mean(self) -> float:
        """`total / n`; needs n >= 1."""
        require(self.n >= 1, "n", self.n, "must be >= 1")
        return self.total / self.n

    @property
    def variance(self) -> float:
        """Sample variance with n - 1; needs n >= 2."""
        require(self.n >= 2, "n", self.n, "must be >= 2")
        return max(0.0, self.total_squares - self.n * self.mean**2) / (self.n - 1)

    @property
    def standard_error(self) -> float:
        """Of the mean: `sqrt(variance / n)`."""
        return math.sqrt(self.variance / self.n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Mean of one arm minus mean of another.

    Attributes:
        value: In the unit of the outcome, a customer.
        standard_error: Of `value`.
        low: Lower end of the fixed interval.
        high: Upper end of the fixed interval.
        always_low: Lower end of the always-valid interval.
        always_high: Upper end of the always-valid interval.
        relative: `value / mean of the other arm`; None where that mean is not above 0.
    """

    value: float
    standard_error: float
    low: float
    high: float
    always_low: float
    always_high: float
    relative: float | None

    @property
    def may_stop(self) -> bool:
        """Whether the always-valid interval leaves out 0."""
        return self.always_low > 0 or self.always_high < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRatio:
    """Whether arms have the sizes that were planned.

    Attributes:
        statistic: Chi-square.
        p_value: Probability of a split as uneven as this one, in [0, 1].
        sound: False below 0.001: look for the fault before reading the results.
    """

    statistic: float
    p_value: float
    sound: bool


def always_valid_factor(n: float, planned_n: float, confidence: float = 0.95) -> float:
    """Half the width of the always-valid interval, in standard errors.

    `sqrt(2 (n r + 1) / (n r) * log(sqrt(n r + 1) / alpha))`: an asymptotic confidence sequence. `r` is
    chosen to make it tightest at `planned_n`: `r = (-2 log alpha + log(-2 log alpha) + 1) / planned_n`.
    At `planned_n` and 0.95 it is 3.04, which is 1.55 times the fixed interval.

    Args:
        n: Customers so far, > 0.
        planned_n: Customers expected at the end. Fix it before the first look; any value is valid.
        confidence: Probability that the interval covers the truth at all looks together.

    References:
        Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), Time-uniform central limit theory and
        asymptotic confidence sequences, Annals of Statistics 52, arXiv 2103.06476.

    Example:
        >>> round(always_valid_factor(5_000, planned_n=5_000), 2)
        3.04
    """
    require(n > 0, "n", n, "must be > 0")
    require(planned_n > 0, "planned_n", planned_n, "must be > 0")
    require(0 < confidence < 1, "confidence", confidence, "must be in (0, 1)")
    alpha = 1.0 - confidence
    log_term = -2.0 * math.log(alpha)
    scaled = n * (log_term + math.log(log_term) + 1.0) / planned_n
    return math.sqrt(2.0 * (scaled + 1.0) / scaled * math.log(math.sqrt(scaled + 1.0) / alpha))


def difference(arm: Moments, other: Moments, *, planned_n: float, confidence: float = 0.95) -> Difference:
    """Compare two arms; their variances may differ.

    Args:
        arm: The arm in question.
        other: What it is compared with.
        planned_n: Customers of both arms expected at the end of the experiment.
        confidence: Of both intervals.

    Raises:
        InvalidInputError: an arm has fewer than two customers.

    Example:
        >>> treated = Moments(n=5_000, total=400, total_squares=400)
        >>> held_out = Moments(n=5_000, total=300, total_squares=300)
        >>> found = difference(treated, held_out, planned_n=10_000)
        >>> f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}], {found.relative:+.0%}"
        '+0.020 [+0.010, +0.030], +33%'
    """
    value = arm.mean - other.mean
    error = math.hypot(arm.standard_error, other.standard_error)
    fixed = normal_quantile(confidence) * error
    always = always_valid_factor(arm.n + other.n, planned_n, confidence) * error
    return Difference(
        value=value,
        standard_error=error,
        low=value - fixed,
        high=value + fixed,
        always_low=value - always,
        always_high=value + always,
        relative=value / other.mean if other.mean > 0 else None,
    )


def compare_arms(
    arms: Mapping[Arm, Moments], *, planned_n: float, confidence: float = 0.95
) -> dict[tuple[Arm, Arm], Difference]:
    """Treatment - holdout, treatment - control, control - holdout, of the arms with two customers or more.

    Args:
        arms: Moments by arm.
        planned_n: Customers of the whole experiment expected at the end.
        confidence: Of each interval by itself.
    """
    pairs = (
        (Arm.TREATMENT, Arm.HOLDOUT),
        (Arm.TREATMENT, Arm.CONTROL),
        (Arm.CONTROL, Arm.HOLDOUT),
    )
    filled = {arm: moments for arm, moments in arms.items() if moments.n >= 2}
    return {
        (a, b): difference(filled[a], filled[b], planned_n=planned_n, confidence=confidence)
        for a, b in pairs
        if a in filled and b in filled
    }


def sample_ratio(counts: Mapping[Arm, int], experiment: Experiment) -> SampleRatio:
    """Pearson's chi-square of the arms' sizes against the planned shares.

    Customers in an arm with a planned share of 0 make it infinite.

    Args:
        counts: Customers by arm; at least one in all.
        experiment: Gives the planned shares.
    """
    from scipy.special import gammaincc

    n = sum(counts.values())
    require(n >= 1, "counts", n, "must be >= 1 customer in all")
    planned = {arm: experiment.share(arm) * n for arm in Arm}
    if any(counts.get(arm, 0) > 0 and planned[arm] <= 1e-9 * n for arm in Arm):
        return SampleRatio(statistic=math.inf, p_value=0.0, sound=False)
    used = [arm for arm in Arm if planned[arm] > 1e-9 * n]
    statistic = sum((counts.get(arm, 0) - planned[arm]) ** 2 / planned[arm] for arm in used)
    p_value = float(gammaincc((len(used) - 1) / 2, statistic / 2)) if len(used) > 1 else 1.0
    return SampleRatio(statistic=statistic, p_value=p_value, sound=p_value >= 0.001)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPerConversion:
    """What each conversion that would not have happened otherwise has cost, minor units.

    Attributes:
        value: Extra cost a customer over extra conversions a customer.
        low: With the upper end of the extra conversions.
        high: With their lower end; infinite where that is not above 0.
    """

    value: float
    low: float
    high: float


def cost_per_incremental_conversion(
    cost_a_customer: float, other_cost_a_customer: float, conversions: Difference
) -> CostPerConversion | None:
    """Extra cost over extra conversions, with the interval of the conversions; costs count as known.

    Args:
        cost_a_customer: Cost of the arm over its customers, minor units.
        other_cost_a_customer: The same of the arm compared with.
        conversions: Difference in conversions a customer.

    Returns:
        None where the arm converted no more than the other: there is nothing to divide by.
    """
    if conversions.value <= 0:
        return None
    extra = cost_a_customer - other_cost_a_customer
    ends = [
        extra / end if end > 0 else math.copysign(math.inf, extra)
        for end in (conversions.high, conversions.low)
    ]
    return CostPerConversion(value=extra / conversions.value, low=min(ends), high=max(ends))

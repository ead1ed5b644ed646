"""What a report says of arms: each by itself, and what may be said of the difference between two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from features.history.report import ArmSums
from models.domain.experiment import Arm
from models.evaluation.estimate import normal_quantile
from models.evaluation.experiment import Difference, Moments
from models.evaluation.pre_period import PairedMoments

CONFIDENCE = 0.95
# Fewer customers than this in an arm, and a normal approximation is not to be trusted.
FEWEST_TO_JUDGE = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmReport:
    """One arm: net value a customer, whether or not the customer was contacted.

    Attributes:
        mean_minor: None without customers.
        low_minor: Of the fixed interval; None below two customers.
        high_minor: The same.
        share_contacted: In [0, 1]; None without customers.
        share_converted: The same.
    """

    arm: Arm
    n_customers: int
    mean_minor: float | None
    low_minor: float | None
    high_minor: float | None
    share_contacted: float | None
    share_converted: float | None
    cost_minor: float


def arm_report(sums: ArmSums) -> ArmReport:
    """One arm by itself, as it is."""
    plain = net_value(sums).plain
    n = plain.n
    reach = normal_quantile(CONFIDENCE) * plain.standard_error if n >= 2 else None
    mean = plain.mean if n else None
    return ArmReport(
        arm=sums.arm,
        n_customers=n,
        mean_minor=mean,
        low_minor=None if mean is None or reach is None else mean - reach,
        high_minor=None if mean is None or reach is None else mean + reach,
        share_contacted=sums.n_contacted / n if n else None,
        share_converted=sums.n_converted / n if n else None,
        cost_minor=sums.cost_minor,
    )


def net_value(sums: ArmSums) -> PairedMoments:
    """Net value of every customer beside the value of what they did before."""
    return PairedMoments(
        n=sums.n_customers,
        total=sums.net_value_minor,
        total_squares=sums.net_value_squares,
        before=sums.before_minor,
        before_squares=sums.before_squares,
        product=sums.before_by_value,
    )


def conversions(sums: ArmSums) -> PairedMoments:
    """The same of whether they converted."""
    return PairedMoments(
        n=sums.n_customers,
        total=sums.n_converted,
        total_squares=sums.n_converted,
        before=sums.before_minor,
        before_squares=sums.before_squares,
        product=sums.before_by_converted,
    )


def verdict(arm: Arm, other: Arm, found: Difference, moments: Mapping[Arm, Moments]) -> str:
    """What may be said of a difference, in plain words."""
    if min(moments[arm].n, moments[other].n) < FEWEST_TO_JUDGE:
        return f"Cannot tell yet: fewer than {FEWEST_TO_JUDGE} customers in one of the arms."
    if found.may_stop:
        way = "more" if found.value > 0 else "less"
        return f"{arm.value.capitalize()} earns {way} than {other.value}, however often this was looked at."
    if found.low > 0 or found.high < 0:
        way = "more" if found.value > 0 else "less"
        return (
            f"{arm.value.capitalize()} seems to earn {way} than {other.value}; this is sure only if the time to look "
            "was fixed in advance."
        )
    return f"Cannot tell yet whether {arm.value} earns more or less than {other.value}."

"""The arms of an experiment against each other, from sums over their customers: all of a campaign's, or some of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from features.history.outcomes import PRE_PERIOD
from features.history.report import ArmSums
from models.domain.experiment import Arm, Experiment
from models.evaluation.experiment import (
    Difference,
    Moments,
    SampleRatio,
    compare_arms,
    cost_per_incremental_conversion,
    sample_ratio,
)
from models.evaluation.pre_period import without_before
from serving.arms import CONFIDENCE, ArmReport, arm_report, conversions, net_value, verdict

_AGAINST_HOLDOUT = (Arm.TREATMENT, Arm.HOLDOUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceReport:
    """Net value a customer of one arm minus that of another, minor units.

    Attributes:
        difference: Without what customers did in the pre-period: this is what the verdict is about.
        unadjusted: The same as it is.
        conversions: Difference in the share of customers who converted, without the pre-period too.
        cost_per_conversion_minor: Extra cost for each conversion that would not have happened otherwise, below 0 where the
            arm cost less; None where it converted no more than the other.
        cost_per_conversion_low_minor: With the upper end of the extra conversions.
        cost_per_conversion_high_minor: With their lower end; None where there may be none.
    """

    arm: Arm
    other: Arm
    difference: Difference
    unadjusted: Difference
    conversions: Difference
    cost_per_conversion_minor: float | None
    cost_per_conversion_low_minor: float | None
    cost_per_conversion_high_minor: float | None
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrePeriodReport:
    """What customers did before they came into the experiment, and how much it tells.

    Attributes:
        days: Before each customer's first decision.
        explained: Share of the variance of net value, within arms, that it explains, in [0, 1].
        narrower: By which share of their width intervals are narrower for it.
    """

    days: int
    explained: float
    narrower: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What an experiment shows.

    Attributes:
        sums: Of every arm, also of those that nobody is in.
        n_customers: Of all arms.
        planned_n: What the always-valid intervals are tuned to.
        arms: Those that anybody is in or is planned to be in.
        against_holdout: Treatment minus holdout; None where one of them has fewer than two customers.
        sample_ratio: None before the first customer.
        pre_period: What was taken out of the differences.
        verdict: One sentence for a person in a hurry.
    """

    sums: Mapping[Arm, ArmSums]
    n_customers: int
    planned_n: int
    arms: tuple[ArmReport, ...]
    differences: tuple[DifferenceReport, ...]
    against_holdout: Difference | None
    sample_ratio: SampleRatio | None
    pre_period: PrePeriodReport
    verdict: str


def compare(sums: Mapping[Arm, ArmSums], experiment: Experiment, n_expected: int) -> Compared:
    """Compare the arms.

    Args:
        sums: Of the arms that anybody is in.
        experiment: Gives the planned shares.
        n_expected: Customers of all arms expected at the end.
    """
    counted = {arm: ArmSums.none(arm) for arm in Arm} | dict(sums)
    worth = {arm: net_value(each) for arm, each in counted.items()}
    moments = {arm: each.plain for arm, each in worth.items()}
    n_customers = sum(each.n_customers for each in counted.values())
    planned_n = max(2, n_expected, n_customers)
    compare_all = partial(compare_arms, planned_n=planned_n, confidence=CONFIDENCE)
    adjusted = without_before(worth)
    differences, unadjusted = compare_all(adjusted.arms), compare_all(moments)
    converted = compare_all(without_before({arm: conversions(each) for arm, each in counted.items()}).arms)
    arms = tuple(
        arm_report(each) for arm, each in counted.items() if each.n_customers or experiment.share(arm) > 0
    )
    ratio = sample_ratio({arm: moments[arm].n for arm in Arm}, experiment) if n_customers else None
    return Compared(
        sums=counted,
        n_customers=n_customers,
        planned_n=planned_n,
        arms=arms,
        differences=tuple(
            _compared(pair, differences, unadjusted, converted, arms, moments) for pair in differences
        ),
        against_holdout=differences.get(_AGAINST_HOLDOUT),
        sample_ratio=ratio,
        pre_period=PrePeriodReport(
            days=PRE_PERIOD.days,
            explained=adjusted.explained,
            narrower=1.0 - math.sqrt(1.0 - adjusted.explained),
        ),
        verdict=_overall(experiment, differences, moments, ratio),
    )


def _compared(
    pair: tuple[Arm, Arm],
    differences: Mapping[tuple[Arm, Arm], Difference],
    unadjusted: Mapping[tuple[Arm, Arm], Difference],
    converted: Mapping[tuple[Arm, Arm], Difference],
    arms: Iterable[ArmReport],
    moments: Mapping[Arm, Moments],
) -> DifferenceReport:
    cost = {arm.arm: arm.cost_minor / arm.n_customers for arm in arms if arm.n_customers}
    each = cost_per_incremental_conversion(cost[pair[0]], cost[pair[1]], converted[pair])
    return DifferenceReport(
        arm=pair[0],
        other=pair[1],
        difference=differences[pair],
        unadjusted=unadjusted[pair],
        conversions=converted[pair],
        cost_per_conversion_minor=None if each is None else each.value,
        cost_per_conversion_low_minor=None if each is None else finite(each.low),
        cost_per_conversion_high_minor=None if each is None else finite(each.high),
        verdict=verdict(*pair, differences[pair], moments),
    )


def finite(number: float) -> float | None:
    """The number, or None where it is infinite: JSON has no word for that."""
    return number if math.isfinite(number) else None


def _overall(
    experiment: Experiment,
    differences: Mapping[tuple[Arm, Arm], Difference],
    moments: Mapping[Arm, Moments],
    ratio: SampleRatio | None,
) -> str:
    """One sentence for a person in a hurry."""
    if ratio is None:
        return "Nobody has been decided for yet."
    if not ratio.sound:
        return (
            "Do not read the results: the arms do not have the sizes that were planned, so something other than "
            "chance decides who is in them."
        )
    if _AGAINST_HOLDOUT not in differences:
        if experiment.holdout_share <= 0:
            return "Without a holdout nobody can say what contact adds."
        return "Cannot tell yet: an arm has fewer than two customers."
    return verdict(*_AGAINST_HOLDOUT, differences[_AGAINST_HOLDOUT], moments)

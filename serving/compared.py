"""The arms of an experiment beside each other: their differences with intervals, and what may be said of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from features.history.report import ArmSums
from models.domain.experiment import Arm
from models.evaluation.experiment import Difference, compare_arms, cost_per_incremental_conversion
from models.evaluation.pre_period import without_before
from serving.arms import CONFIDENCE, conversions, net_value, verdict


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
class Comparison:
    """Arms beside each other.

    Attributes:
        differences: Treatment - holdout, treatment - control, control - holdout, of the arms with two customers or more.
        explained: Share of the variance of net value, within arms, that what customers did before explains, in [0, 1].
    """

    differences: tuple[DifferenceReport, ...]
    explained: float

    @property
    def against_holdout(self) -> DifferenceReport | None:
        """Treatment - holdout: what contact caused; None where one of them has fewer than two customers."""
        pair = (Arm.TREATMENT, Arm.HOLDOUT)
        return next((one for one in self.differences if (one.arm, one.other) == pair), None)


def compared(sums: Mapping[Arm, ArmSums], planned_n: float) -> Comparison:
    """Compare arms.

    Args:
        sums: Of each arm.
        planned_n: Customers of the whole experiment expected at the end: the size that the always-valid intervals are tuned to.
    """
    compare = partial(compare_arms, planned_n=planned_n, confidence=CONFIDENCE)
    worth = {arm: net_value(each) for arm, each in sums.items()}
    moments = {arm: each.plain for arm, each in worth.items()}
    adjusted = without_before(worth)
    differences, unadjusted = compare(adjusted.arms), compare(moments)
    converted = compare(without_before({arm: conversions(each) for arm, each in sums.items()}).arms)

    def report(pair: tuple[Arm, Arm]) -> DifferenceReport:
        cost, other_cost = (sums[arm].cost_minor / sums[arm].n_customers for arm in pair)
        each = cost_per_incremental_conversion(cost, other_cost, converted[pair])
        return DifferenceReport(
            arm=pair[0],
            other=pair[1],
            difference=differences[pair],
            unadjusted=unadjusted[pair],
            conversions=converted[pair],
            cost_per_conversion_minor=None if each is None else each.value,
            cost_per_conversion_low_minor=None if each is None else _finite(each.low),
            cost_per_conversion_high_minor=None if each is None else _finite(each.high),
            verdict=verdict(*pair, differences[pair], moments),
        )

    return Comparison(differences=tuple(map(report, differences)), explained=adjusted.explained)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None

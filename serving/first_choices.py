"""What contact brings those for whom the optimiser chose a channel first.

Who was contacted by a channel was chosen for it, so the whole holdout is nobody to compare them with. Those of the holdout for
whom the optimiser would have chosen the same channel are: it chooses in both arms alike, before anybody was contacted, and which
arm somebody is in is chance (ghost ads; Johnson, Lewis and Nubbemeyer 2017, Journal of Marketing Research 54).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from features.history.report import ArmSums
from models.domain.experiment import Arm, Experiment
from models.evaluation.experiment import Difference, Moments, SampleRatio, compare_arms, sample_ratio
from models.evaluation.pre_period import PairedMoments, without_before
from serving.arms import CONFIDENCE, FEWEST_TO_JUDGE, ArmReport, arm_report, conversions, net_value, verdict

_NO_CONTACT = ""
_PAIR = (Arm.TREATMENT, Arm.HOLDOUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstChoiceReport:
    """Treatment and holdout among customers for whom the optimiser chose the same channel at their first decision.

    Attributes:
        channel: None is no contact: nothing should differ as long as nobody of them is contacted later.
        difference: Net value a customer, treatment minus holdout, minor units, without what customers did in the pre-period; None
            where one of the two has fewer than two customers.
        conversions: The same of the share of customers who converted.
        sample_ratio: Whether the two have the sizes that were planned. Where they do not, something chose differently in the arms.
    """

    channel: str | None
    treatment: ArmReport
    holdout: ArmReport
    difference: Difference | None
    conversions: Difference | None
    sample_ratio: SampleRatio
    verdict: str

    @property
    def readable(self) -> bool:
        """Whether there are enough customers to say anything, in arms of the sizes that were planned."""
        enough = min(self.treatment.n_customers, self.holdout.n_customers) >= FEWEST_TO_JUDGE
        return enough and self.sample_ratio.sound


def by_first_choice(
    sums: Mapping[str, Mapping[Arm, ArmSums]], experiment: Experiment, planned_n: float
) -> tuple[FirstChoiceReport, ...]:
    """One comparison a channel, in order of name, no contact last.

    Args:
        sums: By channel, `CustomerSums.first_choices`.
        experiment: Gives the planned shares.
        planned_n: Customers of the whole experiment expected at the end. A channel's intervals are tuned to as many, which makes
            the always-valid one a little wider than it could be, and needs no guess at how many choose the channel.
    """
    in_order = sorted(sums, key=lambda channel: (channel == _NO_CONTACT, channel))
    two_arms = _of_two(experiment)
    return tuple(
        _compared(
            channel, {arm: sums[channel].get(arm, ArmSums.none(arm)) for arm in _PAIR}, two_arms, planned_n
        )
        for channel in in_order
    )


def _compared(
    channel: str, sums: Mapping[Arm, ArmSums], experiment: Experiment, planned_n: float
) -> FirstChoiceReport:
    def difference(paired: Mapping[Arm, PairedMoments]) -> Difference | None:
        arms = without_before(paired).arms
        return compare_arms(arms, planned_n=planned_n, confidence=CONFIDENCE).get(_PAIR)

    worth = {arm: net_value(each) for arm, each in sums.items()}
    found = difference(worth)
    ratio = sample_ratio({arm: each.n for arm, each in worth.items()}, experiment)
    return FirstChoiceReport(
        channel=None if channel == _NO_CONTACT else channel,
        treatment=arm_report(sums[Arm.TREATMENT]),
        holdout=arm_report(sums[Arm.HOLDOUT]),
        difference=found,
        conversions=difference({arm: conversions(each) for arm, each in sums.items()}),
        sample_ratio=ratio,
        verdict=_words(found, {arm: each.plain for arm, each in worth.items()}, ratio),
    )


def _words(found: Difference | None, moments: Mapping[Arm, Moments], ratio: SampleRatio) -> str:
    if not ratio.sound:
        return "Do not read this: the arms do not have the sizes that were planned, so the first choice was not made in both alike."
    few = [arm.value for arm in _PAIR if moments[arm].n < FEWEST_TO_JUDGE]
    if found is None or few:
        return f"Cannot tell: fewer than {FEWEST_TO_JUDGE} customers in {' and '.join(few)}."
    return verdict(*_PAIR, found, moments)


def _of_two(experiment: Experiment) -> Experiment:
    """The same split without the control arm."""
    held_out, treated = experiment.share(Arm.HOLDOUT), experiment.share(Arm.TREATMENT)
    if held_out + treated <= 0:
        return experiment
    return replace(experiment, holdout_share=held_out / (held_out + treated), control_share=0.0)

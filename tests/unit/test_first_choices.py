"""What a channel brings those for whom it was chosen first: found again where it is known, and not said of too few."""

from __future__ import annotations

import numpy as np
import pytest

from features.history.report import ArmSums
from models.choice import FloatArray
from models.domain.experiment import Arm, Experiment, assign
from models.evaluation.experiment import Moments, difference
from serving.first_choices import by_first_choice

N = 2_000
N_EXPERIMENTS = 200
# What a contact by the channel adds to the probability of a conversion.
EFFECT = {"sms": 0.12, "email": 0.03, "": 0.0}
SPLIT = Experiment(experiment_id="spring", holdout_share=0.4, control_share=0.2)


def sums(arm: Arm, value: FloatArray, before: FloatArray | None = None) -> ArmSums:
    before = np.zeros(len(value)) if before is None else before
    converted = (value > 0).astype(float)
    return ArmSums(
        arm=arm,
        n_customers=len(value),
        n_decisions=len(value),
        n_contacted=0,
        n_converted=int(converted.sum()),
        cost_minor=0.0,
        net_value_minor=value.sum(),
        net_value_squares=value @ value,
        before_minor=before.sum(),
        before_squares=before @ before,
        before_by_value=before @ value,
        before_by_converted=before @ converted,
    )


def test_the_interval_of_a_channel_covers_its_effect_and_the_whole_holdout_is_no_comparison() -> None:
    """The optimiser writes an SMS to those who buy anyway: 60 in 100 of them do, and of the others 10."""
    rng = np.random.default_rng(61)
    covered = dict.fromkeys(EFFECT, 0)
    naive = sound = 0
    for k in range(N_EXPERIMENTS):
        split = Experiment(experiment_id=f"e{k}", holdout_share=0.4, control_share=0.2)
        arm = np.array([assign(f"c-{i}", split) for i in range(N)])
        keen = rng.random(N) < 0.4
        first = np.where(keen, rng.choice(["sms", "email"], N, p=[0.8, 0.2]), rng.choice(["email", ""], N))
        effect = np.array([EFFECT[channel] for channel in first]) * (arm == Arm.TREATMENT)
        value = (rng.random(N) < np.where(keen, 0.6, 0.1) + effect).astype(float)
        before = keen + rng.random(N)
        found = by_first_choice(
            {
                channel: {
                    one: sums(one, value[rows], before[rows])
                    for one in (Arm.HOLDOUT, Arm.TREATMENT)
                    for rows in [(first == channel) & (arm == one)]
                }
                for channel in EFFECT
            },
            split,
            planned_n=N,
        )
        assert [one.channel for one in found] == ["email", "sms", None]
        sound += all(one.sample_ratio.sound for one in found)
        for one in found:
            truth = EFFECT[one.channel or ""]
            assert one.difference is not None
            assert one.difference.always_low < one.difference.low < one.difference.high
            covered[one.channel or ""] += one.difference.low <= truth <= one.difference.high
        texted = Moments.of(value[(first == "sms") & (arm == Arm.TREATMENT)])
        crude = difference(texted, Moments.of(value[arm == Arm.HOLDOUT]), planned_n=N)
        naive += crude.low <= EFFECT["sms"] <= crude.high
    # 95 in 100 of 200 are 190; four standard errors are 12.
    assert all(n >= 178 for n in covered.values()), covered
    assert naive == 0
    assert sound >= 198


def test_of_too_few_nothing_is_said() -> None:
    rng = np.random.default_rng(1)
    held_out, treated = rng.random(29), 10 + rng.random(31)
    (one,) = by_first_choice(
        {"sms": {Arm.HOLDOUT: sums(Arm.HOLDOUT, held_out), Arm.TREATMENT: sums(Arm.TREATMENT, treated)}},
        SPLIT,
        planned_n=60,
    )
    assert one.verdict == "Cannot tell: fewer than 30 customers in holdout."
    (alone,) = by_first_choice(
        {"sms": {Arm.TREATMENT: sums(Arm.TREATMENT, treated[:3])}}, SPLIT, planned_n=60
    )
    assert alone.difference is None
    assert alone.holdout.n_customers == 0
    assert alone.verdict == "Cannot tell: fewer than 30 customers in treatment and holdout."


@pytest.mark.parametrize(("n_held_out", "sound"), [(400, True), (300, False)])
def test_arms_of_other_sizes_than_planned_are_not_to_be_read(n_held_out: int, sound: bool) -> None:
    """Two in five in the holdout, two in five in the treatment: as many of each, whatever the control is."""
    rng = np.random.default_rng(2)
    held_out, treated = rng.random(n_held_out), 1 + rng.random(400)
    (one,) = by_first_choice(
        {"sms": {Arm.HOLDOUT: sums(Arm.HOLDOUT, held_out), Arm.TREATMENT: sums(Arm.TREATMENT, treated)}},
        SPLIT,
        planned_n=1_000,
    )
    assert one.sample_ratio.sound == sound
    assert one.verdict.startswith("Treatment earns more than holdout" if sound else "Do not read this")

"""What customers did before is taken out of a comparison of arms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import InvalidInputError
from models.domain.experiment import Arm
from models.evaluation.experiment import Moments, compare_arms
from models.evaluation.pre_period import PairedMoments, without_before

PAIR = (Arm.TREATMENT, Arm.HOLDOUT)


def sums(arm: np.ndarray, outcome: np.ndarray, before: np.ndarray) -> dict[Arm, PairedMoments]:
    return {each: PairedMoments.of(outcome[arm == each], before[arm == each]) for each in Arm}


def customers(seed: int, n: int = 2_000, effect: float = 3.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arms, what they did in the experiment and before; half of the variance is what they always do."""
    rng = np.random.default_rng(seed)
    arm = np.array([Arm.TREATMENT, Arm.HOLDOUT, Arm.CONTROL])[rng.choice(3, n, p=(0.5, 0.3, 0.2))]
    usual = rng.gamma(2.0, 10.0, n)
    before = usual + rng.normal(0, 3, n)
    return arm, usual + rng.normal(0, 14, n) + effect * (arm == Arm.TREATMENT), before


def test_the_slope_is_that_of_least_squares_within_arms() -> None:
    arm, outcome, before = customers(1)
    design = np.column_stack([arm == each for each in Arm] + [before]).astype(float)
    fitted = np.linalg.lstsq(design, outcome, rcond=None)[0]
    assert without_before(sums(arm, outcome, before)).slope == pytest.approx(fitted[3])


@given(st.integers(0, 50))
def test_moments_are_those_of_the_adjusted_outcomes(seed: int) -> None:
    arm, outcome, before = customers(seed, 60)
    found = without_before(sums(arm, outcome, before))
    adjusted = outcome - found.slope * (before - before.mean())
    for each in Arm:
        expected = Moments.of(adjusted[arm == each])
        assert found.arms[each].n == expected.n
        assert found.arms[each].total == pytest.approx(expected.total)
        assert found.arms[each].total_squares == pytest.approx(expected.total_squares)


def test_intervals_are_as_much_narrower_as_it_says() -> None:
    arm, outcome, before = customers(2, 20_000)
    paired = sums(arm, outcome, before)
    found = without_before(paired)
    plain = compare_arms({each: one.plain for each, one in paired.items()}, planned_n=20_000)[PAIR]
    adjusted = compare_arms(found.arms, planned_n=20_000)[PAIR]
    assert 0.4 < found.explained < 0.6
    assert adjusted.standard_error / plain.standard_error == pytest.approx(
        np.sqrt(1 - found.explained), rel=0.02
    )


def test_the_effect_stays_what_it_is_and_its_interval_holds() -> None:
    values, held = [], 0
    for seed in range(400):
        found = without_before(sums(*customers(seed, 600)))
        difference = compare_arms(found.arms, planned_n=600)[PAIR]
        values.append(difference.value)
        held += difference.low <= 3.0 <= difference.high
    assert np.mean(values) == pytest.approx(3.0, abs=4 * np.std(values) / 20)
    assert 0.92 <= held / 400 <= 0.98


@pytest.mark.parametrize("before", [0.0, 7.3])
def test_where_nobody_differed_before_nothing_changes(before: float) -> None:
    arm, outcome, _ = customers(3)
    paired = sums(arm, outcome, np.full(len(arm), before))
    found = without_before(paired)
    assert (found.slope, found.explained) == (0.0, 0.0)
    assert found.arms == {each: one.plain for each, one in paired.items()}


def test_empty_arms_stay_empty() -> None:
    nobody = PairedMoments.of(np.array([]), np.array([]))
    some = PairedMoments.of(np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0, 5.0]))
    found = without_before({Arm.TREATMENT: some, Arm.HOLDOUT: nobody})
    assert found.arms[Arm.HOLDOUT].n == 0
    assert found.arms[Arm.TREATMENT].mean == pytest.approx(7 / 3)


def test_every_customer_has_one_number_of_each_time() -> None:
    with pytest.raises(InvalidInputError, match=r"before == \(2,\), must have shape \(3,\)"):
        PairedMoments.of(np.zeros(3), np.zeros(2))

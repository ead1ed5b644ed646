"""Experiment statistics against worked examples, and their promises by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from models.domain.errors import InvalidInputError
from models.domain.experiment import Arm, Experiment
from models.evaluation.experiment import (
    Moments,
    always_valid_factor,
    compare_arms,
    cost_per_incremental_conversion,
    difference,
    sample_ratio,
)


def test_moments_of_four_customers() -> None:
    moments = Moments.of(np.array([1.0, 2.0, 3.0, 6.0]))
    assert moments == Moments(n=4, total=12.0, total_squares=50.0)
    assert moments.mean == 3.0
    assert moments.variance == pytest.approx(14 / 3)  # (4 + 1 + 0 + 9) / 3
    assert moments.standard_error == pytest.approx(math.sqrt(14 / 3 / 4))


def test_moments_of_two_days_add_up() -> None:
    outcome = np.random.default_rng(0).exponential(3.0, 100)
    both = Moments.of(outcome[:40]) + Moments.of(outcome[40:])
    assert both.n == 100
    assert both.variance == pytest.approx(outcome.var(ddof=1))


def test_moments_by_arm() -> None:
    arms = Moments.of_arms(np.array(["holdout", "treatment", "holdout"]), np.array([1.0, 5.0, 2.0]))
    assert arms[Arm.HOLDOUT] == Moments(n=2, total=3.0, total_squares=5.0)
    assert arms[Arm.TREATMENT].n == 1
    assert arms[Arm.CONTROL].n == 0


def test_a_difference_is_that_of_welch() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(5, 3, 400), rng.normal(4, 1, 900)
    found = difference(Moments.of(a), Moments.of(b), planned_n=1_300)
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert found.value / found.standard_error == pytest.approx(welch.statistic)
    assert found.relative == pytest.approx(a.mean() / b.mean() - 1)
    assert found.high - found.value == pytest.approx(1.959964 * found.standard_error, rel=1e-6)


def test_a_lift_over_nothing_is_not_a_number_but_none() -> None:
    nothing = Moments.of(np.zeros(10))
    assert difference(Moments.of(np.ones(10)), nothing, planned_n=20).relative is None


def test_an_arm_of_one_customer_cannot_be_compared() -> None:
    with pytest.raises(InvalidInputError, match="n == 1, must be >= 2"):
        difference(Moments.of(np.ones(1)), Moments.of(np.ones(5)), planned_n=6)


def test_arms_are_compared_in_pairs_and_empty_ones_left_out() -> None:
    ten = Moments.of(np.arange(10.0))
    empty = Moments.of(np.zeros(0))
    assert list(compare_arms({Arm.HOLDOUT: ten, Arm.CONTROL: ten, Arm.TREATMENT: ten}, planned_n=30)) == [
        (Arm.TREATMENT, Arm.HOLDOUT),
        (Arm.TREATMENT, Arm.CONTROL),
        (Arm.CONTROL, Arm.HOLDOUT),
    ]
    found = compare_arms({Arm.HOLDOUT: ten, Arm.CONTROL: empty, Arm.TREATMENT: ten}, planned_n=30)
    assert list(found) == [(Arm.TREATMENT, Arm.HOLDOUT)]


def test_the_always_valid_factor_of_a_worked_example() -> None:
    # alpha .05: -2 log alpha = 5.9915, its log 1.7903, sum + 1 = 8.7818 = n r at the planned n.
    # sqrt(2 * 9.7818 / 8.7818 * log(sqrt(9.7818) / .05)) = sqrt(2.2277 * 4.1360) = 3.0354
    assert always_valid_factor(5_000, 5_000) == pytest.approx(3.0354, abs=2e-4)
    assert always_valid_factor(5_000, 5_000) / 1.959964 <= 1.6


def test_the_always_valid_interval_is_near_its_tightest_at_the_planned_size() -> None:
    # Relative to 1 / sqrt(n), what it gives up for another size is small within a factor of three.
    at_plan = always_valid_factor(1_000, 1_000)
    for planned in (300, 3_000):
        assert at_plan <= always_valid_factor(1_000, planned) <= 1.2 * at_plan


def test_peeking_for_28_days_gives_no_more_than_five_percent_false_alarms() -> None:
    """Two equal arms, 200 customers a day each, 5 % of them buy, amounts with heavy tails."""
    rng = np.random.default_rng(2)
    experiments, days, customers = 500, 28, 200
    alarms_always = alarms_naive = 0
    for _ in range(experiments):
        bought = rng.random((2, days, customers)) < 0.05
        spend = bought * rng.lognormal(3.0, 1.2, bought.shape)
        by_day = [[Moments.of(day) for day in arm] for arm in spend]
        so_far = [Moments(n=0, total=0.0, total_squares=0.0)] * 2
        always = naive = False
        for day in range(days):
            so_far = [total + arm[day] for total, arm in zip(so_far, by_day, strict=True)]
            found = difference(so_far[0], so_far[1], planned_n=2 * days * customers)
            always |= found.may_stop
            naive |= found.low > 0 or found.high < 0
        alarms_always += always
        alarms_naive += naive
    assert alarms_always / experiments <= 0.05
    assert alarms_naive / experiments > 0.15  # what peeking at the fixed interval does


def test_the_fixed_interval_covers_a_true_uplift_about_95_times_in_100() -> None:
    rng = np.random.default_rng(3)
    n, uplift, repetitions = 4_000, 0.03, 2_000
    # Conversions of an arm are a binomial count: its moments are (n, k, k).
    covered = 0
    for _ in range(repetitions):
        k, base = rng.binomial(n, 0.05 + uplift), rng.binomial(n, 0.05)
        found = difference(
            Moments(n=n, total=k, total_squares=k),
            Moments(n=n, total=base, total_squares=base),
            planned_n=2 * n,
        )
        covered += found.low <= uplift <= found.high
    assert 0.94 <= covered / repetitions <= 0.96


HALF = Experiment(experiment_id="x", holdout_share=0.2, control_share=0.3)


def test_sample_ratio_of_a_worked_example() -> None:
    # Planned 200, 300, 500: 20^2 / 200 + 10^2 / 300 + 10^2 / 500 = 2 + .3333 + .2
    found = sample_ratio({Arm.HOLDOUT: 220, Arm.CONTROL: 290, Arm.TREATMENT: 490}, HALF)
    assert found.statistic == pytest.approx(2 + 1 / 3 + 0.2)
    assert found.p_value == pytest.approx(stats.chi2.sf(found.statistic, 2))
    assert found.sound


def test_a_broken_split_is_told() -> None:
    found = sample_ratio({Arm.HOLDOUT: 260, Arm.CONTROL: 290, Arm.TREATMENT: 450}, HALF)
    assert not found.sound


def test_an_arm_of_share_zero_takes_no_part_and_must_stay_empty() -> None:
    two = Experiment(experiment_id="x", holdout_share=0.5)
    assert sample_ratio({Arm.HOLDOUT: 500, Arm.TREATMENT: 500}, two).p_value == 1.0
    assert not sample_ratio({Arm.HOLDOUT: 500, Arm.TREATMENT: 499, Arm.CONTROL: 1}, two).sound


def test_a_single_arm_is_always_as_planned() -> None:
    assert sample_ratio({Arm.TREATMENT: 17}, Experiment(experiment_id="x")).sound


def test_cost_of_a_conversion_that_would_not_have_happened() -> None:
    a = Moments(n=10_000, total=800, total_squares=800)
    b = Moments(n=10_000, total=500, total_squares=500)
    conversions = difference(a, b, planned_n=20_000)
    # Three more conversions in a hundred customers, at 6 - 0 a customer: 6 / .03 = 200 each.
    cost = cost_per_incremental_conversion(6.0, 0.0, conversions)
    assert cost is not None
    assert cost.value == pytest.approx(200.0)
    assert cost.low == pytest.approx(6.0 / conversions.high)
    assert cost.high == pytest.approx(6.0 / conversions.low)


def test_an_uplift_that_may_be_zero_may_cost_without_end() -> None:
    a = Moments(n=100, total=6, total_squares=6)
    b = Moments(n=100, total=5, total_squares=5)
    cost = cost_per_incremental_conversion(6.0, 0.0, difference(a, b, planned_n=200))
    assert cost is not None
    assert cost.high == math.inf
    assert cost_per_incremental_conversion(6.0, 0.0, difference(b, a, planned_n=200)) is None

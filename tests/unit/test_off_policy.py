"""Off-policy estimators against worked examples."""

import math

import numpy as np
import pytest

from models.domain.errors import InvalidInputError, PropensityError
from models.evaluation.estimate import Estimate
from models.evaluation.off_policy import dm, dr, dr_difference, effective_sample_size, ips, snips
from models.evaluation.overlap import Withheld, overlap, screened
from models.evaluation.verdict import PolicyComparison, Verdict, compare_with_constants

# Four rows. Weights target / propensity: .8/.4 = 2, .25/.5 = .5, 0/.5 = 0, 1/.5 = 2.
REWARD = np.array([10.0, 4.0, 100.0, 2.0])
PROPENSITY = np.array([0.4, 0.5, 0.5, 0.5])
TARGET = np.array([0.8, 0.25, 0.0, 1.0])
Q_LOGGED = np.array([8.0, 6.0, 90.0, 3.0])
Q_TARGET = np.array([7.0, 5.0, 6.0, 3.0])


def test_dm_is_the_mean_prediction() -> None:
    # (7 + 5 + 6 + 3) / 4
    assert dm(Q_TARGET).value == 5.25


def test_ips_is_the_mean_of_weighted_rewards() -> None:
    # (2 * 10 + .5 * 4 + 0 * 100 + 2 * 2) / 4 = 26 / 4
    estimate = ips(REWARD, PROPENSITY, TARGET)
    assert estimate.value == 6.5
    # Terms 20, 2, 0, 4: deviations 13.5, -4.5, -6.5, -2.5; squares sum to 251; se = sqrt(4/3 * 251) / 4.
    assert estimate.standard_error == pytest.approx(math.sqrt(4 / 3 * 251) / 4)
    assert estimate.high - estimate.value == pytest.approx(1.959964 * estimate.standard_error, rel=1e-6)


def test_snips_divides_by_the_weights() -> None:
    # 26 / (2 + .5 + 0 + 2)
    estimate = snips(REWARD, PROPENSITY, TARGET)
    assert estimate.value == pytest.approx(26 / 4.5)
    # Influence w (r - V) / mean(w), mean(w) = 1.125.
    v = 26 / 4.5
    influence = np.array([2 * (10 - v), 0.5 * (4 - v), 0, 2 * (2 - v)]) / 1.125
    assert estimate.standard_error == pytest.approx(math.sqrt(4 / 3 * (influence**2).sum()) / 4)


def test_dr_adds_the_weighted_residual_to_the_prediction() -> None:
    # Terms 7 + 2 * 2 = 11, 5 + .5 * -2 = 4, 6 + 0, 3 + 2 * -1 = 1: mean 22 / 4.
    estimate = dr(REWARD, PROPENSITY, TARGET, Q_LOGGED, Q_TARGET)
    assert estimate.value == 5.5
    # Deviations 5.5, -1.5, .5, -4.5: squares sum to 53.
    assert estimate.standard_error == pytest.approx(math.sqrt(4 / 3 * 53) / 4)


def test_effective_sample_size_of_the_example() -> None:
    # 4.5^2 / (4 + .25 + 0 + 4)
    assert ips(REWARD, PROPENSITY, TARGET).ess == pytest.approx(20.25 / 8.25)
    assert effective_sample_size(np.ones(7)) == 7.0
    assert effective_sample_size(np.zeros(7)) == 0.0


def test_the_logging_policy_is_worth_what_was_observed() -> None:
    for estimate in (ips(REWARD, PROPENSITY, PROPENSITY), snips(REWARD, PROPENSITY, PROPENSITY)):
        assert estimate.value == pytest.approx(REWARD.mean())
        assert estimate.ess == pytest.approx(4)


def test_a_customer_with_two_rows_counts_once() -> None:
    # The same row twice in one cluster is no more evidence than once.
    twice = np.repeat(np.arange(4), 2)
    single = ips(REWARD, PROPENSITY, TARGET)
    doubled = ips(REWARD[twice], PROPENSITY[twice], TARGET[twice], clusters=twice)
    assert doubled.value == pytest.approx(single.value)
    assert doubled.standard_error == pytest.approx(single.standard_error)
    naive = ips(REWARD[twice], PROPENSITY[twice], TARGET[twice])
    assert naive.standard_error < 0.75 * single.standard_error


def test_one_cluster_alone_says_nothing_about_the_error() -> None:
    estimate = ips(REWARD, PROPENSITY, TARGET, clusters=np.zeros(4, dtype=np.int64))
    assert estimate.standard_error == math.inf


def test_a_policy_differs_from_itself_by_exactly_nothing() -> None:
    difference = dr_difference(REWARD, PROPENSITY, TARGET, TARGET, Q_LOGGED, Q_TARGET, Q_TARGET)
    assert (difference.value, difference.standard_error) == (0.0, 0.0)


def test_a_paired_difference_is_the_difference_of_the_estimates_with_less_noise() -> None:
    rng = np.random.default_rng(0)
    n = 2_000
    propensity = np.full(n, 0.5)
    reward, q = rng.normal(5, 3, n), np.full(n, 5.0)
    a = (rng.random(n) < 0.5).astype(float)
    b = np.where(np.arange(n) < 100, 1 - a, a)  # differs on 100 customers
    difference = dr_difference(reward, propensity, a, b, q, q, q)
    one, other = dr(reward, propensity, a, q, q), dr(reward, propensity, b, q, q)
    assert difference.value == pytest.approx(one.value - other.value)
    assert difference.standard_error < 0.5 * math.hypot(one.standard_error, other.standard_error)


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.1, float("nan")])
def test_a_propensity_out_of_bounds_is_refused_with_its_row(bad: float) -> None:
    with pytest.raises(PropensityError, match=r"must be in \(0, 1\] \(row 2\)"):
        ips(REWARD, np.array([0.4, 0.5, bad, 0.5]), TARGET)


def test_a_target_above_one_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"target == 1\.5"):
        snips(REWARD, PROPENSITY, np.array([0.8, 1.5, 0.0, 1.0]))


def test_a_reward_that_is_not_a_number_is_refused_with_its_row() -> None:
    with pytest.raises(InvalidInputError, match="row 1"):
        ips(np.array([1.0, np.nan, 1.0, 1.0]), PROPENSITY, TARGET)


def test_arrays_of_other_lengths_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="reward"):
        dr(REWARD[:3], PROPENSITY, TARGET, Q_LOGGED, Q_TARGET)
    with pytest.raises(InvalidInputError, match="q_logged"):
        dr(REWARD, PROPENSITY, TARGET, Q_LOGGED[:3], Q_TARGET)


def test_snips_refuses_a_policy_that_the_log_never_agrees_with() -> None:
    with pytest.raises(InvalidInputError, match="at least one row"):
        snips(REWARD, PROPENSITY, np.zeros(4))


def test_overlap_of_the_example() -> None:
    found = overlap(PROPENSITY, TARGET)
    assert found.ess_share == pytest.approx(20.25 / 8.25 / 4)
    assert found.max_weight == 2.0
    assert found.mean_weight == 1.125
    assert found.unmatched_share == 0.25
    assert found.sufficient
    assert found.propensities_plausible


def test_wrong_propensities_show_in_the_mean_weight() -> None:
    rng = np.random.default_rng(1)
    always_a = (rng.random(10_000) < 0.5).astype(float)
    assert overlap(np.full(10_000, 0.5), always_a).propensities_plausible
    assert not overlap(np.full(10_000, 0.6), always_a).propensities_plausible


def test_an_estimate_is_withheld_below_a_fifth_of_the_rows() -> None:
    n = 1_000
    reward, propensity = np.ones(n), np.full(n, 0.2)
    target = np.zeros(n)
    target[:199] = 1.0
    withheld = screened(ips(reward, propensity, target))
    assert isinstance(withheld, Withheld)
    assert str(withheld) == (
        "withheld: the log covers too little of what the policy does "
        "(effective sample size 199 of 1000 rows, must be >= 20%)"
    )
    target[199] = 1.0
    assert not isinstance(screened(ips(reward, propensity, target)), Withheld)


def test_an_estimate_is_withheld_where_the_log_never_did_a_part_of_what_the_policy_does() -> None:
    # The log all but always does a; the policy does b for the last k of 1,000 customers. None of them got b: weights 1 and 0.
    n = 1_000
    reward, propensity, q = np.ones(n), np.full(n, 1 - 1e-6), np.zeros(n)

    def never_tried(k: int) -> tuple[float, Estimate | Withheld, Estimate | Withheld]:
        target = np.repeat([1.0, 0.0], [n - k, k])
        alone = dr(reward, propensity, target, q, q)
        ahead = dr_difference(reward, propensity, target, propensity, q, q, q)
        return alone.ess_share, screened(alone), screened(ahead)

    ess_share, alone, ahead = never_tried(300)
    assert ess_share == pytest.approx(0.7), "not thin by the weights that came"
    for withheld in (alone, ahead):
        assert isinstance(withheld, Withheld)
        assert withheld.untried == pytest.approx(0.3, abs=1e-5)
        assert withheld.reason == "the log never did 30% of what the policy does, must be <= 10%"
    assert all(isinstance(one, Estimate) for one in never_tried(99)[1:])


def test_weights_that_are_small_by_chance_are_no_reason_to_withhold() -> None:
    # Each of two actions at random, the policy does the second: weight 2 on the rows that got it. 22 of 50 instead of 25 average
    # 0.88; one standard error is 0.88 * sqrt(1 / 22 - 1 / 50) = 0.14.
    target = np.repeat([1.0, 0.0], [22, 28])
    few = ips(np.ones(50), np.full(50, 0.5), target)
    assert few.mean_weight == pytest.approx(0.88)
    assert screened(few) is few
    # 5,000 rows: 0.014, of which 0.12 is more than four.
    many = ips(np.ones(5_000), np.full(5_000, 0.5), np.repeat(target, 100))
    assert isinstance(screened(many), Withheld)


def randomised(n: int, seed: int, gain: float) -> tuple[np.ndarray, ...]:
    """A log over nobody, mail a, mail b at 1/3 each; b earns `gain` more than a for half of the people."""
    rng = np.random.default_rng(seed)
    likes_b = rng.random(n) < 0.5
    action = rng.integers(0, 3, n)
    mean = np.array([1.0, 2.0, 1.5])[action] + gain * (likes_b & (action == 2))
    target = np.zeros((n, 3))
    target[np.arange(n), np.where(likes_b, 2, 1)] = 1.0
    return mean + rng.normal(0, 2, n), np.full(n, 1 / 3), action, target


CONSTANTS = {"nobody": 0, "all a": 1, "all b": 2}


def compare(n: int, seed: int, gain: float) -> PolicyComparison:
    reward, propensity, action, target = randomised(n, seed, gain)
    q = np.tile([1.0, 2.0, 1.5], (n, 1))
    compared = compare_with_constants("bandit", reward, propensity, action, target, q, CONSTANTS)
    assert isinstance(compared, PolicyComparison)
    return compared


def test_a_gain_that_is_there_is_claimed() -> None:
    compared = compare(20_000, seed=2, gain=3.0)
    assert compared.verdict is Verdict.BETTER
    # The policy earns (4.5 + 2) / 2, all b (4.5 + 1.5) / 2, all a 2.
    assert compared.best_constant == "all b"
    assert compared.difference.low < 0.25 < compared.difference.high
    assert compared.value.value == pytest.approx(compared.check.value, abs=0.1)


def test_a_gain_that_is_not_there_is_not_claimed() -> None:
    compared = compare(5_000, seed=3, gain=0.5)  # b is then as good as a for those who like it
    assert compared.best_constant == "all a"
    assert compared.verdict is Verdict.NO_BETTER
    assert compared.words().startswith("no better than the best constant action (all a): ")


def test_the_verdict_in_words_shows_the_interval() -> None:
    compared = compare(20_000, seed=4, gain=-3.0)
    assert compared.verdict is Verdict.WORSE
    d = compared.difference
    assert compared.words() == (
        f"worse than the best constant action (all a): {d.value:+.2f} [{d.low:+.2f}, {d.high:+.2f}] a customer"
    )
    assert f"{d.value / 100:+.2f} [" in compared.words(minor_per_unit=100)


def test_a_comparison_without_overlap_is_withheld() -> None:
    n = 500
    action = np.zeros(n, dtype=np.int64)
    target = np.tile([0.0, 1.0], (n, 1))
    found = compare_with_constants(
        "bandit", np.ones(n), np.full(n, 0.9), action, target, np.ones((n, 2)), {"nobody": 0}
    )
    assert isinstance(found, Withheld)
    assert found.ess == 0.0


def test_a_constant_that_the_log_hardly_tried_is_left_out() -> None:
    rng = np.random.default_rng(5)
    n = 4_000
    action = (rng.random(n) < 0.05).astype(np.int64)
    propensity = np.where(action == 1, 0.05, 0.95)
    target = np.tile([0.9, 0.1], (n, 1))
    found = compare_with_constants(
        "bandit", np.ones(n), propensity, action, target, np.ones((n, 2)), {"nobody": 0, "all": 1}
    )
    assert isinstance(found, PolicyComparison)
    assert list(found.constants) == ["nobody"]

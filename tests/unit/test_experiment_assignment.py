"""Arms are sticky, as large as planned, and independent of other experiments."""

import math
from collections import Counter
from itertools import pairwise

import pytest
from scipy import stats

from models.domain.errors import InvalidInputError
from models.domain.experiment import Arm, Experiment, assign, uniform

N = 20_000
CUSTOMERS = [f"c-{i}" for i in range(N)]
SPRING = Experiment(experiment_id="spring", holdout_share=0.1, control_share=0.3)


def test_shares_are_within_five_standard_errors_of_the_plan() -> None:
    counts = Counter(assign(customer, SPRING) for customer in CUSTOMERS)
    for arm in Arm:
        share = SPRING.share(arm)
        assert abs(counts[arm] / N - share) < 5 * math.sqrt(share * (1 - share) / N)


def test_a_customer_keeps_the_arm() -> None:
    assert [assign(c, SPRING) for c in CUSTOMERS[:200]] == [assign(c, SPRING) for c in CUSTOMERS[:200]]


def test_arms_of_two_experiments_are_independent() -> None:
    summer = Experiment(experiment_id="summer", holdout_share=0.1, control_share=0.3)
    pairs = Counter((assign(c, SPRING), assign(c, summer)) for c in CUSTOMERS)
    table = [[pairs[a, b] for b in Arm] for a in Arm]
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_raising_the_holdout_moves_nobody_out_of_it() -> None:
    more = Experiment(experiment_id="spring", holdout_share=0.2, control_share=0.2)
    held = [c for c in CUSTOMERS[:2_000] if assign(c, SPRING) is Arm.HOLDOUT]
    assert held
    assert all(assign(c, more) is Arm.HOLDOUT for c in held)


def test_draws_are_uniform() -> None:
    draws = [uniform("action", customer) for customer in CUSTOMERS]
    assert 0 <= min(draws) < max(draws) < 1
    assert stats.kstest(draws, "uniform").pvalue > 0.001
    # Neighbouring ids draw independently.
    assert abs(stats.pearsonr(*zip(*pairwise(draws), strict=True)).statistic) < 5 / math.sqrt(N)


def test_words_are_joined_so_that_they_cannot_run_together() -> None:
    assert uniform("ab", "c") != uniform("a", "bc")


@pytest.mark.parametrize(("holdout", "control"), [(0.9, 0.1), (0.8, 0.2), (0.7, 0.3), (1.0, 0.0), (0.0, 1.0)])
def test_holdout_and_control_may_fill_the_whole(holdout: float, control: float) -> None:
    whole = Experiment(experiment_id="x", holdout_share=holdout, control_share=control)
    assert 0.0 <= whole.share(Arm.TREATMENT) <= 1e-12
    assert Arm.TREATMENT not in {assign(c, whole) for c in CUSTOMERS[:2_000]}


@pytest.mark.parametrize(("holdout", "control"), [(0.9, 0.2), (-0.1, 0.5), (0.5, -0.1), (1.1, 0.0)])
def test_shares_that_do_not_fit_are_refused(holdout: float, control: float) -> None:
    with pytest.raises(InvalidInputError, match="experiment"):
        Experiment(experiment_id="x", holdout_share=holdout, control_share=control)

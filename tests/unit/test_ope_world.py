"""The world of the benchmark of off-policy evaluation: what it calls the truth is what its logs show."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.estimate import estimate_of
from models.evaluation.overlap import overlap
from tests.benchmarks.ope import Contest, is_right
from tests.benchmarks.ope_world import GRID, World

WORLD = World.of(500, np.random.default_rng(8))
EVEN = np.full((500, GRID.n_actions), 1 / GRID.n_actions)


def test_a_log_earns_what_its_policy_is_worth() -> None:
    policy = (EVEN + WORLD.usual()) / 2
    _, rows = WORLD.log(policy, 60_000, np.random.default_rng(9))
    reward = rows.net_value_minor
    earned = estimate_of(float(reward.mean()), reward - reward.mean(), len(rows), rows.customer, 0.95)
    assert abs(earned.value - WORLD.value_of(policy)) < 3 * earned.standard_error
    assert earned.standard_error < 0.03 * WORLD.value_of(policy)
    # What a customer's decisions share makes them worth less than as many independent ones.
    alone = estimate_of(earned.value, reward - earned.value, len(rows), None, 0.95)
    assert earned.standard_error > 1.05 * alone.standard_error


def test_its_propensities_are_true_and_the_share_of_ess_is_that_of_the_design() -> None:
    contest = Contest.on(WORLD, EVEN, 0.3)
    who, rows = WORLD.log(contest.logging, 20_000, np.random.default_rng(10))
    found = overlap(rows.propensity, EVEN[who, rows.action])
    assert found.propensities_plausible
    # Of 17 actions one is usual: 16 * (1/17)**2 / (.3/17) + (1/17)**2 / (.3/17 + .7).
    assert contest.ess_share == pytest.approx(1 / (16 / 17 / 0.3 + 1 / 17**2 / (0.3 / 17 + 0.7)))
    assert found.ess_share == pytest.approx(contest.ess_share, rel=0.02)


@pytest.mark.parametrize(
    ("designed", "found", "withheld"),
    [
        (0.17, 0.5, True),  # by design, whatever the weights that came
        (0.23, 0.1, False),
        (0.19, 0.199, True),  # too near to the bar: by the weights
        (0.19, 0.201, False),
        (0.21, 0.199, True),
    ],
)
def test_a_log_is_withheld_by_its_design_and_near_the_bar_by_its_weights(
    designed: float, found: float, withheld: bool
) -> None:
    assert is_right(withheld, designed, found)
    assert not is_right(not withheld, designed, found)
    assert not is_right(None, designed, found)

"""What exploring may cost a day, against worked examples."""

from datetime import time

import numpy as np
import pytest

from models.choice import ActionDistribution, ChoiceProblem
from models.domain.action import ActionGrid
from models.policy.allowance import draw_on

GRID = ActionGrid(("a",), ("email", "sms"), (time(9),))
# The best candidate is worth 10, the other contact 6, no contact 0.
VALUES = np.array([[10.0, 6.0, 0.0]])
# .2 * (10 - 6) + .1 * (10 - 0) = 1.8
EXPLORING = np.array([[0.7, 0.2, 0.1]])


def asked(n: int) -> tuple[ChoiceProblem, ActionDistribution]:
    problem = ChoiceProblem(
        grid=GRID,
        mask=np.ones((n, 3), dtype=np.bool_),
        send_at=np.zeros((n, 1)),
        cost_minor=np.zeros(2),
        features=np.zeros((n, 0)),
        predictions=None,
        net_value_minor=None,
    )
    answer = ActionDistribution(
        probabilities=EXPLORING.repeat(n, axis=0), net_value_minor=VALUES.repeat(n, axis=0)
    )
    return problem, answer


def test_decisions_explore_in_turn_until_the_allowance_is_spent() -> None:
    problem, answer = asked(4)
    found = draw_on(4.0, problem, answer, np.ones(4, dtype=np.bool_))
    # 1.8 + 1.8 = 3.6; a third would make 5.4.
    assert found.loss_minor.tolist() == pytest.approx([1.8, 1.8, 0.0, 0.0])
    assert found.spent.tolist() == [False, False, True, True]
    assert found.probabilities[:2].tolist() == EXPLORING.repeat(2, axis=0).tolist()
    assert found.probabilities[2:].tolist() == [[1.0, 0.0, 0.0]] * 2


def test_policies_that_do_not_explore_draw_nothing() -> None:
    problem, answer = asked(2)
    found = draw_on(1.8, problem, answer, np.array([False, True]))
    assert found.loss_minor.tolist() == pytest.approx([0.0, 1.8])
    assert not found.spent.any()


def test_a_certain_choice_costs_nothing_and_is_never_stopped() -> None:
    problem, answer = asked(1)
    certain = ActionDistribution(
        probabilities=np.array([[1.0, 0.0, 0.0]]), net_value_minor=answer.net_value_minor
    )
    found = draw_on(0.0, problem, certain, np.array([True]))
    assert (found.loss_minor[0], found.spent[0]) == (0.0, False)


def test_an_overdrawn_allowance_is_greed() -> None:
    problem, answer = asked(1)
    found = draw_on(-3.0, problem, answer, np.array([True]))
    assert found.spent.tolist() == [True]
    assert found.probabilities.tolist() == [[1.0, 0.0, 0.0]]


def test_without_values_nothing_is_explored() -> None:
    problem, answer = asked(1)
    blind = ActionDistribution(probabilities=answer.probabilities)
    found = draw_on(0.0, problem, blind, np.array([True]))
    assert found.probabilities.tolist() == EXPLORING.tolist()
    assert found.loss_minor.tolist() == [0.0]

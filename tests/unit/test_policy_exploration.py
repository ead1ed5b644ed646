"""Inverse-gap weighting, the slot floor and the guardrail, against worked examples."""

from datetime import time

import numpy as np
import pytest

from models.domain.action import ActionGrid
from models.domain.errors import InvalidInputError
from models.policy.exploration import Exploration, bound_loss, floor_slots, inverse_gap_weights

GRID = ActionGrid(("a",), ("email", "sms"), (time(9), time(12), time(18)))


def everything(n: int) -> np.ndarray:
    return np.ones(n, dtype=np.bool_)


def test_inverse_gap_weights_of_three_candidates() -> None:
    weights = np.empty(4)
    inverse_gap_weights(np.array([0.0, 1.0, 3.0, 9.0]), np.array([True, True, True, False]), 0, 2.0, weights)
    # K = 3: 1 / (3 + 2 * 1) = .2, 1 / (3 + 2 * 3) = 1/9, the best gets the rest.
    assert weights.tolist() == pytest.approx([1 - 0.2 - 1 / 9, 0.2, 1 / 9, 0.0])


def test_candidates_that_are_as_good_as_the_best_share_alike() -> None:
    weights = np.empty(4)
    inverse_gap_weights(np.zeros(4), everything(4), 2, 5.0, weights)
    assert weights.tolist() == pytest.approx([0.25] * 4)


def test_a_single_candidate_is_certain() -> None:
    weights = np.empty(3)
    inverse_gap_weights(np.zeros(3), np.array([False, False, True]), 2, 1.0, weights)
    assert weights.tolist() == [0.0, 0.0, 1.0]


def test_expected_loss_stays_below_candidates_over_gamma() -> None:
    rng = np.random.default_rng(0)
    loss = rng.exponential(rng.choice([0.01, 1.0, 100.0], (500, 1)), (500, 20))
    loss[:, 0] = 0.0
    weights = np.empty(loss.shape)
    for row in range(500):
        inverse_gap_weights(loss[row], everything(20), 0, 4.0, weights[row])
    assert (weights * loss).sum(axis=1).max() < 19 / 4


def test_the_floor_spreads_a_contact_over_its_open_slots_and_keeps_its_total() -> None:
    probabilities = np.array([0.8, 0.0, 0.0, 0.0, 0.1, 0.0, 0.1])
    floor_slots(probabilities, np.array([True, True, True, True, True, False, True]), 3, 0.3)
    # E-mail: .8 * .7 + .8 * .3 / 3 = .64, .08, .08. SMS, two slots: .1 * .3 / 2 = .015, .1 * .7 + .015.
    assert probabilities.tolist() == pytest.approx([0.64, 0.08, 0.08, 0.015, 0.085, 0.0, 0.1])


def test_no_channel_is_floored_by_what_it_does_not_have() -> None:
    probabilities = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    floor_slots(probabilities, np.arange(7) == 6, 3, 0.03)
    assert probabilities.tolist() == [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]


def test_the_guardrail_shrinks_exploration_until_its_loss_is_allowed() -> None:
    bounded = np.array([0.6, 0.4])
    bound_loss(bounded, np.array([0.0, 10.0]), 0, 1.0)
    # It would lose .4 * 10 = 4, four times what is allowed: a quarter of the exploration stays.
    assert bounded.tolist() == pytest.approx([0.9, 0.1])
    allowed = np.array([0.6, 0.4])
    bound_loss(allowed, np.array([0.0, 0.5]), 0, 1.0)
    # It loses .2 and is left alone.
    assert allowed.tolist() == [0.6, 0.4]


def test_no_allowance_is_greed() -> None:
    bounded = np.array([0.6, 0.4])
    bound_loss(bounded, np.array([0.0, 1e-9]), 0, 0.0)
    assert bounded.tolist() == [1.0, 0.0]


def test_greed_means_the_same_at_every_scale_of_value() -> None:
    rng = np.random.default_rng(1)
    mask = np.ones((5, GRID.n_actions), dtype=np.bool_)
    values = rng.normal(0, 20, mask.shape)
    values[:, -1] = 0.0
    best = values.argmax(axis=1)
    cents = Exploration(value_scale_minor=5_000).distribution(GRID, mask, values, best)
    dollars = Exploration(value_scale_minor=50).distribution(GRID, mask, values / 100, best)
    assert np.allclose(cents, dollars, atol=1e-12)


@pytest.mark.parametrize(
    ("field", "value"),
    [("gamma", 0.0), ("value_scale_minor", -1.0), ("slot_floor", 1.1), ("max_loss_share", -0.1)],
)
def test_settings_out_of_bounds_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(InvalidInputError, match=f"exploration.{field}"):
        Exploration(**{field: value})

"""Predictions that are remembered are those that the model gives."""

from __future__ import annotations

from dataclasses import fields
from datetime import time

import numpy as np
import pytest

from models.choice import Predictions
from models.domain.action import ActionGrid
from models.response.remembered import MOST_TOGETHER, RememberedResponse

GRID = ActionGrid(offers=("coats",), channels=("email", "sms"), slots=(time(9), time(18)))
LATER = ActionGrid(offers=("coats",), channels=("email", "sms"), slots=(time(10), time(18)))
ROWS = np.random.default_rng(3).normal(size=(40, 5))


class Counting:
    """Predicts from the row and the grid, and counts what it is asked."""

    feature_names = tuple("abcde")

    def __init__(self) -> None:
        self.asked = 0

    def predict(self, features, grid, channels) -> Predictions:  # noqa: ARG002
        self.asked += len(features)
        n, (offers, width, slots) = len(features), grid.shape
        level = 1 / (1 + np.exp(-np.nan_to_num(features).sum(axis=1))) / grid.slots[0].hour
        return Predictions(
            p_open=np.broadcast_to(level[:, None, None], (n, width, slots)).copy(),
            p_convert=np.broadcast_to(level[:, None, None, None], (n, offers, width, slots)).copy(),
            p_convert_no_contact=level / 2,
            uplift_se=np.full((n, offers, width, slots), 0.01),
            attention_minor=np.zeros((n, width)),
        )


@pytest.fixture
def model() -> Counting:
    return Counting()


def same(one: Predictions, other: Predictions) -> bool:
    return all(
        np.array_equal(getattr(one, each.name), getattr(other, each.name)) for each in fields(Predictions)
    )


@pytest.mark.parametrize("rows", [[3], [3, 3, 5], list(range(MOST_TOGETHER)), list(range(40))])
def test_whoever_is_asked_for_and_however_often_the_predictions_are_the_models(model, rows):
    remembered = RememberedResponse(model)
    for _ in range(3):
        assert same(remembered.predict(ROWS[rows], GRID, {}), Counting().predict(ROWS[rows], GRID, {}))


def test_a_row_is_predicted_once_for_a_grid_and_anew_when_anything_of_it_changes(model):
    remembered = RememberedResponse(model)
    for row in (ROWS[:1], ROWS[:1], ROWS[:3]):
        remembered.predict(row, GRID, {})
    assert model.asked == 3
    changed = ROWS[:1].copy()
    changed[0, 4] = np.nan
    assert same(remembered.predict(changed, GRID, {}), Counting().predict(changed, GRID, {}))
    assert same(remembered.predict(ROWS[:1], LATER, {}), Counting().predict(ROWS[:1], LATER, {}))
    assert model.asked == 5


def test_no_more_rows_are_kept_than_were_asked_for_and_the_first_goes_first(model):
    remembered = RememberedResponse(model, most=2)
    for row in (0, 1, 2, 2, 1, 0):
        remembered.predict(ROWS[row : row + 1], GRID, {})
    assert model.asked == 4


def test_nobody_can_change_what_is_remembered(model):
    found = RememberedResponse(model).predict(ROWS[:1], GRID, {})
    with pytest.raises(ValueError, match="read-only"):
        found.p_open[0] = 1.0

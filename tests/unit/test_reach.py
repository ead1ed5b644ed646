"""What the reach of a channel is worth: what the best action loses without it, over the decisions of a year; and fatigue."""

from __future__ import annotations

from dataclasses import replace
from datetime import time

import numpy as np
import pytest

from models.choice import FloatArray
from models.domain.action import ActionGrid
from models.response.model import FittedResponse, fit_response
from models.response.reach import (
    HORIZON_DAYS,
    LOST_TO_FATIGUE,
    advantage,
    decisions_per_customer,
    priced_by_reach,
    worth_of_a_contact,
)
from models.value import net_value
from tests.unit.test_response_model import CHANNELS, REPORTS_ALL, ROWS

GRID = ActionGrid(("spring",), ("email", "sms", "call"), (time(9), time(18)))
ALL = np.ones((2, 7), dtype=np.bool_)
SOME = ROWS.take(np.arange(6_000))
MARGIN = np.array([4_000.0, 3_000.0])


def values(*rows: list[float]) -> FloatArray:
    """Two slots a channel, then no contact."""
    return np.array([[*row, 0.0] for row in rows])


def test_a_channel_is_worth_what_the_next_best_action_falls_short_of_it():
    # The first customer loses 7 - 4 without SMS, the second 2 - 0 without e-mail.
    said = advantage(values([4, 1, 7, 6, -2, -3], [1, 2, -1, -4, -5, -9]), ALL, GRID)
    assert said.tolist() == [2.0, 3.0, 0.0]


def test_it_is_the_mean_over_those_whom_the_channel_suits_best():
    # SMS: 7 - 4 and 9 - 2.
    said = advantage(values([4, 1, 7, 6, -2, -3], [1, 2, 9, -4, -5, -9]), ALL, GRID)
    assert said.tolist() == [0.0, 5.0, 0.0]


def test_who_cannot_be_reached_on_a_channel_loses_nothing_there():
    mask = ALL.copy()
    mask[0, 2:4] = False
    # The first, who has no SMS, loses 4 - 0 of e-mail; the second 9 - 2 of SMS.
    said = advantage(values([4, 1, 7, 6, -2, -3], [1, 2, 9, -4, -5, -9]), mask, GRID)
    assert said.tolist() == [4.0, 7.0, 0.0]


def test_a_channel_that_nobody_can_be_reached_on_is_worth_nothing():
    mask = ALL.copy()
    mask[:, :6] = False
    assert advantage(values([4, 1, 7, 6, 2, 3], [1, 2, 9, 4, 5, 9]), mask, GRID).tolist() == [0.0, 0.0, 0.0]


def test_equal_channels_can_stand_in_for_each_other():
    assert advantage(values([5, 0, 5, 0, 0, 0]), ALL[:1], GRID).tolist() == [0.0, 0.0, 0.0]


def test_a_contact_is_worth_its_mean_over_those_who_get_one():
    # 7 and 2; the third is better left alone.
    found = worth_of_a_contact(
        values([4, 1, 7, 6, -2, -3], [1, 2, -1, -4, -5, -9], [-1, -2, -3, -4, -5, -6]),
        np.ones((3, 7), np.bool_),
    )
    assert found == 4.5


def test_where_nobody_is_contacted_a_contact_is_worth_nothing():
    assert worth_of_a_contact(values([-1, -2, -3, -4, -5, -6]), ALL[:1]) == 0.0


def test_decisions_are_counted_by_the_rhythm_of_the_log():
    # Two customers, three decisions each, within 20 days: 3 / 20 a day.
    days = np.array([0, 0, 10, 10, 20, 20])
    rows = replace(SOME.take(np.arange(6)), customer=np.array([1, 2] * 3), decided_at=1.7e9 + 86_400.0 * days)
    assert decisions_per_customer(rows) == pytest.approx(HORIZON_DAYS * 3 / 20)


def test_the_rhythm_is_that_of_the_newest_four_weeks():
    # A pilot of one decision and a pause of fifty days, then one decision a week.
    days = np.array([0, 0, 50, 50, 57, 57, 64, 64, 71, 71])
    rows = replace(
        SOME.take(np.arange(10)), customer=np.array([1, 2] * 5), decided_at=1.7e9 + 86_400.0 * days
    )
    assert decisions_per_customer(rows) == pytest.approx(HORIZON_DAYS / 7)


def test_a_log_of_one_day_counts_as_one_of_a_week():
    rows = replace(SOME.take(np.arange(4)), customer=np.arange(4), decided_at=np.full(4, 1.7e9))
    assert decisions_per_customer(rows) == pytest.approx(HORIZON_DAYS / 7)


@pytest.fixture(scope="module")
def free() -> FittedResponse:
    return fit_response(SOME, REPORTS_ALL, attention_value_minor=0.0, seed=0)


def priced(free: FittedResponse, mask: np.ndarray, decisions: float) -> FittedResponse:
    return priced_by_reach(free, SOME, mask, MARGIN[: len(SOME.offers)], CHANNELS, decisions)


def test_the_price_is_what_the_priced_model_itself_would_lose(free):
    mask = np.ones((len(SOME), SOME.grid.n_actions), dtype=np.bool_)
    model = priced(free, mask, 20.0)
    said = model.predict(SOME.features[-4_000:], SOME.grid, CHANNELS)
    cost = np.array([CHANNELS[name].cost_minor or 0.0 for name in SOME.channels])
    lost = advantage(net_value(said, MARGIN[: len(SOME.offers)], cost), mask[-4_000:], SOME.grid)
    assert lost.max() > 0
    assert np.array(model.attention.reach_minor) == pytest.approx(20.0 * lost, rel=0.1, abs=1.0)


def test_fatigue_is_what_the_priced_model_itself_would_lose_of_the_next_contacts(free):
    # One decision a customer and week.
    mask = np.ones((len(SOME), SOME.grid.n_actions), dtype=np.bool_)
    model = priced(free, mask, HORIZON_DAYS / 7)
    said = model.predict(SOME.features[-4_000:], SOME.grid, CHANNELS)
    cost = np.array([CHANNELS[name].cost_minor or 0.0 for name in SOME.channels])
    worth = worth_of_a_contact(net_value(said, MARGIN[: len(SOME.offers)], cost), mask[-4_000:])
    assert worth > 0
    assert model.attention.fatigue_minor == pytest.approx(LOST_TO_FATIGUE * worth, rel=0.05)
    leaving = model.attention.leaving(SOME.channels) * np.array(model.attention.reach_minor)
    assert said.attention_minor[0] == pytest.approx(leaving + model.attention.fatigue_minor)


def test_only_the_price_of_attention_changes(free):
    mask = np.ones((len(SOME), SOME.grid.n_actions), dtype=np.bool_)
    model = priced(free, mask, 20.0)
    before, after = (each.predict(SOME.features[:50], SOME.grid, CHANNELS) for each in (free, model))
    assert np.array_equal(before.p_convert, after.p_convert)
    assert (before.attention_minor == 0).all()
    assert (after.attention_minor >= 0).all()
    assert after.attention_minor.max() > 0


def test_a_priced_model_is_stored_with_its_prices(free):
    model = priced(free, np.ones((len(SOME), SOME.grid.n_actions), dtype=np.bool_), 20.0)
    read = FittedResponse.from_files(model.to_files())
    assert read.attention == model.attention

"""Vowpal Wabbit's own bandit as a challenger that shadows: what it learns, and that it learns every position alike."""

from __future__ import annotations

from datetime import time

import numpy as np
import pytest
from vowpalwabbit import Workspace

from models.choice import ChoiceProblem, Predictions
from models.domain.action import ActionGrid
from models.logged import LoggedRows
from models.policy.exploration import Exploration
from models.policy.native import ARGUMENTS, NativeBandit

GRID = ActionGrid(("coats", "boots"), ("email", "push", "sms"), (time(9), time(18)))
N = 4_000
EXPLORATION = Exploration(value_scale_minor=3_000.0)


def log(p_true: np.ndarray, propensity: float = 1 / 13) -> LoggedRows:
    """Contacts at random; opened with probabilities by channel and slot, shape (3, 2)."""
    rng = np.random.default_rng(3)
    offer, channel, slot = rng.integers(0, 2, N), rng.integers(0, 3, N), rng.integers(0, 2, N)
    opened = (rng.random(N) < p_true[channel, slot]).astype(float)
    return LoggedRows(
        offers=GRID.offers,
        channels=GRID.channels,
        slots=GRID.slots,
        feature_names=("age",),
        features=np.zeros((N, 1)),
        customer=np.arange(N),
        offer=offer,
        channel=channel,
        slot=slot,
        propensity=np.full(N, propensity),
        decided_at=np.arange(N, dtype=float),
        opened=opened,
        clicked=np.full(N, np.nan),
        converted=np.zeros(N),
        value_minor=np.zeros(N),
        cost_minor=np.ones(N),
        unsubscribed=np.zeros(N),
        randomised=np.ones(N, dtype=np.bool_),
    )


def problem(n: int, p_open: float = 0.2, value: float = 19.0) -> ChoiceProblem:
    """A model that thinks every contact alike: worth 19 after a price of 1."""
    values = np.full((n, GRID.n_actions), value)
    values[:, -1] = 0.0
    return ChoiceProblem(
        grid=GRID,
        mask=np.ones((n, GRID.n_actions), dtype=np.bool_),
        send_at=np.zeros((n, 2)),
        cost_minor=np.ones(3),
        features=np.zeros((n, 1)),
        predictions=Predictions(
            p_open=np.full((n, 3, 2), p_open),
            p_convert=np.full((n, 2, 3, 2), 0.02),
            p_convert_no_contact=np.full(n, 0.01),
            attention_minor=np.zeros((n, 3)),
        ),
        net_value_minor=values,
    )


def learned(p_true: np.ndarray, **more: float) -> NativeBandit:
    rows = log(p_true, **more)
    return NativeBandit.learned(problem(N), rows, rows.opened, EXPLORATION)


def test_it_finds_the_channel_and_hour_that_the_model_does_not_know() -> None:
    p_true = np.array([[0.05, 0.1], [0.1, 0.1], [0.2, 0.5]])
    answer = learned(p_true).distribution(problem(2))
    assert np.allclose(answer.probabilities.sum(axis=1), 1.0)
    cube = answer.probabilities[0, :-1].reshape(GRID.shape)
    assert cube[:, 2, 1].sum() > 0.9
    # In this world a contact is worth p / p_model * (19 + 1) - 1: 49 where half of all open, 4 to 19 elsewhere.
    assert answer.net_value_minor is not None
    values = answer.net_value_minor[0, :-1].reshape(GRID.shape).mean(axis=0)
    assert 35 < values[2, 1] < 60
    assert np.corrcoef(values.ravel(), p_true.ravel())[0, 1] > 0.9


def test_a_contact_that_nobody_opens_is_left_undone() -> None:
    answer = learned(np.zeros((3, 2))).distribution(problem(1))
    assert answer.probabilities[0].argmax() == GRID.no_contact


def test_the_propensity_of_the_log_changes_nothing_in_any_position() -> None:
    p_true = np.array([[0.05, 0.1], [0.1, 0.1], [0.2, 0.5]])
    rare, usual = learned(p_true, propensity=0.001), learned(p_true)
    assert np.array_equal(rare.weights, usual.weights)
    assert rare.version == usual.version


def test_the_tables_say_what_vowpal_wabbit_says() -> None:
    one = learned(np.array([[0.05, 0.1], [0.1, 0.1], [0.2, 0.5]]))
    asked = problem(1)
    values = one.distribution(asked).net_value_minor
    assert values is not None
    offer, channel, slot = 1, 2, 0
    tokens = (channel, 3 + slot, 5 + offer * 3 + channel, 11 + channel * 2 + slot)
    with Workspace(
        ARGUMENTS.replace("--cb_explore_adf --squarecb", "") + " -t --min_prediction -99 --max_prediction 99"
    ) as workspace:
        for token, weight in enumerate(one.weights):
            workspace.set_weight(token, 0, float(weight))
        said = workspace.predict(
            f"| {' '.join(map(str, tokens))} {len(one.weights) - 1}:{19.0 / one.scale_minor}"
        )
    assert values[0, GRID.index(offer, channel, slot)] == pytest.approx(-said * one.scale_minor, rel=1e-5)


def test_no_known_reply_teaches_nothing() -> None:
    rows = log(np.zeros((3, 2)))
    one = NativeBandit.learned(problem(N), rows, np.full(N, np.nan), EXPLORATION)
    assert not one.weights.any()
    assert one.distribution(problem(1)).probabilities[0, GRID.no_contact] == pytest.approx(
        1 / GRID.n_actions, abs=1
    )

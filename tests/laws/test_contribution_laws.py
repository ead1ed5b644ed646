"""Contributions add up to the prediction, whatever the customer, the channel and the time."""

from __future__ import annotations

from dataclasses import replace
from datetime import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.action import ActionGrid
from models.domain.channel import DEFAULT_CHANNELS
from models.explanation.contributions import (
    Breakdown,
    Explains,
    largest,
    linear,
    of_product,
    through_curve,
)
from models.logged import LoggedRows
from models.response.boosting import sigmoid
from models.response.model import FittedResponse, fit_response

CHANNELS = {channel.name: channel for channel in DEFAULT_CHANNELS}
SLOTS = (time(8), time(12), time(20))
N_FEATURES = 5
seeds = st.integers(0, 2**32 - 1)


def log(n: int, seed: int) -> LoggedRows:
    """Randomised contacts; the first feature opens, the second buys, the third likes the evening, and the fourth
    opens at both ends, which only trees can see."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, N_FEATURES))
    c, o, s = rng.integers(-1, 2, n), rng.integers(0, 2, n), rng.integers(0, 3, n)
    contacted = c >= 0
    ends = 1.5 * (np.abs(x[:, 3]) - 0.8)
    p_open = sigmoid(-0.5 + 1.2 * x[:, 0] + ends + 0.8 * x[:, 2] * (s - 1) + 0.5 * c)
    opened = contacted & (rng.random(n) < p_open)
    p = np.clip(0.08 + 0.04 * x[:, 1] + 0.1 * opened * (1 + 0.5 * x[:, 0]), 0.01, 0.9)
    converted = (rng.random(n) < p).astype(float)
    x[rng.random(x.shape) < 0.05] = np.nan
    return LoggedRows(
        offers=("news", "sale"),
        channels=("email", "push"),
        slots=SLOTS,
        feature_names=tuple(f"x{j}" for j in range(N_FEATURES)),
        features=x,
        customer=np.arange(n, dtype=np.int64),
        offer=np.where(contacted, o, -1),
        channel=c.astype(np.int64),
        slot=np.where(contacted, s, -1),
        propensity=np.where(contacted, 1 / 18, 1 / 3),
        decided_at=1.7e9 + 60.0 * np.arange(n),
        opened=np.where(contacted, opened, np.nan),
        clicked=np.where(contacted, opened & (rng.random(n) < 0.4), np.nan),
        converted=converted,
        value_minor=2_000.0 * converted,
        cost_minor=contacted.astype(float),
        unsubscribed=np.zeros(n),
        randomised=np.ones(n, dtype=np.bool_),
    )


@pytest.fixture(scope="module")
def fitted() -> FittedResponse:
    made = fit_response(log(6_000, 1), CHANNELS, attention_value_minor=100.0, seed=0)
    assert made.opens.by_channel is not None
    assert len(made.opens.linear.standardiser.columns)
    return FittedResponse.from_files(made.to_files())


# SMS and half past nine were never logged.
GRID = ActionGrid(("news", "sale", "new"), ("email", "push", "sms"), (time(8), time(9, 30), time(20)))


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_contributions_add_up_to_the_prediction(fitted, seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 2, N_FEATURES)
    features[rng.random(N_FEATURES) < 0.2] = np.nan
    predicted = fitted.predict(features[None], GRID, CHANNELS)
    o, c, s = contact = tuple(int(rng.integers(size)) for size in GRID.shape)
    assert isinstance(fitted, Explains)
    parts = fitted.contributions(features, GRID, contact)
    for one in (parts.p_open, parts.uplift):
        assert one.base + one.amounts.sum() == pytest.approx(one.total, abs=1e-12)
    assert parts.p_open.total == pytest.approx(predicted.p_open[0, c, s], abs=1e-9)
    uplift = predicted.p_convert[0, o, c, s] - predicted.p_convert_no_contact[0]
    alone = predicted.p_convert_no_contact[0]
    assert np.clip(alone + parts.uplift.total, 0, 1) - alone == pytest.approx(uplift, abs=1e-9)


def test_what_drives_opens_in_the_world_drives_them_in_the_explanation(fitted):
    eager = np.array([2.0, 0.0, 0.0, 0.0, 0.0])
    parts = fitted.contributions(eager, GRID, (0, 0, 0))
    name, amount = largest(fitted.feature_names, parts.p_open.amounts)[0]
    assert name == "x0"
    assert amount > 0.1
    evening = np.array([0.0, 0.0, 2.0, 0.0, 0.0])
    late, early = (fitted.contributions(evening, GRID, (0, 0, slot)).p_open.amounts[2] for slot in (2, 0))
    assert late > 0.05 > -0.05 > early


def test_a_model_that_learned_nothing_of_opens_says_so_with_zeros():
    rows = log(400, 3)
    silent = {name: replace(CHANNELS[name], receipts=frozenset()) for name in rows.channels}
    model = fit_response(rows, silent, attention_value_minor=0.0, seed=0)
    parts = model.contributions(rows.features[0], rows.grid, (0, 0, 0))
    assert not parts.p_open.amounts.any()
    assert parts.p_open.total == pytest.approx(
        model.predict(rows.features[:1], rows.grid, silent).p_open[0, 0, 0]
    )


@given(seed=seeds, size=st.integers(0, 6), near=st.booleans())
def test_probabilities_follow_the_logits_in_sign_and_sum(seed, size, near):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, size)
    if near and size:
        logits[-1] -= logits.sum()  # contributions that cancel out
    one = through_curve(float(rng.normal()), logits, sigmoid)
    assert one.base + one.amounts.sum() == pytest.approx(one.total, abs=1e-9)
    assert (np.sign(one.amounts) == np.sign(logits)).all()


@given(seed=seeds)
def test_a_product_of_two_breakdowns_leaves_nothing_over(seed):
    rng = np.random.default_rng(seed)
    left, right = (linear(rng.normal(size=5), rng.normal(size=4)) for _ in range(2))
    both = of_product(left, right)
    assert both.base + both.amounts.sum() == pytest.approx(both.total)
    assert both.total == pytest.approx(left.total * right.total)
    assert largest("abcd", Breakdown(base=0, amounts=np.array([0, -2, 1, 0.0]), total=0).amounts) == [
        ("b", -2.0),
        ("c", 1.0),
    ]

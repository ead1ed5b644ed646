"""Kinds of day, learned from visits, and what they are worth to whoever chooses an hour."""

from __future__ import annotations

from dataclasses import replace
from datetime import time

import numpy as np
import pytest

from features.definitions import FEATURES
from features.formulas import Count, Shrunk
from models.domain.channel import DEFAULT_CHANNELS, Channel
from models.domain.interaction import InteractionKind
from models.domain.visits import PRIOR_VISITS, VISIT_PARTS, VISITS_COUNTED, VISITS_WINDOW_DAYS, visit_share
from models.logged import LoggedRows
from models.response.boosting import sigmoid
from models.response.contributions import _open
from models.response.day_kinds import DayKinds, fit_day_kinds
from models.response.open import OpenModel, fit_open

SLOTS = tuple(time(hour) for hour in (8, 11, 14, 17, 20))
HOURS = np.array([slot.hour for slot in SLOTS])
NAMES = ("age", *(visit_share(part) for part in VISIT_PARTS), VISITS_COUNTED)
BEST = np.array([8.0, 13.0, 19.5])
CHANNELS: dict[str, Channel] = {
    channel.name: replace(channel, receipts=channel.receipts | {InteractionKind.OPENED})
    for channel in DEFAULT_CHANNELS
}


def features_of(visits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A row each of `NAMES`; visits by hour of the day, shape (n, 24)."""
    total = visits.sum(axis=1)
    shares = [
        (visits[:, a:b].sum(axis=1) + PRIOR_VISITS * (b - a) / 24) / (total + PRIOR_VISITS)
        for a, b in VISIT_PARTS
    ]
    n = len(visits)
    return np.column_stack([rng.normal(size=n), *shares, total])


def people(n: int, mean_visits: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Best hours and features: a third of the visits at any time, the rest within hours of the best."""
    rng = np.random.default_rng(seed)
    best = rng.choice(BEST, n) + rng.normal(0, 1, n)
    visits = np.zeros((n, 24))
    for i, count in enumerate(rng.poisson(mean_visits, n)):
        at = np.where(rng.random(count) < 1 / 3, rng.uniform(7, 24, count), rng.normal(best[i], 2.0, count))
        np.add.at(visits[i], np.clip(at, 0, 23).astype(int), 1)
    return best, features_of(visits, rng)


def p_open(best: np.ndarray) -> np.ndarray:
    """Shape (n, 2, S)."""
    hour = 2.0 * np.exp(-0.5 * ((HOURS - best[:, None]) / 2.5) ** 2)
    return sigmoid(np.array([-2.0, -1.5])[:, None] + hour[:, None, :])


def log(n: int, seed: int) -> LoggedRows:
    rng = np.random.default_rng(seed)
    best, x = people(n, 5.0, seed)
    c, s = rng.integers(0, 2, n), rng.integers(0, len(SLOTS), n)
    nobody = np.zeros(n)
    return LoggedRows(
        offers=("news",), channels=("email", "push"), slots=SLOTS, feature_names=NAMES, features=x,
        customer=np.arange(n), offer=np.zeros(n, dtype=np.int64), channel=c, slot=s, propensity=np.full(n, 0.1),
        decided_at=1.7e9 + 60.0 * np.arange(n),
        opened=(rng.random(n) < p_open(best)[np.arange(n), c, s]).astype(float), clicked=np.full(n, np.nan),
        converted=nobody, value_minor=nobody, cost_minor=nobody, unsubscribed=nobody,
        randomised=np.ones(n, dtype=np.bool_),
    )  # fmt: skip


ROWS = log(3_000, 1)
BEST_HOURS, CUSTOMERS = people(2_000, 5.0, 2)


@pytest.fixture(scope="module")
def fitted() -> OpenModel:
    return fit_open(ROWS, CHANNELS, seed=0).model


def recovered(model: OpenModel) -> float:
    """Share of the gap between a random and the best slot."""
    chosen = model.predict(CUSTOMERS.astype(np.float32), ("email",), SLOTS)[:, 0].argmax(axis=1)
    true = p_open(BEST_HOURS)[:, 0]
    got = true[np.arange(len(true)), chosen].mean()
    return float((got - true.mean()) / (true.max(axis=1).mean() - true.mean()))


def test_the_features_are_the_ones_that_habits_are_read_from():
    by_name = {feature.name: feature.formula for feature in FEATURES}
    assert isinstance(by_name[VISITS_COUNTED], Count)
    assert by_name[VISITS_COUNTED].days == VISITS_WINDOW_DAYS
    for first, last in VISIT_PARTS:
        share = by_name[visit_share((first, last))]
        assert isinstance(share, Shrunk)
        assert (share.above.hours, share.days) == ((first, last), VISITS_WINDOW_DAYS)
        assert (share.weight, share.prior) == (PRIOR_VISITS, (last - first) / 24)


def test_visits_are_counted_back_from_their_shares():
    visits = np.zeros((1, 24))
    visits[0, [3, 7, 8, 13, 22]] = 1, 2, 1, 4, 1
    x = features_of(visits, np.random.default_rng(0))
    found = fit_day_kinds(CUSTOMERS, NAMES, 0).visits(x)
    # The night, then 6-9, 9-12, 12-15, 15-18, 18-21, 21-24.
    assert found[0] == pytest.approx([1, 3, 0, 4, 0, 0, 1], abs=1e-9)


def test_few_visits_each_tell_the_hours_of_a_customer():
    days = fit_day_kinds(CUSTOMERS, NAMES, 0).centred_on(SLOTS)
    assert days.share.sum() == pytest.approx(1.0)
    assert days.hours.sum(axis=1) == pytest.approx(np.ones(len(days.share)))
    habit = days.kinds(CUSTOMERS) @ days.habits(SLOTS)
    true = np.log(p_open(BEST_HOURS)[:, 0])
    true -= true.mean(axis=1, keepdims=True)
    assert np.corrcoef((habit - habit.mean(axis=0)).ravel(), (true - true.mean(axis=0)).ravel())[0, 1] > 0.7


def test_who_never_came_is_like_everybody_and_a_missing_feature_is_no_visit():
    days = fit_day_kinds(CUSTOMERS, NAMES, 0)
    stranger = features_of(np.zeros((1, 24)), np.random.default_rng(0))
    assert days.kinds(stranger)[0] == pytest.approx(days.share)
    assert days.kinds(np.full((1, len(NAMES)), np.nan))[0] == pytest.approx(days.share)


def test_without_visits_there_are_no_habits():
    assert not fit_day_kinds(CUSTOMERS[:, :1], NAMES[:1], 0).known
    assert not fit_day_kinds(CUSTOMERS[:20], NAMES, 0).known
    assert DayKinds.nothing().habits(SLOTS) == pytest.approx(np.zeros((1, 5)))


def test_habits_find_more_of_what_the_hour_is_worth_than_weights_for_every_slot(fitted):
    no_habits = replace(ROWS, feature_names=tuple(name.replace("visit", "other") for name in NAMES))
    assert fitted.linear.habit > 0.5
    assert recovered(fitted) > 0.68
    # The same features, each with a weight of its own at every slot.
    assert recovered(fitted) > recovered(fit_open(no_habits, CHANNELS, seed=0).model) + 0.05


def test_visits_that_say_nothing_of_the_hour_get_next_to_no_weight(fitted):
    strangers = replace(ROWS, features=ROWS.features[np.random.default_rng(3).permutation(len(ROWS))])
    weight = fit_open(strangers, CHANNELS, seed=0).model.linear.habit
    assert abs(weight) < 0.25 * fitted.linear.habit


def test_contributions_of_a_model_with_habits_sum_to_its_prediction(fitted):
    for row in CUSTOMERS[:20]:
        found = _open(fitted, row, ROWS.grid, 1, 4)
        assert found.base + found.amounts.sum() == pytest.approx(found.total, abs=1e-6)
        assert found.total == pytest.approx(
            float(fitted.predict(row[None].astype(np.float32), ("push",), SLOTS)[0, 0, 4]), abs=1e-9
        )


def test_an_evening_customer_is_explained_by_evening_visits(fitted):
    visits = np.zeros((1, 24))
    visits[0, 19] = 12
    x = features_of(visits, np.random.default_rng(0))[0]
    base, amounts = fitted.days.contributions(
        x[None], fitted.linear.habit * fitted.days.habits((time(20),))[:, 0]
    )
    evening = VISIT_PARTS.index((18, 21))
    assert amounts.argmax() == evening
    assert amounts[evening] > 0.3
    assert np.isfinite(base)

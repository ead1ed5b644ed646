"""The response model against a simulated world whose true probabilities and effects are known."""

from __future__ import annotations

from dataclasses import replace
from datetime import time

import numpy as np
import pytest

from models.domain.action import ActionGrid
from models.domain.channel import DEFAULT_CHANNELS, Channel
from models.domain.errors import BundleError, InvalidInputError
from models.domain.interaction import InteractionKind
from models.logged import LoggedRows
from models.response.boosting import sigmoid
from models.response.model import FittedResponse, fit_response

SLOTS = tuple(time(hour) for hour in (8, 11, 14, 17, 20, 22))
NAMES = ("email", "push", "line", "sms")
CHANNELS: dict[str, Channel] = {channel.name: channel for channel in DEFAULT_CHANNELS}
REPORTS_ALL = {
    name: replace(channel, receipts=channel.receipts | {InteractionKind.OPENED, InteractionKind.CLICKED})
    for name, channel in CHANNELS.items()
}


class World:
    """Customers whose contacts act through opens and directly, pooled across channels."""

    def __init__(self, seed: int, n_features: int = 8) -> None:
        rng = np.random.default_rng(seed)
        self.n_features = n_features
        self.w_buy = rng.normal(0, 0.3, n_features)
        self.w_open = rng.normal(0, 0.3, (4, n_features))
        self.hour = rng.normal(0, 0.8, n_features)
        self.a = 0.20 + rng.normal(0, 0.02, (2, 1)) + rng.normal(0, 0.05, (1, 4))
        self.a_x = rng.normal(0, 0.04, n_features) + rng.normal(0, 0.015, (4, n_features))
        self.b = rng.normal(0.005, 0.01, (2, 4))

    def p_open(self, x: np.ndarray) -> np.ndarray:
        likes = 1.5 * np.tanh(x @ self.hour / 2)[:, None]
        by_slot = np.cos(np.linspace(0, 2 * np.pi, 6, endpoint=False) - likes)
        return sigmoid(
            np.array([-1.4, -1.0, -0.6, -0.2])[:, None] + (x @ self.w_open.T)[:, :, None] + by_slot[:, None]
        )

    def p_alone(self, x: np.ndarray) -> np.ndarray:
        return np.clip(sigmoid(-1.2 + x @ self.w_buy), 0.12, 0.7)

    def uplift(self, x: np.ndarray) -> np.ndarray:
        a = self.a + (x @ self.a_x.T)[:, None, :]
        raw = self.p_open(x)[:, None] * a[..., None] + self.b[..., None]
        alone = self.p_alone(x)[:, None, None, None]
        return np.clip(alone + raw, 0.0, 1.0) - alone

    def log(self, n: int, seed: int) -> LoggedRows:
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(n, self.n_features))
        o, s = rng.integers(0, 2, n), rng.integers(0, 6, n)
        c = rng.integers(-1, 4, n)  # one in five is left alone
        contacted, i = c >= 0, np.arange(n)
        opened = rng.random(n) < self.p_open(x)[i, c, s]
        clicked = opened & (rng.random(n) < 0.4)
        p = self.p_alone(x) + np.where(contacted, self.uplift(x)[i, o, c, s], 0.0)
        converted = (rng.random(n) < p).astype(float)
        x[rng.random(x.shape) < 0.02] = np.nan
        return LoggedRows(
            offers=("news", "sale"),
            channels=NAMES,
            slots=SLOTS,
            feature_names=tuple(f"x{j}" for j in range(self.n_features)),
            features=x,
            customer=i.astype(np.int64),
            offer=np.where(contacted, o, -1),
            channel=c.astype(np.int64),
            slot=np.where(contacted, s, -1),
            propensity=np.where(contacted, 0.8 / 48, 0.2),
            decided_at=1.7e9 + 60.0 * i,
            opened=np.where(contacted, opened, np.nan),
            clicked=np.where(contacted, clicked, np.nan),
            converted=converted,
            value_minor=2_000.0 * converted,
            cost_minor=contacted.astype(float),
            unsubscribed=(contacted & (rng.random(n) < 0.004)).astype(float),
            randomised=np.ones(n, dtype=np.bool_),
        )


WORLD = World(7)
ROWS = WORLD.log(30_000, 1)
CUSTOMERS = np.random.default_rng(2).normal(size=(3_000, 8))


@pytest.fixture(scope="module")
def fitted() -> FittedResponse:
    return fit_response(ROWS, REPORTS_ALL, attention_value_minor=500.0, seed=0)


@pytest.fixture(scope="module")
def uplift(fitted: FittedResponse) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted, standard error, true."""
    answer = fitted.predict(CUSTOMERS, ROWS.grid, CHANNELS)
    predicted = answer.p_convert - answer.p_convert_no_contact[:, None, None, None]
    return predicted, fitted.uplift_se(CUSTOMERS, ROWS.grid), WORLD.uplift(CUSTOMERS)


def test_the_mean_effect_of_a_contact_is_recovered(uplift):
    predicted, _, true = uplift
    assert true.mean() > 0.02
    assert predicted.mean() == pytest.approx(true.mean(), abs=0.012)


def test_intervals_hold_the_true_uplift_about_nineteen_times_in_twenty(uplift):
    predicted, se, true = uplift
    assert 0.88 <= (np.abs(predicted - true) <= 1.96 * se).mean() <= 0.995


def test_the_value_claimed_for_the_chosen_actions_is_the_value_they_have(uplift):
    predicted, _, true = uplift
    flat, truth = predicted.reshape(len(predicted), -1), true.reshape(len(true), -1)
    rows, chosen = np.arange(len(flat)), flat.argmax(axis=1)
    assert 0.75 <= flat[rows, chosen].mean() / truth[rows, chosen].mean() <= 1.35


def test_pooled_effects_beat_least_squares_by_channel_and_the_constant_effect(uplift):
    predicted, _, true = uplift
    ours = ((predicted - true).mean(axis=3) ** 2).mean()
    by_channel = np.empty(true.shape[:3])
    constant = np.empty(true.shape[1:3])
    inputs = np.column_stack([np.ones(len(ROWS)), np.nan_to_num(ROWS.features)])
    alone = np.linalg.lstsq(inputs[~ROWS.contacted], ROWS.converted[~ROWS.contacted])[0]
    for o, c in np.ndindex(2, 4):
        sent = (ROWS.offer == o) & (ROWS.channel == c)
        treated = np.linalg.lstsq(inputs[sent], ROWS.converted[sent])[0]
        by_channel[:, o, c] = np.column_stack([np.ones(len(CUSTOMERS)), CUSTOMERS]) @ (treated - alone)
        constant[o, c] = ROWS.converted[sent].mean() - ROWS.converted[~ROWS.contacted].mean()
    truth = true.mean(axis=3)
    assert ours < 0.85 * ((by_channel - truth) ** 2).mean()
    assert ours < 0.7 * ((constant - truth) ** 2).mean()


def test_open_probabilities_rank_the_slots_and_are_calibrated(fitted):
    metrics = fitted.metrics
    assert metrics is not None
    assert metrics.p_open.log_loss < metrics.p_open.log_loss_of_rate
    assert metrics.p_open.calibration_error < 0.03
    assert metrics.p_convert.calibration_error < 0.04
    p_open, true = fitted.predict(CUSTOMERS, ROWS.grid, CHANNELS).p_open, WORLD.p_open(CUSTOMERS)
    best = np.take_along_axis(true, p_open.argmax(axis=2)[..., None], axis=2).mean()
    # At least 40 % of the gap between a random slot and the best one.
    assert (best - true.mean()) / (true.max(axis=2).mean() - true.mean()) > 0.4


def test_a_model_read_from_its_files_predicts_exactly_the_same(fitted):
    files = fitted.to_files()
    back = FittedResponse.from_files(files)
    assert back.to_files() == files
    grid = ActionGrid(("sale", "never seen"), ("sms", "call"), (time(9), time(20)))
    for axes in (ROWS.grid, grid):
        one, other = (m.predict(CUSTOMERS[:50], axes, CHANNELS) for m in (fitted, back))
        for name in ("p_open", "p_convert", "p_convert_no_contact", "attention_minor"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        one_se, other_se = (m.uplift_se(CUSTOMERS[:50], axes) for m in (fitted, back))
        np.testing.assert_array_equal(one_se, other_se)


def test_one_customer_gets_what_the_same_customer_gets_among_many(fitted):
    many, many_se = fitted.predict(CUSTOMERS, ROWS.grid, CHANNELS), fitted.uplift_se(CUSTOMERS, ROWS.grid)
    for i in (0, 1_234, 2_999):
        one = fitted.predict(CUSTOMERS[i : i + 1], ROWS.grid, CHANNELS)
        np.testing.assert_allclose(one.p_convert[0], many.p_convert[i], rtol=0, atol=1e-12)
        one_se = fitted.uplift_se(CUSTOMERS[i : i + 1], ROWS.grid)
        np.testing.assert_allclose(one_se[0], many_se[i], rtol=0, atol=1e-12)


def test_no_customers_get_no_predictions(fitted):
    assert fitted.predict(CUSTOMERS[:0], ROWS.grid, CHANNELS).p_convert.shape == (0, 2, 4, 6)


def test_an_unseen_channel_or_offer_is_predicted_with_more_doubt(fitted):
    grid = ActionGrid(("news", "never seen"), ("email", "call"), SLOTS)
    answer = fitted.predict(CUSTOMERS, grid, CHANNELS)
    known = fitted.predict(CUSTOMERS, ROWS.grid, CHANNELS)
    spread = fitted.uplift_se(CUSTOMERS, grid).mean(axis=(0, 3))
    assert spread[0, 0] < spread[0, 1] < spread[1, 1]
    assert spread[0, 0] < spread[1, 0]
    # The mean of the others, in logits, lies between them.
    assert (answer.p_open[:, 1] >= known.p_open.min(axis=1) - 1e-9).all()
    assert (answer.p_open[:, 1] <= known.p_open.max(axis=1) + 1e-9).all()
    assert answer.attention_minor[0, 1] == pytest.approx(500 * fitted.attention.mean_rate)


def test_the_same_rows_and_seed_give_the_same_files():
    small = ROWS.take(np.arange(3_000))
    first, second = (
        fit_response(small, REPORTS_ALL, attention_value_minor=0.0, seed=3).to_files() for _ in range(2)
    )
    assert first == second


def test_a_channel_that_reports_only_clicks_is_learned_from_clicks():
    rows = ROWS.take(np.arange(12_000))
    fitted = fit_response(rows, CHANNELS, attention_value_minor=0.0, seed=0)
    answer = fitted.predict(CUSTOMERS, rows.grid, CHANNELS)
    clicks = 0.4 * WORLD.p_open(CUSTOMERS)[:, 3].mean()
    assert answer.p_open[:, 3].mean() == pytest.approx(clicks, rel=0.15)
    # 0.4 clicks an open, so 2.5 opens stand behind a click.
    assert fitted.opens.scale("sms") == pytest.approx(2.5, rel=0.15)
    assert fitted.opens.scale("email") == 1.0
    # Every second message is opened at a good hour, and clicks rise by as much as opens do, not as rare events would.
    p_click, truth = answer.p_open[:, 3], 0.4 * WORLD.p_open(CUSTOMERS)[:, 3]
    assert np.abs(p_click - truth).mean() < 0.035
    best = np.take_along_axis(truth, p_click.argmax(axis=1)[:, None], axis=1)[:, 0]
    gained = (p_click.max(axis=1) / p_click.mean(axis=1)).mean()
    assert gained == pytest.approx((best / truth.mean(axis=1)).mean(), rel=0.1)


def test_one_channel_two_offers_one_slot_and_no_receipts_have_a_direct_effect_only():
    rng = np.random.default_rng(5)
    n = 20_000
    contact = rng.integers(-1, 2, n)
    p = 0.10 + np.select([contact == 0, contact == 1], [0.03, 0.06], 0.0)
    base = WORLD.log(n, 6)
    rows = replace(
        base,
        channels=("email",),
        slots=(time(9),),
        offer=contact,
        channel=np.minimum(contact, 0),
        slot=np.minimum(contact, 0),
        propensity=np.full(n, 1 / 3),
        decided_at=np.full(n, 1.7e9),
        opened=np.full(n, np.nan),
        clicked=np.full(n, np.nan),
        converted=(rng.random(n) < p).astype(float),
    )
    fitted = fit_response(rows, CHANNELS, attention_value_minor=0.0, seed=0)
    assert fitted.metrics is not None
    assert not any(name.startswith("through open") for name in fitted.metrics.effect_sd)
    estimates = [summary.estimate for summary in fitted.metrics.uplift]
    # Standard error of a difference: sqrt(2 * 0.1 * 0.9 / 6667) = 0.005.
    assert estimates == pytest.approx([0.03, 0.06], abs=0.015)
    for summary in fitted.metrics.uplift:
        assert 0.009 < (summary.high - summary.low) / 2 < 0.02


@pytest.mark.parametrize("n", [1, 2, 30, 500])
def test_small_logs_are_fitted_and_stay_modest(n):
    rows = ROWS.take(np.arange(n))
    model = fit_response(rows, REPORTS_ALL, attention_value_minor=1.0, seed=0)
    _assert_lawful(model.predict(CUSTOMERS[:20], rows.grid, CHANNELS))
    spread = model.uplift_se(CUSTOMERS[:20], rows.grid)
    assert ((spread > 0) & np.isfinite(spread)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"opened": np.zeros(500), "clicked": np.zeros(500)},
        {"opened": np.ones(500)},
        {"converted": np.zeros(500)},
        {"converted": np.ones(500)},
        {"features": np.full((500, 8), np.nan)},
        {"features": np.ones((500, 8))},
        {"channel": np.full(500, -1), "offer": np.full(500, -1), "slot": np.full(500, -1)},
        {"channel": np.zeros(500, dtype=np.int64), "offer": np.zeros(500, dtype=np.int64), "slot": np.zeros(500, dtype=np.int64)},
    ],
    ids=["no opens", "all opened", "no conversions", "all converted", "all missing", "constant", "no contacts", "one action"],
)  # fmt: skip
def test_a_log_without_contrast_is_fitted_and_stays_lawful(change):
    rows = replace(ROWS.take(np.arange(500)), **change)
    model = fit_response(rows, REPORTS_ALL, attention_value_minor=1.0, seed=0)
    _assert_lawful(model.predict(CUSTOMERS[:20], rows.grid, CHANNELS))
    spread = model.uplift_se(CUSTOMERS[:20], rows.grid)
    assert ((spread > 0) & np.isfinite(spread)).all()


def _assert_lawful(answer):
    for p in (answer.p_open, answer.p_convert, answer.p_convert_no_contact):
        assert ((p >= 0) & (p <= 1)).all()
    assert (answer.attention_minor > 0).all()


def test_wrong_input_is_named(fitted):
    with pytest.raises(InvalidInputError, match="features"):
        fitted.predict(CUSTOMERS[:, :3], ROWS.grid, CHANNELS)
    with pytest.raises(InvalidInputError, match=r"rows == 0"):
        fit_response(ROWS.take(np.arange(0)), CHANNELS, attention_value_minor=0.0, seed=0)
    with pytest.raises(InvalidInputError, match="attention_value_minor"):
        fit_response(ROWS, CHANNELS, attention_value_minor=-1.0, seed=0)
    with pytest.raises(InvalidInputError, match="'line'"):
        fit_response(
            ROWS, {"email": CHANNELS["email"], "push": CHANNELS["push"]}, attention_value_minor=0.0, seed=0
        )


def test_damaged_files_are_refused(fitted):
    files = fitted.to_files()
    for change in ({"response.json": b"{"}, {"effect_mean.npy": b"junk"}, {"response.json": b"{}"}):
        with pytest.raises(BundleError):
            FittedResponse.from_files(files | change)
    with pytest.raises(BundleError, match=r"effect_covariance\.npy"):
        FittedResponse.from_files({k: v for k, v in files.items() if k != "effect_covariance.npy"})

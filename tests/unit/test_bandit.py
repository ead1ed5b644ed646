"""The bandit learns what the response model has missed, and is demoted where it is wrong."""

import json
from dataclasses import replace
from datetime import time

import numpy as np
import pytest

from models.choice import ActionDistribution, ChoiceProblem, FloatArray, Predictions
from models.domain.action import ActionGrid
from models.domain.channel import DEFAULT_CHANNELS
from models.domain.errors import BundleError, InvalidInputError, NoPredictionsError
from models.evaluation.checks import check_policy
from models.logged import LoggedRows
from models.policy import vw
from models.policy.bandit import FILE, Bandit
from models.policy.events import ResponseEvents, response_events
from models.policy.exploration import Exploration
from models.policy.gate import PRIOR, RETURN_RATE, Gate
from models.policy.segments import Segments
from models.value import net_value

CHANNELS = ("email", "push", "line", "sms")
SLOTS = tuple(time(hour) for hour in (8, 10, 12, 14, 16, 18))
GRID = ActionGrid(("spring",), CHANNELS, SLOTS)
COST = np.array([0.01, 0.0, 0.3, 1.5])
MARGIN = np.array([5_000.0])
# Effect of an opened contact on conversion.
TAU = 0.02


def simulated_p_open(n: int, rng: np.random.Generator) -> FloatArray:
    """A world of customers with their own best hours and channels, shape (n, C, S)."""
    channel = np.array([-1.2, -1.0, -1.4, -0.8]) + rng.normal(0, 0.5, (n, len(CHANNELS)))
    best = rng.integers(0, len(SLOTS), (n, 1, 1))
    away = np.abs(np.arange(len(SLOTS)) - best)
    return vw.sigmoid(channel[:, :, None] - 0.35 * away)


def problem(p_open: FloatArray) -> ChoiceProblem:
    n = len(p_open)
    predictions = Predictions(
        p_open=p_open,
        p_convert=(0.01 + TAU * p_open)[:, None],
        p_convert_no_contact=np.full(n, 0.01),
        attention_minor=np.full((n, len(CHANNELS)), 2.0),
    )
    return ChoiceProblem(
        grid=GRID,
        mask=np.ones((n, GRID.n_actions), dtype=np.bool_),
        send_at=np.tile(np.arange(len(SLOTS)) * 7_200.0, (n, 1)),
        cost_minor=COST,
        features=np.zeros((n, 1)),
        predictions=predictions,
        net_value_minor=net_value(predictions, MARGIN, COST),
    )


def sends(model: FloatArray, truth: FloatArray, rng: np.random.Generator) -> ResponseEvents:
    """One random contact a customer, opened as the truth has it."""
    n = len(model)
    rows = np.arange(n)
    channel, slot = rng.integers(0, len(CHANNELS), n), rng.integers(0, len(SLOTS), n)
    return ResponseEvents(
        channels=CHANNELS,
        slots=SLOTS,
        channel=channel,
        slot=slot,
        best_slot=model[rows, channel].argmax(axis=1),
        p_open=model[rows, channel, slot],
        segment=np.zeros(n, dtype=np.int64),
        opened=rng.random(n) < truth[rows, channel, slot],
    )


def true_value(answer: ActionDistribution, truth: FloatArray) -> float:
    """Expected net value a customer under the true open probabilities, minor units."""
    real = problem(truth).net_value_minor
    assert real is not None
    return float((answer.probabilities * real).sum(axis=1).mean())


def fresh() -> Bandit:
    return Bandit.fresh(CHANNELS, SLOTS).valued_at(float(MARGIN[0]))


def test_a_fresh_bandit_values_as_the_response_model_does() -> None:
    asked = problem(simulated_p_open(50, np.random.default_rng(0)))
    answer = fresh().distribution(asked)
    assert asked.predictions is not None
    assert np.allclose(answer.p_open, asked.predictions.p_open, atol=1e-12)
    assert np.allclose(answer.net_value_minor, asked.net_value_minor, atol=1e-9)


def test_without_predictions_it_refuses() -> None:
    asked = replace(problem(np.full((1, 4, 6), 0.1)), predictions=None, net_value_minor=None)
    with pytest.raises(NoPredictionsError, match="cheapest_first"):
        fresh().distribution(asked)


def test_a_corrected_open_probability_scales_the_effect_and_not_the_price() -> None:
    p_open = np.full((1, 4, 6), 0.2)
    rng = np.random.default_rng(1)
    learned = fresh().learn(sends(np.full((500, 4, 6), 0.2), np.full((500, 4, 6), 0.5), rng))
    asked = replace(problem(p_open), shadow_price_minor=np.array([0.0, 0.0, 0.0, 4.0]))
    assert asked.predictions is not None
    asked = replace(
        asked, net_value_minor=net_value(asked.predictions, MARGIN, COST, np.array([0, 0, 0, 4.0]))
    )
    answer = learned.distribution(asked)
    assert answer.p_open is not None
    assert answer.net_value_minor is not None
    p_sms = answer.p_open[0, 3, 0]
    # effect 5000 * 0.02 * p, price 1.5 + shadow 4 + attention 2
    assert answer.net_value_minor[0, 3 * 6] == pytest.approx(100.0 * p_sms - 7.5)


def test_it_keeps_the_laws_of_policies_after_learning() -> None:
    rng = np.random.default_rng(2)
    model = simulated_p_open(800, rng)
    learned = fresh().learn(sends(model, np.roll(model, 2, axis=2), rng))
    asked = problem(model[:40])
    masked = asked.mask & (rng.random(asked.mask.shape) < 0.4)
    masked[:, -1] = True
    check_policy(learned, replace(asked, mask=masked))


def test_a_dead_channel_is_noticed_and_left() -> None:
    rng = np.random.default_rng(3)
    model, now = simulated_p_open(3_000, rng), simulated_p_open(1_000, rng)
    dead = model.copy()
    dead[:, 3] *= 0.05
    dead_now = now.copy()
    dead_now[:, 3] *= 0.05
    frozen = fresh()
    learned = frozen.learn(sends(model, dead, rng))
    before = true_value(frozen.distribution(problem(now)), dead_now)
    after = true_value(learned.distribution(problem(now)), dead_now)
    best = true_value(frozen.distribution(problem(dead_now)), dead_now)
    assert after - before >= 0.8 * (best - before) > 0


def test_moved_hours_are_noticed_without_blaming_the_channel() -> None:
    rng = np.random.default_rng(4)
    model, now = simulated_p_open(4_000, rng), simulated_p_open(1_000, rng)
    frozen = fresh()
    learned = frozen.learn(sends(model, np.roll(model, 2, axis=2), rng))
    moved = np.roll(now, 2, axis=2)
    before = true_value(frozen.distribution(problem(now)), moved)
    after = true_value(learned.distribution(problem(now)), moved)
    best = true_value(frozen.distribution(problem(moved)), moved)
    assert after - before >= 0.5 * (best - before) > 0


def test_where_the_model_is_right_learning_costs_next_to_nothing() -> None:
    rng = np.random.default_rng(5)
    model, now = simulated_p_open(4_000, rng), simulated_p_open(1_000, rng)
    learned = fresh().learn(sends(model, model, rng))
    before = true_value(fresh().distribution(problem(now)), now)
    assert true_value(learned.distribution(problem(now)), now) >= 0.99 * before


def test_sabotaged_experts_lose_their_weight_and_the_value_stays() -> None:
    rng = np.random.default_rng(6)
    model, now = simulated_p_open(4_000, rng), simulated_p_open(1_000, rng)
    events = sends(model, model, rng)
    # The experts are fed flipped outcomes; the gate sees what happened.
    bandit = fresh()
    flipped, said = vw.learn(bandit.corrections, replace(events, opened=~events.opened))
    gate = bandit.gate.update(
        CHANNELS, events.channel, np.concatenate([events.p_open[None], said]), events.opened.astype(float)
    )
    sabotaged = replace(bandit, corrections=flipped, gate=gate)
    assert gate.for_channels(CHANNELS)[:, 0].min() >= 0.99
    before = true_value(bandit.distribution(problem(now)), now)
    assert true_value(sabotaged.distribution(problem(now)), now) >= 0.99 * before


def test_files_restore_it_to_the_last_bit() -> None:
    rng = np.random.default_rng(7)
    model = simulated_p_open(600, rng)
    segments = Segments(feature="age", column=0, edges=(0.1, 0.2))
    bandit = Bandit.fresh(CHANNELS, SLOTS, segments).learn(sends(model, model * 0.5, rng))
    again = Bandit.from_files(bandit.to_files())
    assert again.version == bandit.version
    assert np.array_equal(again.corrections.vectors, bandit.corrections.vectors)
    asked = problem(model[:20])
    assert np.array_equal(again.distribution(asked).probabilities, bandit.distribution(asked).probabilities)
    more = sends(model, model, rng)
    assert again.learn(more).version == bandit.learn(more).version


@pytest.mark.parametrize(
    "files", [{}, {FILE: b"{"}, {FILE: b'{"format": 1}'}, {FILE: b'{"format": 99, "learning_rates": []}'}]
)
def test_damaged_files_are_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(BundleError):
        Bandit.from_files(files)


def test_files_with_a_missing_weight_are_refused() -> None:
    state = json.loads(fresh().to_files()[FILE])
    state["weights"] = [row[1:] for row in state["weights"]]
    with pytest.raises(BundleError, match="weights of the bandit"):
        Bandit.from_files({FILE: json.dumps(state).encode()})


def test_files_with_a_missing_expert_are_refused() -> None:
    state = json.loads(fresh().to_files()[FILE])
    state["weights"] = state["weights"][1:]
    with pytest.raises(BundleError, match="number of experts"):
        Bandit.from_files({FILE: json.dumps(state).encode()})


def test_learning_leaves_the_former_state_as_it_was() -> None:
    rng = np.random.default_rng(8)
    bandit = fresh()
    version = bandit.version
    model = simulated_p_open(100, rng)
    learned = bandit.learn(sends(model, model, rng))
    assert learned.version != version
    assert Bandit.from_files(bandit.to_files()).version == version
    assert not bandit.corrections.vectors.any()


def test_what_is_explored_does_not_change_the_version() -> None:
    assert fresh().version == fresh().valued_at(123.0).version


def test_a_warm_start_replays_the_newest_contacts() -> None:
    rng = np.random.default_rng(9)
    model = simulated_p_open(6_100, rng)
    events = sends(model, model, rng)
    assert fresh().warm_start(events).version == fresh().learn(events.last(6_000)).version


def test_the_gate_multiplies_by_the_likelihood_and_returns_a_little_of_the_first_belief() -> None:
    gate = Gate.fresh(("email",)).update(
        ("email",), np.array([0]), np.array([[0.5], [0.25], [0.25], [0.25]]), np.array([1.0])
    )
    # .91 * .5 = .455, .03 * .25 = .0075 each: sum .4775. Own: .25 * (.5, .25, .25, .25): .4, .2, .2, .2.
    assert gate.overall[0] == pytest.approx((1 - RETURN_RATE) * 0.455 / 0.4775 + RETURN_RATE * PRIOR[0])
    assert gate.own[0, 0] == pytest.approx((1 - RETURN_RATE) * 0.4 + RETURN_RATE * 0.25)
    product = gate.overall * gate.own[0]
    assert gate.for_channels(("email",))[0].tolist() == pytest.approx((product / product.sum()).tolist())


def test_a_channel_without_events_is_believed_as_all_channels_together_are() -> None:
    gate = Gate.fresh(("email", "call"))
    assert gate.for_channels(("call", "line")) == pytest.approx(np.tile(PRIOR, (2, 1)))
    rng = np.random.default_rng(12)
    opened = (rng.random(200) < 0.2).astype(float)
    said = np.tile([[0.2], [0.9], [0.9], [0.9]], 200)
    judged = gate.update(("email",), np.zeros(200, dtype=np.int64), said, opened)
    assert judged.for_channels(("call", "line"))[:, 0].min() >= 0.99
    assert judged.for_channels(("call",))[0].tolist() == pytest.approx(judged.overall.tolist())


def test_a_channel_may_believe_an_expert_that_all_together_do_not() -> None:
    rng = np.random.default_rng(13)
    n = 4_000
    channel = np.arange(n) % 4 // 3  # three in four are e-mails
    opened = (rng.random(n) < np.where(channel == 1, 0.5, 0.2)).astype(float)
    said = np.array([np.full(n, 0.2), *np.tile(0.5, (3, n))])
    gate = Gate.fresh(("email", "line")).update(("email", "line"), channel, said, opened)
    assert gate.for_channels(("email",))[0, 0] >= 0.99
    assert gate.for_channels(("line",))[0, 0] <= 0.5


def logged(n: int) -> LoggedRows:
    zeros = np.zeros(n)
    return LoggedRows(
        offers=("a",), channels=("email", "line"), slots=SLOTS[:2], feature_names=("age",),
        features=np.arange(n, dtype=float)[:, None], customer=np.arange(n), offer=np.zeros(n, dtype=int),
        channel=np.array([0, 1, -1, 0]), slot=np.array([1, 0, -1, 0]), propensity=np.ones(n),
        decided_at=np.array([40.0, 30.0, 20.0, 10.0]), opened=np.array([1.0, 1.0, np.nan, 0.0]),
        clicked=zeros, converted=zeros, value_minor=zeros, cost_minor=zeros, unsubscribed=zeros,
        randomised=np.zeros(n, dtype=bool),
    )  # fmt: skip


DESCRIBED = {channel.name: channel for channel in DEFAULT_CHANNELS}


def test_contacts_are_learned_from_by_what_their_channel_reports_oldest_first() -> None:
    p_open = np.arange(16.0).reshape(4, 2, 2) / 100
    rows = replace(
        logged(4), opened=np.array([1.0, np.nan, np.nan, 0.0]), clicked=np.array([0.0, 1.0, np.nan, 0.0])
    )
    events = response_events(rows, p_open, Segments(feature="age", column=0, edges=(2.0,)), DESCRIBED)
    # Decided at 10, 30 and 40: e-mail not opened, LINE (clicks, no opens) clicked, e-mail opened.
    assert events.channel.tolist() == [0, 1, 0]
    assert events.slot.tolist() == [0, 0, 1]
    assert events.opened.tolist() == [False, True, True]
    assert events.p_open.tolist() == [0.12, 0.06, 0.01]
    assert events.best_slot.tolist() == [1, 1, 1]
    assert events.segment.tolist() == [1, 0, 0]


def test_a_channel_that_reports_neither_opens_nor_clicks_teaches_nothing() -> None:
    silent = {**DESCRIBED, "line": replace(DESCRIBED["line"], receipts=frozenset())}
    rows = replace(logged(4), clicked=np.ones(4))
    events = response_events(rows, np.full((4, 2, 2), 0.1), Segments(), silent)
    assert events.channel.tolist() == [0, 0]


def test_open_probabilities_of_another_shape_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="p_open"):
        response_events(logged(4), np.zeros((4, 2, 3)), Segments(), DESCRIBED)


def test_events_outside_the_axes_are_refused() -> None:
    model = simulated_p_open(3, np.random.default_rng(10))
    events = sends(model, model, np.random.default_rng(10))
    with pytest.raises(InvalidInputError, match="slot"):
        replace(events, slot=np.array([0, 1, 6]))


def test_exploration_costs_little_at_the_default_greed() -> None:
    rng = np.random.default_rng(11)
    now = simulated_p_open(2_000, rng)
    explored = true_value(fresh().distribution(problem(now)), now)
    greedy = fresh()
    greedy = replace(greedy, exploration=Exploration(max_loss_share=0.0))
    assert explored >= 0.95 * true_value(greedy.distribution(problem(now)), now)

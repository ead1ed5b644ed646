"""Vowpal Wabbit teaches; tables of its weights answer."""

from datetime import time

import numpy as np
import pytest
from vowpalwabbit import Workspace

from models.policy.corrections import CLIP, Corrections, hours_apart
from models.policy.events import ResponseEvents
from models.policy.vw import LEARNING_RATES, arguments, example, held, learn, logit, sigmoid

CHANNELS = ("email", "push", "sms")
SLOTS = (time(9), time(12, 30), time(18), time(21))
N_SEGMENTS = 3


def some_events(n: int, seed: int, channels: tuple[str, ...] = CHANNELS) -> ResponseEvents:
    rng = np.random.default_rng(seed)
    return ResponseEvents(
        channels=channels,
        slots=SLOTS,
        channel=rng.integers(0, len(channels), n),
        slot=rng.integers(0, len(SLOTS), n),
        best_slot=rng.integers(0, len(SLOTS), n),
        p_open=rng.uniform(0.01, 0.6, n),
        segment=rng.integers(0, N_SEGMENTS, n),
        opened=rng.random(n) < 0.4,
    )


def blank(n_segments: int = N_SEGMENTS) -> Corrections:
    return Corrections.zero(len(LEARNING_RATES), CHANNELS, SLOTS, n_segments)


def believing(expert: int) -> np.ndarray:
    """One expert, on every channel."""
    return np.repeat(np.eye(len(LEARNING_RATES))[:, [expert]], len(CHANNELS), axis=1)


def test_the_tables_answer_as_vowpal_wabbit_does() -> None:
    events = some_events(2_000, seed=1)
    learned, _ = learn(blank(), events)
    tables = learned.for_grid(CHANNELS, SLOTS)
    asked = some_events(300, seed=2)
    base = logit(held(asked.p_open))
    rows = np.arange(len(asked))
    p_open = np.repeat(np.eye(len(SLOTS))[asked.best_slot][:, None], len(CHANNELS), axis=1)
    for expert, rate in enumerate(LEARNING_RATES):
        mixed = tables.mixed(asked.segment, p_open, believing(expert))
        ours = sigmoid(base + mixed[rows, asked.channel, asked.slot])
        with Workspace(arguments(rate)) as workspace:
            tokens = blank().tokens(events).tolist()
            for row, start, opened in zip(tokens, logit(held(events.p_open)), events.opened, strict=True):
                workspace.learn(example(row, start, opened))
            theirs = [
                workspace.predict(example(row, start, opened=True))
                for row, start in zip(blank().tokens(asked).tolist(), base, strict=True)
            ]
        assert np.abs(ours - theirs).max() <= 1e-5


def test_an_opened_message_moves_each_of_its_weights_by_rate_times_surprise() -> None:
    event = ResponseEvents(
        channels=CHANNELS,
        slots=SLOTS,
        channel=np.array([1]),
        slot=np.array([2]),
        best_slot=np.array([0]),
        p_open=np.array([0.2]),
        segment=np.array([1]),
        opened=np.array([True]),
    )
    learned, said = learn(blank(), event)
    # Gradient of the logistic loss at p = 0.2 with label +1 is 0.2 - 1; each weight gains rate * 0.8.
    moved = [0.8 * rate for rate in LEARNING_RATES]
    assert learned.channel[:, 1] == pytest.approx(moved, rel=1e-5)
    assert learned.slot[:, 2] == pytest.approx(moved, rel=1e-5)
    assert learned.channel_slot[:, 1, 2] == pytest.approx(moved, rel=1e-5)
    assert learned.channel_segment[:, 1, 1] == pytest.approx(moved, rel=1e-5)
    assert learned.slot_segment[:, 2, 1] == pytest.approx(moved, rel=1e-5)
    assert learned.shift[:, 9] == pytest.approx(moved, rel=1e-5)  # 18:00 is nine hours after 09:00
    assert np.count_nonzero(learned.vectors) == 6 * len(LEARNING_RATES)
    assert said[:, 0] == pytest.approx([0.2] * 3, rel=1e-5)  # what was said before it was known


def test_learning_in_two_parts_is_learning_at_once() -> None:
    events = some_events(400, seed=4)
    at_once, said_at_once = learn(blank(), events)
    first = ResponseEvents(
        channels=CHANNELS,
        slots=SLOTS,
        channel=events.channel[:150],
        slot=events.slot[:150],
        best_slot=events.best_slot[:150],
        p_open=events.p_open[:150],
        segment=events.segment[:150],
        opened=events.opened[:150],
    )
    half, said_first = learn(blank(), first)
    both, said_second = learn(half, events.last(250))
    assert np.array_equal(both.vectors, at_once.vectors)
    assert np.array_equal(np.concatenate([said_first, said_second], axis=1), said_at_once)


def test_a_single_segment_needs_no_segment_tokens() -> None:
    corrections = blank(n_segments=1)
    assert corrections.tokens(some_events(5, seed=5)).shape == (5, 4)


def test_new_channels_and_slots_start_at_zero_and_leave_the_others_alone() -> None:
    learned, _ = learn(blank(), some_events(500, seed=6))
    wider = learned.covering(("line", "email"), (time(6), *SLOTS))
    assert wider.channels == (*CHANNELS, "line")
    assert wider.slots == (*SLOTS, time(6))
    assert np.array_equal(wider.channel[:, :3], learned.channel)
    assert not wider.channel[:, 3].any()
    assert not wider.channel_slot[:, 3].any()
    same = wider.for_grid(CHANNELS, SLOTS)
    assert np.array_equal(same.fixed, learned.for_grid(CHANNELS, SLOTS).fixed)


def test_a_campaign_may_use_some_of_the_slots_in_another_order() -> None:
    learned, _ = learn(blank(), some_events(500, seed=7))
    whole = learned.for_grid(CHANNELS, SLOTS)
    part = learned.for_grid(("sms", "email"), (SLOTS[3], SLOTS[1]))
    assert np.allclose(part.fixed, whole.fixed[:, :, [2, 0]][:, :, :, [3, 1]])
    assert np.allclose(part.shift, whole.shift[:, [3, 1]][:, :, [3, 1]])


def test_no_two_tokens_share_a_weight() -> None:
    corrections = blank()
    n = corrections.vectors.shape[1]
    spread = Corrections.from_vectors(
        np.tile(np.arange(n, dtype=np.float32), (len(LEARNING_RATES), 1)), corrections
    )
    assert np.array_equal(spread.vectors[0], np.arange(n))
    tokens = corrections.tokens(some_events(2_000, seed=8))
    assert tokens.max() < n
    columns = [set(tokens[:, j]) for j in range(tokens.shape[1])]
    assert sum(len(column) for column in columns) == len(set().union(*columns))


def test_hours_go_round_the_clock() -> None:
    assert hours_apart((time(9), time(21, 30), time(6))).tolist() == [
        [0, 12, 21],
        [12, 0, 8],  # 21:30 to 06:00 is eight and a half hours, rounded to even
        [3, 16, 0],
    ]


def test_corrections_are_clipped_to_four_logits() -> None:
    corrections = Corrections.from_vectors(np.full_like(blank().vectors, 5.0), blank()).for_grid(
        CHANNELS, SLOTS
    )
    mixed = corrections.mixed(
        np.zeros(2, dtype=np.intp), np.zeros((2, len(CHANNELS), len(SLOTS))), believing(0)
    )
    assert (mixed == CLIP).all()

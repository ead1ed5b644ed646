"""A flip says the truth: beyond its threshold the named action wins, just short of it the present one does."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from datetime import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.choice import ActionDistribution, ChoiceProblem, Policy, Predictions
from models.domain.action import ActionGrid
from models.explanation.flips import MOST_TIMES_MARGIN, Flip, FlipKind, Ranking, find_flips, opened_flip
from models.policy.bandit import Bandit
from models.policy.baselines import Greedy
from models.policy.corrections import Corrections
from models.value import net_value

GRID = ActionGrid(("news", "sale"), ("email", "push", "sms"), (time(9), time(15), time(20)))
SHAPE = GRID.shape
FRESH = Bandit.fresh(GRID.channels, GRID.slots)
# A bandit that has learned something: every open probability is corrected.
BANDIT = replace(
    FRESH,
    corrections=Corrections.from_vectors(
        np.random.default_rng(5).normal(0, 6.0, FRESH.corrections.vectors.shape).astype(np.float32),
        FRESH.corrections,
    ),
)
UPWARDS = {FlipKind.COST_ABOVE, FlipKind.MARGIN_ABOVE}
TIMES = {FlipKind.NOT_BEFORE, FlipKind.NOT_AFTER}
seeds = st.integers(0, 2**32 - 1)


class World:
    """One customer's problem, drawn at random, that can be changed and decided again."""

    def __init__(self, seed: int, policy: Policy) -> None:
        rng = np.random.default_rng(seed)
        alone = np.array([0.05])
        uplift = rng.normal(0.002, 0.006, (1, *SHAPE))
        self.policy = policy
        self.predictions = Predictions(
            p_open=rng.uniform(0.05, 0.9, (1, *SHAPE[1:])),
            p_convert=np.clip(alone + uplift, 0.0, 1.0),
            p_convert_no_contact=alone,
            attention_minor=rng.uniform(0.0, 3.0, (1, SHAPE[1])),
            worth=rng.uniform(0.5, 1.5, SHAPE[0]),
        )
        self.margin = rng.uniform(500.0, 5_000.0, SHAPE[0])
        self.cost = rng.uniform(0.0, 15.0, SHAPE[1])
        self.shadow = rng.uniform(0.0, 2.0, SHAPE[1])
        self.send_at = 1.7e9 + 3_600.0 * rng.permutation([9.0, 15.0, 44.0])
        self.mask = np.append(rng.random(GRID.n_actions - 1) < 0.7, True)

    def answer(self) -> tuple[ActionDistribution, np.ndarray]:
        values = net_value(self.predictions, self.margin, self.cost, self.shadow)
        problem = ChoiceProblem(
            grid=GRID,
            mask=self.mask[None],
            send_at=self.send_at[None],
            cost_minor=self.cost,
            shadow_price_minor=self.shadow,
            features=np.zeros((1, 1)),
            predictions=self.predictions,
            net_value_minor=values,
        )
        answer = self.policy.distribution(problem)
        return answer, values[0] if answer.net_value_minor is None else answer.net_value_minor[0]

    def winner(self) -> int:
        """Decide greedily, on the values that the policy ranked by."""
        answer, values = self.answer()
        if isinstance(self.policy, Greedy):
            return int(answer.probabilities[0].argmax())
        values = np.where(self.mask, values, -np.inf)
        return int(values.argmax()) if values[:-1].max() > 0 else GRID.no_contact

    def ranking(self) -> Ranking:
        return Ranking(
            grid=GRID,
            mask=self.mask,
            net_value_minor=self.answer()[1],
            price_minor=self.cost + self.shadow + self.predictions.attention_minor[0],
            cost_minor=self.cost,
            margin_minor=self.margin,
            send_at=self.send_at,
        )

    def changed(self, flip: Flip, beyond: bool) -> World:
        """The same with the flip's quantity a little beyond its threshold, or just short of it."""
        assert flip.threshold is not None
        other = copy(self)
        upwards = flip.kind in UPWARDS
        value = flip.threshold * (1.0 + (1e-7 if upwards == beyond else -1e-7))
        if flip.kind in (FlipKind.COST_ABOVE, FlipKind.COST_BELOW):
            other.cost = self.cost.copy()
            other.cost[flip.channel] = value
        elif flip.kind in (FlipKind.MARGIN_ABOVE, FlipKind.MARGIN_BELOW):
            other.margin = self.margin.copy()
            other.margin[flip.offer] = value
        elif flip.kind is FlipKind.ALL_MARGINS_BELOW:
            other.margin = self.margin * value
        else:
            moments = self.ranking().moments()
            if flip.kind is FlipKind.NOT_BEFORE:  # the window opens then, or a second later
                allowed = moments >= flip.threshold + beyond
            else:  # the window closes then, or a second later
                allowed = moments < flip.threshold + (not beyond)
            allowed[-1] = True
            other.mask = self.mask & allowed
        return other


@pytest.mark.parametrize("policy", [Greedy(), BANDIT], ids=["greedy", "bandit"])
@given(seed=seeds)
@settings(max_examples=150, deadline=None)
def test_beyond_the_threshold_the_named_action_wins_and_just_short_of_it_the_present_one(policy, seed):
    world = World(seed, policy)
    ranking = world.ranking()
    assert ranking.best == world.winner()
    for flip in find_flips(ranking):
        assert world.changed(flip, beyond=True).winner() == flip.winner != ranking.best, flip
        short = world.changed(flip, beyond=False).winner()
        later = flip.kind in TIMES and flip.threshold != flip.present
        if later or flip.kind is FlipKind.ALL_MARGINS_BELOW:
            assert short != flip.winner  # others may have overtaken before
        else:
            assert short == ranking.best, flip


@given(seed=seeds)
@settings(max_examples=100, deadline=None)
def test_where_no_cost_is_named_the_channel_would_not_win_for_nothing(seed):
    world = World(seed, Greedy())
    ranking = world.ranking()
    named = {flip.channel for flip in find_flips(ranking) if flip.kind is FlipKind.COST_BELOW}
    for channel in range(SHAPE[1]):
        here = ranking.of_channel(channel)
        if channel in named or here[ranking.best]:
            continue
        free = World(seed, Greedy())
        free.cost = world.cost.copy()
        free.cost[channel] = 0.0
        assert not here[free.winner()]


@given(seed=seeds)
@settings(max_examples=100, deadline=None)
def test_where_no_margin_is_named_no_margin_within_tenfold_changes_the_best(seed):
    world = World(seed, Greedy())
    ranking = world.ranking()
    named = {f.offer for f in find_flips(ranking) if f.kind in (FlipKind.MARGIN_ABOVE, FlipKind.MARGIN_BELOW)}
    for offer in set(range(SHAPE[0])) - named:
        down = ranking.of_offer(offer)[ranking.best]
        for factor in (0.01, 0.3, 0.9) if down else (1.1, 3.0, MOST_TIMES_MARGIN):
            other = World(seed, Greedy())
            other.margin = world.margin.copy()
            other.margin[offer] *= factor
            assert other.winner() == ranking.best


@given(seed=seeds)
@settings(max_examples=150, deadline=None)
def test_opening_a_channel_is_worth_what_the_flip_says(seed):
    world = World(seed, Greedy())
    full = world.ranking()
    for channel in range(SHAPE[1]):
        here = full.of_channel(channel)
        closed = replace(full, mask=full.mask & ~here)
        flip = opened_flip(closed, channel, full.mask)
        opened = replace(closed, mask=closed.mask | (full.mask & here))
        if flip is None:
            assert not here[opened.best]
        else:
            assert opened.best == flip.winner
            values = np.append(full.net_value_minor[:-1], 0.0)
            assert flip.gain_minor == pytest.approx(values[opened.best] - values[closed.best])
            assert flip.gain_minor > 0


def test_the_bandit_of_these_laws_ranks_by_other_values_than_the_model():
    world = World(1, BANDIT)
    model, corrected = World(1, Greedy()).answer()[1], world.answer()[1]
    assert np.abs(corrected[:-1] - model[:-1]).mean() > 0.5


def test_the_thresholds_of_a_worked_example():
    # One offer of margin 1000, two channels, one slot. E-mail: effect .010, price 1 -> 9.
    # SMS: effect .012, price 5 -> 7.
    ranking = Ranking(
        grid=ActionGrid(("coats",), ("email", "sms"), (time(9),)),
        mask=np.ones(3, dtype=np.bool_),
        net_value_minor=np.array([9.0, 7.0, 0.0]),
        price_minor=np.array([1.0, 5.0]),
        cost_minor=np.array([1.0, 4.0]),
        margin_minor=np.array([1000.0]),
        send_at=np.array([0.0]),
    )
    found = {(flip.kind, flip.winner): flip.threshold for flip in find_flips(ranking)}
    assert found == {
        (FlipKind.COST_ABOVE, 1): pytest.approx(1.0 + 2.0),  # 9 - 2 = 7
        (FlipKind.COST_BELOW, 1): pytest.approx(4.0 - 2.0),  # 7 + 2 = 9
        (FlipKind.MARGIN_BELOW, 2): pytest.approx(100.0),  # .010 * 100 = 1
    }


def test_silence_names_the_margin_from_which_a_contact_is_worthwhile():
    # Effect .002 at a price of 3: worthwhile from a margin of 1500 on.
    ranking = Ranking(
        grid=ActionGrid(("coats",), ("email",), (time(9),)),
        mask=np.ones(2, dtype=np.bool_),
        net_value_minor=np.array([-1.0, 0.0]),
        price_minor=np.array([3.0]),
        cost_minor=np.array([3.0]),
        margin_minor=np.array([1000.0]),
        send_at=np.array([0.0]),
    )
    found = {flip.kind: (flip.winner, flip.threshold) for flip in find_flips(ranking)}
    assert found == {
        FlipKind.COST_BELOW: (0, pytest.approx(2.0)),
        FlipKind.MARGIN_ABOVE: (0, pytest.approx(1500.0)),
    }

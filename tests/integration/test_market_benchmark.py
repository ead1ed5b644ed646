"""The market benchmark: worlds are played apart, and nobody learns from what is not known yet."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from tests.benchmarks.market_players import Ours, Rule, oracle
from tests.benchmarks.market_world import World


@pytest.fixture(scope="module")
def world() -> World:
    return World("retail", 5, 400)


def test_a_fork_is_played_apart_and_twice_the_same(world: World) -> None:
    before = len(world.memory.log)
    first = world.fork().play(Rule(oracle), 1, frozenset(), lambda: None)
    again = world.fork().play(Rule(oracle), 1, frozenset(), lambda: None)
    assert len(world.memory.log) == before
    assert first.true.tolist() == again.true.tolist()
    assert first.ineligible == 0
    assert first.off_one == 0


def test_only_decisions_whose_window_has_closed_are_final(world: World) -> None:
    everything = world.memory.rows(world.market, world.now, final=False)
    early = world.memory.rows(world.market, world.now - timedelta(days=5))
    assert 0 < len(early) < len(everything) <= 400
    assert set(early.customer.tolist()) <= set(everything.customer.tolist())


def test_the_bandit_plays_only_candidates_with_whole_distributions(world: World) -> None:
    played = world.fork().play(Ours(explores=True), 1, frozenset({0}), lambda: None)
    assert played.ineligible == 0
    assert played.off_one < 1e-9
    assert np.isfinite(played.claimed).all()

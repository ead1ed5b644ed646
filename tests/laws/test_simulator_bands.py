"""The simulated markets are hard, and stay so."""

from datetime import UTC, datetime

import pytest

from training.simulator.market import Market
from training.simulator.presets import PRESETS
from training.simulator.yardstick import hardness

START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_simple_rules_earn_little_of_what_the_truth_would(preset: str, seed: int) -> None:
    found = hardness(Market(preset, 4000, seed), START, weeks=3)
    assert found.oracle_minor > 0
    assert found.random < -10
    assert found.cheapest_first < 12
    assert 20 <= found.best_fixed <= 42

"""`make bench NAME=day_one`: what a campaign without history earns, and how fast a short log improves it.

In every simulated market the same customers are decided on for a week by rules, by the prior of published rates, and by
response models that learned from so many randomised decisions. Each chooses greedily in its own
copy of the market; its value is the sum of true expected net values, in percent of what the oracle earns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from models.choice import ActionDistribution, FloatArray, ResponseModel
from models.logged import LoggedRows
from models.policy.baselines import CheapestFirst, Greedy
from models.response.model import fit_response
from models.response.prior import PriorResponse
from tests.benchmarks.market import PRESETS
from tests.benchmarks.market_players import Blind, Rule, oracle, problem
from tests.benchmarks.market_world import Player, Situation, World

CUSTOMERS, WEEKS = 20_000, 1
# Nothing was tuned on these. One log of 500 rows is a matter of luck, so there are many.
SEEDS = (11, 12, 13, 14, 15, 16)
ROWS = (500, 5_000, 20_000)
RULE, PRIOR = "cheapest_first", "prior, 0 rows"


class Frozen:
    """A response model that is not fitted again, obeyed greedily."""

    def __init__(self, response: ResponseModel) -> None:
        self._response = response
        self.needs_features = bool(response.feature_names)

    def refit(self, rows: LoggedRows, recent: LoggedRows, world: World) -> None:
        """Nothing to learn."""

    def observe(self, rows: LoggedRows, world: World) -> None:
        """Nothing to learn."""

    def choose(self, now: Situation) -> ActionDistribution:
        """The best net value."""
        return Greedy().distribution(problem(now, self._response))


def learned(world: World, n: int) -> Frozen:
    """From n randomised decisions, drawn so that they are spread over the warm-up."""
    rows = world.memory.rows(world.market, world.now)
    order = np.random.default_rng([world.seed, 37]).permutation(len(rows))
    value = world.campaign.conversion_value_minor
    return Frozen(
        fit_response(
            rows.take(np.sort(order[:n])),
            world.channels,
            attention_value_minor=value,
            seed=world.seed,
            margin_minor=np.array([offer.margin_minor for offer in world.campaign.offers]),
        )
    )


def curve(preset: str, seed: int, n_customers: int) -> dict[str, float]:
    """Percent of the oracle's value in one market, by who decides."""
    world = World(preset, seed, n_customers)

    def earn(player: Player) -> float:
        played = world.fork().play(player, WEEKS, frozenset(), lambda: None)
        assert not played.ineligible
        return float(played.true.sum())

    players: dict[str, Player] = {
        RULE: Blind(CheapestFirst()),
        PRIOR: Frozen(PriorResponse(attention_value_minor=world.campaign.conversion_value_minor)),
    }
    for n in ROWS:
        if n <= n_customers:
            players[f"{n:,} rows"] = learned(world, n)
    most = earn(Rule(oracle))
    return {name: 100 * earn(player) / most for name, player in players.items()}


def main(arguments: Sequence[str]) -> None:
    """Run, show, and print the JSON line."""
    parser = argparse.ArgumentParser(prog="bench day_one", description=__doc__)
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    given = parser.parse_args(arguments)
    started = time.process_time()
    worlds = [(preset, int(seed)) for preset in given.presets.split(",") for seed in given.seeds.split(",")]
    found: dict[tuple[str, int], dict[str, float]] = {}
    for world in worlds:
        found[world] = curve(*world, given.customers)
        sys.stderr.write(f"{world}: {found[world]}\n")
    names = list(found[worlds[0]])
    table = Table(title="Simulated markets, first week: net value, percent of the oracle's")
    table.add_column("who decides")
    for preset, seed in worlds:
        table.add_column(f"{preset}\nseed {seed}", justify="right")
    for name in names:
        table.add_row(name, *(f"{one[name]:.1f}" for one in found.values()))
    Console(width=160).print(table)
    first = f"{ROWS[0]:,} rows"

    def mean(name: str) -> float:
        values: FloatArray = np.array([one[name] for one in found.values()])
        return round(float(values.mean()), 2)

    figures = {
        "bench": "day_one",
        "simulated": True,
        "mean": {name: mean(name) for name in names},
        "prior_not_below_cheapest_first": {
            preset: all(one[PRIOR] >= one[RULE] for (p, _), one in found.items() if p == preset)
            for preset in given.presets.split(",")
        },
        "first_rows_better_than_prior": {
            f"{p} {s}": one.get(first, np.nan) > one[PRIOR] for (p, s), one in found.items()
        },
        "worlds": [
            {"preset": p, "seed": s, **{name: round(value, 1) for name, value in one.items()}}
            for (p, s), one in found.items()
        ],
        "cpu_seconds": round(time.process_time() - started),
    }
    print(json.dumps(figures))  # noqa: T201 - the benchmark's last line

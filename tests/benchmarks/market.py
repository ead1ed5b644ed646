"""`make bench NAME=market`: what the learned policy earns in simulated markets, beside every rule and rival.

Each policy plays its own copy of a market after the same randomised warm-up and learns from its own log. Its
value is the sum of the true expected net values of what it chose, in percent of what the oracle earns in *its*
copy. Everything is simulated.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from models.choice import FloatArray
from models.policy.baselines import CheapestFirst, Uniform
from tests.benchmarks.market_players import Blind, Ours, Rule, fixed, oracle
from tests.benchmarks.market_plot import save_plot
from tests.benchmarks.market_rivals import Linear, MediatedGreedy, OpenRate, SLearner
from tests.benchmarks.market_world import Played, Player, World

CUSTOMERS, WEEKS = 20_000, 10
QUICK_CUSTOMERS, QUICK_WEEKS = 5_000, 5
PRESETS = ("retail", "bank", "travel")
# Nothing was tuned on these.
FRESH_SEEDS = (11, 12, 13)
# Outcomes of a week are final a week later, so the second refit waits for the first week's.
REFIT_WEEKS = frozenset({0, 2, 4, 7})
# Fixed choices that look best at the start are played out; the best of them is the best in hindsight.
FINALISTS = 6
BEST_FIXED, OURS, GREEDY = "best fixed in hindsight", "ours (bandit)", "ours (greedy)"
FIRST_SETTLED_WEEK = 3

_RIVALS: dict[str, Callable[[], Player]] = {
    "random": lambda: Blind(Uniform()),
    "cheapest_first": lambda: Blind(CheapestFirst()),
    "highest open rate": OpenRate,
    "LightGBM gross response": lambda: SLearner(gross=True),
    "LightGBM S-learner": lambda: SLearner(gross=False),
    "LinUCB": lambda: Linear(thompson=False),
    "LinTS": lambda: Linear(thompson=True),
    "mediated greedy": MediatedGreedy,
    GREEDY: lambda: Ours(explores=False),
    OURS: lambda: Ours(explores=True),
}


@dataclass(slots=True)
class WorldResult:
    """One market: what everybody played."""

    preset: str
    seed: int
    oracle: FloatArray
    played: dict[str, Played] = field(default_factory=dict)

    def overall(self, name: str) -> float:
        """Percent of the oracle's value."""
        return float(100 * self.played[name].true.sum() / self.oracle.sum())

    def last_quarter(self, name: str) -> float:
        """The same in the last quarter of the weeks, rounded up to whole weeks."""
        last = slice(-_quarter(len(self.oracle)), None)
        return float(100 * self.played[name].true[last].sum() / self.oracle[last].sum())

    def claimed_over_true(self, name: str) -> float:
        """Claimed over true value once the evidence is there (from the fourth week on)."""
        late = slice(FIRST_SETTLED_WEEK, None)
        one = self.played[name]
        return float(one.claimed[late].sum() / one.true[late].sum())


def _quarter(weeks: int) -> int:
    return -(-weeks // 4)


def run_world(
    preset: str, seed: int, n_customers: int, weeks: int, names: Sequence[str], tick: Callable[[str], None]
) -> WorldResult:
    """Play one market by every policy.

    Args:
        preset: Of the market.
        seed: Of the market and of every draw.
        n_customers: Each is decided on once a week.
        weeks: Of decisions, after the warm-up.
        names: Policies of `_RIVALS`.
        tick: Told which policy has played another week.
    """
    world = World(preset, seed, n_customers)

    def play(name: str, player: Player) -> Played:
        return world.fork().play(player, weeks, REFIT_WEEKS, lambda: tick(f"{preset} {seed}: {name}"))

    result = WorldResult(preset, seed, play("oracle", Rule(oracle)).true)
    rows = np.arange(n_customers)
    mask = world.market.mask(rows, world.campaign, world.now)
    value = np.where(mask, world.market.expected_net_value(rows, world.now), 0.0).mean(axis=0)[:-1]
    best = [play(BEST_FIXED, Rule(fixed(int(action)))) for action in np.argsort(-value)[:FINALISTS]]
    result.played[BEST_FIXED] = max(best, key=lambda one: float(one.true.sum()))
    for name in names:
        result.played[name] = play(name, _RIVALS[name]())
    return result


def summary(results: Sequence[WorldResult]) -> dict[str, object]:
    """The figures of the JSON line."""
    presets = list(dict.fromkeys(one.preset for one in results))
    names = list(results[0].played)
    others = [name for name in names if name not in (OURS, GREEDY)]

    def mean(of: Callable[[WorldResult], float], preset: str | None = None) -> float:
        return round(float(np.mean([of(one) for one in results if preset in (None, one.preset)])), 2)

    ours = [one.played[OURS] for one in results]
    found: dict[str, object] = {
        "bench": "market",
        "overall": {p: mean(lambda one: one.overall(OURS), p) for p in presets},
        "last_quarter": {p: mean(lambda one: one.last_quarter(OURS), p) for p in presets},
        "best_fixed_overall": {p: mean(lambda one: one.overall(BEST_FIXED), p) for p in presets},
        "best_fixed_last_quarter": {p: mean(lambda one: one.last_quarter(BEST_FIXED), p) for p in presets},
        "beats_fixed_last_quarter_every_seed": all(
            one.last_quarter(OURS) > one.last_quarter(BEST_FIXED) for one in results
        ),
        "beats_other_rules_everywhere": all(
            one.overall(OURS) > one.overall(name) for one in results for name in others if name != BEST_FIXED
        ),
        "worst_week_value": round(min(float(one.true.min()) for one in ours), 1),
        "claimed_over_true": {p: mean(lambda one: one.claimed_over_true(OURS), p) for p in presets},
        "claimed_over_true_first_week": {
            p: mean(lambda one: float(one.played[OURS].claimed[0] / one.played[OURS].true[0]), p)
            for p in presets
        },
        "slot_gap_recovered": round(
            float(sum(one.slot_chosen.sum() for one in ours) / sum(one.slot_best.sum() for one in ours)), 3
        ),
        "ineligible_choices": sum(one.ineligible for result in results for one in result.played.values()),
        "largest_deviation_from_one": max(
            one.off_one for result in results for one in result.played.values()
        ),
        "policies": {name: mean(lambda one, name=name: one.overall(name)) for name in names},  # type: ignore[misc]
        "policies_last_quarter": {
            name: mean(lambda one, name=name: one.last_quarter(name))  # type: ignore[misc]
            for name in names
        },
        "worlds": [
            {
                "preset": one.preset,
                "seed": one.seed,
                "overall": {name: round(one.overall(name), 1) for name in names},
                "last_quarter": {name: round(one.last_quarter(name), 1) for name in names},
                "claimed_over_true": round(one.claimed_over_true(OURS), 2),
            }
            for one in results
        ],
        "simulated": True,
    }
    if GREEDY in names:
        found["exploration_cost_points"] = mean(lambda one: one.overall(GREEDY) - one.overall(OURS))
    return found


def show(results: Sequence[WorldResult], console: Console) -> None:
    """Percent of the oracle's value, overall / last quarter, a column a market."""
    table = Table(title="Simulated markets: net value, percent of the oracle's, overall / last quarter")
    table.add_column("policy")
    for one in results:
        table.add_column(f"{one.preset}\nseed {one.seed}", justify="right")
    for name in results[0].played:
        table.add_row(name, *(f"{one.overall(name):.0f} / {one.last_quarter(name):.0f}" for one in results))
    table.add_row("claimed / true", *(f"{one.claimed_over_true(OURS):.2f}" for one in results))
    console.print(table)


def main(arguments: Sequence[str]) -> None:
    """Run, show, plot, and print the JSON line."""
    parser = argparse.ArgumentParser(prog="bench market", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one preset, one seed, fewer decisions")
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--seeds", default=",".join(map(str, FRESH_SEEDS)))
    parser.add_argument("--policies", default=",".join(_RIVALS), help="names, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("docs/reference"), help="folder of the plot")
    given = parser.parse_args(arguments)
    presets, seeds = given.presets.split(","), [int(seed) for seed in given.seeds.split(",")]
    names = [name for name in _RIVALS if name in given.policies.split(",") or name == OURS]
    n_customers, weeks = (QUICK_CUSTOMERS, QUICK_WEEKS) if given.quick else (CUSTOMERS, WEEKS)
    worlds = [(preset, seed) for preset in presets for seed in seeds]
    worlds = worlds[:1] if given.quick else worlds
    console = Console(stderr=True)
    started = time.process_time()
    with Progress(
        TextColumn("{task.description:42}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task("", total=len(worlds) * weeks * (len(names) + 1 + FINALISTS))
        results = [
            run_world(
                preset,
                seed,
                n_customers,
                weeks,
                names,
                lambda words: bar.update(task, advance=1, description=words),
            )
            for preset, seed in worlds
        ]
    show(results, Console())
    plot = save_plot(
        [(f"{one.preset}, seed {one.seed}", one.oracle, one.played) for one in results],
        given.out / ("market_quick.svg" if given.quick else "market.svg"),
    )
    print(f"Plot: {plot}")  # noqa: T201 - what a person reads
    figures = summary(results) | {
        "decisions_per_world": n_customers * weeks,
        "cpu_seconds": round(time.process_time() - started),
    }
    print(json.dumps(figures))  # noqa: T201 - the benchmark's last line

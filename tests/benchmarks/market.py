"""`make bench NAME=market`: what the learned policy earns in simulated markets, beside every rule and rival.

Each policy plays its own copy of a market after the same randomised warm-up and learns from its own log. Its
value is the sum of the true expected net values of what it chose, in percent of what the oracle earns in *its*
copy. Everything is simulated.

Each finished play (market, policy) is kept under `build/market`; started again, the benchmark goes on with what is
missing, and plays again only what other code or another size would change. Several may run side by side, each on
some of the presets. `--show` reports what there is. Plays of the full size come with the repository
(`docs/reference/market`); `--keep` puts new ones there.
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
from tests.benchmarks.bars import exit_code
from tests.benchmarks.market_cells import BEST_FIXED, GREEDY, ORACLE, OURS, Cell, Results
from tests.benchmarks.market_players import Blind, Ours, Rule, fixed, oracle
from tests.benchmarks.market_plot import save_plot
from tests.benchmarks.market_rivals import Linear, MediatedGreedy, OpenRate, SLearner
from tests.benchmarks.market_world import Played, Player, World

CUSTOMERS, WEEKS = 20_000, 10
QUICK_CUSTOMERS, QUICK_WEEKS = 5_000, 5
PRESETS = ("retail", "bank", "travel")
# Nothing was tuned on these.
FRESH_SEEDS = (11, 12, 13)
# Outcomes of a day are final a week later. A service trains every night; here more often than weekly only while a night's
# rows still are a large part of the log.
REFIT_DAYS = frozenset({0, 9, 11, *range(14, 7 * WEEKS, 7)})
# Fixed choices that look best at the start are played out; the best of them is the best in hindsight.
FINALISTS = 6
SHIPPED = Path("docs/reference/market")
RANDOM, CHEAPEST, GROSS = "random", "cheapest_first", "LightGBM gross response"
# How hard a market has to be: percent of the oracle's value, lowest and highest.
_BANDS = {RANDOM: (-np.inf, -10.0), CHEAPEST: (-np.inf, 12.0), GROSS: (-np.inf, 32.0)}
_BEST_FIXED_BAND = (20.0, 42.0)
FIRST_SETTLED_WEEK = 3

_RIVALS: dict[str, Callable[[], Player]] = {
    RANDOM: lambda: Blind(Uniform()),
    CHEAPEST: lambda: Blind(CheapestFirst()),
    "highest open rate": OpenRate,
    GROSS: lambda: SLearner(gross=True),
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

    def outside_the_bands(self) -> list[str]:
        """Where this market is easier, or other, than a hard one has to be."""
        bands = {BEST_FIXED: _BEST_FIXED_BAND, **_BANDS}
        return [
            f"{self.preset} {self.seed}: {name} {self.overall(name):.1f}"
            for name, (low, high) in bands.items()
            if name in self.played and not low <= self.overall(name) <= high
        ]


def _quarter(weeks: int) -> int:
    return -(-weeks // 4)


def plan(presets: Sequence[str], seeds: Sequence[int], names: Sequence[str]) -> list[Cell]:
    """What there is to play, the most telling first: the yardsticks and the bandit in every market, then the rest."""
    passes = ((ORACLE, BEST_FIXED, OURS), (GREEDY, *_BANDS), tuple(_RIVALS))
    wanted = (ORACLE, BEST_FIXED, *names)
    cells = [
        Cell(preset=preset, seed=seed, policy=name, kind=_kind(name))
        for together in passes
        for seed in seeds
        for preset in presets
        for name in together
        if name in wanted
    ]
    return list(dict.fromkeys(cells))


def _kind(name: str) -> str:
    if name in (ORACLE, BEST_FIXED) or not (player := _RIVALS[name]()).needs_features:
        return "rule"
    return "ours" if isinstance(player, Ours) else "rival"


def play(world: World, cell: Cell, weeks: int, tick: Callable[[], None]) -> Played:
    """Play one market by one policy, on a copy."""
    if cell.policy != BEST_FIXED:
        player = Rule(oracle) if cell.policy == ORACLE else _RIVALS[cell.policy]()
        return world.fork().play(player, weeks, REFIT_DAYS, tick)
    rows = np.arange(world.market.n_customers)
    mask = world.market.mask(rows, world.campaign, world.now)
    value = np.where(mask, world.market.expected_net_value(rows, world.now), 0.0).mean(axis=0)[:-1]
    tried = [
        world.fork().play(Rule(fixed(int(action))), weeks, REFIT_DAYS, lambda: None)
        for action in np.argsort(-value)[:FINALISTS]
    ]
    for _ in range(weeks):
        tick()
    return max(tried, key=lambda one: float(one.true.sum()))


def play_all(
    cells: Sequence[Cell], results: Results, n_customers: int, weeks: int, tick: Callable[[Cell], None]
) -> None:
    """Play what has not been played yet; markets are built when they are first needed."""
    world: World | None = None
    of: tuple[str, int] | None = None
    for cell in cells:
        if results.load(cell) is not None:
            for _ in range(weeks):
                tick(cell)
            continue
        started = time.process_time()
        if world is None or of != (cell.preset, cell.seed):
            world, of = World(cell.preset, cell.seed, n_customers), (cell.preset, cell.seed)
        results.save(
            cell, play(world, cell, weeks, lambda cell=cell: tick(cell)), time.process_time() - started
        )


def collect(cells: Sequence[Cell], results: Results) -> list[WorldResult]:
    """The finished cells by market; a market without its oracle or the bandit tells nothing yet."""
    played = {cell: one for cell in cells if (one := results.load(cell)) is not None}
    found = []
    for preset, seed in dict.fromkeys((cell.preset, cell.seed) for cell in cells):
        own = {cell.policy: one for cell, one in played.items() if (cell.preset, cell.seed) == (preset, seed)}
        if {ORACLE, OURS} <= own.keys():
            order = (BEST_FIXED, *_RIVALS)
            found.append(
                WorldResult(
                    preset, seed, own[ORACLE].true, {name: own[name] for name in order if name in own}
                )
            )
    return found


def summary(results: Sequence[WorldResult]) -> dict[str, object]:
    """The figures of the JSON line; a mean over markets only where all of them are finished."""
    presets = list(dict.fromkeys(one.preset for one in results))
    names = [name for name in (BEST_FIXED, *_RIVALS) if any(name in one.played for one in results)]
    others = [name for name in names if name not in (OURS, GREEDY, BEST_FIXED)]

    def mean(of: Callable[[WorldResult], float], over: Sequence[WorldResult]) -> float:
        return round(float(np.mean([of(one) for one in over])), 2)

    def by_preset(name: str, of: Callable[[WorldResult], float]) -> dict[str, float]:
        having = [one for one in results if name in one.played]
        return {p: mean(of, own) for p in presets if (own := [one for one in having if one.preset == p])}

    def over_all(of: Callable[[WorldResult, str], float]) -> dict[str, float]:
        return {
            name: round(float(np.mean([of(one, name) for one in results])), 2)
            for name in names
            if all(name in one.played for one in results)
        }

    ours = [one.played[OURS] for one in results]
    found: dict[str, object] = {
        "bench": "market",
        "overall": by_preset(OURS, lambda one: one.overall(OURS)),
        "last_quarter": by_preset(OURS, lambda one: one.last_quarter(OURS)),
        "best_fixed_overall": by_preset(BEST_FIXED, lambda one: one.overall(BEST_FIXED)),
        "best_fixed_last_quarter": by_preset(BEST_FIXED, lambda one: one.last_quarter(BEST_FIXED)),
        "beats_fixed_last_quarter_every_seed": all(
            one.last_quarter(OURS) > one.last_quarter(BEST_FIXED)
            for one in results
            if BEST_FIXED in one.played
        ),
        "beats_other_rules_everywhere": all(
            one.overall(OURS) > one.overall(name) for one in results for name in others if name in one.played
        ),
        "worst_week_value": round(min(float(one.true.min()) for one in ours), 1),
        "claimed_over_true": by_preset(OURS, lambda one: one.claimed_over_true(OURS)),
        "claimed_over_true_first_week": by_preset(
            OURS, lambda one: float(one.played[OURS].claimed[0] / one.played[OURS].true[0])
        ),
        "slot_gap_recovered": round(
            float(sum(one.slot_chosen.sum() for one in ours) / sum(one.slot_best.sum() for one in ours)), 3
        ),
        "ineligible_choices": sum(one.ineligible for result in results for one in result.played.values()),
        "largest_deviation_from_one": max(
            one.off_one for result in results for one in result.played.values()
        ),
        "policies": over_all(lambda one, name: one.overall(name)),
        "policies_last_quarter": over_all(lambda one, name: one.last_quarter(name)),
        "outside_the_bands": [words for one in results for words in one.outside_the_bands()],
        "worlds": [
            {
                "preset": one.preset,
                "seed": one.seed,
                "overall": {name: round(one.overall(name), 1) for name in one.played},
                "last_quarter": {name: round(one.last_quarter(name), 1) for name in one.played},
                "claimed_over_true": round(one.claimed_over_true(OURS), 2),
                "claimed_over_true_first_week": round(
                    float(one.played[OURS].claimed[0] / one.played[OURS].true[0]), 2
                ),
                "worst_week_value": round(float(one.played[OURS].true.min()), 1),
            }
            for one in results
        ],
        "simulated": True,
    }
    if both := [one for one in results if GREEDY in one.played]:
        found["exploration_cost_points"] = mean(lambda one: one.overall(GREEDY) - one.overall(OURS), both)
    return found


def show(results: Sequence[WorldResult], console: Console) -> None:
    """Percent of the oracle's value, overall / last quarter, a column a market."""
    table = Table(title="Simulated markets: net value, percent of the oracle's, overall / last quarter")
    table.add_column("policy")
    for one in results:
        table.add_column(f"{one.preset}\nseed {one.seed}", justify="right")
    for name in (BEST_FIXED, *_RIVALS):
        if any(name in one.played for one in results):
            table.add_row(
                name,
                *(
                    f"{one.overall(name):.0f} / {one.last_quarter(name):.0f}" if name in one.played else ""
                    for one in results
                ),
            )
    table.add_row("claimed / true", *(f"{one.claimed_over_true(OURS):.2f}" for one in results))
    console.print(table)


def main(arguments: Sequence[str]) -> int:
    """Run, show, plot, and print the JSON line; 1 where a bar is missed by all policies in all markets."""
    parser = argparse.ArgumentParser(prog="bench market", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one preset, one seed, fewer decisions")
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--seeds", default=",".join(map(str, FRESH_SEEDS)))
    parser.add_argument(
        "--policies",
        default=",".join(_RIVALS),
        help="names, separated by commas; the yardsticks are played in any case",
    )
    parser.add_argument("--out", type=Path, default=Path("docs/reference"), help="folder of the plot")
    parser.add_argument("--results", type=Path, default=Path("build/market"), help="folder of finished plays")
    parser.add_argument("--show", action="store_true", help="play nothing, report what is finished")
    parser.add_argument("--keep", action="store_true", help="keep what is finished in the repository")
    given = parser.parse_args(arguments)
    presets, seeds = given.presets.split(","), [int(seed) for seed in given.seeds.split(",")]
    names = [name for name in _RIVALS if name in given.policies.split(",")]
    n_customers, weeks = (QUICK_CUSTOMERS, QUICK_WEEKS) if given.quick else (CUSTOMERS, WEEKS)
    whole = (
        not given.quick
        and len(names) == len(_RIVALS)
        and {*presets} >= {*PRESETS}
        and {*seeds} >= {*FRESH_SEEDS}
    )
    cells = plan(presets[:1] if given.quick else presets, seeds[:1] if given.quick else seeds, names)
    results = Results(
        given.results,
        SHIPPED,
        {"customers": n_customers, "weeks": weeks, "refits": sorted(REFIT_DAYS), "finalists": FINALISTS},
    )
    console = Console(stderr=True)
    started = time.process_time()
    if not given.show:
        with Progress(
            TextColumn("{task.description:42}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not sys.stderr.isatty(),
        ) as bar:
            task = bar.add_task("", total=len(cells) * weeks)
            play_all(
                cells,
                results,
                n_customers,
                weeks,
                lambda cell: bar.update(
                    task, advance=1, description=f"{cell.preset} {cell.seed}: {cell.policy}"
                ),
            )
    if given.keep and not given.quick:
        console.print(f"{results.keep(cells)} plays in {SHIPPED}")
    found = collect(cells, results)
    if not found:
        raise SystemExit("no market is finished by the oracle and the bandit yet: run without --show")
    show(found, Console())
    plot = save_plot(
        [(f"{one.preset}, seed {one.seed}", one.oracle, one.played) for one in found],
        given.out / ("market_quick.svg" if given.quick else "market.svg"),
    )
    print(f"Plot: {plot}")  # noqa: T201 - what a person reads
    figures = summary(found) | {
        "decisions_per_world": n_customers * weeks,
        "cells": f"{sum(results.load(cell) is not None for cell in cells)} of {len(cells)}",
        "cpu_seconds": round(time.process_time() - started),
    }
    print(json.dumps(figures))  # noqa: T201 - the benchmark's last line
    return exit_code(figures) if whole else 0

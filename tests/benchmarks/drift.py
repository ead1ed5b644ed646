"""What the bandit wins when the market drifts, against the same model and exploration without learning.

`python tests/benchmarks/drift.py [--quick]`, run in the root of the project, prints a table, saves a plot and
prints one line of JSON last. All of it is simulated: points are percent of what full knowledge of the truth would
earn in the world at hand.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.choice import FloatArray
from tests.benchmarks.bars import exit_code
from tests.benchmarks.drift_branches import World, warmed_up
from tests.benchmarks.drift_history import Scene, build_scene
from training.simulator.market import Market

# Seeds that nothing was tuned on.
MARKETS = (("retail", 11), ("travel", 12), ("bank", 13))
N_CUSTOMERS = 20_000
NEW_CHANNEL = "whatsapp"
HOURS = 4.0
# A gap that is smaller than this is noise.
SMALLEST_GAP = 3.0
_CHANCE = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One world of one market, points of the oracle.

    Attributes:
        frozen: The response model with the bandit's exploration, without learning.
        gap: What the same would gain if told the true change of every response.
        learning: What the bandit gains.
        sabotaged: What the bandit gains whose experts are taught the opposite.
        explored: What exploration costs the frozen branch against greed.
        off_slot: Share of the learning branch's contacts away from the favourite slot of their channel.
        by_day: `learning` by day, shape (days,).
    """

    market: str
    seed: int
    world: str
    frozen: float
    gap: float
    learning: float
    sabotaged: float
    explored: float
    off_slot: float
    by_day: FloatArray


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small market: shows that it runs, no more")
    parser.add_argument("--out", type=Path, default=Path("docs/reference"), help="folder of the plot")
    options = parser.parse_args(argv)
    began = time.process_time()
    markets, n_customers = (MARKETS[:1], 4_000) if options.quick else (MARKETS, N_CUSTOMERS)
    rows: list[Row] = []
    say(f"{'market':8} {'world':12} {'frozen':>7} {'gap':>6} {'learning':>9} {'sabotaged':>10}")
    for preset, seed in markets:
        for row in play_market(preset, seed, n_customers):
            rows.append(row)
            say(
                f"{row.market:8} {row.world:12} {row.frozen:7.1f} {row.gap:6.1f} {row.learning:+9.1f} "
                f"{row.sabotaged:+10.1f}"
            )
    plot = options.out / "drift.png"
    save_plot(rows, plot)
    say(f"Plot: {plot}")
    found = figures(rows) | {"quick": options.quick, "cpu_s": round(time.process_time() - began)}
    say(json.dumps(found))
    return 0 if options.quick else exit_code(found)


def say(line: str) -> None:
    """One line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def play_market(preset: str, seed: int, n_customers: int) -> list[Row]:
    """All worlds of one market."""
    scene = build_scene(preset, n_customers, seed)
    stationary = World(scene, _unchanged)
    liked = stationary.frozen(warmed_up(scene)).contacts
    order = [stationary.grid.channels[c] for c in np.argsort(-liked)]
    rows = [_play(scene, preset, seed, "stationary", stationary)]
    for name, change in drifts(order).items():
        rows.append(_play(scene, preset, seed, name, World(scene, change)))
    without = build_scene(preset, n_customers, seed, withheld=(NEW_CHANNEL,))
    opened = World(without, lambda market: market.new_channel(NEW_CHANNEL))
    rows.append(_play(without, preset, seed, "new channel", opened))
    return rows


def drifts(order: Sequence[str]) -> dict[str, Callable[[Market], None]]:
    """Changes of the truth, by name.

    An unread channel still works by mere arrival, as the direct path has it; a dead one does nothing at all.

    Args:
        order: Channels, those that the frozen branch uses most first.
    """

    def mild(market: Market) -> None:
        market.collapse(order[0], 1.2)
        market.boost(order[1], 0.6)
        market.boost(order[2], 0.6)

    def big(market: Market) -> None:
        market.collapse(order[0], 2.0)
        market.collapse(order[1], 2.0)
        market.boost(order[2], 1.0)
        market.boost(order[3], 1.0)

    def dead(market: Market) -> None:
        market.collapse(order[0])
        market.response.truth.effect[list(market.preset.channels).index(order[0])] = 0.0

    return {
        "mild drift": mild,
        "big drift": big,
        "unread": lambda market: market.collapse(order[0]),
        "dead channel": dead,
        "hours later": lambda market: market.shift_hours(HOURS),
        "hours sooner": lambda market: market.shift_hours(-HOURS),
    }


def _unchanged(market: Market) -> None:
    """Nothing drifts."""


def _play(scene: Scene, preset: str, seed: int, name: str, world: World) -> Row:
    bandit = warmed_up(scene)
    frozen = world.frozen(bandit)
    learning = world.learning(bandit, _CHANCE)
    total = float(frozen.points.sum())
    return Row(
        market=preset,
        seed=seed,
        world=name,
        frozen=total,
        gap=float(world.informed(bandit).points.sum()) - total,
        learning=float(learning.points.sum()) - total,
        sabotaged=float(world.sabotaged(bandit, _CHANCE).points.sum()) - total,
        explored=float(world.greedy().points.sum()) - total,
        off_slot=learning.off_slot,
        by_day=learning.points - frozen.points,
    )


def figures(rows: Sequence[Row]) -> dict[str, object]:
    """The line of JSON: means over markets, the worst where safety is at stake."""

    def gain(*worlds: str) -> float:
        return float(np.mean([row.learning for row in rows if row.world in worlds]))

    recoverable = [row for row in rows if row.gap >= SMALLEST_GAP]
    shares = [row.learning / row.gap for row in recoverable]
    return {
        "bench": "drift",
        "gain_dead_channel_points": round(gain("dead channel"), 2),
        "gain_hours_move_points": round(gain("hours later", "hours sooner"), 2),
        "share_of_recoverable_gap": round(float(np.mean(shares)), 3) if shares else None,
        "worst_stationary_points": round(min(r.learning for r in rows if r.world == "stationary"), 2),
        "sabotaged_points": round(min(row.sabotaged for row in rows), 2),
        "gain_points": {world: round(gain(world), 2) for world in dict.fromkeys(row.world for row in rows)},
        "exploration_cost_points": round(max(r.explored for r in rows if r.world == "stationary"), 2),
        "least_off_slot_share": round(min(row.off_slot for row in rows), 4),
        "markets": [f"{preset} {seed}" for preset, seed in dict.fromkeys((r.market, r.seed) for r in rows)],
    }


def save_plot(rows: Sequence[Row], path: Path) -> None:
    """What learning has gained by day, summed up, mean over markets."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for world in dict.fromkeys(row.world for row in rows):
        days = np.mean([row.by_day for row in rows if row.world == world], axis=0)
        axes.plot(np.arange(1, len(days) + 1), np.cumsum(days), label=world)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xlabel("day after the drift")
    axes.set_ylabel("gain over the frozen control, points of the oracle")
    axes.set_title("What the bandit wins by learning (simulated markets)")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())

"""The plot of the market benchmark: percent of the oracle's value by week."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np

from models.choice import FloatArray
from tests.benchmarks.market_cells import BEST_FIXED, GREEDY, OURS
from tests.benchmarks.market_world import Played

# Far below, a line tells nothing but that the policy loses money.
_LOWEST, _HIGHEST = -30, 80
_COLUMNS = 3
# What the rest is read against, and what is ours.
_BROAD = {
    BEST_FIXED: {"color": "black", "ls": "--", "lw": 1.6},
    GREEDY: {"color": "tab:cyan", "lw": 2.2},
    OURS: {"color": "tab:blue", "lw": 2.2},
}
_NARROW = ("orange", "green", "red", "purple", "brown", "pink", "gray", "olive")


def save_plot(worlds: Sequence[tuple[str, FloatArray, Mapping[str, Played]]], path: Path) -> Path:
    """One panel a market, one line a policy.

    Args:
        worlds: Title, the oracle's value by week, and what each policy played.
        path: Of the file; its folder is made.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "market"
    from matplotlib import pyplot as plt

    columns = min(_COLUMNS, len(worlds))
    n_rows = -(-len(worlds) // columns)
    figure, axes = plt.subplots(n_rows, columns, figsize=(5 * columns, 3.4 * n_rows), squeeze=False)
    for axis, (title, oracle, played) in zip(axes.flat, worlds, strict=False):
        colors = cycle(_NARROW)
        for name, one in played.items():
            share = np.clip(100 * one.true / oracle, _LOWEST, _HIGHEST)
            style = _BROAD.get(name) or {"color": f"tab:{next(colors)}", "lw": 1.0}
            axis.plot(np.arange(1, len(share) + 1), share, label=name, **style)
        axis.set(title=f"{title} (simulated)", xlabel="week", ylabel="% of the oracle's value")
        axis.set_ylim(_LOWEST - 2, _HIGHEST)
        axis.axhline(0, color="grey", lw=0.5)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=6, fontsize=8)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path

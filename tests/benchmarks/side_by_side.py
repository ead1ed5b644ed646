"""Everybody's features by one process and by several of this machine (`NEXTCHANNEL_DASK=2`), in turn.

    make bench NAME=side_by_side [ARGS="--quick --processes 4"]

The same `materialize` over the same history, start and end of the processes included; the median of the ratios counts.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from features.offline import materialize
from features.workspace import FeatureWorkspace
from tests.benchmarks.feature_history import CHANNELS, END, fill, open_history


def seconds_of(workspace: FeatureWorkspace) -> float:
    """How long everybody's features take."""
    before = time.perf_counter()
    materialize(workspace, END)
    return time.perf_counter() - before


def main(arguments: list[str]) -> int:
    """Measure and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--facts", type=int, default=2_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a small history, one round")
    wanted = parser.parse_args(arguments)
    if wanted.quick:
        wanted.customers, wanted.facts, wanted.rounds = 25_000, 200_000, 1
    with tempfile.TemporaryDirectory() as folder:
        history = open_history(Path(folder) / "history.db")
        fill(history, wanted.customers, wanted.facts, 1)
        alone, together = (
            FeatureWorkspace(Path(folder) / name, history, dask=dask)
            for name, dask in (("alone", ""), ("together", str(wanted.processes)))
        )
        for each in (alone, together):
            each.define(CHANNELS)
        measured = [(seconds_of(alone), seconds_of(together)) for _ in range(wanted.rounds)]
        history.dispose()
    for one, several in measured:
        sys.stdout.write(f"  one process {one:8.1f} s, {wanted.processes} processes {several:8.1f} s\n")
    figures = {
        "bench": "side_by_side",
        "several_over_one_time": round(float(np.median([several / one for one, several in measured])), 3),
        "customers": wanted.customers,
        "facts": wanted.facts,
        "processes": wanted.processes,
        "one_s": round(float(np.median([one for one, _ in measured])), 2),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0

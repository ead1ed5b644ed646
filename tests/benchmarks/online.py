"""Feature rows for decisions: out of the cache, out of the store, one by one and a thousand at once.

    make bench NAME=online [ARGS=--quick]

The baseline is a bare FastAPI endpoint, measured in the same run: see `tests.benchmarks.bare`. Every read is of other
customers, over the whole list of features with four channels, from Feast's SQLite store.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from features.offline import materialize
from features.online import FeatureReader
from features.row_cache import RowCache
from features.workspace import FeatureWorkspace
from tests.benchmarks.bare import bare_requests, load, serving
from tests.benchmarks.bars import exit_code
from tests.benchmarks.feature_history import CHANNELS, END, customer_ids, fill, open_history

_BULK = 1_000


def per_call(read: Callable[[Sequence[str]], object], calls: Sequence[Sequence[str]]) -> float:
    """Median seconds of a call."""
    spent = []
    for customers in calls:
        before = time.perf_counter()
        read(customers)
        spent.append(time.perf_counter() - before)
    return float(np.median(spent))


def measure(folder: Path, n_customers: int, n_reads: int) -> dict[str, object]:
    """Every figure but the baseline."""
    engine = open_history(folder / "history.db")
    fill(engine, n_customers, 10 * n_customers, 0)
    workspace = FeatureWorkspace(folder, engine)
    features = workspace.define(CHANNELS)
    materialize(workspace, END)
    workspace.cache = cache = RowCache(most_rows=n_customers, trust_seconds=3_600.0)
    reader = FeatureReader(workspace)
    people = customer_ids(n_customers)
    order = np.random.default_rng(1).permutation(n_customers)
    ones = [[people[i]] for i in order[:n_reads]]
    thousands = [
        [people[i] for i in order[at : at + _BULK]] for at in range(0, n_customers - _BULK + 1, _BULK)
    ]

    def read(customers: Sequence[str]) -> None:
        if reader.read(customers, END).missing.any():
            raise AssertionError("everybody has a row")

    read(ones[0])
    cache.clear()
    cold_one = per_call(read, ones)
    cache.clear()
    gc.collect()
    tracemalloc.start()
    for some in thousands:
        read(some)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    n_cached = len(cache)
    cache.clear()
    cold_bulk = per_call(read, thousands)
    warm_one = per_call(read, ones)
    warm_bulk = per_call(read, thousands * 5)
    return {
        "warm_read_us": round(warm_one * 1e6, 1),
        "us_per_customer_in_1000": round(warm_bulk / _BULK * 1e6, 2),
        "us_per_customer_in_1000_cold": round(cold_bulk / _BULK * 1e6, 1),
        "cold_read_us": round(cold_one * 1e6, 1),
        "bytes_per_customer": round(held / n_cached),
        "features": len(features.names),
        "customers": n_customers,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer customers and reads")
    asked = parser.parse_args(arguments)
    n_customers, n_reads = (5_000, 1_000) if asked.quick else (50_000, 5_000)
    with serving("tests.benchmarks.bare:create") as server:
        load(server.port, bare_requests(500))
        bare = load(server.port, bare_requests(n_reads))
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), n_customers, n_reads)
    bare_us = bare.quantile_ms(0.5) * 1_000
    ratio = float(str(figures["warm_read_us"])) / bare_us
    figures = {
        "bench": "online",
        "warm_read_over_bare": round(ratio, 4),
        "bare_p50_us": round(bare_us, 1),
        **figures,
        "cold_read_over_bare": round(float(str(figures["cold_read_us"])) / bare_us, 2),
    }
    print(json.dumps(figures))  # noqa: T201
    return exit_code(figures)


if __name__ == "__main__":
    sys.exit(main())

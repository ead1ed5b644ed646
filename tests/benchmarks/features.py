"""A training frame of many decisions from a long history, and everybody's row into the online store.

    make bench NAME=features [ARGS=--quick]

Feast reads the same rows with its own DuckDB store in the same run; every reading runs in a process of its own, whose
peak memory is taken. Feast's default `materialize` takes rows that lie ready to the online store; ours is timed for the
same work, and once more with computing the rows from the interactions. Feast writes one statement a feature, so it is
timed on fewer customers and scaled up; the JSON says on how many.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import polars as pl

from features.history.engine import connect
from features.offline import build_snapshots, materialize, training_frame
from features.workspace import FeatureWorkspace
from tests.benchmarks.bars import exit_code
from tests.benchmarks.feature_history import CHANNELS, END, fill, open_history, points


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    customers: int
    facts: int
    points: int
    feast_customers: int


WHOLE = Size(customers=100_000, facts=10_000_000, points=1_000_000, feast_customers=2_000)
QUICK = Size(customers=5_000, facts=200_000, points=50_000, feast_customers=500)
SMALL = Size(customers=100, facts=4_000, points=500, feast_customers=20)


@dataclass(frozen=True, kw_only=True)
class Took:
    """One step in a process of its own."""

    seconds: float
    cpu_seconds: float  # of every thread: what neighbours on the machine disturb less
    peak_mb: float
    n: int


def workspace_of(folder: Path) -> FeatureWorkspace:
    """The installation in that folder."""
    return FeatureWorkspace(folder, connect(f"sqlite:///{folder / 'history.db'}"))


def build(folder: Path, size: Size) -> int:
    """Rows of every point, from the interactions."""
    return build_snapshots(workspace_of(folder), points(size.customers, size.points, 1), END)


def frame(folder: Path, size: Size) -> int:
    """The frame as training gets it."""
    return len(training_frame(workspace_of(folder), points(size.customers, size.points, 1)))


def feast_frame(folder: Path, size: Size) -> int:
    """The same frame by Feast's own DuckDB store."""
    workspace = workspace_of(folder)
    store = workspace.open_feast(offline_store={"type": "duckdb"})
    asked = points(size.customers, size.points, 1).with_row_index("point")
    job = store.get_historical_features(
        entity_df=asked.to_pandas(),
        features=[f"{workspace.views.rows.name}:{name}" for name in workspace.features.names],
    )
    return len(pl.DataFrame(job.to_arrow()).sort("point"))


def everybody(folder: Path, size: Size) -> int:
    """Everybody's row, from the interactions into the online store."""
    return materialize(workspace_of(folder), END)


def online_write(folder: Path, size: Size) -> int:
    """Everybody's row, lying ready as Feast's do, into the online store."""
    workspace = workspace_of(folder)
    n = 0
    for path in sorted(workspace.rows_dir.glob("served-*.parquet")):
        rows = pl.read_parquet(path)
        workspace.write_online(rows)
        n += len(rows)
    return n


def feast_everybody(folder: Path, size: Size) -> int:
    """Feast's default `materialize` of the same features, for some customers whose rows lie ready."""
    from datetime import timedelta

    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Float64, Int64, String

    workspace = workspace_of(folder)
    features = workspace.features
    some = pl.read_parquet(workspace.rows_dir / "served-*.parquet").head(size.feast_customers)
    rows = folder / "some.parquet"
    some.write_parquet(rows)
    store = workspace.open_feast(
        online_store={"type": "sqlite", "path": str(folder / "default.db")},
        registry={"path": str(folder / "default-registry.db")},
    )
    entity = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    types = {"float64": Float64, "int64": Int64}
    view = FeatureView(
        name="default",
        entities=[entity],
        ttl=timedelta(0),
        schema=[
            Field(name="customer_id", dtype=String),
            *(Field(name=each.name, dtype=types[each.dtype]) for each in features.features),
        ],
        source=FileSource(name="some", path=str(rows), timestamp_field="event_timestamp"),
    )
    store.apply([entity, view])
    started = time.perf_counter()
    store.materialize(END - timedelta(days=1), END + timedelta(days=1))
    (folder / "feast-seconds").write_text(str(time.perf_counter() - started))
    return len(some)


def in_process(step: Callable[[Path, Size], int], folder: Path, size: Size) -> Took:
    """Run a step in a fresh process; what libraries take to load is not counted."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_timed, (step, folder, size))


def _timed(step: Callable[[Path, Size], int], folder: Path, size: Size) -> Took:
    import ibis

    provider = workspace_of(folder).store.provider
    assert provider.online_store, provider.offline_store
    ibis.memtable({"loaded": [1]}).execute()
    before, cpu_before = time.perf_counter(), time.process_time()
    n = step(folder, size)
    seconds, cpu_seconds = time.perf_counter() - before, time.process_time() - cpu_before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Took(seconds=seconds, cpu_seconds=cpu_seconds, peak_mb=peak, n=n)


def measure(folder: Path, size: Size, say: Callable[[str], None]) -> dict[str, object]:
    """All figures."""
    before = time.perf_counter()
    engine = open_history(folder / "history.db")
    fill(engine, size.customers, size.facts, 0)
    workspace = FeatureWorkspace(folder, engine)
    n_features = len(workspace.define(CHANNELS).names)
    engine.dispose()
    say(f"{size.facts:,} interactions of {size.customers:,} customers: {time.perf_counter() - before:.0f} s")
    took: dict[str, Took] = {}
    for name, step in (
        ("build", build),
        ("feast_frame", feast_frame),
        ("frame", frame),
        ("materialize", everybody),
        ("online_write", online_write),
        ("feast_materialize", feast_everybody),
    ):
        took[name] = in_process(step, folder, size)
        say(
            f"{name:>18}: {took[name].n:,} rows, {took[name].seconds:.1f} s"
            f" ({took[name].cpu_seconds:.1f} s of CPU), peak {took[name].peak_mb:.0f} MB"
        )
    if not took["build"].n == took["frame"].n == took["feast_frame"].n == size.points:
        raise AssertionError(f"{size.points} points gave other numbers of rows: {took}")
    feast_seconds = (
        float((folder / "feast-seconds").read_text()) * size.customers / took["feast_materialize"].n
    )
    return {
        "bench": "features",
        "frame_time_over_feast": round(took["frame"].seconds / took["feast_frame"].seconds, 3),
        "frame_cpu_over_feast": round(took["frame"].cpu_seconds / took["feast_frame"].cpu_seconds, 3),
        "peak_rss_mb": round(max(took[name].peak_mb for name in ("build", "frame", "materialize"))),
        "materialize_time_over_feast": round(took["online_write"].seconds / feast_seconds, 4),
        "materialize_with_computing_over_feast": round(took["materialize"].seconds / feast_seconds, 4),
        "frame_seconds": round(took["frame"].seconds, 1),
        "feast_frame_seconds": round(took["feast_frame"].seconds, 1),
        "feast_frame_peak_mb": round(took["feast_frame"].peak_mb),
        "build_seconds": round(took["build"].seconds, 1),
        "build_and_frame_over_feast": round(
            (took["build"].seconds + took["frame"].seconds)
            / (took["build"].seconds + took["feast_frame"].seconds),
            3,
        ),
        "materialize_seconds": round(took["materialize"].seconds, 1),
        "feast_materialize_seconds": round(feast_seconds, 1),
        "feast_materialize_measured_on": took["feast_materialize"].n,
        "features": n_features,
        "points": size.points,
        "interactions": size.facts,
        "customers": size.customers,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of it")
    parser.add_argument("--interactions", type=int, help="another length of the history")
    asked = parser.parse_args(arguments)
    size = QUICK if asked.quick else WHOLE
    size = replace(size, facts=asked.interactions or size.facts)
    say = partial(print, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), size, say)
    print(json.dumps(figures))  # noqa: T201
    return exit_code(figures)


if __name__ == "__main__":
    sys.exit(main())

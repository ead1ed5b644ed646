"""Feature rows for training, and the latest row of everybody for serving."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from sqlalchemy import select

from features.changes import announce, announced_since, last_change
from features.compute import POINTS
from features.erasure import forget_erased
from features.history.engine import read_only
from features.history.export import MOMENT
from features.history.tables import customers
from features.online import FeatureWriter
from features.workspace import FeatureWorkspace, as_vectors

# Everybody's row is materialised once a day: a decision used a row that was no older.
_SERVED_WITHIN = timedelta(days=1)
# How many customers are computed at a time, so that memory is bounded by their facts and not by the history.
_PEOPLE_A_CHUNK = 10_000
# Each refresh leaves a small file; above this many they are joined into one.
_MOST_SERVED_FILES = 32


def build_snapshots(workspace: FeatureWorkspace, points: pl.DataFrame, now: datetime) -> int:
    """Compute the rows that training will ask for and that do not exist yet.

    A point that was served a row within the day before it needs none: training sees what the decision saw.
    Every other point gets a row of its very moment, for example decisions of an imported history. So there
    are as many rows as decisions; a row a customer and day would be ten times as many, and up to a day old.

    One process at a time: whoever asks for the same points meanwhile waits, and finds them built. Rows of people who
    were erased meanwhile are taken out again.

    Args:
        workspace: With a defined list.
        points: Columns `customer_id` and `event_timestamp` (aware UTC): the moments of decisions.
        now: When the rows are computed.

    Returns:
        Number of rows computed.
    """
    workspace.flush_served()
    wanted = points.select(POINTS.names()).cast(POINTS).unique(maintain_order=True)
    with workspace.holding_rows():
        rewritten = _join_served_files(workspace, now)
        wanted = wanted.join(_covered(workspace, wanted), on=POINTS.names(), how="anti")
        for _, rows in workspace.compute_parts(_by_customers(wanted)):
            workspace.write_rows(rows, "built", now)
    forget_erased(workspace, list({*rewritten, *wanted["customer_id"]}))
    return len(wanted)


def training_frame(workspace: FeatureWorkspace, points: pl.DataFrame) -> pl.DataFrame:
    """Join every point with the features that were current then, by Feast's point-in-time join.

    Args:
        workspace: With rows for all points: see `build_snapshots`.
        points: Columns `customer_id`, `event_timestamp` (aware UTC) and any others, shape (n, k).

    Returns:
        The points with their columns and one more a feature, shape (n, k + F), in the order given.

    Raises:
        ValueError: points are without a row, or Feast returned another number of rows than it was asked for.
    """
    features = workspace.features
    workspace.flush_served()
    asked = points.select(POINTS.names()).cast(POINTS).with_row_index("point")
    with workspace.holding_rows(shared=True):
        job = workspace.store.get_historical_features(
            entity_df=asked.to_pandas(),
            features=[f"{workspace.views.rows.name}:{name}" for name in features.names],
        )
        joined = pl.DataFrame(job.to_arrow())
    if not joined["point"].is_sorted():
        joined = joined.sort("point")
    # Some of Feast's stores silently drop points whose only rows lie in the future.
    if len(joined) != len(points):
        raise ValueError(f"Feast gave {len(joined)} rows for {len(points)} points")
    counts = [each.name for each in features.features if each.dtype == "int64"]
    n_empty = int(joined[counts[0]].null_count())
    if n_empty:
        raise ValueError(f"{n_empty} of {len(points)} points have no feature row: build_snapshots makes them")
    return points.hstack(joined.select(features.names))


def materialize(
    workspace: FeatureWorkspace, now: datetime, progress: Callable[[float], None] | None = None
) -> int:
    """Compute everybody's row as of now and write it to the online store and to the rows for training.

    One array a customer is written, in large batches: Feast's own `materialize` writes one statement a
    feature.

    Args:
        workspace: With a defined list.
        now: As of when.
        progress: Told the share that is done, in [0, 1].

    Returns:
        Number of customers.
    """
    with read_only(workspace.engine).connect() as conn:
        people = conn.scalars(select(customers.c.customer_id).order_by(customers.c.customer_id)).all()
        change_id = last_change(conn)
    if not people:
        return 0
    points = pl.DataFrame({"customer_id": people}).with_columns(event_timestamp=pl.lit(now).cast(MOMENT))
    parts = []
    n_done = 0
    for some, rows in workspace.compute_parts(_by_customers(points)):
        workspace.write_rows(rows, "served", now)
        workspace.write_online(rows)
        _repeat_changed(workspace, some["customer_id"].to_list(), change_id)
        parts.append(
            rows.select(*POINTS.names()).with_columns(
                vector=pl.Series(as_vectors(rows, workspace.features), dtype=pl.Array(pl.Float64, 1 + len(workspace.features.names))).cast(pl.List(pl.Float64))
            )
        )  # fmt: skip
        n_done += len(some)
        if progress is not None:
            progress(n_done / len(points))
    written = workspace.vectors_file.with_suffix(".tmp")
    pl.concat(parts).write_parquet(written)
    written.rename(workspace.vectors_file)
    forget_erased(workspace, people)
    with workspace.engine.begin() as conn:
        announce(conn, None, now)
    return len(points)


def _repeat_changed(workspace: FeatureWorkspace, customer_ids: list[str], change_id: int) -> None:
    """Refresh those whose row somebody replaced meanwhile: ours was older."""
    with read_only(workspace.engine).connect() as conn:
        changed = announced_since(conn, change_id, customer_ids)
    if changed:
        FeatureWriter(workspace).refresh(list(changed), max(changed.values()))


def _by_customers(points: pl.DataFrame) -> list[pl.DataFrame]:
    """The points in parts of whole customers, in order of customer."""
    ordered = points.sort("customer_id", "event_timestamp")
    chunk = ordered["customer_id"].rle_id() // _PEOPLE_A_CHUNK
    return ordered.with_columns(chunk=chunk).partition_by("chunk", include_key=False, maintain_order=True)


def _covered(workspace: FeatureWorkspace, points: pl.DataFrame) -> pl.DataFrame:
    """The points that have a row of their moment, or that were served one within the day before."""
    keys = POINTS.names()
    built = [pl.read_parquet(path, columns=keys) for path in _files(workspace, "built")]
    served = [pl.read_parquet(path, columns=keys) for path in _files(workspace, "served")]
    nothing = [pl.DataFrame(schema=POINTS)]
    exact = points.join(pl.concat(nothing + built), on=keys, how="semi")
    recent = points.sort("event_timestamp").join_asof(
        pl.concat(nothing + served).with_columns(served_at="event_timestamp").sort("event_timestamp"),
        on="event_timestamp",
        by="customer_id",
        tolerance=_SERVED_WITHIN,
        check_sortedness=False,
    )
    return pl.concat([exact, recent.filter(pl.col("served_at").is_not_null()).select(keys)]).unique()


def _files(workspace: FeatureWorkspace, kind: str) -> list[Path]:
    return sorted(workspace.rows_dir.glob(f"{kind}-*.parquet"))


def _join_served_files(workspace: FeatureWorkspace, now: datetime) -> Iterable[str]:
    """Whose rows are in another file now."""
    files = _files(workspace, "served")
    if len(files) <= _MOST_SERVED_FILES:
        return ()
    joined = pl.concat(pl.read_parquet(path).select(workspace.columns_of_rows) for path in files)
    workspace.write_rows(joined.drop("created_timestamp"), "served", now)
    for path in files:
        path.unlink()
    return joined["customer_id"].unique()

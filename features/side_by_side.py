"""Rows of features, part by part: in this process, by several of this machine, or by the workers of a Dask cluster.

A part holds all points of its customers, so that parts need nothing of each other, and a row is the same whichever
process computes it. Rows come back in the order of the parts, and no more parts are under way than the workers need to
be busy: memory is bounded by parts, not by customers.

A worker reads the history itself. It is told the address of the database, password included, so the scheduler belongs
where only its own workers and clients reach it, as Dask asks for anyway: who can reach it can run code there
(https://distributed.dask.org/en/stable/tls.html).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from sqlalchemy import Engine, make_url

from features.compute import compute, load_known
from features.feature_list import FeatureList
from features.history.engine import connect, read_only
from models.domain.errors import InvalidInputError, StoreUnavailableError

if TYPE_CHECKING:
    from distributed import Client, Future

SETTING = "NEXTCHANNEL_DASK"
_ANSWERS_WITHIN_SECONDS = 10
# One that is computed, one that waits at the worker.
_PARTS_A_WORKER = 2


def rows_at(engine: Engine, features: FeatureList, points: pl.DataFrame) -> pl.DataFrame:
    """Features as of each point, in the order of the points.

    Args:
        engine: The history, only read.
        features: What to compute.
        points: Columns `customer_id` and `event_timestamp`; at least one row.
    """
    with read_only(engine).connect() as conn:
        known = load_known(conn, features, points)
    return compute(features, points, known)


def rows_of_parts(
    where: str, engine: Engine, features: FeatureList, parts: Sequence[pl.DataFrame]
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Every part with its rows, in the order given.

    Args:
        where: How many processes of this machine, or the address of a Dask scheduler; empty for this process alone.
        engine: The history.
        features: What to compute.
        parts: Points; those of one customer all in the same part.

    Raises:
        InvalidInputError: Dask is not installed, or nobody computes at that address.
        StoreUnavailableError: a worker cannot read the history, or has another release.
    """
    # A single one is computed before any worker has started.
    if not where or len(parts) < 2:
        for part in parts:
            yield part, rows_at(engine, features, part)
        return
    address = engine.url.render_as_string(hide_password=False)
    with _workers(where) as client:
        most = _PARTS_A_WORKER * len(client.scheduler_info(n_workers=-1)["workers"])
        under_way: deque[tuple[pl.DataFrame, Future[pl.DataFrame]]] = deque()
        for part in parts:
            if len(under_way) == most:
                yield _taken(under_way)
            asked = client.submit(
                _rows_by_worker, address, features.channels, features.attributes, features.fingerprint, part, pure=False
            )  # fmt: skip
            under_way.append((part, asked))
        while under_way:
            yield _taken(under_way)


def _taken(under_way: deque[tuple[pl.DataFrame, Future[pl.DataFrame]]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    part, asked = under_way.popleft()
    return part, asked.result()


@contextmanager
def _workers(where: str) -> Iterator[Client]:
    """A cluster that computes until the block ends; what it still works on then is dropped."""
    try:
        from distributed import Client, LocalCluster
    except ImportError as exc:
        raise InvalidInputError(
            SETTING, where, "needs the extra `dask`: pip install 'nextchannel[dask]'"
        ) from exc
    if where.isdigit():
        with (
            # Each worker has one core: what divides its work among threads must not do so here.
            LocalCluster(
                n_workers=int(where),
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                env={"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"},
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = Client(where, timeout=_ANSWERS_WITHIN_SECONDS)
        client.wait_for_workers(1, timeout=_ANSWERS_WITHIN_SECONDS)
    except (OSError, TimeoutError, ValueError) as exc:
        raise InvalidInputError(
            SETTING, where, f"must be the address of a Dask scheduler with workers ({exc})"
        ) from exc
    with client:
        yield client


def _rows_by_worker(
    database_url: str,
    channels: tuple[object, ...],
    attributes: tuple[object, ...],
    fingerprint: str,
    points: pl.DataFrame,
) -> pl.DataFrame:
    """What a worker does: the list is made of its parts, so that its formulas are those of the worker's release."""
    features = FeatureList(channels=channels, attributes=attributes)  # type: ignore[arg-type]
    if features.fingerprint != fingerprint:
        raise StoreUnavailableError("a Dask worker has another release of nextchannel than this process")
    return rows_at(_history(database_url), features, points)


@lru_cache(maxsize=1)
def _history(database_url: str) -> Engine:
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise StoreUnavailableError(
            f"a Dask worker finds no file {url.database}: on other machines the history must be PostgreSQL"
        )
    return connect(database_url)

"""The features of one installation: its list, its Feast store and its files."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from string import Template
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sqlalchemy import Engine, select

from features.compute import POINTS
from features.feature_list import LIST_FILE, FeatureList, describe_attributes, describe_channels
from features.history.campaigns import list_campaigns
from features.history.channels import load_channels
from features.history.engine import read_only
from features.history.suppression import erased_customers
from features.history.tables import customers
from features.row_cache import MOST_ROWS, RowCache
from features.side_by_side import rows_at, rows_of_parts
from models.domain.channel import Channel

if TYPE_CHECKING:
    from feast import FeatureStore

    from features.row_cache import Row
    from features.views import Views

_REPO = Path(__file__).parent / "repo"
# SQLite takes 32,766 parameters in one statement.
_KEYS_A_READ = 5_000
_ROWS_A_WRITE = 5_000
# Who has just done something is likely to be decided for; everybody's nightly rows would only displace others.
_MOST_CACHED_ON_WRITE = 2_000
# Served rows wait in memory, so that a busy day does not leave a file a refresh.
_MOST_SERVED_ROWS = 10_000
_SERVED_SECONDS = 30.0
# Without these a Redis whose machine is gone is waited for until the connection is found to be dead: for hours.
_REDIS_SECONDS = {"socket_timeout": 5, "socket_connect_timeout": 5}


class FeatureWorkspace:
    """Where features are defined, computed, stored and read.

    Everything that loads Feast happens on first use: opening a workspace costs nothing.

    Args:
        data_dir: Data directory of the installation; features lie in its folder `features`.
        engine: The history.
        online_store: Feast's configuration of another online store, for example
            `{"type": "redis", "connection_string": "localhost:6379"}`; None for an SQLite file.
        project: Feast project; installations that share an online store need distinct ones.
        most_cached_rows: Rows that are kept in memory, those that were used last.
        dask: Where rows of many are computed: how many processes of this machine, or the address of a Dask scheduler;
            empty for this process alone.
    """

    def __init__(
        self,
        data_dir: Path,
        engine: Engine,
        online_store: Mapping[str, object] | None = None,
        project: str = "nextchannel",
        most_cached_rows: int = MOST_ROWS,
        dask: str = "",
    ) -> None:
        self.engine = engine
        self._dask = dask
        self.features_dir = Path(data_dir).resolve() / "features"
        self._list_path = str(self._list_file)
        self.cache = RowCache(most_cached_rows)
        self._online_store = None if online_store is None else _not_for_ever(online_store)
        self._project = project
        self._list: FeatureList | None = None
        self._list_stamp: int | None = None
        self._views: Views | None = None
        # Feast's SQLite store shares one connection between threads.
        self._online_lock = Lock()
        self._served: list[pl.DataFrame] = []
        self._served_at: float | None = None
        self._served_lock = Lock()

    def define(self, channels: Iterable[Channel] | None = None) -> FeatureList:
        """Make the list of features from the history, keep it, and tell Feast.

        Args:
            channels: Channels to count by; None for those that any campaign allows.

        Returns:
            The list. When it differs from the one before, rows and vectors must be built again.
        """
        with read_only(self.engine).connect() as conn:
            if channels is None:
                configured = load_channels(conn)
                allowed = {name for campaign in list_campaigns(conn) for name in campaign.channels}
                channels = [configured[name] for name in sorted(allowed & configured.keys())]
            people = conn.execute(
                select(customers.c.attributes), execution_options={"yield_per": 10_000}
            ).scalars()
            defined = FeatureList(
                channels=describe_channels(channels), attributes=describe_attributes(people)
            )
        defined.save(self._list_file)
        self._keep(defined)
        self.rows_dir.mkdir(parents=True, exist_ok=True)
        self.store.apply(self.views.objects)
        if self._online_store is None:
            with sqlite3.connect(self.features_dir / "online.db") as online:
                online.execute("PRAGMA journal_mode=WAL")  # kept by the file: readers do not wait for writers
            online.close()
        return defined

    @property
    def features(self) -> FeatureList:
        """The list that was defined last, by whichever process.

        Raises:
            NotFoundError: none was defined yet.
        """
        if self._list is None or self._list_stamp != self._stamp():
            self._keep(FeatureList.load(self._list_file))
        assert self._list is not None
        return self._list

    @property
    def defined(self) -> bool:
        """Whether there is a list."""
        return self._list_file.exists()

    def _keep(self, features: FeatureList) -> None:
        """Go on with this list; what was made for another one is dropped."""
        self._list, self._list_stamp = features, self._stamp()
        self._views = None
        self.cache.clear()

    def _stamp(self) -> int | None:
        """Changes whenever the list is saved."""
        try:
            return os.stat(self._list_path).st_mtime_ns  # noqa: PTH116 - five times faster, at every read
        except FileNotFoundError:
            return None

    @property
    def rows_dir(self) -> Path:
        """Parquet files with rows of the present list."""
        return self.features_dir / f"rows-{self.features.fingerprint}"

    @property
    def vectors_file(self) -> Path:
        """The vectors that were materialised last: what Feast sees behind the online store."""
        return self.features_dir / f"vectors-{self.features.fingerprint}.parquet"

    @property
    def views(self) -> Views:
        """The Feast objects of the present list."""
        if self._views is None:
            from features.views import define_views

            self._views = define_views(self.features, self.rows_dir, self.vectors_file)
        return self._views

    @cached_property
    def store(self) -> FeatureStore:
        """Feast, configured by `features/repo/feature_store.yaml`."""
        return self.open_feast()

    def open_feast(self, **other: Mapping[str, object]) -> FeatureStore:
        """Feast over the same registry.

        Args:
            other: Sections of the configuration to replace, for example `offline_store={"type": "duckdb"}`.
        """
        import yaml  # type: ignore[import-untyped]

        from features.views import open_store

        text = Template((_REPO / "feature_store.yaml").read_text(encoding="utf-8"))
        config = yaml.safe_load(text.substitute(NEXTCHANNEL_HOME=str(self.features_dir.parent)))
        config["project"] = self._project
        if self._online_store is not None:
            config["online_store"] = dict(self._online_store)
        return open_store(config | other, _REPO)

    def compute(self, points: pl.DataFrame) -> pl.DataFrame:
        """Features as of each point (`customer_id`, `event_timestamp`), in the order of the points."""
        return rows_at(self.engine, self.features, points)

    def compute_parts(self, parts: Sequence[pl.DataFrame]) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Points of whole customers with their features, part by part in order; see `features.side_by_side`."""
        return rows_of_parts(self._dask, self.engine, self.features, parts)

    @contextmanager
    def holding_rows(self, *, shared: bool = False) -> Iterator[None]:
        """Wait until no other process builds or joins rows for training, and keep it so until the block ends.

        Whoever only adds a file need not wait.

        Args:
            shared: For readers: others may read too.
        """
        with (self.features_dir / "rows.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield

    @property
    def columns_of_rows(self) -> list[str]:
        """Of a file of rows, in order; files of former releases may have them in another."""
        return [*POINTS.names(), "created_timestamp", *self.features.names]

    def write_rows(self, rows: pl.DataFrame, kind: str, now: datetime) -> Path:
        """Add a file of rows for training.

        Args:
            rows: What `compute` gave.
            kind: `served` for rows that decisions may have used, `built` for rows made afterwards.
            now: When they were computed.
        """
        stamped = rows.with_columns(created_timestamp=pl.lit(now).dt.cast_time_unit("us"))
        return self._write_file(stamped.select(self.columns_of_rows), kind)

    def _write_file(self, rows: pl.DataFrame, kind: str) -> Path:
        path = self.rows_dir / f"{kind}-{uuid4().hex}.parquet"
        written = path.with_suffix(".tmp")  # readers look for *.parquet and never find half a file
        rows.write_parquet(written)
        written.rename(path)
        return path

    def keep_served(self, rows: pl.DataFrame, now: datetime) -> None:
        """Keep rows that decisions may use, for training; they go to a file together with later ones.

        A process that is killed loses those that were not yet written: training then computes them anew.
        """
        with self._served_lock:
            self._served.append(rows.with_columns(created_timestamp=pl.lit(now).dt.cast_time_unit("us")))
            self._served_at = self._served_at or monotonic()
            full = sum(map(len, self._served)) >= _MOST_SERVED_ROWS
        if full:
            self.flush_served()

    def flush_served(self, *, only_if_due: bool = False) -> bool:
        """Write the rows that `keep_served` keeps to a file; whether there were any to write.

        Args:
            only_if_due: Only where the oldest has waited for half a minute.
        """
        with self._served_lock:
            waits = None if self._served_at is None else monotonic() - self._served_at
            if waits is None or (only_if_due and waits < _SERVED_SECONDS):
                return False
            # The list may have changed since some of them were computed: such rows are of no use.
            columns = self.columns_of_rows
            useful = [rows.select(columns) for rows in self._served if set(columns) <= set(rows.columns)]
            self._served, self._served_at = [], None
        if not useful:
            return True
        rows = pl.concat(useful)
        with read_only(self.engine).connect() as conn:
            gone = erased_customers(conn, rows["customer_id"].unique().to_list())
        rows = rows.filter(~pl.col("customer_id").is_in(list(gone)))
        self._write_file(rows, "served")
        return True

    def write_online(self, rows: pl.DataFrame) -> None:
        """Write the rows to the online store, and a few of them to the cache of this process too."""
        from feast.protos.feast.types.Value_pb2 import DoubleList
        from feast.protos.feast.types.Value_pb2 import Value as ValueProto

        vectors = as_vectors(rows, self.features)
        keys = rows["customer_id"].to_list()
        moments = rows["event_timestamp"].to_list()
        data = [
            (entity_key(key), {"vector": ValueProto(double_list_val=DoubleList(val=vector))}, moment, None)
            for key, vector, moment in zip(keys, vectors, moments, strict=True)
        ]
        provider = self.store.provider
        for start in range(0, len(data), _ROWS_A_WRITE):
            with self._online_lock:
                chunk = data[start : start + _ROWS_A_WRITE]
                provider.online_write_batch(self.store.config, self.views.vector, chunk, None)
        if len(keys) <= _MOST_CACHED_ON_WRITE:
            self.cache.put({key: vector.copy() for key, vector in zip(keys, vectors, strict=True)})
        else:
            self.cache.forget(keys)

    def read_online(self, customer_ids: Sequence[str]) -> dict[str, Row | None]:
        """The stored vectors, `[as_of, *features]`, by customer; None for who has none."""
        provider = self.store.provider
        found: dict[str, Row | None] = {}
        for start in range(0, len(customer_ids), _KEYS_A_READ):
            keys = customer_ids[start : start + _KEYS_A_READ]
            with self._online_lock:
                read = provider.online_read(
                    self.store.config, self.views.vector, [entity_key(key) for key in keys], ["vector"]
                )
            for key, (_, values) in zip(keys, read, strict=True):
                stored = values["vector"].double_list_val.val if values else ()
                found[key] = np.array(stored) if len(stored) else None
        return found

    @property
    def _list_file(self) -> Path:
        return self.features_dir / LIST_FILE


def as_vectors(rows: pl.DataFrame, features: FeatureList) -> NDArray[np.float64]:
    """`[as_of, *features]` of every row, NaN where missing, shape (n, 1 + F)."""
    as_of = pl.col("event_timestamp").dt.epoch("us") / 1_000_000
    return rows.select(as_of, *features.names).cast(pl.Float64).fill_null(np.nan).to_numpy()


def entity_key(customer_id: str) -> Any:
    """Feast's key of a customer."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    return EntityKey(join_keys=["customer_id"], entity_values=[Value(string_val=customer_id)])


def _not_for_ever(online_store: Mapping[str, object]) -> Mapping[str, object]:
    """The same with bounds on how long Redis is waited for, where the operator has set none."""
    address = online_store.get("connection_string")
    if online_store.get("type") != "redis" or not isinstance(address, str):
        return online_store
    missing = [f"{name}={seconds}" for name, seconds in _REDIS_SECONDS.items() if f"{name}=" not in address]
    return {**online_store, "connection_string": ",".join([address, *missing])}

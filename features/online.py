"""Features for decisions: read in bulk through a cache, written when something happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from features.changes import announce, announced_since, prune
from features.erasure import forget_erased, living
from features.feature_list import FeatureList
from features.history.engine import read_only
from features.history.export import MOMENT
from features.workspace import FeatureWorkspace
from models.choice import BoolArray, FloatArray
from models.domain.errors import NotFoundError

if TYPE_CHECKING:
    from features.row_cache import Row

# Everybody's row is made anew every night: an older one means that this did not happen.
STALE_AFTER = timedelta(hours=36)
_STALE_SECONDS = STALE_AFTER.total_seconds()
# Clocks of machines differ a little; a row from further in the future is not of this moment.
_CLOCK_SKEW_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureVectors:
    """Features of n customers.

    Attributes:
        names: Of the columns.
        values: Shape (n, F); NaN where missing. A customer without a row has the features' defaults.
        missing: Customers without a row, shape (n,).
        as_of: Moment of each row, seconds since 1970, shape (n,); NaN without a row.
        stale: Customers whose row is older than `STALE_AFTER`, shape (n,).
    """

    names: tuple[str, ...]
    values: FloatArray
    missing: BoolArray
    as_of: FloatArray
    stale: BoolArray


class FeatureReader:
    """Reads rows from the online store, through the workspace's cache.

    Args:
        workspace: With a defined list, by the time of the first read.
        feature_names: Columns to give, in this order; None for the whole list.
        keeps: Whether the cache keeps what is read. Who reads many that nobody is about to decide for displaces others.
    """

    def __init__(
        self,
        workspace: FeatureWorkspace,
        feature_names: Sequence[str] | None = None,
        *,
        keeps: bool = True,
    ) -> None:
        self._workspace = workspace
        self._keeps = keeps
        self._feature_names = None if feature_names is None else tuple(feature_names)
        self._layout: _Layout | None = None

    def cached(self, customer_ids: Sequence[str], now: datetime) -> FeatureVectors | None:
        """What `read` gives, where it needs no look into the online store; else None.

        Raises:
            NotFoundError: the workspace has no list yet, or the list has no feature of that name.
        """
        features = self._workspace.features
        rows = self._workspace.cache.get(customer_ids)
        if any(customer_id not in rows for customer_id in customer_ids):
            return None
        return self._vectors(features, rows, customer_ids, now)

    def read(self, customer_ids: Sequence[str], now: datetime) -> FeatureVectors:
        """The latest row of every customer.

        Args:
            customer_ids: n customers; repeats are allowed.
            now: Aware; rows of a later moment count as missing.

        Raises:
            NotFoundError: the workspace has no list yet, or the list has no feature of that name.
        """
        features = self._workspace.features
        cache = self._workspace.cache
        rows = cache.get(customer_ids)
        if len(rows) < len(customer_ids):
            absent = [customer_id for customer_id in dict.fromkeys(customer_ids) if customer_id not in rows]
            if absent:
                read_at = monotonic()
                read = self._workspace.read_online(absent)
                if self._keeps:
                    cache.put(read, read_at)
                rows |= read
        return self._vectors(features, rows, customer_ids, now)

    def _vectors(
        self,
        features: FeatureList,
        rows: Mapping[str, Row | None],
        customer_ids: Sequence[str],
        now: datetime,
    ) -> FeatureVectors:
        layout = self._layout
        if layout is None or layout.features is not features:
            self._layout = layout = _Layout.of(features, self._feature_names)
        default = layout.default
        found = [rows[customer_id] for customer_id in customer_ids]
        table = np.array([default if row is None else row for row in found]).reshape(len(found), len(default))
        seconds = now.timestamp()
        missing = ~(table[:, 0] <= seconds + _CLOCK_SKEW_SECONDS)
        if missing.any():
            table[missing] = default
        as_of, values = table[:, 0], table[:, 1:]
        if layout.columns is not None:
            values = values[:, layout.columns]
        return FeatureVectors(
            names=layout.names,
            values=values,
            missing=missing,
            as_of=as_of,
            stale=as_of < seconds - _STALE_SECONDS,
        )


@dataclass(frozen=True, slots=True)
class _Layout:
    """What follows from the list alone: columns to give (None: all), their names, and a row of defaults."""

    features: FeatureList
    columns: list[int] | None
    names: tuple[str, ...]
    default: FloatArray

    @classmethod
    def of(cls, features: FeatureList, wanted: tuple[str, ...] | None) -> _Layout:
        names = features.names if wanted is None else wanted
        columns = None if names == features.names else _columns(features, names)
        return cls(features, columns, names, np.array([np.nan, *_defaults(features)]))


class FeatureWriter:
    """Recomputes rows when something happened."""

    def __init__(self, workspace: FeatureWorkspace) -> None:
        self._workspace = workspace

    def refresh(self, customer_ids: Sequence[str], now: datetime) -> int:
        """Compute those customers' rows as of now; write them to the online store and keep them for training.

        Every process drops what it has cached of them. Of a customer whom another process refreshes at the same
        time the row that stays has seen the facts of both. Who was erased, even while this runs, is left out; an id
        that was merged into another means the person.

        Returns:
            Number of customers.
        """
        people = living(self._workspace, customer_ids)
        due = people
        while due:
            with self._workspace.engine.begin() as conn:
                change_id = announce(conn, due, now)
            points = pl.DataFrame({"customer_id": due}).with_columns(event_timestamp=pl.lit(now).cast(MOMENT))
            rows = self._workspace.compute(points)
            self._workspace.keep_served(rows, now)
            self._workspace.write_online(rows)
            with read_only(self._workspace.engine).connect() as conn:
                others = announced_since(conn, change_id, due)
            due = list(others)
            now = max([now, *others.values()])
        forget_erased(self._workspace, people)
        return len(people)

    def tidy(self, now: datetime) -> None:
        """What is not urgent: write served rows to a file, and forget old announcements."""
        if self._workspace.flush_served(only_if_due=True):
            with self._workspace.engine.begin() as conn:
                prune(conn, now)

    def close(self) -> None:
        """Write what is left to write."""
        self._workspace.flush_served()


def _defaults(features: FeatureList) -> list[float]:
    return [np.nan if each.default is None else each.default for each in features.features]


def _columns(features: FeatureList, names: Sequence[str]) -> list[int]:
    at = {name: column for column, name in enumerate(features.names)}
    for name in names:
        if name not in at:
            raise NotFoundError("feature", name)
    return [at[name] for name in names]

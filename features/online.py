"""Features for decisions: read in bulk through a cache, written when something happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from features.erasure import forget_erased, living
from features.feature_list import FeatureList
from features.history.export import MOMENT
from features.row_cache import Row
from features.workspace import FeatureWorkspace
from models.choice import BoolArray, FloatArray
from models.domain.errors import NotFoundError

# Clocks of machines differ a little; a row from further in the future is not of this moment.
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureVectors:
    """Features of n customers.

    Attributes:
        names: Of the columns.
        values: Shape (n, F); NaN where missing. A customer without a row has the features' defaults.
        missing: Customers without a row, shape (n,).
        as_of: Moment of each row, seconds since 1970, shape (n,); NaN without a row.
    """

    names: tuple[str, ...]
    values: FloatArray
    missing: BoolArray
    as_of: FloatArray


class FeatureReader:
    """Reads rows from the online store, through the workspace's cache.

    Args:
        workspace: With a defined list, by the time of the first read.
        feature_names: Columns to give, in this order; None for the whole list.
    """

    def __init__(self, workspace: FeatureWorkspace, feature_names: Sequence[str] | None = None) -> None:
        self._workspace = workspace
        self._feature_names = None if feature_names is None else tuple(feature_names)

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
        absent = [customer_id for customer_id in dict.fromkeys(customer_ids) if customer_id not in rows]
        if absent:
            read = self._workspace.read_online(absent)
            cache.put(read)
            rows |= read
        return self._vectors(features, rows, customer_ids, now)

    def _vectors(
        self,
        features: FeatureList,
        rows: Mapping[str, Row | None],
        customer_ids: Sequence[str],
        now: datetime,
    ) -> FeatureVectors:
        default = np.array([np.nan, *_defaults(features)])
        found = [rows[customer_id] for customer_id in customer_ids]
        table = np.array([default if row is None else row for row in found]).reshape(len(found), len(default))
        latest = (now + _CLOCK_SKEW).timestamp()
        missing = ~(table[:, 0] <= latest)
        if missing.any():
            table[missing] = default
        values = table[:, 1:]
        names = features.names
        if self._feature_names is not None and self._feature_names != names:
            values = values[:, _columns(features, self._feature_names)]
            names = self._feature_names
        return FeatureVectors(names=names, values=values, missing=missing, as_of=table[:, 0])


class FeatureWriter:
    """Recomputes rows when something happened."""

    def __init__(self, workspace: FeatureWorkspace) -> None:
        self._workspace = workspace

    def refresh(self, customer_ids: Sequence[str], now: datetime) -> int:
        """Compute those customers' rows as of now; write them to the online store and keep them for training.

        Who was erased, even while this runs, is left out; an id that was merged into another means the person.

        Returns:
            Number of customers.
        """
        people = living(self._workspace, customer_ids)
        if not people:
            return 0
        points = pl.DataFrame({"customer_id": people}).with_columns(event_timestamp=pl.lit(now).cast(MOMENT))
        rows = self._workspace.compute(points)
        self._workspace.write_rows(rows, "served", now)
        self._workspace.write_online(rows)
        forget_erased(self._workspace, people)
        return len(people)


def _defaults(features: FeatureList) -> list[float]:
    return [np.nan if each.default is None else each.default for each in features.features]


def _columns(features: FeatureList, names: Sequence[str]) -> list[int]:
    at = {name: column for column, name in enumerate(features.names)}
    for name in names:
        if name not in at:
            raise NotFoundError("feature", name)
    return [at[name] for name in names]

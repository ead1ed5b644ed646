"""Feast's DuckDB offline store with a faster point-in-time join for one view of rows in Parquet files.

Feast joins every row of a customer with every point and then drops all but one a point. Here the rows are found by
their keys alone, and only the rows that are wanted are read into the frame. A law test holds the two against each
other. Whatever this join does not cover is left to Feast's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
from feast import FeatureView, FileSource
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, _write_data_source
from feast.infra.offline_stores.ibis import IbisRetrievalJob
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig

from features.history.export import MOMENT

# Columns that are read at a time: bounds what lies in memory beside the frame itself.
_COLUMNS_A_READ = 16


class AsofOfflineStore(DuckDBOfflineStore):  # type: ignore[misc]
    """What `features.asof` gives Feast."""

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
    ) -> RetrievalJob:
        """Join every point with the latest row of its customer that is no later; of equal ones the one made last."""
        covered = (
            not isinstance(entity_df, str)
            and "event_timestamp" in entity_df
            and not full_feature_names
            and not filter_by_created_timestamp
            and len(feature_views) == 1
            and _is_plain(feature_views[0])
            and all(ref.startswith(f"{feature_views[0].name}:") for ref in feature_refs)
        )
        if not covered or isinstance(entity_df, str):
            return DuckDBOfflineStore.get_historical_features(
                config,
                feature_views,
                feature_refs,
                entity_df,
                registry,
                project,
                full_feature_names,
                filter_by_created_timestamp,
            )
        (view,) = feature_views
        names = [ref.split(":")[1] for ref in feature_refs]
        moments = entity_df["event_timestamp"]
        return _FrameJob(
            _join(entity_df, view, names),
            RetrievalMetadata(
                features=feature_refs,
                keys=[column for column in entity_df.columns if column != "event_timestamp"],
                min_event_timestamp=moments.min(),
                max_event_timestamp=moments.max(),
            ),
            config,
        )


class _FrameJob(IbisRetrievalJob):  # type: ignore[misc]
    """A frame that is there already."""

    def __init__(self, frame: pa.Table, metadata: RetrievalMetadata, config: RepoConfig) -> None:
        self._frame = frame
        super().__init__(
            table=None,
            on_demand_feature_views=[],
            full_feature_names=False,
            metadata=metadata,
            data_source_writer=_write_data_source,
            staging_location=None,
            staging_location_endpoint_override=None,
            repo_path=str(config.repo_path),
        )

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:  # noqa: ARG002
        return self._frame.to_pandas()

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002
        return self._frame

    def persist(self, storage: Any, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Write the frame where Feast keeps data sets."""
        import ibis  # type: ignore[import-untyped]

        self.table = ibis.memtable(self._frame)
        super().persist(storage, allow_overwrite, timeout)


def _is_plain(view: FeatureView) -> bool:
    source = view.batch_source
    return bool(
        isinstance(source, FileSource)
        and "://" not in source.path
        and source.path.endswith(".parquet")
        and source.created_timestamp_column
        and not source.field_mapping
        and not view.ttl
        and not view.projection.join_key_map
        and view.projection.name_alias is None
        and len(view.entity_columns) == 1
    )


def _join(points: pd.DataFrame, view: FeatureView, names: Sequence[str]) -> pa.Table:
    source, key = view.batch_source, view.entity_columns[0].name
    folder = Path(source.path)
    files = sorted(folder.parent.glob(folder.name))
    asked = pl.DataFrame(
        {"key": pl.from_pandas(points[key]), "at": pl.from_pandas(points["event_timestamp"]).cast(MOMENT)}
    )
    frame = pa.Table.from_pandas(points, preserve_index=False)
    if not files:
        for name in names:
            frame = frame.append_column(name, pa.nulls(len(points), pa.float64()))
        return frame
    row = _latest_rows(asked, files, key, source.timestamp_field, source.created_timestamp_column)
    for start in range(0, len(names), _COLUMNS_A_READ):
        some = names[start : start + _COLUMNS_A_READ]
        columns = pl.read_parquet(files, columns=list(some)).select(pl.all().gather(row)).to_arrow()
        for name in some:
            frame = frame.append_column(name, columns[name])
    return frame


def _latest_rows(asked: pl.DataFrame, files: list[Path], key: str, at: str, created: str) -> pl.Series:
    """Position of the row that each point sees, over all files in their order; null for none."""
    rows = (
        pl.read_parquet(files, columns=[key, at, created])
        .select(key=key, at=pl.col(at).cast(MOMENT), created=created)
        .with_row_index("row")
        .sort("at", "created")
    )
    return (
        asked.with_row_index("point")
        .sort("at")
        .join_asof(rows.drop("created"), on="at", by="key", check_sortedness=False)
        .sort("point")["row"]
    )

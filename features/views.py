"""The Feast objects of one workspace, made from its feature list. Importing this module loads Feast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from features.plain_import import plainly_imported

with plainly_imported():
    from feast import (
        Entity,
        FeatureService,
        FeatureStore,
        FeatureView,
        Field,
        FileSource,
        PushSource,
        ValueType,
    )
    from feast.data_format import ParquetFormat
    from feast.repo_config import RepoConfig
    from feast.types import Array, Float64, Int64, String

from features.feature_list import FeatureList

_TYPES = {"float64": Float64, "int64": Int64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """What Feast knows of a workspace.

    Attributes:
        customer: The entity.
        rows: One column a feature, for training frames; rows lie in `rows_dir`.
        vector: The latest row of every customer as one array, `[as_of, *features]` with `as_of` in seconds since
            1970 and NaN where missing, for the online store: one value to write and read, not one a feature.
        service: Every feature, under a name for `get_historical_features`.
    """

    customer: Entity
    rows: FeatureView
    vector: FeatureView
    vector_push: PushSource
    service: FeatureService

    @property
    def objects(self) -> list[object]:
        """All of them, for `FeatureStore.apply`."""
        return [self.customer, self.rows, self.vector_push, self.vector, self.service]


def define_views(features: FeatureList, rows_dir: Path, vectors_file: Path) -> Views:
    """Describe the list to Feast.

    The views are named by the list's fingerprint: a row that was stored for another list is never mistaken for
    one of this list.

    Args:
        features: The list.
        rows_dir: Where Parquet files with its rows lie.
        vectors_file: The Parquet file with everybody's latest vector.
    """
    customer = Entity(
        name="customer",
        join_keys=["customer_id"],
        value_type=ValueType.STRING,
        description="One person, whatever accounts they have.",
    )
    key = Field(name="customer_id", dtype=String)
    rows_source = FileSource(
        name=f"customer_rows_{features.fingerprint}",
        path=str(rows_dir / "*.parquet"),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )
    rows = FeatureView(
        name=f"customer_{features.fingerprint}",
        entities=[customer],
        ttl=timedelta(0),
        schema=[key]
        + [
            Field(
                name=each.name,
                dtype=_TYPES[each.dtype],
                description=each.why,
                tags={"unit": each.unit, "window_days": str(each.window_days or "")},
            )
            for each in features.features
        ],
        source=rows_source,
        online=False,
    )
    vector_push = PushSource(
        name=f"customer_vector_push_{features.fingerprint}",
        batch_source=FileSource(
            name=f"customer_vectors_{features.fingerprint}",
            path=str(vectors_file),
            file_format=ParquetFormat(),
            timestamp_field="event_timestamp",
        ),
    )
    vector = FeatureView(
        name=f"customer_vector_{features.fingerprint}",
        entities=[customer],
        ttl=timedelta(0),
        schema=[
            key,
            Field(
                name="vector",
                dtype=Array(Float64),
                description="as_of in seconds, then every feature in order",
            ),
        ],
        source=vector_push,
        online=True,
    )
    service = FeatureService(name="customer", features=[rows])
    return Views(customer=customer, rows=rows, vector=vector, vector_push=vector_push, service=service)


def open_store(config: Mapping[str, object], repository: Path) -> FeatureStore:
    """Feast with the keys of a `feature_store.yaml`."""
    return FeatureStore(config=RepoConfig(**config, repo_path=repository))

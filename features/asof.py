"""What `feature_store.yaml` names as the offline store, loaded where somebody first joins rows.

A process that decides reads the online store alone, but Feast wants the configuration of the other one too. DuckDB and what comes
with it take 30 MB.
"""

from __future__ import annotations

from feast.repo_config import FeastConfigBaseModel
from pydantic import StrictStr


class AsofOfflineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """As DuckDB's, `feast.infra.offline_stores.duckdb.DuckDBOfflineStoreConfig`."""

    type: StrictStr = "features.asof.AsofOfflineStore"
    staging_location: str | None = None
    staging_location_endpoint_override: str | None = None


def __getattr__(name: str) -> type[object]:
    """`AsofOfflineStore`, which Feast looks for beside its configuration."""
    if name != "AsofOfflineStore":
        raise AttributeError(name)
    from features.asof_join import AsofOfflineStore

    return AsofOfflineStore

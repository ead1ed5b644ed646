"""Take erased people out of everything that lies beside the database: online store, row cache, Parquet files.

Models and their reports hold no customer: there is nothing of them in MLflow.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from features.history.engine import read_only
from features.history.query import present_ids
from features.history.suppression import erased_customers
from features.workspace import FeatureWorkspace, entity_key
from models.domain.errors import InvalidInputError

if TYPE_CHECKING:
    from feast.infra.online_stores.postgres_online_store.postgres import PostgreSQLOnlineStore
    from feast.infra.online_stores.redis import RedisOnlineStore

# A file under such a name was left by a writer that died; a living one is done within the hour.
_UNFINISHED = "*.tmp"
_UNFINISHED_SECONDS = 3_600
_BUSY_TIMEOUT_SECONDS = 30


def forget(workspace: FeatureWorkspace, customer_ids: Sequence[str]) -> None:
    """Remove these customers' rows from the online store, the cache and every file of features.

    Doing it again does no harm.

    Raises:
        InvalidInputError: the online store is of a kind from which nothing can be removed here.
    """
    if not customer_ids or not workspace.features_dir.exists():
        return
    workspace.cache.forget(customer_ids)
    if workspace.defined:
        _forget_online(workspace, customer_ids)
    for path in sorted(workspace.features_dir.rglob("*.parquet")):
        _forget_in_file(path, customer_ids)
    for path in workspace.features_dir.rglob(_UNFINISHED):
        if time.time() - path.stat().st_mtime > _UNFINISHED_SECONDS:
            path.unlink(missing_ok=True)


def forget_erased(workspace: FeatureWorkspace, customer_ids: Sequence[str]) -> None:
    """Remove what was just written for those of the customers who were erased meanwhile."""
    with read_only(workspace.engine).connect() as conn:
        gone = erased_customers(conn, customer_ids)
    if gone:
        forget(workspace, sorted(gone))


def living(workspace: FeatureWorkspace, customer_ids: Sequence[str]) -> list[str]:
    """The customers without those who were erased, each under the id that they have now, once each."""
    with read_only(workspace.engine).connect() as conn:
        gone = erased_customers(conn, customer_ids)
        merged = present_ids(conn, customer_ids)
    found = (merged.get(customer_id, customer_id) for customer_id in customer_ids if customer_id not in gone)
    return list(dict.fromkeys(found))


def _forget_in_file(path: Path, customer_ids: Sequence[str]) -> None:
    gone = pl.col("customer_id").is_in(list(customer_ids))
    try:
        found = pl.scan_parquet(path).filter(gone).select(pl.len()).collect().item()
    except FileNotFoundError:
        return  # joined with others into a new file meanwhile, which is in the list too
    if found:
        written = path.with_suffix(".tmp")
        pl.read_parquet(path).filter(~gone).write_parquet(written)
        written.rename(path)


def _forget_online(workspace: FeatureWorkspace, customer_ids: Sequence[str]) -> None:
    config = workspace.store.config
    kind = config.online_store.type
    keys = [entity_key(customer_id) for customer_id in customer_ids]
    if kind == "sqlite":
        _forget_in_sqlite(
            workspace.features_dir / "online.db", f"{config.project}_", _serialised(keys, config)
        )
    elif kind == "redis":
        _forget_in_redis(workspace.store.provider.online_store, config, keys)
    elif kind == "postgres":
        _forget_in_postgres(workspace.store.provider.online_store, config, _serialised(keys, config))
    else:
        raise InvalidInputError(
            "online_store", kind, "must be sqlite, redis or postgres for people to be erased from it"
        )


def _serialised(keys: Sequence[Any], config: Any) -> list[bytes]:
    from feast.infra.key_encoding_utils import serialize_entity_key

    return [
        serialize_entity_key(key, entity_key_serialization_version=config.entity_key_serialization_version)
        for key in keys
    ]


def _forget_in_sqlite(path: Path, prefix: str, keys: Sequence[bytes]) -> None:
    """Tables of former lists of features are still there: all of them are looked through."""
    if not path.exists():
        return
    with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_SECONDS, isolation_level=None)) as conn:
        conn.execute("PRAGMA secure_delete=ON")
        names = [
            name
            for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if name.startswith(prefix)
        ]
        for name in names:
            quoted = '"' + name.replace('"', '""') + '"'
            conn.executemany(f"DELETE FROM {quoted} WHERE entity_key = ?", [(key,) for key in keys])  # noqa: S608
        conn.execute("VACUUM")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _forget_in_redis(store: RedisOnlineStore, config: Any, keys: Sequence[Any]) -> None:
    """One hash a customer holds the rows of every list of features."""
    from feast.infra.online_stores.helpers import _redis_key

    client = store._get_client(config.online_store)
    version = config.entity_key_serialization_version
    client.delete(
        *(_redis_key(config.project, key, entity_key_serialization_version=version) for key in keys)
    )


def _forget_in_postgres(store: PostgreSQLOnlineStore, config: Any, keys: Sequence[bytes]) -> None:
    from psycopg import sql

    schema = config.online_store.db_schema or config.online_store.user
    with store._get_conn(config, autocommit=True) as conn, conn.cursor() as cursor:
        cursor.execute(
            "SELECT table_schema, table_name FROM information_schema.columns "
            "WHERE column_name = 'entity_key' AND starts_with(table_name, %s) AND table_schema IN (%s, 'public')",
            (f"{config.project}_", schema),
        )
        for place, name in cursor.fetchall():
            cursor.execute(
                sql.SQL("DELETE FROM {} WHERE entity_key = ANY(%s)").format(sql.Identifier(place, name)),
                (list(keys),),
            )

"""Open the database and bring its schema up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 7_301_956_102  # any number, the same in every process
_BUSY_TIMEOUT_SECONDS = 30


def connect(database_url: str) -> Engine:
    """Open a database; the folder of an SQLite file is made where it is missing.

    SQLite runs in WAL mode with `synchronous=NORMAL`: a committed transaction survives the death of the
    process at any moment, and the loss of power cannot damage the file but may take back the last commits
    (https://www.sqlite.org/pragma.html#pragma_synchronous). PostgreSQL keeps its own, stricter default.

    Every transaction takes SQLite's write lock when it begins, so that one which reads first and writes later
    waits instead of failing. `read_only(engine)` gives transactions that take no lock.

    The parameters of statements, contact points among them, are kept out of errors.

    Args:
        database_url: SQLAlchemy URL, for example `sqlite:////var/lib/nextchannel/history.db` or
            `postgresql+psycopg://user@host/name`.
    """
    url = make_url(database_url)
    if url.get_backend_name() != "sqlite":
        return create_engine(
            url,
            json_serializer=_to_json,
            json_deserializer=orjson.loads,
            pool_pre_ping=True,
            hide_parameters=True,
        )
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        json_serializer=_to_json,
        json_deserializer=orjson.loads,
        hide_parameters=True,
        connect_args={"timeout": _BUSY_TIMEOUT_SECONDS},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def read_only(engine: Engine) -> Engine:
    """The same database and pool for transactions that only read: on SQLite they wait for no writer."""
    return engine.execution_options(only_reads=True)


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision; processes that start together wait for each other."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _prepare_sqlite(dbapi_connection: Any, _record: object) -> None:
    # The driver must not begin transactions by itself: `_begin_sqlite` does.
    dbapi_connection.isolation_level = None
    # SQLite keeps 2 MB of pages by default; settling rewards then reads the same pages again and again.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "cache_size=-32768"):
        dbapi_connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    only_reads = connection.get_execution_options().get("only_reads", False)
    connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")


def _to_json(document: object) -> str:
    return orjson.dumps(document).decode()

"""Open the database and bring its schema up to date."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text

from features.history.prepared import begin
from features.history.turns import QueuedConnection, Turns
from features.identity.vault import KEY_FILE, ContactVault, vault_option

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 7_301_956_102  # any number, the same in every process
_BUSY_TIMEOUT_SECONDS = 30
_READERS_TIMEOUT_MS = 50
_CHECKPOINT_PAUSE_SECONDS = 0.1
CHECKPOINT_SECONDS = 0.2
"""How often `Checkpoints.work` is to be called."""
# While a checkpoint waits for the disk, so does whoever commits: one a second, or one for so many pages.
_CHECKPOINT_AFTER_SECONDS, _CHECKPOINT_AFTER_PAGES = 1.0, 6_000
# SQLite's driver asks every value that is not exactly a number or a text whether it can adapt itself, and each "no" is an
# exception that is made and thrown away. For these it need not ask; members of enumerations are written as plain texts.
sqlite3.register_adapter(type(None), {None: None}.get)
sqlite3.register_adapter(bytes, bytes)
# With 4 kB a page 64 MB; SQLite's own default is 1,000 pages.
_LONGEST_LOG_PAGES = 16_000


def connect(database_url: str, vault: ContactVault | None = None, *, serves: bool = False) -> Engine:
    """Open a database; the folder of an SQLite file is made where it is missing.

    SQLite runs in WAL mode with `synchronous=NORMAL`: a committed transaction survives the death of the
    process at any moment, and the loss of power cannot damage the file but may take back the last commits
    (https://www.sqlite.org/pragma.html#pragma_synchronous). PostgreSQL keeps its own, stricter default.

    Every transaction takes SQLite's write lock when it begins, so that one which reads first and writes later
    waits instead of failing; those of one engine take it in the order in which they began (`turns.Turns`).
    `read_only(engine)` gives transactions that take no lock.

    The parameters of statements, contact points among them, are kept out of errors.

    Args:
        database_url: SQLAlchemy URL, for example `sqlite:////var/lib/nextchannel/history.db` or
            `postgresql+psycopg://user@host/name`.
        vault: Seals and opens contact points; None for keys beside an SQLite file. Without a vault another
            database can be used for everything but contact points.
        serves: For a process that answers requests, over many connections. The caller sees to it that `Checkpoints.work` is
            called every `CHECKPOINT_SECONDS`: else every eightieth decision or so would wait for a checkpoint of its own, 5 ms.
    """
    url = make_url(database_url)
    if url.get_backend_name() != "sqlite":
        return create_engine(
            url,
            json_serializer=_to_json,
            json_deserializer=orjson.loads,
            pool_pre_ping=True,
            execution_options={} if vault is None else vault_option(vault),
            hide_parameters=True,
        )
    if url.database and url.database != ":memory:":
        folder = Path(url.database).parent
        folder.mkdir(parents=True, exist_ok=True)
        vault = vault or ContactVault(folder / KEY_FILE)
    engine = create_engine(
        url,
        json_serializer=_to_json,
        json_deserializer=orjson.loads,
        hide_parameters=True,
        connect_args={"timeout": _BUSY_TIMEOUT_SECONDS, "factory": QueuedConnection},
        execution_options={} if vault is None else vault_option(vault),
    )
    turns = Turns(_BUSY_TIMEOUT_SECONDS)

    def stand_in_the_queue(dbapi_connection: QueuedConnection, _record: object) -> None:
        dbapi_connection.turns = turns

    event.listen(engine, "connect", stand_in_the_queue)
    event.listen(engine, "connect", _prepare_sqlite)
    if serves:
        event.listen(engine, "connect", _prepare_to_serve)
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
        in_the_clear = _has_plain_contact_points(connection)
        command.upgrade(config, "head")
    if in_the_clear:
        compact(engine)


def checkpoint(engine: Engine) -> int:
    """Move what SQLite's write-ahead log holds into the file, as far as nobody needs it; elsewhere this does nothing.

    Readers and writers go on meanwhile (https://www.sqlite.org/c3ref/wal_checkpoint_v2.html, passive).

    Returns:
        Pages in the log, moved ones included.
    """
    if engine.dialect.name != "sqlite":
        return 0
    raw = engine.raw_connection()
    try:
        conn = raw.driver_connection
        assert conn is not None
        ((_busy, in_log, _moved),) = conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return max(0, int(in_log))
    finally:
        raw.close()


class Checkpoints:
    """Calls `checkpoint` once a second, and sooner where much is being written.

    How much is told by the checkpoints themselves. It stands in the file beside the log too, but whoever closes that takes
    all of SQLite's locks of the process away (https://www.sqlite.org/howtocorrupt.html, section 2.2).

    Args:
        engine: The database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._last = monotonic()
        self._in_log = 0
        self._pages_per_second = 0.0

    def work(self) -> None:
        """What is to be called every `CHECKPOINT_SECONDS`."""
        elapsed = monotonic() - self._last
        expected = self._pages_per_second * elapsed
        if elapsed < _CHECKPOINT_AFTER_SECONDS and expected < _CHECKPOINT_AFTER_PAGES:
            return
        in_log = checkpoint(self._engine)
        # A log that is shorter than before has begun again from its start.
        grown = in_log - self._in_log if in_log >= self._in_log else in_log
        self._pages_per_second = grown / max(elapsed, CHECKPOINT_SECONDS)
        self._in_log, self._last = in_log, monotonic()


def compact(engine: Engine, patience_seconds: float = 20.0) -> bool:
    """Leave nothing of deleted rows in the files of an SQLite database; elsewhere this does nothing.

    Rewrites the file and empties the write-ahead log. PostgreSQL vacuums by itself, and what its log and its
    backups keep is the operator's to limit.

    Returns:
        False where others read for so long that the log could not be emptied: try again.
    """
    if engine.dialect.name != "sqlite":
        return True
    raw = engine.raw_connection()
    conn: Any = raw.driver_connection
    try:
        conn.take_turn()
        conn.execute("VACUUM").close()
        conn.end_turn()
        until = monotonic() + patience_seconds
        # While the log waits for readers nobody can write: not for long at a time.
        conn.execute(f"PRAGMA busy_timeout={_READERS_TIMEOUT_MS}").close()
        while True:
            ((busy, *_),) = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if not busy or monotonic() > until:
                return not busy
            sleep(_CHECKPOINT_PAUSE_SECONDS)
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
        return False
    finally:
        conn.end_turn()
        conn.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_SECONDS * 1_000}").close()
        raw.close()


def _has_plain_contact_points(connection: Connection) -> bool:
    """Whether the schema is of the time before contact points were sealed, and holds some."""
    seen = inspect(connection)
    if not seen.has_table("identities"):
        return False
    if "value" not in {column["name"] for column in seen.get_columns("identities")}:
        return False
    return connection.execute(text("SELECT 1 FROM identities LIMIT 1")).first() is not None


def _prepare_sqlite(dbapi_connection: Any, _record: object) -> None:
    # The driver must not begin transactions by itself: `_begin_sqlite` does.
    dbapi_connection.isolation_level = None
    # SQLite keeps 2 MB of pages by default; settling rewards then reads the same pages again and again.
    # Deleted contact points must not linger in free pages.
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        "cache_size=-32768",
        "secure_delete=FAST",
    ):
        dbapi_connection.execute(f"PRAGMA {pragma}").close()


def _prepare_to_serve(dbapi_connection: Any, _record: object) -> None:
    for pragma in (
        # Not never: the log must not grow without end where nobody checkpoints.
        f"wal_autocheckpoint={_LONGEST_LOG_PAGES}",
        # The customers of requests have no pages in common but those of the indexes' upper levels: decisions are as fast as
        # with 32 MB, and every connection keeps its own.
        "cache_size=-8192",
    ):
        dbapi_connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get("only_reads", False):
        begin(connection, "BEGIN")
        return
    driver: Any = connection.connection.dbapi_connection
    driver.take_turn()
    try:
        begin(connection, "BEGIN IMMEDIATE")
    except BaseException:
        driver.end_turn()
        raise


def _to_json(document: object) -> str:
    return orjson.dumps(document).decode()

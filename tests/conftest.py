"""Databases that the tests run on: an SQLite file, and a PostgreSQL server."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, delete, exists, literal, make_url, select, text, union_all
from sqlalchemy.exc import OperationalError

from features.history.engine import connect, migrate
from features.history.tables import metadata
from tests.fresh_database import open_database

# Between two looks of Python's collector at new objects: a test makes and drops a service, which is tens of thousands.
_OBJECTS_BETWEEN_COLLECTIONS = 50_000
# Those that point at others before those.
_TABLES = tuple(reversed(metadata.sorted_tables))
_WITH_ROWS = union_all(
    *(select(literal(number)).where(exists(select(table))) for number, table in enumerate(_TABLES))
)
_FROM_ONE = text(
    "SELECT setval(format('%I.%I', schemaname, sequencename), 1, false) FROM pg_sequences WHERE last_value > 0"
)
_USUAL_SERVER = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector need not go through it again in every test."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """An empty, migrated database of each kind; PostgreSQL is skipped where there is none."""
    opened: Engine = request.getfixturevalue(f"{request.param}_engine")
    return opened


@pytest.fixture
def sqlite_engine(sqlite_template: Path, tmp_path: Path) -> Iterator[Engine]:
    """An empty, migrated SQLite file."""
    path = tmp_path / "history.db"
    shutil.copy(sqlite_template, path)
    opened = connect(f"sqlite:///{path}")
    yield opened
    opened.dispose()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once, copied by every test."""
    path = tmp_path_factory.mktemp("history") / "template.db"
    opened = connect(f"sqlite:///{path}")
    migrate(opened)
    opened.dispose()
    return path


@pytest.fixture
def postgresql_engine(migrated_postgresql: Engine) -> Engine:
    """An empty, migrated PostgreSQL database."""
    with migrated_postgresql.begin() as conn:
        # Emptying all of them makes some two hundred files; most tests write to a few tables.
        for number in sorted(conn.scalars(_WITH_ROWS)):
            conn.execute(delete(_TABLES[number]))
        conn.execute(_FROM_ONE)
    return migrated_postgresql


@pytest.fixture(scope="session")
def migrated_postgresql(postgres_url: str) -> Iterator[Engine]:
    """The PostgreSQL database of this worker, with what tests have left in it."""
    opened = open_database(postgres_url)
    migrate(opened)
    yield opened
    opened.dispose()


@pytest.fixture
def redis_address() -> str:
    """Of the server that NEXTCHANNEL_TEST_REDIS names, else of one at 127.0.0.1:6379; else the test is skipped."""
    redis = pytest.importorskip("redis", reason="the extra `redis` is not installed")
    address = os.environ.get("NEXTCHANNEL_TEST_REDIS", "127.0.0.1:6379")
    host, port = address.split(":")
    client = redis.Redis(host=host, port=int(port), socket_connect_timeout=2)
    try:
        client.ping()
    except redis.ConnectionError:
        if "NEXTCHANNEL_TEST_REDIS" in os.environ:
            raise
        pytest.skip(f"no Redis answers at {address}")
    return address


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A fresh database, dropped at the end.

    On the server that NEXTCHANNEL_TEST_POSTGRES names, else on one at 127.0.0.1:5432, else on a server that is
    started for the tests where its programs are installed.
    """
    with _server(tmp_path_factory) as server:
        name = f"nextchannel_test_{uuid4().hex[:12]}"
        admin = create_engine(server, isolation_level="AUTOCOMMIT")
        with admin.connect() as conn:
            conn.execute(text(f"CREATE DATABASE {name}"))
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
        with admin.connect() as conn:
            conn.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


@contextmanager
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    named = os.environ.get("NEXTCHANNEL_TEST_POSTGRES")
    if named or _answers(_USUAL_SERVER):
        yield named or _USUAL_SERVER
        return
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    initdb = shutil.which("initdb", path=os.pathsep.join([os.environ["PATH"], *map(str, programs)]))
    if initdb is None:
        pytest.skip("no PostgreSQL answers at 127.0.0.1:5432 and its server programs are not installed")
    if os.geteuid() == 0:
        pytest.skip("no PostgreSQL answers at 127.0.0.1:5432 and root may not start one")
    data = tmp_path_factory.mktemp("postgres") / "data"
    pg_ctl = Path(initdb).with_name("pg_ctl")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    subprocess.run(
        [initdb, "--auth=trust", "--username=postgres", "--no-sync", "-D", data],
        check=True,
        capture_output=True,
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    subprocess.run(
        [pg_ctl, "-D", data, "-o", options, "-l", data / "log", "-w", "start"],
        check=True,
        capture_output=True,
    )
    try:
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([pg_ctl, "-D", data, "-m", "immediate", "stop"], check=True, capture_output=True)


def _answers(url: str) -> bool:
    probe = create_engine(url, connect_args={"connect_timeout": 3})
    try:
        with probe.connect():
            return True
    except OperationalError:
        return False
    finally:
        probe.dispose()

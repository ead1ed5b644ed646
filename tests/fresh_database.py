"""An empty database for a benchmark or a chaos program; gone afterwards."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, make_url, text

from features.history.engine import connect, migrate
from features.identity.vault import ContactVault, make_keys

_SERVER = os.environ.get("NEXTCHANNEL_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")

# Of the throw-away databases; processes that a program starts inherit it.
CONTACT_KEYS = os.environ.setdefault("CONTACT_KEYS", make_keys())


def open_database(url: str) -> Engine:
    """A database of a test or program, with the keys of contact points; SQLite has its own beside the file."""
    return connect(url, None if url.startswith("sqlite") else ContactVault(text=CONTACT_KEYS))


def go_back(conn: Connection, revision: str) -> None:
    """Take the newest migrations back, down to this one."""
    config = Config()
    config.set_main_option(
        "script_location", str(Path(__file__).parents[1] / "features" / "history" / "migrations")
    )
    config.attributes["connection"] = conn
    command.downgrade(config, revision)


@contextmanager
def database(postgres: bool = False) -> Iterator[Engine]:
    """An empty, migrated database."""
    if not postgres:
        with tempfile.TemporaryDirectory() as folder:
            engine = open_database(f"sqlite:///{Path(folder) / 'history.db'}")
            migrate(engine)
            yield engine
            engine.dispose()
        return
    name = f"nextchannel_bench_{uuid4().hex[:12]}"
    admin = create_engine(_SERVER, isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.execute(text(f"CREATE DATABASE {name}"))
    url = make_url(_SERVER).set(database=name).render_as_string(hide_password=False)
    engine = open_database(url)
    migrate(engine)
    try:
        yield engine
    finally:
        engine.dispose()
        with admin.connect() as conn:
            conn.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()

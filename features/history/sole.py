"""Work that one process at a time does: a lock that is let go when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, text

from models.domain.errors import ConflictError


@contextmanager
def sole_holder(engine: Engine, work: str) -> Iterator[None]:
    """Hold the lock of a piece of work meanwhile.

    On PostgreSQL an advisory lock of a connection of its own, on SQLite a lock on a file beside the database; both are
    let go by the system when the process dies.

    Args:
        engine: The history.
        work: Its name, for example `learner`.

    Raises:
        ConflictError: another process holds it.
    """
    if engine.dialect.name == "postgresql":
        with engine.connect() as conn:
            key = zlib.crc32(f"nextchannel {work}".encode())
            if not conn.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}):
                raise ConflictError(f"another process is the {work}")
            # The lock is the session's: no transaction stays open for it.
            conn.commit()
            try:
                yield
            finally:
                conn.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})
        return
    database = engine.url.database
    assert database, "a history has a file"
    with Path(f"{database}.{work}").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ConflictError(f"another process is the {work}") from exc
        yield

"""Tell a lost database from a wrong statement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from models.domain.errors import StoreUnavailableError


def lost(error: Exception) -> bool:
    """Whether the database is gone, full, locked or restarting, so that the same request may succeed later."""
    if isinstance(error, OperationalError | InterfaceError | PoolTimeoutError):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


@contextmanager
def reaching_the_store() -> Iterator[None]:
    """Turn a lost database into `StoreUnavailableError`; other errors pass."""
    try:
        yield
    except SQLAlchemyError as exc:
        if lost(exc):
            raise StoreUnavailableError("the database cannot be reached") from exc
        raise

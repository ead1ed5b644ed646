"""How work that reads much and writes little gets its transactions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from features.history.engine import read_only


@dataclass(frozen=True, slots=True)
class Transactions:
    """How to read and how to write, each for a short while.

    Attributes:
        reading: Begins a transaction that only reads.
        writing: Begins one that is committed where its block ends.
    """

    reading: Callable[[], AbstractContextManager[Connection]]
    writing: Callable[[], AbstractContextManager[Connection]]

    @classmethod
    def of(cls, engine: Engine) -> Transactions:
        """One for each piece of work, so that others can write in between."""
        return cls(read_only(engine).connect, engine.begin)

    @classmethod
    def within(cls, conn: Connection) -> Transactions:
        """All in the caller's transaction."""
        return cls(lambda: nullcontext(conn), lambda: nullcontext(conn))

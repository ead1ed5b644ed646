"""Who of one process writes next to an SQLite file: first come, first served.

SQLite has one writer and no queue: whoever finds the file locked looks again after pauses of up to 100 ms
(`sqliteDefaultBusyCallback` in https://github.com/sqlite/sqlite/blob/master/src/main.c). A thread that begins its next
transaction right after the last one gets it nearly always, and the others wait for as long as it has work. So the threads
of a process stand in a queue before they ask SQLite; between processes its lock decides as before.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque


class Turns:
    """The queue of one database.

    Args:
        patience_seconds: For which a turn is waited.
    """

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._taken = False
        # A lock for each that waits, which is opened when it has its turn.
        self._waiting: deque[threading.Lock] = deque()

    @property
    def n_waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take(self) -> bool:
        """Wait for a turn, which `give_on` ends; False where there was none in time."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return True
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        if mine.acquire(timeout=self._patience_seconds):
            return True
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
                return False
        return True  # it came with the last moment

    def give_on(self) -> None:
        """End a turn: whoever has waited longest has the next."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False


class QueuedConnection(sqlite3.Connection):
    """A connection of SQLite's driver that has a turn from before a transaction that writes until it has ended.

    Whoever waits for a turn in vain asks SQLite's own lock, which says what is wrong.

    Attributes:
        turns: Of the database. Whoever opens the connection sets it.
    """

    turns: Turns
    _has_turn = False

    def take_turn(self) -> None:
        """Before the transaction begins."""
        self._has_turn = self.turns.take()

    def end_turn(self) -> None:
        """Where it did not begin, or has ended."""
        if self._has_turn:
            self._has_turn = False
            self.turns.give_on()

    def commit(self) -> None:
        """Commit."""
        try:
            super().commit()
        finally:
            self.end_turn()

    def rollback(self) -> None:
        """Roll back."""
        try:
            super().rollback()
        finally:
            self.end_turn()

    def close(self) -> None:
        """Close; what is open is rolled back."""
        try:
            super().close()
        finally:
            self.end_turn()

"""Requests of one event loop, handed to the writer together.

While the writer decides it holds the interpreter most of the time, and a group of sixteen takes little longer than one of
eight. So nothing is won by beginning with the first request that comes: it would be decided by itself while those that are
answered in the same turn of the loop are asking again. A loop hands over when nothing new has come for a few turns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

# Turns of the loop: a request that is read in one is submitted in the next, or in the one after where it was not read
# at once. With nothing to do a turn takes some microseconds.
_QUIET_TURNS = 3


class Arrivals(Generic[T]):
    """What has arrived on one event loop and was not taken yet.

    It is queued for the writer as a whole, once at a time: whatever arrives until the writer takes it is taken with it, and
    what arrives after that waits until those are answered.

    Args:
        loop: On whose thread everything but `take` happens.
        largest: So many do not wait for more.
        queue: Queues this for the writer; may refuse, and then has told everybody.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, largest: int, queue: Callable[[Arrivals[T]], None]
    ) -> None:
        self.loop = loop
        self._largest = largest
        self._queue = queue
        self._arrived: deque[T] = deque()
        self._busy = False

    def __len__(self) -> int:
        return len(self._arrived)

    def add(self, one: T) -> None:
        """One more."""
        self._arrived.append(one)
        if not self._busy:
            self._busy = True
            self.loop.call_soon(self._look, 0, 0)

    def take(self) -> T | None:
        """The first, on any thread; None where there is none."""
        try:
            return self._arrived.popleft()
        except IndexError:
            return None

    def answered(self) -> None:
        """What was taken is answered: whoever has come meanwhile is next."""
        self._busy = bool(self._arrived)
        if self._busy:
            self.loop.call_soon(self._look, 0, 0)

    def _look(self, before: int, quiet_turns: int) -> None:
        n = len(self._arrived)
        quiet_turns = quiet_turns + 1 if n == before else 0
        if n < self._largest and quiet_turns < _QUIET_TURNS:
            self.loop.call_soon(self._look, n, quiet_turns)
        else:
            self._queue(self)

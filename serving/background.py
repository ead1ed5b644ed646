"""Work beside the requests, on threads that start and stop with the service."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

logger = logging.getLogger(__name__)


@contextmanager
def told(name: str) -> Iterator[None]:
    """Write a failure of the block into the log and go on: the next turn may succeed."""
    try:
        yield
    except Exception:
        logger.exception("%s failed", name)


class Repeating:
    """Runs a piece of work again and again on a thread of its own.

    Work that fails is logged and tried again at the next turn.

    Args:
        name: Of the thread.
        work: What to do; where it returns True there is more, and the next turn is at once.
        every_seconds: Pause between the end of a turn and the start of the next.
        rest: After a turn nothing is done for so many times as long as it took, though there is more or somebody asks, but
            not for longer than the pause: requests share the interpreter with it.
    """

    def __init__(
        self, name: str, work: Callable[[], object], every_seconds: float, *, rest: float = 0.0
    ) -> None:
        self._name = name
        self._work = work
        self._every_seconds = every_seconds
        self._rest = rest
        self._wake = threading.Event()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; the first turn is at once."""
        self._end.clear()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Do not wait for the next turn."""
        self._wake.set()

    def stop(self) -> None:
        """Finish the turn that is under way, then end."""
        self._end.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._end.is_set():
            more: object = False
            began = monotonic()
            with told(self._name):
                more = self._work()
            if self._rest:
                self._end.wait(min(self._rest * (monotonic() - began), self._every_seconds))
            if more is True:
                continue
            self._wake.wait(self._every_seconds)
            self._wake.clear()

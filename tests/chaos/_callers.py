"""Threads that call a service until they are stopped, through its lives and deaths."""

from __future__ import annotations

import os
import random
import signal
import threading
import time as clock
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from tests.benchmarks.bare import Server

N_CALLERS = 8
_FIRST_ANSWER_SECONDS = 120


@dataclass
class Calling(ABC):
    """What eight threads have asked for.

    Attributes:
        heard: Set once something was acknowledged since they began to call.
    """

    heard: threading.Event = field(default_factory=threading.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @abstractmethod
    def _call(self, number: int, port: int) -> None:
        """What a thread does until `_stopped` is set."""

    @contextmanager
    def calling(self, port: int) -> Iterator[None]:
        """Call until the block ends."""
        self.heard.clear()
        self._stopped.clear()
        threads = [threading.Thread(target=self._call, args=(number, port)) for number in range(N_CALLERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            for thread in threads:
                thread.join()

    def through_kills(
        self,
        living: Callable[[], AbstractContextManager[Server]],
        n_kills: int,
        moments: random.Random,
        longest_seconds: float,
    ) -> None:
        """Call a service that is killed again and again.

        Args:
            living: Starts it; the block ends with it.
            n_kills: How often it is killed; each time it has acknowledged something.
            moments: Draws when.
            longest_seconds: Between the first answer of a life and its end.
        """
        for _ in range(n_kills):
            with living() as server, self.calling(server.port):
                if not self.heard.wait(_FIRST_ANSWER_SECONDS):
                    raise TimeoutError(f"nothing is acknowledged: {self}")
                clock.sleep(moments.uniform(0, longest_seconds))
                os.kill(server.pid, signal.SIGKILL)

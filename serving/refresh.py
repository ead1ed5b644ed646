"""Keep the online features of customers current after something happened to them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from models.domain.errors import NotFoundError
from serving.background import Repeating

logger = logging.getLogger(__name__)

EVERY_SECONDS = 0.5
_AT_A_TIME = 2_000
# A turn takes 25 ms of CPU for a single customer, and 2,000 take little more than one: while facts keep coming it waits for some.
_REST = 9.0


class Refresher(Protocol):
    """What computes features and writes them to the online store."""

    def refresh(self, customer_ids: Sequence[str], now: datetime) -> object:
        """Bring the features of those customers up to `now`."""
        ...

    def tidy(self, now: datetime) -> None:
        """Do what is not urgent."""
        ...

    def close(self) -> None:
        """Write what is left to write."""
        ...


class FeatureRefresher:
    """Collects customers to refresh and refreshes them in the background, each once however often named.

    A request is taken up at once; what arrives during a turn, and the rest after it, goes together in the next. Customers
    that could not be refreshed are tried again after `EVERY_SECONDS`.

    Args:
        writer: Computes and writes.
        clock: The time as of which to compute.
    """

    def __init__(self, writer: Refresher, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._writer = writer
        self._clock = clock
        self._due: dict[str, None] = {}
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._thread = Repeating("feature-refresher", self._take_turn, EVERY_SECONDS, rest=_REST)

    def start(self) -> None:
        """Begin to refresh."""
        self._thread.start()

    def stop(self) -> None:
        """End after the turn under way; whoever is still due is computed by the next full materialisation."""
        self._thread.stop()
        self._writer.close()

    def request(self, customer_ids: Iterable[str]) -> None:
        """Refresh these customers soon."""
        with self._lock:
            self._due.update(dict.fromkeys(customer_ids))
        self._thread.wake()

    @property
    def n_due(self) -> int:
        """How many customers wait."""
        return len(self._due)

    def run_once(self) -> int:
        """Refresh everybody who is due, after the turn under way; how many that were."""
        with self._turn:
            done = 0
            while n := self._refresh_some():
                done += n
            return done

    def _take_turn(self) -> bool:
        """Refresh some; whether there are more."""
        with self._turn:
            self._refresh_some()
        return bool(self._due)

    def _refresh_some(self) -> int:
        batch = self._take()
        try:
            if batch:
                self._writer.refresh(batch, self._clock())
        except NotFoundError as exc:
            # Nobody has made the list of features yet; whoever does computes everybody.
            logger.warning("features are not refreshed: %s", exc)
        except Exception:
            with self._lock:
                self._due.update(dict.fromkeys(batch))
            raise
        self._writer.tidy(self._clock())
        return len(batch)

    def _take(self) -> list[str]:
        with self._lock:
            batch = list(self._due)[:_AT_A_TIME]
            for customer_id in batch:
                del self._due[customer_id]
        return batch

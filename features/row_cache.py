"""Rows that were read of late, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the settings name the bound below, and need no NumPy
    import numpy as np
    from numpy.typing import NDArray

    Row = NDArray[np.float64]

MOST_ROWS = 100_000
"""Rows that are kept where nothing else is said."""
_NEVER = float("-inf")


@dataclass(slots=True)
class _Cached:
    """A row, or None for a customer without one; `at` is 0 where it must be read again.

    Attributes:
        row: `[as_of, *features]`.
        at: When it was read or written, by the monotonic clock.
        least: A row made before this moment (seconds since 1970) is about to be replaced, and is not kept.
    """

    row: Row | None
    at: float
    least: float


class RowCache:
    """The least recently used rows are dropped first; None stands for a customer without a row.

    Rows that this process writes replace the cached ones at once. Of rows that another process writes the cache is
    told by `outdate`. While nobody has confirmed within `trust_seconds` that it was told everything, only rows
    younger than that are given.

    Args:
        most_rows: Bound of the memory: a row of F features takes about 8 F + 380 bytes.
        keep_seconds: Age at which a cached row is read again.
        trust_seconds: The same, while the cache may have missed something.
    """

    def __init__(
        self, most_rows: int = MOST_ROWS, keep_seconds: float = 300.0, trust_seconds: float = 1.0
    ) -> None:
        self.most_rows = most_rows
        self.keep_seconds = keep_seconds
        self.trust_seconds = trust_seconds
        self._rows: OrderedDict[str, _Cached] = OrderedDict()
        self._confirmed_at = _NEVER
        self._cleared_at = _NEVER
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, customer_ids: Iterable[str]) -> dict[str, Row | None]:
        """The rows that are cached and fresh."""
        now = monotonic()
        trusted = now - self._confirmed_at <= self.trust_seconds
        oldest = now - (self.keep_seconds if trusted else min(self.keep_seconds, self.trust_seconds))
        found: dict[str, Row | None] = {}
        with self._lock:
            for customer_id in customer_ids:
                cached = self._rows.get(customer_id)
                if cached is not None and cached.at >= oldest:
                    found[customer_id] = cached.row
                    self._rows.move_to_end(customer_id)
        return found

    def put(self, rows: Mapping[str, Row | None], read_at: float | None = None) -> None:
        """Keep rows that were just read or written.

        Args:
            rows: By customer.
            read_at: When the read began, by the monotonic clock; None for rows that this process wrote.
        """
        now = monotonic()
        at = now if read_at is None else read_at
        with self._lock:
            if at < self._cleared_at:
                return
            for customer_id, row in rows.items():
                before = self._rows.get(customer_id)
                least = _NEVER if before is None else before.least
                if read_at is not None and not _made_at(row) >= least:
                    continue
                self._rows[customer_id] = _Cached(row, at, least)
                self._rows.move_to_end(customer_id)
            while len(self._rows) > self.most_rows:
                self._rows.popitem(last=False)

    def outdate(self, as_of: Mapping[str, float]) -> None:
        """Rows of these customers made before these moments (seconds since 1970) are being replaced."""
        with self._lock:
            for customer_id, least in as_of.items():
                before = self._rows.get(customer_id)
                if before is not None and before.at > 0 and _made_at(before.row) >= least:
                    before.least = max(before.least, least)
                    continue
                if before is not None:
                    least = max(least, before.least)
                self._rows[customer_id] = _Cached(None, 0.0, least)
                self._rows.move_to_end(customer_id)
            while len(self._rows) > self.most_rows:
                self._rows.popitem(last=False)

    def confirm(self, at: float) -> None:
        """Whatever another process announced up to that moment of the monotonic clock was told to `outdate`."""
        self._confirmed_at = at

    def clear(self) -> None:
        """Drop every row, and those that are being read."""
        with self._lock:
            self._rows.clear()
            self._cleared_at = monotonic()

    def forget(self, customer_ids: Sequence[str]) -> None:
        """Drop rows, so that they are read again."""
        with self._lock:
            for customer_id in customer_ids:
                self._rows.pop(customer_id, None)


def _made_at(row: Row | None) -> float:
    return _NEVER if row is None else float(row[0])

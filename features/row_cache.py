"""Rows that were read of late, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from time import monotonic

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float64]


class RowCache:
    """The least recently used rows are dropped first; None stands for a customer without a row.

    Rows that this process writes replace the cached ones at once. Those that another process writes are seen
    after `keep_seconds` at the latest.

    Args:
        most_rows: Bound of the memory: a row of 70 features takes about 800 bytes.
        keep_seconds: Age at which a cached row is read again.
    """

    def __init__(self, most_rows: int = 100_000, keep_seconds: float = 1.0) -> None:
        self.most_rows = most_rows
        self.keep_seconds = keep_seconds
        self._rows: OrderedDict[str, tuple[Row | None, float]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, customer_ids: Iterable[str]) -> dict[str, Row | None]:
        """The rows that are cached and fresh."""
        oldest = monotonic() - self.keep_seconds
        found: dict[str, Row | None] = {}
        with self._lock:
            for customer_id in customer_ids:
                cached = self._rows.get(customer_id)
                if cached is not None and cached[1] >= oldest:
                    found[customer_id] = cached[0]
                    self._rows.move_to_end(customer_id)
        return found

    def put(self, rows: Mapping[str, Row | None]) -> None:
        """Keep rows that were just read or written."""
        now = monotonic()
        with self._lock:
            for customer_id, row in rows.items():
                self._rows[customer_id] = (row, now)
                self._rows.move_to_end(customer_id)
            while len(self._rows) > self.most_rows:
                self._rows.popitem(last=False)

    def clear(self) -> None:
        """Drop every row."""
        with self._lock:
            self._rows.clear()

    def forget(self, customer_ids: Sequence[str]) -> None:
        """Drop rows, so that they are read again."""
        with self._lock:
            for customer_id in customer_ids:
                self._rows.pop(customer_id, None)

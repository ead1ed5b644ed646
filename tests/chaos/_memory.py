"""Whether a process grows: its resident memory while it is asked, and what of it is growth."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from statistics import median
from threading import Lock

# Requests between two readings, and between two lines.
_READ_EVERY = 250
_TELL_EVERY = 10_000
_TENTH = 10
# With fewer readings a tenth of them is no more than chance.
LEAST_READINGS = 100


def growth_pct(readings: Sequence[float]) -> float | None:
    """How much memory grew over the second half, per cent; None where there are too few readings to tell.

    The median of the last tenth over the median of the tenth that ends at half time, so that half of the readings
    lie between the two. What is taken and given back, between one reading and another, moves no median; what
    stays, at once or little by little, does.

    Args:
        readings: Memory, evenly spaced in requests.

    Example:
        >>> round(growth_pct([100.0] * 50 + [100.0 + number / 10 for number in range(50)]), 2)
        4.45
    """
    if len(readings) < LEAST_READINGS:
        return None
    half, tenth = len(readings) // 2, len(readings) // _TENTH
    before = median(readings[half - tenth : half])
    return 100 * (median(readings[-tenth:]) / before - 1)


class MemoryWatch:
    """Reads the memory of a process at every so many requests, whichever thread makes them.

    Args:
        rss_mb: Gives its resident memory now, MiB.
    """

    def __init__(self, rss_mb: Callable[[], float]) -> None:
        self._rss_mb = rss_mb
        self._lock = Lock()
        self._requests = 0
        self.readings: list[float] = []

    def __call__(self) -> None:
        """One more request was made."""
        with self._lock:
            self._requests += 1
            if self._requests % _READ_EVERY:
                return
            self.readings.append(self._rss_mb())
            if self._requests % _TELL_EVERY == 0:
                sys.stdout.write(f"{self._requests:,} requests, {self.readings[-1]:.1f} MiB\n")
                sys.stdout.flush()

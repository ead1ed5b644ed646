"""A histogram that takes many values at once."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import Metric
from prometheus_client.registry import Collector


class Distribution(Collector):
    """How often values fell where, as Prometheus reads it.

    The client's own `Histogram` takes one value a call, and walks its bounds in Python: two values of each decision were a
    twentieth of what a decision of a batch executes.

    Args:
        name: Of the figure.
        documentation: What it says.
        bounds: Upper bounds, rising; a value equal to a bound counts below it.
    """

    def __init__(self, name: str, documentation: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, values: Iterable[float]) -> None:
        """Count values."""
        bounds, counts = self._bounds, self._counts
        with self._lock:
            for value in values:
                counts[bisect_left(bounds, value)] += 1
                self._sum += value

    def collect(self) -> Iterator[Metric]:
        """For a scrape: as the client's own histograms say it."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        made = Metric(self._name, self._documentation, "histogram")
        for bound, n in zip((*map(str, self._bounds), "+Inf"), accumulate(counts), strict=True):
            made.add_sample(f"{self._name}_bucket", {"le": bound}, n)
        made.add_sample(f"{self._name}_count", {}, sum(counts))
        if self._bounds[0] >= 0:  # a sum that may fall is no sum to Prometheus
            made.add_sample(f"{self._name}_sum", {}, total)
        yield made

"""The figures of one process, as Prometheus reads them.

Every label is bounded: routes and problems come from tables, arms and reasons from enumerations, and names that people
give (channels, campaigns) beyond the first `MOST_NAMES` are counted as `other`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from models.domain.decision import Decision
from models.domain.experiment import Arm
from serving.observability.distribution import Distribution

MOST_NAMES = 50
OTHER = "other"
NO_CONTACT = "no_contact"

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0)
_SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
_MINOR = (-1000.0, -100.0, -10.0, -1.0, 0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0)


class BoundedNames:
    """Lets the first so many names through; every other is `other`."""

    def __init__(self, most: int = MOST_NAMES) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        """The label for a name."""
        if name in self._known:
            return name
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(name)
        return name


class Metrics:
    """Counters and histograms of a process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._channel = BoundedNames()
        self.requests = Histogram(
            "nextchannel_request_seconds",
            "Time from the head of a request to the end of its answer.",
            ("method", "route", "status"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.problems = Counter(
            "nextchannel_problems",
            "Answers that were problem documents, by the end of their type.",
            ("problem",),
            registry=self.registry,
        )
        self.rate_limited = Counter(
            "nextchannel_rate_limited", "Requests refused for asking too often.", registry=self.registry
        )
        self.stages = Histogram(
            "nextchannel_decision_stage_seconds",
            "Time of a stage of deciding, for all customers of a call together.",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.decisions = Counter(
            "nextchannel_decisions",
            "Decisions answered, dry runs and repeats included.",
            ("channel", "arm"),
            registry=self.registry,
        )
        self.degraded = Counter(
            "nextchannel_decisions_degraded",
            "Decisions answered by a simpler policy, by what was missing.",
            ("reason",),
            registry=self.registry,
        )
        self.propensity = Distribution(
            "nextchannel_decision_propensity", "Probability with which the action was chosen.", _SHARES
        )
        self.net_value = Distribution(
            "nextchannel_decision_net_value_minor",
            "Expected net value of the chosen action, minor units; where a model has said.",
            _MINOR,
        )
        self.registry.register(self.propensity)
        self.registry.register(self.net_value)
        # A label look-up costs more than the count itself.
        self._by_choice: dict[tuple[str, Arm], Counter] = {}
        self._by_stage: dict[str, Histogram] = {}
        self._by_request: dict[tuple[str, str, int], Histogram] = {}

    def decided(self, decisions: Sequence[Decision]) -> None:
        """Count decisions."""
        counts: dict[tuple[str, Arm], int] = {}
        for decision in decisions:
            choice = decision.action.channel if decision.action else NO_CONTACT, decision.arm
            counts[choice] = counts.get(choice, 0) + 1
            for reason in decision.degraded:
                self.degraded.labels(reason).inc()
        for choice, n in counts.items():
            counter = self._by_choice.get(choice)
            if counter is None:
                counter = self.decisions.labels(self._channel(choice[0]), choice[1].value)
                self._by_choice[choice] = counter
            counter.inc(n)
        self.propensity.observe([decision.propensity for decision in decisions])
        values = [decision.expected.net_value_minor for decision in decisions]
        self.net_value.observe([value for value in values if value is not None])

    def stage(self, name: str) -> _Stage:
        """Time a stage of deciding: as long as the block takes."""
        return _Stage(self, name)

    def stage_took(self, name: str, seconds: float) -> None:
        """A stage of deciding took so long."""
        histogram = self._by_stage.get(name)
        if histogram is None:
            histogram = self._by_stage[name] = self.stages.labels(name)
        histogram.observe(seconds)

    def answered(self, method: str, route: str, status: int, seconds: float, problem: str | None) -> None:
        """A request was answered."""
        key = method, route, status
        histogram = self._by_request.get(key)
        if histogram is None:
            histogram = self._by_request[key] = self.requests.labels(method, route, str(status))
        histogram.observe(seconds)
        if problem is not None:
            self.problems.labels(problem).inc()
            if problem == "rate-limited":
                self.rate_limited.inc()

    def watch(self, read: Callable[[], Sequence[GaugeMetricFamily]]) -> None:
        """Ask for these gauges at every scrape."""
        self.registry.register(_AtScrape(read))


class _Stage:
    """A block that is timed."""

    __slots__ = ("_began", "_metrics", "_name")

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._metrics = metrics
        self._name = name
        self._began = time.perf_counter()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_raised: object) -> None:
        self._metrics.stage_took(self._name, time.perf_counter() - self._began)


class _AtScrape(Collector):
    """Gauges that are read when somebody looks."""

    def __init__(self, read: Callable[[], Sequence[GaugeMetricFamily]]) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from self._read()

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing is read before the first scrape."""
        return iter(())

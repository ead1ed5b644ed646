"""What becomes of each where all come at once: batches of decisions, single ones, facts, and somebody who looks at the report.

    make bench NAME=mixed [ARGS="--quick --postgres"]

The installation is that of `decide`. Batches of 1,000 are asked for by two callers without a pause, in turn alone and while
facts come in one by one, single decisions are asked for, and the campaign's report is looked at. All of them write to one
database: `fact_most_ms` says how long one of them waited at most for the others. `beside_over_alone` is what is left of the
customers a second of the batches.
"""

from __future__ import annotations

import argparse
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from uuid import uuid4

import numpy as np

from tests.benchmarks.bare import load, serving
from tests.benchmarks.batch import batches
from tests.benchmarks.decide import FACTORY, WARM_SECONDS, judged, median
from tests.benchmarks.decide_installation import Installation
from tests.benchmarks.decide_service import CACHE

_ROUNDS = 4
_CALLERS = 2
_FACTS_PER_SECOND = 20.0
_SINGLE_PER_SECOND = 10.0
_LOOKS_PER_SECOND = 1.0
_PATIENCE_SECONDS = 120.0


@dataclass
class _Steady:
    """Requests of one kind at an even pace, over one connection.

    Attributes:
        seconds: How long each waited for its answer.
        refused: Answers that are not 200.
    """

    port: int
    per_second: float
    ask: Callable[[http.client.HTTPConnection], None]
    seconds: list[float] = field(default_factory=list)
    refused: int = 0

    def go_on(self, over: threading.Event) -> None:
        """Until that is set; a request that is late makes none of the next ones late."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_SECONDS)
        while not over.is_set():
            began = time.perf_counter()
            self.ask(connection)
            answer = connection.getresponse()
            answer.read()
            took = time.perf_counter() - began
            self.seconds.append(took)
            self.refused += answer.status != http.client.OK
            over.wait(max(0.0, 1.0 / self.per_second - took))
        connection.close()

    def quantile_ms(self, share: float) -> float:
        """Of the waits."""
        return round(float(np.quantile(self.seconds, share)) * 1_000, 1)


def main(arguments: list[str]) -> int:
    """Measure, print the figures, then one line of JSON; 1 where a bar is missed."""
    return judged(measure, __doc__, arguments)


def measure(made: Installation, wanted: argparse.Namespace) -> dict[str, object]:
    """Every figure of the benchmark."""
    part = wanted.decisions // (2 * _ROUNDS)
    alone, beside, refused = [], [], 0
    with serving(FACTORY, made.environment | {CACHE: WARM_SECONDS}, "/healthz") as server:
        numbers = count(wanted.customers // 2)
        facts = _Steady(server.port, _FACTS_PER_SECOND, lambda to: _tell(to, _name(numbers, wanted)))
        single = _Steady(server.port, _SINGLE_PER_SECOND, lambda to: _decide(to, _name(numbers, wanted)))
        looks = _Steady(
            server.port, _LOOKS_PER_SECOND, lambda to: to.request("GET", "/v1/report?campaign_id=spring")
        )
        load(server.port, batches(0, wanted.customers, wanted.customers, dry_run=True))
        for number in range(2 * _ROUNDS):
            asked = batches(number * part, part, wanted.customers)
            if number % 2 == 0:
                answered = load(server.port, asked, _CALLERS)
                alone.append(part / answered.took)
            else:
                with _all_of(facts, single, looks):
                    answered = load(server.port, asked, _CALLERS)
                beside.append(part / answered.took)
            refused += sum(n for status, n in answered.statuses.items() if status != http.client.OK)
    return {
        "bench": "mixed",
        "backend": "postgresql" if wanted.postgres else "sqlite",
        "beside_over_alone": median([real / free for real, free in zip(beside, alone, strict=True)]),
        "customers_per_s_alone": median(alone),
        "customers_per_s_beside": median(beside),
        "fact_p50_ms": facts.quantile_ms(0.5),
        "fact_p99_ms": facts.quantile_ms(0.99),
        "fact_most_ms": facts.quantile_ms(1.0),
        "decision_p50_ms": single.quantile_ms(0.5),
        "decision_p99_ms": single.quantile_ms(0.99),
        "look_p50_ms": looks.quantile_ms(0.5),
        "look_most_ms": looks.quantile_ms(1.0),
        "refused": refused + facts.refused + single.refused + looks.refused,
        "facts": len(facts.seconds),
        "looks": len(looks.seconds),
        "decisions": wanted.decisions,
    }


@contextmanager
def _all_of(*kinds: _Steady) -> Iterator[None]:
    """Each on a thread of its own, until the block ends."""
    over = threading.Event()
    threads = [threading.Thread(target=kind.go_on, args=(over,)) for kind in kinds]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _name(numbers: Iterator[int], wanted: argparse.Namespace) -> str:
    return f"c-{next(numbers) % wanted.customers}"


def _tell(connection: http.client.HTTPConnection, customer_id: str) -> None:
    fact = {
        "source": "bench",
        "event_id": uuid4().hex,
        "customer_id": customer_id,
        "kind": "viewed",
        "occurred_at": datetime.now(UTC).isoformat(),
    }
    _post(connection, "/v1/interactions", {"interactions": [fact]})


def _decide(connection: http.client.HTTPConnection, customer_id: str) -> None:
    _post(connection, "/v1/decisions", {"campaign_id": "spring", "customer_id": customer_id})


def _post(connection: http.client.HTTPConnection, path: str, body: object) -> None:
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})

"""Batches of 1,000 over HTTP against a bare endpoint's requests a second, both measured in the same run.

    make bench NAME=batch [ARGS="--quick --postgres"]

The installation is that of `decide`. 200,000 decisions are taken, 1,000 a call. Memory is looked at after the first fifth
and at the end; every customer's row was read before, so that the cache of rows is full, as after a day's work.
"""

from __future__ import annotations

import argparse
import json
import os

from tests.benchmarks.bare import bare_requests, load, request, serving
from tests.benchmarks.decide import CONNECTIONS, FACTORY, WARM_SECONDS, judged, median
from tests.benchmarks.decide_installation import Installation
from tests.benchmarks.decide_service import CACHE

SIZE = 1_000
_PARTS = 5


def batches(first: int, n: int, n_customers: int, *, dry_run: bool = False) -> list[bytes]:
    """Requests for n decisions."""
    size = min(SIZE, n)
    return [
        request(
            "/v1/decisions/batch",
            json.dumps(
                {
                    "requests": [
                        {
                            "campaign_id": "spring",
                            "customer_id": f"c-{(first + start + i) % n_customers}",
                            "dry_run": dry_run,
                        }
                        for i in range(size)
                    ]
                }
            ).encode(),
        )
        for start in range(0, n, size)
    ]


def measure(made: Installation, wanted: argparse.Namespace) -> dict[str, object]:
    """Every figure of the benchmark."""
    per_second, bare_per_second, memory = [], [], []
    statuses: dict[int, int] = {}
    part = wanted.decisions // _PARTS
    with (
        serving("tests.benchmarks.bare:create") as bare_server,
        serving(FACTORY, made.environment | {CACHE: WARM_SECONDS}, "/healthz") as server,
    ):
        load(bare_server.port, bare_requests(500))
        load(server.port, batches(0, wanted.customers, wanted.customers, dry_run=True))
        for number in range(_PARTS):
            asked = batches(number * part, part, wanted.customers)
            bare_per_second.append(load(bare_server.port, bare_requests(wanted.many), CONNECTIONS).per_second)
            answered = load(server.port, asked)
            per_second.append(part / answered.took)
            memory.append(server.rss_mb())
            for status, n in answered.statuses.items():
                statuses[status] = statuses.get(status, 0) + n
    return {
        "bench": "batch",
        "backend": "postgresql" if wanted.postgres else "sqlite",
        "customers_per_s_over_bare_rps": median(
            [real / bare for real, bare in zip(per_second, bare_per_second, strict=True)]
        ),
        "rss_growth_pct": round(100 * (memory[-1] / memory[0] - 1), 2),
        "most_rss_mb": round(max(memory), 1),
        "rss_mb": [round(mb, 1) for mb in memory],
        "customers_per_s": median(per_second),
        "bare_rps": median(bare_per_second),
        "decisions": wanted.decisions,
        "statuses": {str(status): n for status, n in statuses.items()},
        "load_average": os.getloadavg()[0],
    }


def main(arguments: list[str]) -> int:
    """Measure, print the figures, then one line of JSON; 1 where a bar is missed."""
    return judged(measure, __doc__, arguments)

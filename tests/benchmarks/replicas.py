"""Two replicas on one PostgreSQL against one: decisions a second, and who used the cores meanwhile.

    make bench NAME=replicas ARGS="--customers 10000"

The installation is that of `decide`. One replica and two are measured in turn, with 16 connections to each; the load
comes from this process. Where the second replica does not double the throughput, the account says why: what a decision costs
replica, database and load with one replica and with two, how many decisions all cores together have time for at either
cost, and what the writers' connections wait for meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import create_engine, text

from tests.benchmarks.bare import Server, load_all, serving
from tests.benchmarks.bars import exit_code
from tests.benchmarks.decide import (
    CONNECTIONS,
    FACTORY,
    WARM_SECONDS,
    cpu_seconds,
    decisions,
    in_batches,
    installation,
    median,
    options,
)
from tests.benchmarks.decide_installation import Installation
from tests.benchmarks.decide_service import CACHE

# Cores count as used up where no more than this share of them is idle.
SPARE = 0.1
# Often enough for shares, seldom enough not to be felt.
SECONDS_BETWEEN_LOOKS = 0.01
IN_TRANSACTION = text(
    "SELECT state, wait_event_type, wait_event FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
)


def postgres_seconds() -> float:
    """CPU that PostgreSQL's processes have used so far; one that has ended no longer counts."""
    used = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().strip() == "postgres":
                used += cpu_seconds(Server(port=0, pid=int(process.name)))
    return used


@contextlib.contextmanager
def watched(database_url: str, found: Counter[str]) -> Iterator[None]:
    """Count, while the block runs, what the writers' connections to the database are at, as PostgreSQL says it.

    A connection is looked at while it is in a transaction: `works`, `waits for its replica` (which is choosing, or has not
    got a core), or waits for whatever PostgreSQL names - `Lock` is the other replica's, `IO` the disk.

    Args:
        database_url: SQLAlchemy's.
        found: Gets the counts.
    """
    engine, over = create_engine(database_url, isolation_level="AUTOCOMMIT"), threading.Event()

    def look() -> None:
        with engine.connect() as conn:
            while not over.wait(SECONDS_BETWEEN_LOOKS):
                found["looks"] += 1
                for state, kind, event in conn.execute(IN_TRANSACTION):
                    if state != "active":
                        found["waits for its replica"] += 1
                    else:
                        found["works" if kind is None else f"waits for {kind}: {event}"] += 1

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        engine.dispose()


def measure_one(
    servers: Sequence[Server], first: int, wanted: argparse.Namespace
) -> tuple[float, Counter[str]]:
    """Decisions a second of these replicas together, and the cores that everybody used."""
    parts = [decisions(first + i * wanted.many, wanted.many, wanted.customers) for i in range(len(servers))]
    before = [cpu_seconds(one) for one in servers], postgres_seconds(), time.process_time()
    loads = load_all([(one.port, part) for one, part in zip(servers, parts, strict=True)], CONNECTIONS)
    took = max(one.took for one in loads)
    used = Counter(
        replicas=sum(cpu_seconds(one) for one in servers) - sum(before[0]),
        postgresql=postgres_seconds() - before[1],
        load=time.process_time() - before[2],
    )
    return sum(len(one.seconds) for one in loads) / took, Counter(
        {name: s / took for name, s in used.items()}
    )


def measure(made: Installation, wanted: argparse.Namespace) -> dict[str, object]:
    """Every figure of the benchmark."""
    environment = made.environment | {CACHE: WARM_SECONDS}
    found: list[tuple[float, float]] = []
    cores: tuple[Counter[str], Counter[str]] = Counter(), Counter()
    at_work: Counter[str] = Counter()
    with (
        serving(FACTORY, environment, "/healthz") as first,
        serving(FACTORY, environment, "/healthz") as second,
    ):
        for one in (first, second):
            load_all([(one.port, in_batches(wanted.customers, wanted.customers))], 1)
        for number in range(wanted.rounds):
            start = number * 3 * wanted.many
            alone, used_alone = measure_one([first], start, wanted)
            with watched(made.database_url, at_work):
                both, used_both = measure_one([first, second], start + wanted.many, wanted)
            found.append((alone, both))
            cores[0].update(used_alone)
            cores[1].update(used_both)
    busy = [{name: round(share / wanted.rounds, 2) for name, share in one.items()} for one in cores]
    n_cores = len(os.sched_getaffinity(0))
    rps_one, rps_two = median([alone for alone, _ in found]), median([both for _, both in found])
    # What a decision costs with one replica at work, everybody's part, and how many of these the cores have time for.
    ms = {name: round(1_000 * share / rps_one, 3) for name, share in busy[0].items()}
    possible = 1_000 * n_cores / sum(ms.values())
    at_their_cost = rps_two * n_cores / sum(busy[1].values())
    looks = max(1, at_work.pop("looks", 0))
    return {
        "bench": "replicas",
        "rps_two_over_one": median([both / alone for alone, both in found]),
        "rps_one": rps_one,
        "rps_two": rps_two,
        "cores": n_cores,
        "cores_used_with_one": busy[0],
        "cores_used_with_two": busy[1],
        "cpu_ms_per_decision": ms,
        "rps_that_the_cores_allow": round(possible, 1),
        "two_over_one_that_the_cores_allow": round(possible / rps_one, 3),
        "two_over_one_that_they_allow_at_what_two_cost": round(at_their_cost / rps_one, 3),
        "connections_of_two_in_a_transaction": {
            name: round(n / looks, 2) for name, n in at_work.most_common()
        },
        "cores_used_up_with_two": sum(busy[1].values()) >= n_cores * (1 - SPARE),
        "load_average": os.getloadavg()[0],
    }


def main(arguments: list[str]) -> int:
    """Measure and print; 1 where two replicas do less than they should though cores were idle."""
    wanted = options(__doc__, [*arguments, "--postgres"])
    with installation(wanted) as made:
        figures = measure(made, wanted)
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0 if figures["cores_used_up_with_two"] else exit_code(figures)

"""One decision over HTTP against a bare endpoint, both measured in the same run.

    make bench NAME=decide [ARGS="--quick --postgres"]

A service as `bootstrap` builds it decides for 100,000 customers on 8 channels x 12 slots: fitted LightGBM response,
bandit, budget and caps, durable log. One uvicorn worker; the load comes from another process, with another customer
in each request. Bare and real endpoint are measured in turn, round by round, and the median round counts, so that
whatever else the machine does meets both. Rows of features come from the warm cache; `cold` is with an empty one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time as clock
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from sqlalchemy import Connection, create_engine, make_url, text

import models.choose
from models.policy.bandit import Bandit
from models.response.model import FittedResponse
from serving import choosing
from serving.reading import PatientReader
from serving.request import DecisionRequest
from serving.routes import replies
from serving.routes.schemas import LARGEST_BATCH
from serving.store import ledger
from tests.benchmarks.bare import Load, Server, bare_requests, load, request, serving
from tests.benchmarks.bars import exit_code
from tests.benchmarks.decide_installation import Installation, install
from tests.benchmarks.decide_service import CACHE, service_of

FACTORY = "tests.benchmarks.decide_service:create"
CONNECTIONS = 16
WARM_SECONDS = "1000000"


@dataclass(frozen=True, kw_only=True)
class Round:
    """Bare and real endpoint, one after the other."""

    bare_one: Load
    one: Load
    bare_many: Load
    many: Load


@contextlib.contextmanager
def database(postgres: bool) -> Iterator[str | None]:
    """A throw-away PostgreSQL database; None for an SQLite file."""
    if not postgres:
        yield None
        return
    server = make_url(
        os.environ.get("NEXTCHANNEL_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1/postgres")
    )
    name = f"bench_{os.getpid()}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as conn:
            conn.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def decisions(first: int, n: int, n_customers: int) -> list[bytes]:
    """Requests for n customers in a row, starting again after the last."""
    return [
        request(
            "/v1/decisions", b'{"campaign_id":"spring","customer_id":"c-%d"}' % ((first + i) % n_customers)
        )
        for i in range(n)
    ]


def in_batches(n: int, n_customers: int) -> list[bytes]:
    """Requests for the same, as few as there can be."""
    asked = [{"campaign_id": "spring", "customer_id": f"c-{i % n_customers}"} for i in range(n)]
    return [
        request(
            "/v1/decisions/batch", json.dumps({"requests": asked[start : start + LARGEST_BATCH]}).encode()
        )
        for start in range(0, n, LARGEST_BATCH)
    ]


def cpu_seconds(server: Server) -> float:
    """What the process has used so far."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rounds(bare_server: Server, server: Server, wanted: argparse.Namespace) -> list[Round]:
    """The measured rounds; the first requests of each server are thrown away."""
    n_each = wanted.one + wanted.many
    load(bare_server.port, bare_requests(500))
    # Every customer's row is read once.
    load(server.port, in_batches(wanted.rounds * n_each + wanted.many, wanted.customers))
    measured = []
    for number in range(wanted.rounds):
        first = number * n_each
        measured.append(
            Round(
                bare_one=load(bare_server.port, bare_requests(wanted.one)),
                one=load(server.port, decisions(first, wanted.one, wanted.customers)),
                bare_many=load(bare_server.port, bare_requests(wanted.many), CONNECTIONS),
                many=load(
                    server.port, decisions(first + wanted.one, wanted.many, wanted.customers), CONNECTIONS
                ),
            )
        )
    return measured


def median(figures: Sequence[float]) -> float:
    """The middle one, three digits."""
    return round(float(np.median(figures)), 3)


@contextlib.contextmanager
def stopwatches() -> Iterator[Counter[str]]:
    """Seconds by stage, of the decisions taken meanwhile; a stage within a stage counts for both."""
    spent: Counter[str] = Counter()

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*args: Any, **named: Any) -> Any:
            before = clock.perf_counter()
            answer = function(*args, **named)
            spent[stage] += clock.perf_counter() - before
            return answer

        return measured

    with contextlib.ExitStack() as patches:
        for where, name, stage in (
            (PatientReader, "read", "features"),
            (ledger, "load_customers", "customers"),
            (ledger, "_used", "limits"),
            (choosing, "choose", "choose, whole"),
            (models.choose, "eligible", "- eligibility"),
            (FittedResponse, "predict", "- response model"),
            (Bandit, "distribution", "- bandit"),
            (choosing, "to_decision", "answer"),
            (ledger, "write", "write"),
            (Connection, "_commit_impl", "commit"),
        ):
            patches.enter_context(mock.patch.object(where, name, timed(stage, getattr(where, name))))
        yield spent


def stages(made: Installation, n: int, first: int) -> dict[str, float]:
    """Milliseconds a decision by stage, one by one in this process, without HTTP."""
    service = service_of(made.home, made.database_url, float(WARM_SECONDS))
    service.start()
    try:
        asked = [
            DecisionRequest(campaign_id="spring", customer_id=f"c-{(first + i) % made.n_customers}")
            for i in range(n)
        ]

        def decide_all() -> None:
            for one in asked:
                service.decider.decide(one, datetime.now(UTC))

        service.decider.decide_many(asked, datetime.now(UTC))
        with stopwatches() as spent:
            before = clock.perf_counter()
            decide_all()
            spent["whole, with the hand-over between threads"] = clock.perf_counter() - before
        decision = service.decider.decide(asked[0], datetime.now(UTC))
        before = clock.perf_counter()
        for _ in range(n):
            replies.decision_reply(decision)
        spent["reply"] = clock.perf_counter() - before
    finally:
        service.stop()
    return {stage: round(1_000 * seconds / n, 4) for stage, seconds in spent.items()}


def measure(made: Installation, wanted: argparse.Namespace) -> dict[str, object]:
    """Every figure of the benchmark."""
    with serving("tests.benchmarks.bare:create") as bare_server:
        with serving(FACTORY, made.environment | {CACHE: WARM_SECONDS}, "/healthz") as server:
            measured = rounds(bare_server, server, wanted)
            used = cpu_seconds(server)
            unasked = wanted.rounds * (wanted.one + wanted.many)
            load(server.port, decisions(unasked, wanted.many, wanted.customers), 1)
            cpu_ms = (cpu_seconds(server) - used) * 1_000 / wanted.many
            used = cpu_seconds(bare_server)
            load(bare_server.port, bare_requests(wanted.many), 1)
            bare_cpu_ms = (cpu_seconds(bare_server) - used) * 1_000 / wanted.many
            rss_mb = server.rss_mb()
        with serving(FACTORY, made.environment | {CACHE: "0"}, "/healthz") as server:
            load(server.port, decisions(0, 50, wanted.customers))
            cold = load(server.port, decisions(50, wanted.one, wanted.customers))
    statuses: Counter[int] = Counter()
    for one in measured:
        statuses.update(one.one.statuses)
        statuses.update(one.many.statuses)
    return {
        "bench": "decide",
        "backend": "postgresql" if wanted.postgres else "sqlite",
        "p50_over_bare": median([r.one.quantile_ms(0.5) / r.bare_one.quantile_ms(0.5) for r in measured]),
        "rps_over_bare": median([r.many.per_second / r.bare_many.per_second for r in measured]),
        "p99_over_p50": median([r.one.quantile_ms(0.99) / r.one.quantile_ms(0.5) for r in measured]),
        "rss_mb": round(rss_mb, 1),
        "p50_ms": median([r.one.quantile_ms(0.5) for r in measured]),
        "bare_p50_ms": median([r.bare_one.quantile_ms(0.5) for r in measured]),
        "rps": median([r.many.per_second for r in measured]),
        "bare_rps": median([r.bare_many.per_second for r in measured]),
        "cpu_ms": round(cpu_ms, 3),
        "bare_cpu_ms": round(bare_cpu_ms, 3),
        "cold_p50_ms": round(cold.quantile_ms(0.5), 3),
        "statuses": {str(status): n for status, n in statuses.items()},
        "stages": stages(made, min(wanted.one, 500), 0),
        "load_average": os.getloadavg()[0],
    }


def options(description: str | None, arguments: Sequence[str]) -> argparse.Namespace:
    """What can be asked for; `batch` takes the same."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", type=int, default=1_000, help="requests of a round, one after the other")
    parser.add_argument("--many", type=int, default=4_000, help="requests of a round, 16 at a time")
    parser.add_argument("--decisions", type=int, default=200_000, help="of the batches")
    parser.add_argument("--postgres", action="store_true", help="the log on PostgreSQL")
    parser.add_argument("--quick", action="store_true", help="a small version of everything")
    parser.add_argument("--home", type=Path, help="an installation made before, or to be made and kept")
    parser.add_argument("--seed", type=int, default=11)
    wanted = parser.parse_args(arguments)
    if wanted.quick:
        wanted.customers = min(wanted.customers, 2_000)
        wanted.rounds, wanted.one, wanted.many, wanted.decisions = 2, 100, 200, 2_000
    return wanted


@contextlib.contextmanager
def installation(wanted: argparse.Namespace) -> Iterator[Installation]:
    """The one that was asked for, made where it is not there yet."""
    with tempfile.TemporaryDirectory() as folder, database(wanted.postgres) as address:
        home = wanted.home or Path(folder)
        if (home / "history.db").exists() and address is None:
            yield Installation(
                home=home, database_url=f"sqlite:///{home / 'history.db'}", n_customers=wanted.customers
            )
            return
        home.mkdir(parents=True, exist_ok=True)
        yield install(home, wanted.customers, wanted.seed, address)


def main(arguments: list[str]) -> int:
    """Measure, print the stages, then one line of JSON; 1 where a bar is missed."""
    return judged(measure, __doc__, arguments)


def judged(
    measure_all: Callable[[Installation, argparse.Namespace], dict[str, object]],
    description: str | None,
    arguments: Sequence[str],
) -> int:
    """Measure over an installation and print; 1 where a bar is missed, which a quick run does not look at."""
    wanted = options(description, arguments)
    with installation(wanted) as made:
        figures = measure_all(made, wanted)
    print_table(figures)
    return 0 if wanted.quick else exit_code(figures)


def print_table(figures: dict[str, object]) -> None:
    """The figures for people, then for programs."""
    found = figures.get("stages", {})
    assert isinstance(found, dict)
    for stage, ms in found.items():
        sys.stdout.write(f"  {stage:<45} {ms:8.3f} ms\n")
    for key, value in figures.items():
        if key != "stages":
            sys.stdout.write(f"  {key:<45} {value}\n")
    sys.stdout.write(json.dumps(figures) + "\n")

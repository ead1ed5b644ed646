"""What an idempotency key costs a decision: the same decisions with and without one, in turns.

`python -m tests.benchmarks idempotency [--decisions N]`: one line a database, then one JSON object. Both kinds of request
run alternately in runs of 50, on one database, through the decider, one request at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from uuid import uuid4

from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from features.history.channels import seed_channels
from features.history.engine import connect, migrate
from features.identity.vault import ContactVault, make_keys
from serving.request import DecisionRequest
from serving.store.idempotency import IdempotencyKey
from tests.integration.conftest import NOW, Market

_SERVER = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
_RUN = 50


def main(arguments: list[str]) -> int:
    """Measure; 0."""
    parser = argparse.ArgumentParser(prog="idempotency", description=__doc__)
    parser.add_argument("--decisions", type=int, default=2_000, help="of each kind")
    options = parser.parse_args(arguments)
    found: dict[str, object] = {"bench": "idempotency"}
    for name, engine in _databases():
        with engine as opened:
            found[name] = figures = measure(opened, options.decisions)
            print(name, figures)  # noqa: T201 - what a person reads
    print(json.dumps(found))  # noqa: T201 - the last line
    return 0


def measure(engine: Engine, n_decisions: int) -> dict[str, float]:
    """Median milliseconds of a decision, without and with a key.

    Args:
        engine: An empty, migrated database.
        n_decisions: Of each kind.
    """
    with engine.begin() as conn:
        seed_channels(conn, NOW)
    market = Market(engine)
    market.campaign()
    people = [f"c{i}" for i in range(2 * n_decisions)]
    market.customers(*people)
    service = market.service()
    milliseconds: dict[bool, list[float]] = {False: [], True: []}
    try:
        run = min(_RUN, n_decisions)
        for start in range(0, len(people), run):
            keyed = bool(start // run % 2)
            for person in people[start : start + run]:
                key = IdempotencyKey.of(str(uuid4()), "", person.encode()) if keyed else None
                began = time.perf_counter()
                service.decider.decide(
                    DecisionRequest(customer_id=person, campaign_id="spring", key=key), market.now
                )
                milliseconds[keyed].append(1_000 * (time.perf_counter() - began))
    finally:
        service.stop()
    without, with_key = median(milliseconds[False]), median(milliseconds[True])
    return {
        "n": n_decisions,
        "without_ms": round(without, 3),
        "with_key_ms": round(with_key, 3),
        "difference_ms": round(with_key - without, 3),
    }


def _databases() -> Iterator[tuple[str, AbstractContextManager[Engine]]]:
    yield "sqlite", _sqlite()
    server = os.environ.get("NEXTCHANNEL_TEST_POSTGRES", _SERVER)
    try:
        with create_engine(server, connect_args={"connect_timeout": 3}).connect():
            pass
    except OperationalError:
        print("no PostgreSQL answers; it is left out")  # noqa: T201 - what a person reads
        return
    yield "postgresql", _postgres(server)


@contextmanager
def _sqlite() -> Iterator[Engine]:
    with TemporaryDirectory() as folder:
        engine = connect(f"sqlite:///{Path(folder) / 'history.db'}")
        migrate(engine)
        yield engine
        engine.dispose()


@contextmanager
def _postgres(server: str) -> Iterator[Engine]:
    name = f"nextchannel_bench_{uuid4().hex[:12]}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.execute(text(f"CREATE DATABASE {name}"))
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    engine = connect(url, ContactVault(text=make_keys()))
    try:
        migrate(engine)
        yield engine
    finally:
        engine.dispose()
        with admin.connect() as conn:
            conn.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()

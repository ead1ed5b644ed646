"""How fast interactions are taken in, against a raw bulk insert of the same rows.

    python -m tests.benchmarks ingest [--rows 200000] [--postgres] [--quick]

Delivery by delivery, 10,000 facts each, the same facts go two ways in turn: through `serving.ingest.ingest`, as
`POST /v1/interactions` hands them over (JSON checked field by field, a fifth of the customers named by a contact
point, repeats passed over, machine-made opens flagged), and as finished rows by `executemany` of the driver, into a table
with the same indexes; on PostgreSQL also by COPY, which has no way to pass over repeats. The ratio is the median over
deliveries, so that a neighbour on the machine who disturbs one of them does not decide. Then everything is delivered
again, which must change nothing, and once over HTTP, to say what that adds.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
import time
from asyncio import to_thread
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine, text

from features.history.append import CustomerRecord, append_customers, append_identities
from features.history.tables import interactions
from models.domain.channel import IdentityKind
from models.domain.customer import Identity
from serving.ingest import ingest
from serving.routes.interactions import InteractionsIn, interaction_routes
from tests.benchmarks.bars import exit_code
from tests.fresh_database import database

DELIVERY = 10_000
START = datetime(2026, 1, 1, tzinfo=UTC)
RECEIVED_AT = START + timedelta(days=100)
N_CUSTOMERS = 50_000
# What a shop reports, roughly: a fact is mostly a page view, and few answer a message.
KINDS = ["viewed"] * 8 + ["visited"] * 4 + ["sent"] * 5 + ["opened"] * 2 + ["clicked", "carted", "purchased"]
COLUMNS = [column.name for column in interactions.c if column.name != "interaction_id"]


def main(arguments: list[str]) -> int:
    """Run the benchmark; 1 where the bar is missed."""
    parser = argparse.ArgumentParser(prog="ingest")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--quick", action="store_true", help="30,000 rows")
    chosen = parser.parse_args(arguments)
    rows = 30_000 if chosen.quick else chosen.rows
    with (
        database(chosen.postgres) as engine,
        database(chosen.postgres) as plain,
        database(chosen.postgres) as copied,
    ):
        found = measure(engine, plain, rows, copied if chosen.postgres else None)
    sys.stdout.write(
        f"{found['rows_per_s']:,} rows/s, raw {found['raw_rows_per_s']:,} rows/s, ratio "
        f"{found['rows_per_s_over_raw']}; HTTP adds {found['http_adds_us_per_row']} us a row\n"
    )
    figures = {"bench": "ingest", **found}
    sys.stdout.write(json.dumps(figures) + "\n")
    return exit_code(figures)


def measure(engine: Engine, plain: Engine, n_rows: int, copied: Engine | None = None) -> dict[str, Any]:
    """Take the rows in both ways.

    Args:
        engine: An empty, migrated database for the service's way.
        plain: Another one of the same kind for the raw way.
        copied: A third one for COPY, on PostgreSQL.
        n_rows: At least two deliveries.
    """
    rng = random.Random(7)
    for way in (engine, plain):
        with way.begin() as conn:
            _register(conn)
    deliveries = [
        orjson.dumps({"interactions": [_fact(rng, number) for number in range(start, start + DELIVERY)]})
        for start in range(0, n_rows, DELIVERY)
    ]
    gc.collect()
    gc.freeze()
    ours, raw, by_copy = [], [], []
    for body in deliveries:
        ready = _finished(body)
        ours.append(_timed(lambda body=body: _take_in(engine, body)))
        raw.append(_timed(lambda ready=ready: _insert_raw(plain, ready)))
        if copied is not None:
            by_copy.append(_timed(lambda ready=ready: _copy_raw(copied, ready)))
    with engine.connect() as conn:
        before = _fingerprint(conn)
    repeated = [_take_in(engine, body) for body in deliveries]
    with engine.connect() as conn:
        changed = sum(repeated) + (before != _fingerprint(conn))
        n_flagged = conn.scalar(text("SELECT count(*) FROM interactions WHERE machine_rule IS NOT NULL"))
    n = len(deliveries) * DELIVERY
    return {
        "backend": engine.dialect.name,
        "rows_per_s_over_raw": _median_ratio(raw, ours),
        "rows_per_s_over_copy": _median_ratio(by_copy, ours) if by_copy else None,
        "rows_per_s": round(n / sum(ours)),
        "raw_rows_per_s": round(n / sum(raw)),
        "rows": n,
        "machine_made": n_flagged,
        "changed_by_repeating": changed,
        "http_adds_us_per_row": _http_adds(engine, deliveries),
    }


def _fact(rng: random.Random, number: int) -> dict[str, Any]:
    kind = rng.choice(KINDS)
    owner = rng.randrange(N_CUSTOMERS)
    moment = START + timedelta(seconds=rng.random() * 8e6)
    fact: dict[str, Any] = {
        "source": "shop",
        "event_id": f"{number:09d}-{rng.getrandbits(64):016x}",
        "kind": kind,
        "occurred_at": moment.isoformat(),
    }
    if rng.random() < 0.2:
        fact["identity"] = {"kind": "cookie", "value": f"cookie-{owner}"}
    else:
        fact["customer_id"] = f"c-{owner}"
    if kind in ("sent", "opened", "clicked"):
        message = rng.randrange(N_CUSTOMERS)
        fact |= {
            "channel": "email",
            "campaign_id": "spring",
            "offer_id": "coats",
            "decision_id": f"d-{message}",
        }
        if kind == "opened" and rng.random() < 0.3:
            fact["attributes"] = {"user_agent": "Mozilla/5.0"}
    elif kind == "purchased":
        fact |= {"value_minor": rng.randrange(500, 20_000), "place": rng.choice(["online", "shop", "phone"])}
    elif kind == "viewed":
        fact["attributes"] = {"page": f"/coats/{rng.randrange(900)}", "utm_source": "search"}
    return fact


def _register(conn: Connection) -> None:
    append_customers(
        conn,
        [
            CustomerRecord(customer_id=f"c-{number}", time_zone="Asia/Taipei", created_at=START)
            for number in range(N_CUSTOMERS)
        ],
    )
    append_identities(
        conn,
        [
            Identity(
                customer_id=f"c-{number}",
                kind=IdentityKind.COOKIE,
                value=f"cookie-{number}",
                linked_at=START,
                source="site",
            )
            for number in range(N_CUSTOMERS)
        ],
    )


def _take_in(engine: Engine, body: bytes) -> int:
    posted = InteractionsIn.model_validate_json(body).interactions
    with engine.begin() as conn:
        return ingest(conn, posted, RECEIVED_AT).n_new


def _finished(body: bytes) -> list[tuple[Any, ...]]:
    """The delivery as rows that the driver takes as they are."""
    epoch, microsecond = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
    received_at = (RECEIVED_AT - epoch) // microsecond
    rows = []
    for fact in orjson.loads(body)["interactions"]:
        identity = fact.pop("identity", None)
        if identity:
            fact["customer_id"] = identity["value"].replace("cookie", "c")
        moment = datetime.fromisoformat(fact["occurred_at"])
        values = {
            "recorded_as": "",
            "machine_made": False,
            **fact,
            "attributes": orjson.dumps(fact.get("attributes", {})).decode(),
        }
        values |= {"occurred_at": (moment - epoch) // microsecond, "received_at": received_at}
        rows.append(tuple(values.get(name) for name in COLUMNS))
    return rows


def _insert_raw(engine: Engine, rows: Sequence[tuple[Any, ...]]) -> None:
    sqlite = engine.dialect.name == "sqlite"
    places = ", ".join(["?" if sqlite else "%s"] * len(COLUMNS))
    statement = f"INSERT INTO interactions ({', '.join(COLUMNS)}) VALUES ({places})"  # noqa: S608
    with engine.begin() as conn:
        driver: Any = conn.connection.driver_connection
        if sqlite:
            driver.executemany(statement, rows)
            return
        with driver.cursor() as cursor:
            cursor.executemany(statement, list(_with_moments(rows)))


def _copy_raw(engine: Engine, rows: Sequence[tuple[Any, ...]]) -> None:
    with engine.begin() as conn:
        driver: Any = conn.connection.driver_connection
        with (
            driver.cursor() as cursor,
            cursor.copy(f"COPY interactions ({', '.join(COLUMNS)}) FROM STDIN") as copy,
        ):
            for row in _with_moments(rows):
                copy.write_row(row)


def _with_moments(rows: Sequence[tuple[Any, ...]]) -> Iterator[list[Any]]:
    moments = [position for position, name in enumerate(COLUMNS) if name.endswith("_at")]
    for row in rows:
        values = list(row)
        for position in moments:
            values[position] = datetime.fromtimestamp(values[position] / 1e6, UTC)
        yield values


def _median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(above, below, strict=True)), 3)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _fingerprint(conn: Connection) -> list[Any]:
    """Count and sums over the table: a row that were added, changed or lost would show."""
    moments = (
        "CAST(occurred_at AS REAL)" if conn.dialect.name == "sqlite" else "extract(epoch FROM occurred_at)"
    )
    query = (
        f"SELECT count(*), sum({moments}), sum(value_minor), count(machine_rule), "  # noqa: S608
        "count(DISTINCT customer_id) FROM interactions"
    )
    people = conn.scalar(text("SELECT count(*) FROM customers"))
    return [*conn.execute(text(query)).one(), people]


def _http_adds(engine: Engine, deliveries: Sequence[bytes]) -> float:
    """Microseconds a row that the route costs more than the function, both on facts that are known already."""
    part = deliveries[: max(1, len(deliveries) // 10)]
    service = SimpleNamespace(
        engine=engine,
        clock=lambda: RECEIVED_AT,
        in_thread=to_thread,
        refresher=SimpleNamespace(request=lambda _: None),
    )
    app = FastAPI()
    app.include_router(interaction_routes(service))  # type: ignore[arg-type]
    headers = {"content-type": "application/json"}
    with TestClient(app) as client:

        def post() -> None:
            for body in part:
                answer = client.post("/v1/interactions", content=body, headers=headers)
                assert answer.json() == {"n_new": 0, "n_repeated": DELIVERY}, answer.text

        post()
        over_http = min(_timed(post) for _ in range(3))
    direct = min(_timed(lambda: [_take_in(engine, body) for body in part]) for _ in range(3))
    return round((over_http - direct) / (len(part) * DELIVERY) * 1e6, 2)

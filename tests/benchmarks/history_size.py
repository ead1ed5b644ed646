"""What a large history costs on PostgreSQL: rows and indexes in bytes, inserts as it grows, the questions it is asked.

    python -m tests.benchmarks history_size [--rows 10000000] [--quick]

The rows are made by the server, a million at a time, so that the time of a step is the database's own. Afterwards
each question that decisions, ingest, rewards and segments ask is asked for 200 random customers or decisions; its
plan must not read the whole table.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from typing import Any

from sqlalchemy import Connection, Engine, text

from tests.fresh_database import database

N_ASKED = 200
# 40 facts a customer; a third of the facts answer one of 5 decisions of theirs.
_FILL = """
INSERT INTO interactions (source, event_id, customer_id, kind, occurred_at, received_at, channel, decision_id,
    value_minor, machine_made, attributes)
SELECT 'shop', n || '-' || md5(n::text), 'c-' || (n * 7919 % :customers), kinds[1 + n % 8],
    timestamptz '2025-01-01 00:00Z' + n % 31536000 * interval '1 second', now(),
    CASE WHEN n % 3 = 0 THEN 'email' END,
    CASE WHEN n % 3 = 0 THEN 'd-' || (n * 7919 % :customers) || '-' || n % 5 END,
    CASE WHEN n % 8 = 7 THEN n % 9000 END, false, '{"page": "/coats/12"}'
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n,
    (SELECT ARRAY['viewed', 'viewed', 'viewed', 'visited', 'sent', 'opened', 'carted', 'purchased'] AS kinds) AS k
"""
QUESTIONS = {
    "facts of a customer": (
        "SELECT kind, occurred_at, value_minor FROM interactions WHERE customer_id = :customer "
        "AND occurred_at < now() AND occurred_at >= timestamptz '2025-06-01 00:00Z'"
    ),
    "facts of a decision": "SELECT kind, occurred_at FROM interactions WHERE decision_id = :decision",
    "is this event known": "SELECT 1 FROM interactions WHERE source = 'shop' AND event_id = :event",
}


def main(arguments: list[str]) -> int:
    """Run the benchmark; 1 where a question reads the whole table."""
    parser = argparse.ArgumentParser(prog="history_size")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--quick", action="store_true", help="300,000 rows")
    chosen = parser.parse_args(arguments)
    rows = 300_000 if chosen.quick else chosen.rows
    with database(postgres=True) as engine:
        found = measure(engine, rows, step=min(1_000_000, rows // 3))
    sys.stdout.write(json.dumps({"bench": "history_size", **found}) + "\n")
    return 0 if not any(answer["scans"] for answer in found["questions"].values()) else 1


def measure(engine: Engine, n_rows: int, step: int) -> dict[str, Any]:
    """Fill the table step by step and ask.

    Args:
        engine: An empty, migrated PostgreSQL database.
        n_rows: Rows in the end.
        step: Rows a transaction.
    """
    customers = max(1, n_rows // 40)
    rates = []
    for first in range(0, n_rows, step):
        last = min(first + step, n_rows) - 1
        began = time.perf_counter()
        with engine.begin() as conn:
            conn.execute(text(_FILL), {"first": first, "last": last, "customers": customers})
        rates.append(round((last - first + 1) / (time.perf_counter() - began)))
        sys.stderr.write(f"{last + 1:,} rows, {rates[-1]:,} rows/s\n")
    with engine.begin() as conn:
        conn.execute(text("ANALYZE interactions"))
    with engine.connect() as conn:
        questions = {name: _ask(conn, query, customers, n_rows) for name, query in QUESTIONS.items()}
        sizes = conn.execute(
            text(
                "SELECT c.relname, pg_relation_size(c.oid) FROM pg_class c LEFT JOIN pg_index i "
                "ON i.indexrelid = c.oid WHERE c.relname = 'interactions' "
                "OR i.indrelid = 'interactions'::regclass ORDER BY 1"
            )
        ).all()
    return {
        "rows": n_rows,
        "rows_per_s_by_step": rates,
        "bytes_per_row": {name: round(size / n_rows, 1) for name, size in sizes},
        "questions": questions,
    }


def _ask(conn: Connection, query: str, customers: int, n_rows: int) -> dict[str, Any]:
    rng = random.Random(4)
    plan = "\n".join(row[0] for row in conn.execute(text(f"EXPLAIN {query}"), _asked(rng, customers, n_rows)))
    times = []
    for _ in range(N_ASKED):
        asked = _asked(rng, customers, n_rows)
        began = time.perf_counter()
        conn.execute(text(query), asked).all()
        times.append((time.perf_counter() - began) * 1e3)
    return {
        "median_ms": round(statistics.median(times), 2),
        "p99_ms": round(statistics.quantiles(times, n=100)[98], 2),
        "scans": "Seq Scan" in plan,
    }


def _asked(rng: random.Random, customers: int, n_rows: int) -> dict[str, str]:
    customer = rng.randrange(customers)
    return {
        "customer": f"c-{customer}",
        "decision": f"d-{customer}-{rng.randrange(5)}",
        "event": f"{rng.randrange(n_rows)}-x",
    }

"""kill -9 of a process that takes interactions in: every acknowledged one is there, once.

    python -m tests.chaos ingest_kill [--kills 50] [--postgres]

A child takes in delivery after delivery and writes the number of each to its standard output once the transaction is
committed: the acknowledgement. It is killed at a random moment and started again from the first delivery that was not
acknowledged, which delivers some twice. In the end every acknowledged fact must be in the history exactly once, and a
delivery is there whole or not at all.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select

from features.history.tables import interactions
from models.domain.interaction import InteractionKind
from tests.fresh_database import database

FACTS_A_DELIVERY = 200
START = datetime(2026, 3, 1, tzinfo=UTC)
_ROOT = Path(__file__).parents[2]
_CHILD = """
import sys
from serving.ingest import ingest
from tests.chaos.ingest_kill import START, delivery
from tests.fresh_database import open_database
engine = open_database(sys.argv[1])
number = int(sys.argv[2])
print("ready", flush=True)
while True:
    with engine.begin() as conn:
        ingest(conn, delivery(number), START)
    print(number, flush=True)
    number += 1
"""


def main(arguments: list[str]) -> int:
    """Kill the child again and again; 1 where a fact was lost or doubled."""
    parser = argparse.ArgumentParser(prog="ingest_kill")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--postgres", action="store_true")
    chosen = parser.parse_args(arguments)
    with database(chosen.postgres) as engine:
        found = kill(engine, chosen.kills)
    sys.stdout.write(json.dumps({"chaos": "ingest_kill", **found}) + "\n")
    return 0 if found["lost"] == found["doubled"] == found["torn_deliveries"] == 0 else 1


def delivery(number: int) -> list[Any]:
    """The facts of one delivery; the same number gives the same facts."""
    return [
        {
            "source": "shop",
            "event_id": f"{number}-{position}",
            "customer_id": f"c-{position}",
            "kind": InteractionKind.VIEWED,
            "occurred_at": START - timedelta(seconds=position),
        }
        for position in range(FACTS_A_DELIVERY)
    ]


def kill(engine: Engine, n_kills: int, seed: int = 1) -> dict[str, Any]:
    """Run the child until it has been killed that often, and count what the history holds.

    Args:
        engine: An empty, migrated database.
        n_kills: How often; each time the child has acknowledged at least one delivery.
        seed: Of the moments.
    """
    rng = random.Random(seed)
    acknowledged: set[int] = set()
    first = 0
    for _ in range(n_kills):
        acknowledged |= _run_and_kill(engine, first, rng.uniform(0.0, 0.3))
        # One delivery further back than needed: what was acknowledged arrives twice.
        first = max(acknowledged)
    with engine.connect() as conn:
        rows = conn.execute(
            select(interactions.c.event_id, func.count().label("n")).group_by(interactions.c.event_id)
        )
        held = {row.event_id: row.n for row in rows}
    promised = {f"{number}-{position}" for number in acknowledged for position in range(FACTS_A_DELIVERY)}
    sizes: dict[str, int] = {}
    for event_id in held:
        number = event_id.split("-")[0]
        sizes[number] = sizes.get(number, 0) + 1
    return {
        "backend": engine.dialect.name,
        "kills": n_kills,
        "acknowledged": len(promised),
        "held": len(held),
        "lost": len(promised - held.keys()),
        "doubled": sum(1 for n in held.values() if n > 1),
        "torn_deliveries": sum(1 for size in sizes.values() if size != FACTS_A_DELIVERY),
    }


def _run_and_kill(engine: Engine, first: int, after_seconds: float) -> set[int]:
    url = engine.url.render_as_string(hide_password=False)
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _CHILD, url, str(first)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
    )
    assert child.stdout is not None
    said: list[str] = []
    acknowledged = threading.Event()

    def listen() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            if line.endswith("\n") and line.strip().isdecimal():
                said.append(line)
                acknowledged.set()
        acknowledged.set()  # it has ended

    listener = threading.Thread(target=listen)
    listener.start()
    acknowledged.wait(60)
    time.sleep(after_seconds)
    running = child.poll() is None
    child.kill()
    child.wait()
    listener.join()
    child.stdout.close()
    if not running or not said:
        raise AssertionError("the child ended by itself")
    return {int(line) for line in said}

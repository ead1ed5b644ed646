"""Kill an erasure after every one of its steps: the next start finishes it, and no file holds the person.

The installation is made once and copied for each step; each erasure runs in a process of its own that kills itself.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from features.history.append import CustomerRecord, append_customers, append_identities, append_interactions
from features.history.channels import seed_channels
from features.history.engine import connect, migrate
from features.history.query import load_customers
from features.history.tables import interactions
from features.offline import materialize
from features.workspace import FeatureWorkspace
from models.domain.channel import DEFAULT_CHANNELS, IdentityKind
from models.domain.customer import Identity
from models.domain.interaction import Interaction, InteractionKind
from serving.erasure import Eraser

STEPS = ("rows", "stores", "subject", "files")
PERSON, ADDRESS = "person-who-leaves-93c1", "leaving.person@example.com"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
_DIE = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from features.history.engine import connect
from features.workspace import FeatureWorkspace
from serving.erasure import Eraser

home, person, step = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
engine = connect(f"sqlite:///{home / 'history.db'}")
eraser = Eraser(engine, FeatureWorkspace(home, engine), lambda: datetime.now(UTC))

def die(done):
    if done == step:
        os.kill(os.getpid(), signal.SIGKILL)

eraser.begin(person)
die("rows")
eraser.resume(after=die)
"""


def main(arguments: list[str]) -> int:
    """Run it; the last line is one JSON object."""
    parser = argparse.ArgumentParser(prog="erase")
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    options = parser.parse_args(arguments)
    finished = {}
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        _install(made, options.customers)
        before = _total(made)
        for step in options.steps:
            home = Path(folder) / step
            shutil.copytree(made, home)
            finished[step] = _survives(home, step) and _total(home) == before
            sys.stdout.write(f"killed after {step}: {'finished' if finished[step] else 'FAILED'}\n")
    sys.stdout.write(
        json.dumps({"chaos": "erase", "customers": options.customers, "finished": finished}) + "\n"
    )
    return 0 if all(finished.values()) else 1


def _install(home: Path, n: int) -> None:
    home.mkdir()
    engine = connect(f"sqlite:///{home / 'history.db'}")
    migrate(engine)
    people = [*(f"c-{number}" for number in range(n)), PERSON]
    with engine.begin() as conn:
        seed_channels(conn, NOW)
        append_customers(
            conn, [CustomerRecord(customer_id=one, time_zone="UTC", created_at=NOW) for one in people]
        )
        append_identities(
            conn,
            [
                Identity(
                    customer_id=PERSON, kind=IdentityKind.EMAIL, value=ADDRESS, linked_at=NOW, source="shop"
                )
            ],
        )
        append_interactions(
            conn,
            [
                Interaction(
                    source="shop",
                    event_id=f"order-of-{one}",
                    customer_id=one,
                    kind=InteractionKind.PURCHASED,
                    occurred_at=NOW - timedelta(days=1),
                    value_minor=1_000.0,
                )
                for one in people
            ],
            NOW,
        )
    workspace = FeatureWorkspace(home, engine)
    workspace.define(DEFAULT_CHANNELS[:2])
    materialize(workspace, NOW)
    engine.dispose()


def _survives(home: Path, step: str) -> bool:
    ended = subprocess.run([sys.executable, "-c", _DIE, home, PERSON, step], check=False)
    engine = connect(f"sqlite:///{home / 'history.db'}")
    with engine.connect() as conn:
        unknown = load_customers(conn, [PERSON], NOW) == {}
    resumed = Eraser(engine, FeatureWorkspace(home, engine), lambda: NOW).resume()
    held = [
        path.name
        for path in home.rglob("*")
        if path.is_file() and any(trace.encode() in path.read_bytes() for trace in (PERSON, ADDRESS))
    ]
    engine.dispose()
    return ended.returncode == -signal.SIGKILL and unknown and resumed == 1 and not held


def _total(home: Path) -> tuple[int, float]:
    engine = connect(f"sqlite:///{home / 'history.db'}")
    with engine.connect() as conn:
        values = conn.scalars(select(interactions.c.value_minor)).all()
    engine.dispose()
    return len(values), sum(values)

"""An event that one replica takes in is seen by a decision of another, and how soon.

    make chaos NAME=freshness [ARGS=--quick]

Two API processes share a PostgreSQL history and a Redis online store. Each event is posted to one of them, and decisions
are asked of the other until one was taken with a row of features that holds the event. The customers' rows are cached
there, so that a decision sees the event only if the replica drops what it has cached.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
from sqlalchemy import Engine

from features.history.append import CustomerRecord, append_customers
from features.history.campaigns import save_campaign
from features.history.channels import seed_channels
from features.history.decisions import load_decision
from features.offline import materialize
from features.workspace import FeatureWorkspace
from models.domain.campaign import Campaign, Content, Offer, PolicyName, SendWindow
from models.domain.channel import ContentKind
from models.domain.experiment import Experiment
from tests.chaos._replicas import replica, wait_for
from tests.chaos.parity import redis_store
from tests.fresh_database import database

BAR_SECONDS = 1.0
_CUSTOMERS = 100
_PATIENCE_SECONDS = 30.0


def prepare(engine: Engine, home: Path) -> None:
    """Customers, a campaign that rules decide, and everybody's first row."""
    now = datetime.now(UTC)
    text = Content(body="Hello.", subject="Hello", link_url="https://shop.example.com")
    with engine.begin() as conn:
        seed_channels(conn, now)
        append_customers(
            conn,
            [
                CustomerRecord(customer_id=f"c-{n}", time_zone="UTC", created_at=now - timedelta(days=1))
                for n in range(_CUSTOMERS)
            ],
        )
        save_campaign(
            conn,
            Campaign(
                campaign_id="spring",
                send_window=SendWindow(starts_at=now, ends_at=now + timedelta(days=5)),
                slots=(clock(12),),
                offers=(Offer(offer_id="one", margin_minor=100.0, content={ContentKind.TEXT: text}),),
                channels=("sms",),
                policy=PolicyName.CHEAPEST_FIRST,
                experiment=Experiment(experiment_id="spring"),
                conversion_value_minor=100.0,
            ),
            now,
        )
    workspace = FeatureWorkspace(home, engine, redis_store())
    workspace.define()
    materialize(workspace, now)


def seen_after(engine: Engine, here: httpx.Client, there: httpx.Client, customer_id: str, n: int) -> float:
    """Seconds from posting the customer's n-th visit here to a decision there that knows of it."""
    fact = {
        "source": "shop",
        "event_id": uuid4().hex,
        "customer_id": customer_id,
        "kind": "visited",
        "occurred_at": datetime.now(UTC).isoformat(),
    }
    started = time.perf_counter()
    here.post("/v1/interactions", json={"interactions": [fact]}).raise_for_status()
    while time.perf_counter() - started < _PATIENCE_SECONDS:
        asked = there.post("/v1/decisions", json={"campaign_id": "spring", "customer_id": customer_id})
        answered = time.perf_counter()
        decision_id = asked.raise_for_status().json()["decision_id"]
        with engine.connect() as conn:
            evidence = load_decision(conn, decision_id).evidence
        if evidence is None:
            raise AssertionError("a decision keeps the features that it saw")
        if evidence.features.get("visits_30d") == n:
            return answered - started
    raise TimeoutError(f"visit {n} of {customer_id} was not seen within {_PATIENCE_SECONDS} s")


def main(arguments: list[str]) -> int:
    """Post events one after the other; 1 where the slowest hundredth took longer than a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fifty events")
    asked = parser.parse_args(arguments)
    n_events = 50 if asked.quick else 1_000
    took = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine = stack.enter_context(database(postgres=True))
        store = redis_store()
        environment = {
            "NEXTCHANNEL_DATABASE": engine.url.render_as_string(hide_password=False),
            "NEXTCHANNEL_ONLINE_STORE": json.dumps(store),
            "NEXTCHANNEL_HOME": str(folder),
            "NEXTCHANNEL_SEND": "false",
            "NEXTCHANNEL_DEADLINE_MS": "5000",
        }
        prepare(engine, folder)
        replicas = []
        # Registries of their own: MLflow does not stand two processes that make its database at the same time.
        addresses = [
            stack.enter_context(
                replica(environment | {"NEXTCHANNEL_MLFLOW": f"sqlite:///{folder}/mlflow-{name}.db"})
            )
            for name in "ab"
        ]
        for address in addresses:
            wait_for(address)
            replicas.append(stack.enter_context(httpx.Client(base_url=address, timeout=60)))
        for n in range(_CUSTOMERS):  # the other replica caches everybody
            body = {"campaign_id": "spring", "customer_id": f"c-{n}"}
            replicas[1].post("/v1/decisions", json=body).raise_for_status()
        for number in range(n_events):
            customer, visit = number % _CUSTOMERS, number // _CUSTOMERS + 1
            took.append(seen_after(engine, *replicas, f"c-{customer}", visit))
        FeatureWorkspace(folder, engine, store).store.teardown()
    p50, p99 = np.quantile(took, [0.5, 0.99])
    figures = {
        "chaos": "freshness",
        "events": n_events,
        "seconds_p50": round(float(p50), 3),
        "seconds_p99": round(float(p99), 3),
        "seconds_most": round(max(took), 3),
    }
    print(json.dumps(figures))  # noqa: T201
    return int(p99 > BAR_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

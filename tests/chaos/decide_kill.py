"""kill -9 of a service that decides under load: every acknowledged decision is there, once and whole.

    make chaos NAME=decide_kill [ARGS="--kills 50 --postgres"]

Callers ask a process that serves the API for decisions as fast as it answers, each under an id of its own. It is killed
at a random moment and started again; what had no answer is asked again under the same id. In the end every
acknowledged decision must be in the database once and as it was answered, with its reservation and its outbox row, and
nothing of any decision may be there without the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time as clock
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from uuid import uuid4

import httpx
from fastapi import FastAPI
from sqlalchemy import Engine, func, select

from features.history.channels import seed_channels
from features.history.tables import decisions, outbox, reservations, resource_usage
from serving.app import create_app
from tests.benchmarks.bare import Server, serving
from tests.chaos._callers import Calling
from tests.fresh_database import database, open_database
from tests.integration.conftest import NOW, Market

CAMPAIGN = "spring"
CUSTOMERS = tuple(f"c-{number}" for number in range(100))
# Between the first answer of a life and its end.
LONGEST_LIFE_SECONDS = 1.0
_BUDGET_MINOR = 1e9
_DATABASE = "CHAOS_DATABASE"


def main(arguments: list[str]) -> int:
    """Kill the service again and again; 1 where a decision was lost, doubled, changed or torn."""
    parser = argparse.ArgumentParser(prog="decide_kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    with market(chosen.postgres) as made:
        found = kill(made.engine, chosen.kills, chosen.seed)
    sys.stdout.write(json.dumps({"chaos": "decide_kill", **found}) + "\n")
    return int(any(found[key] for key in ("lost", "changed", "torn", "miscounted_minor", "other_statuses")))


@contextmanager
def market(postgres: bool) -> Iterator[Market]:
    """People, and a campaign with a budget and no caps, in a database of its own."""
    with database(postgres) as engine:
        with engine.begin() as conn:
            seed_channels(conn, NOW - timedelta(days=1))
        made = Market(engine)
        made.customers(*CUSTOMERS)
        made.campaign(CAMPAIGN, budget_minor=_BUDGET_MINOR)
        yield made


def create() -> FastAPI:
    """The service that is killed: the API over a market, with features and a model by rule."""
    return create_app(Market(open_database(os.environ[_DATABASE])).service(start=False), owns_process=True)


@contextmanager
def living(engine: Engine) -> Iterator[Server]:
    """The service in a process of its own, on the database."""
    url = engine.url.render_as_string(hide_password=False)
    with serving("tests.chaos.decide_kill:create", {_DATABASE: url}, "/healthz") as server:
        yield server


@dataclass
class Callers(Calling):
    """Threads that ask for decisions until they are stopped.

    Attributes:
        acknowledged: Channel of every decision that was answered, by its id; None for no contact.
        unanswered: Customers by the id of a decision that was asked for in vain.
        other_statuses: How many answers were neither a decision nor a refusal that says to come again.
    """

    acknowledged: dict[str, str | None] = field(default_factory=dict)
    unanswered: dict[str, str] = field(default_factory=dict)
    other_statuses: int = 0

    def _call(self, number: int, port: int) -> None:
        draw = random.Random(f"{number}/{len(self.acknowledged)}")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            while not self._stopped.is_set():
                with self._lock:
                    again = next(iter(self.unanswered), None)
                    if again is None:
                        decision_id, customer = str(uuid4()), draw.choice(CUSTOMERS)
                    else:
                        decision_id, customer = again, self.unanswered.pop(again)
                try:
                    self._ask(client, decision_id, customer)
                except httpx.TransportError:
                    with self._lock:
                        self.unanswered[decision_id] = customer
                    clock.sleep(0.02)

    def _ask(self, client: httpx.Client, decision_id: str, customer: str) -> None:
        body = {"campaign_id": CAMPAIGN, "customer_id": customer, "decision_id": decision_id}
        answer = client.post("/v1/decisions", json=body)
        with self._lock:
            if answer.status_code == httpx.codes.OK:
                action = answer.json()["action"]
                self.acknowledged[decision_id] = None if action is None else action["channel"]
                self.heard.set()
                return
            self.unanswered[decision_id] = customer
            self.other_statuses += answer.status_code not in (429, 503)


def kill(engine: Engine, n_kills: int, seed: int = 1) -> dict[str, object]:
    """Kill the service that often under load, then hold what the database has against what was acknowledged.

    Args:
        engine: Of a `market`.
        n_kills: How often; each time it has acknowledged at least one decision.
        seed: Of the moments.
    """
    moments = random.Random(seed)
    callers = Callers()
    callers.through_kills(partial(living, engine), n_kills, moments, LONGEST_LIFE_SECONDS)
    n_cut_off = len(callers.unanswered)
    with living(engine) as server, callers.calling(server.port):
        ends_at = clock.monotonic() + 60
        while callers.unanswered and clock.monotonic() < ends_at:
            clock.sleep(0.1)
    return {
        "backend": engine.dialect.name,
        "kills": n_kills,
        "asked_again_after_the_last": n_cut_off,
        **inspect(engine, callers),
    }


def inspect(engine: Engine, callers: Callers) -> dict[str, object]:
    """What was lost, changed or torn, of all that the database holds."""
    with engine.connect() as conn:
        channel_of = {row.decision_id: row.channel for row in conn.execute(select(decisions))}
        counted = select(outbox.c.decision_id, func.count().label("n")).group_by(outbox.c.decision_id)
        messages = {row.decision_id: row.n for row in conn.execute(counted)}
        reserved = {row.decision_id: row.amount for row in conn.execute(select(reservations))}
        used = conn.scalar(select(func.sum(resource_usage.c.used))) or 0.0
    contacts = {decision_id for decision_id, channel in channel_of.items() if channel is not None}
    torn = [
        decision_id
        for decision_id in channel_of.keys() | messages.keys() | reserved.keys()
        if (messages.get(decision_id, 0), decision_id in reserved)
        != ((1, True) if decision_id in contacts else (0, False))
    ]
    said = callers.acknowledged
    return {
        "acknowledged": len(said),
        "contacts": len(contacts),
        "recorded": len(channel_of),
        "lost": len(said.keys() - channel_of.keys()),
        "changed": sum(channel_of.get(one, channel) != channel for one, channel in said.items()),
        "torn": len(torn),
        "miscounted_minor": round(abs(used - sum(reserved.values())), 6),
        "other_statuses": callers.other_statuses,
    }

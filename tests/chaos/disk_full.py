"""The disk fills up while decisions are asked for and messages are sent: 503, and nothing acknowledged is lost.

    make chaos NAME=disk_full

The database may grow by a few pages and no more (`PRAGMA max_page_count`): the same error as that of a full disk.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from random import Random
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import event, func, select
from sqlalchemy.exc import OperationalError

from features.history.channels import load_channels, seed_channels
from features.history.tables import decisions
from models.domain.campaign import PolicyName
from serving.app import create_app
from serving.dispatch_settings import DispatchSettings
from serving.dispatcher import Dispatcher
from tests.chaos.race import CountingProvider, PlainLinks
from tests.chaos.sending_shop import by_status, report, shop_on
from tests.integration.conftest import NOW, Market

_PAGES_LEFT = 30


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="disk_full", description=__doc__)
    parser.add_argument("--customers", type=int, default=300)
    asked = parser.parse_args(arguments)
    return report({"chaos": "disk_full", **play(asked.customers)})


def play(n_customers: int) -> Mapping[str, object]:
    logging.disable(logging.ERROR)
    try:
        with shop_on("sqlite") as shop:
            return _play(shop.engine, n_customers)
    finally:
        logging.disable(logging.NOTSET)


def _play(engine: Any, n_customers: int) -> Mapping[str, object]:
    with engine.begin() as conn:
        seed_channels(conn, NOW - timedelta(days=1))
    market = Market(engine)
    names = [f"c{n}" for n in range(n_customers)]
    market.customers(*names)
    market.campaign(policy=PolicyName.CHEAPEST_FIRST)
    answers: Counter[int] = Counter()
    acknowledged: dict[str, str] = {}
    limit = {"pages": 0}

    @event.listens_for(engine, "begin")
    def keep_to_the_limit(conn: Any) -> None:
        conn.exec_driver_sql(f"PRAGMA max_page_count = {limit['pages'] or 2**30}")

    def ask(client: TestClient) -> None:
        for name in names:
            if name in acknowledged:
                continue
            answer = client.post("/v1/decisions", json={"campaign_id": "spring", "customer_id": name})
            answers[answer.status_code] += 1
            if answer.status_code == 200:
                acknowledged[name] = answer.json()["decision_id"]

    service = market.service(start=False)
    with TestClient(create_app(service)) as client:
        with engine.connect() as conn:
            limit["pages"] = conn.exec_driver_sql("PRAGMA page_count").scalar_one() + _PAGES_LEFT
        ask(client)
        n_before = len(acknowledged)
        provider = CountingProvider()
        with engine.connect() as conn:
            adapters = dict.fromkeys(load_channels(conn), provider)
        sender = Dispatcher(
            engine,
            adapters,
            PlainLinks(),
            DispatchSettings(lease_seconds=2, send_timeout_seconds=1),
            Random(1),
        )
        send_at = NOW + timedelta(hours=1)
        try:
            asyncio.run(sender.run_once(send_at))
            could_claim = True
        except OperationalError:
            could_claim = False
        limit["pages"] = 0
        ask(client)
        for second in range(3, 300, 3):
            if not asyncio.run(sender.run_once(send_at + timedelta(seconds=second))).claimed and second > 10:
                break
    with engine.connect() as conn:
        stored = set(conn.scalars(select(decisions.c.decision_id)))
        n_stored = conn.execute(select(func.count()).select_from(decisions)).scalar_one()
    lost = set(acknowledged.values()) - stored
    return {
        "passed": (
            not lost
            and n_stored == n_customers == len(acknowledged)
            and set(answers) == {200, 503}
            and by_status(engine) == {"sent": n_customers}
        ),
        "answers": {str(code): n for code, n in sorted(answers.items())},
        "acknowledged_before_full": n_before,
        "acknowledged_and_lost": len(lost),
        "could_claim_while_full": could_claim,
        "sent_more_than_once": sum(n > 1 for n in provider.taken.values()),
        "statuses": by_status(engine),
    }

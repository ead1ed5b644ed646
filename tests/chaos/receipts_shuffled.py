"""Every receipt five times, shuffled, from four threads: one final state, and each conversion rewarded once.

make chaos NAME=receipts_shuffled
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from random import Random

from sqlalchemy import func, select

from features.history.rewards import settle_rewards
from features.history.tables import interactions, outbox, receipts, rewards
from models.domain.interaction import InteractionKind
from models.domain.message import Receipt, ReceiptStatus
from serving.channels.contract import DeliveryEvent
from serving.receipts import record_events
from serving.store.endings import sent
from serving.store.outbox import claim, settle
from tests.chaos.sending_shop import moment, report, shop_on

_KINDS = ("delivered", "opened", "clicked", "converted")
_COPIES = 5
_A_WEBHOOK = 20


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="receipts_shuffled", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000)
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    results = {
        database: play(database, asked.messages, asked.seed) for database in asked.databases.split(",")
    }
    return report(
        {
            "chaos": "receipts_shuffled",
            "passed": all(result["passed"] for result in results.values()),
            "results": results,
        }
    )


def play(database: str, n_messages: int, seed: int) -> Mapping[str, object]:
    with shop_on(database) as shop:
        shop.add_messages(n_messages)
        with shop.engine.begin() as conn:
            for claimed in claim(conn, moment(0), 60, n_messages):
                receipt = Receipt(
                    status=ReceiptStatus.ACCEPTED,
                    provider="p",
                    provider_message_id=f"p-{claimed.customer_id}",
                )
                settle(conn, [sent(claimed, moment(0), receipt)])
        events = [
            DeliveryEvent(
                provider="p",
                event_id=f"{n}/{kind}",
                kind=InteractionKind(kind),
                occurred_at=moment(60 + place),
                provider_message_id=f"p-c{n}",
            )
            for n in range(n_messages)
            for place, kind in enumerate(_KINDS)
        ] * _COPIES
        Random(seed).shuffle(events)

        def post(part: list[DeliveryEvent]) -> int:
            with shop.engine.begin() as conn:
                return record_events(conn, part, moment(120)).n_new

        parts = [events[start : start + _A_WEBHOOK] for start in range(0, len(events), _A_WEBHOOK)]
        with ThreadPoolExecutor(4) as threads:
            n_new = sum(threads.map(post, parts))
        with shop.engine.begin() as conn:
            settle_rewards(conn, moment(0) + timedelta(days=30))
            settle_rewards(conn, moment(0) + timedelta(days=30))
            states = Counter(conn.scalars(select(outbox.c.receipt)))
            n_rows = conn.execute(select(func.count()).select_from(receipts)).scalar_one()
            n_facts = conn.execute(
                select(func.count()).where(interactions.c.source == "receipt:p")
            ).scalar_one()
            values = Counter(conn.scalars(select(rewards.c.value_minor)))
    n_events = n_messages * len(_KINDS)
    return {
        "passed": (
            n_new == n_rows == n_facts == n_events
            and states == {"converted": n_messages}
            and values == {500.0: n_messages}
        ),
        "posted": len(events),
        "receipts": n_rows,
        "facts": n_facts,
        "final_states": dict(states),
        "rewards_by_value_minor": {str(value): n for value, n in values.items()},
    }

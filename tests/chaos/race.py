"""A read against the fallback that fires: one outcome, and never a fallback after a committed read.

    make chaos NAME=race ARGS="--interleavings 10000"

On SQLite an interleaving a customer, drawn at random: the read falls before the timer, between the timer's look and its
decision, before the claim, while the provider takes the message, or after it, with up to three turns of timer and
sender in any order, which ten customers share. On PostgreSQL the readers, two timers and two senders run in threads at the same time; each
read looks, in its own transaction, whether the fallback was under way.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from random import Random

from sqlalchemy import Engine, select, update

from features.history.append import append_interactions
from features.history.channels import load_channels, seed_channels
from features.history.tables import follow_ups, outbox
from models.domain.campaign import PolicyName
from models.domain.decision import Decision
from models.domain.follow_up import FollowUpRule, Trigger
from models.domain.interaction import Interaction, InteractionKind
from models.domain.message import Message, Receipt
from serving.channels.console import ConsoleAdapter
from serving.dispatch_settings import DispatchSettings
from serving.dispatcher import Dispatcher
from serving.followups.runner import FollowUpRunner
from serving.receipts import advance
from serving.request import DecisionRequest
from tests.chaos.sending_shop import report, shop_on
from tests.integration.conftest import NOW, Market

_SENT_AT = NOW + timedelta(hours=1)  # 15:00 in Taipei
_DUE_AT = _SENT_AT + timedelta(hours=3)  # 18:00, a slot
_BATCH = 500
# Customers whose fallbacks are due at the same time, and share the turns of timer and sender.
_TOGETHER = 10
_PLACES = ("never", "before", "in the decision", "before the claim", "in the send", "after")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="race", description=__doc__)
    parser.add_argument("--interleavings", type=int, default=10_000)
    parser.add_argument("--threaded", type=int, default=2_000)
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    results: dict[str, Mapping[str, object]] = {}
    if "sqlite" in asked.databases:
        results["sqlite"] = interleave(asked.interleavings, asked.seed)
    if "postgresql" in asked.databases:
        results["postgresql"] = collide(asked.threaded, asked.seed)
    return report(
        {
            "chaos": "race",
            "passed": all(result["passed"] for result in results.values()),
            "results": results,
        }
    )


class CountingProvider(ConsoleAdapter):
    """Counts what it takes by customer; `during` runs while it takes a message."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.taken: Counter[str] = Counter()
        self.during: Callable[[Message], None] = lambda _: None

    async def send(self, message: Message) -> Receipt:
        self.during(message)
        self.taken[message.customer_id] += 1
        return await super().send(message)


class _Stage:
    """Customers who were sent one message each, and whose fallback is due."""

    def __init__(self, engine: Engine, n_customers: int) -> None:
        with engine.begin() as conn:
            seed_channels(conn, NOW - timedelta(days=1))
        self.market = Market(engine)
        self.customers = [f"c{n}" for n in range(n_customers)]
        for start in range(0, n_customers, _BATCH):
            self.market.customers(*self.customers[start : start + _BATCH])
        self.market.campaign(
            policy=PolicyName.CHEAPEST_FIRST,
            follow_ups=(FollowUpRule(on=Trigger.UNOPENED, after_seconds=3 * 3600),),
        )
        self.service = self.market.service()
        self.provider = CountingProvider()
        self.first: dict[str, Decision] = {}
        for start in range(0, n_customers, _BATCH):
            requests = [
                DecisionRequest(campaign_id="spring", customer_id=name)
                for name in self.customers[start : start + _BATCH]
            ]
            for answer in self.service.decider.decide_many(requests, NOW):
                assert isinstance(answer, Decision), answer
                assert answer.action is not None
                assert answer.action.send_at == _SENT_AT
                self.first[answer.customer_id] = answer
        sender = self.sender(concurrency=_BATCH)
        while asyncio.run(sender.run_once(_SENT_AT)).sent:
            pass
        assert self.provider.taken.total() == n_customers
        self.provider.taken.clear()

    def sender(self, **settings: int) -> Dispatcher:
        with self.market.engine.connect() as conn:
            adapters = dict.fromkeys(load_channels(conn), self.provider)
        if "concurrency" in settings:
            settings["concurrency_per_account"] = settings["concurrency"]
        return Dispatcher(self.market.engine, adapters, PlainLinks(), DispatchSettings(**settings), Random(1))

    def read(self, customer_id: str, now: datetime) -> bool:
        """The customer opens the first message; whether the fallback was under way when that was committed."""
        fact = Interaction(
            source="race",
            event_id=customer_id,
            customer_id=customer_id,
            kind=InteractionKind.OPENED,
            occurred_at=now,
            decision_id=self.first[customer_id].decision_id,
        )
        with self.market.engine.begin() as conn:
            append_interactions(conn, [fact], now)
            advance(conn, [fact], now)
            statuses = conn.scalars(
                select(outbox.c.status)
                .join(follow_ups, follow_ups.c.follow_up_id == outbox.c.decision_id)
                .where(outbox.c.customer_id == customer_id)
            ).all()
        return any(status in ("claimed", "sent") for status in statuses)


class PlainLinks:
    def pixel(self, message_id: str) -> str:
        return f"https://news.example/o/{message_id}"

    def click(self, message_id: str, number: int) -> str:
        return f"https://news.example/c/{message_id}/{number}"

    def unsubscribe(self, message_id: str) -> str:
        return f"https://news.example/u/{message_id}"

    def redeem(self, message_id: str) -> str:
        return f"https://news.example/r/{message_id}"


def interleave(n: int, seed: int) -> Mapping[str, object]:
    """One randomised interleaving a customer, on SQLite."""
    rng = Random(seed)
    begun = time.monotonic()
    with shop_on("sqlite") as shop, asyncio.Runner() as loop:
        stage = _Stage(shop.engine, n)
        sender = stage.sender()
        runner = FollowUpRunner(shop.engine, stage.service.decider, lambda: stage.market.now)
        with shop.engine.begin() as conn:
            conn.execute(update(follow_ups).values(due_at=_DUE_AT + timedelta(days=100)))

        def turn_sender() -> None:
            loop.run(sender.run_once(_DUE_AT))

        outcomes: Counter[str] = Counter()
        wrong = 0
        for first in range(0, n, _TOGETHER):
            places = {name: rng.choice(_PLACES) for name in stage.customers[first : first + _TOGETHER]}
            under_way = _play(stage, turn_sender, runner.run_due, places, rng)
            for customer_id, place in places.items():
                n_sent = stage.provider.taken[customer_id]
                read_first = not under_way.get(customer_id, True)
                wrong += n_sent != (0 if read_first else 1)
                outcomes[f"{place}: {'sent' if n_sent else 'not sent'}"] += 1
        stage.service.stop()
    return {
        "passed": wrong == 0,
        "interleavings": n,
        "wrong": wrong,
        "outcomes": dict(sorted(outcomes.items())),
        "seconds": round(time.monotonic() - begun, 1),
    }


def _play(
    stage: _Stage,
    turn_sender: Callable[[], None],
    turn_timer: Callable[[], object],
    places: Mapping[str, str],
    rng: Random,
) -> dict[str, bool]:
    """Whether the fallback was under way when the customer's read was committed; those who read, by id.

    Args:
        stage: Where nothing else is due.
        turn_sender: One round of the sender.
        turn_timer: One round of the timer.
        places: Where each customer's read falls.
        rng: Draws the turns.
    """
    parents = [stage.first[customer_id].decision_id for customer_id in places]
    with stage.market.engine.begin() as conn:
        conn.execute(update(follow_ups).where(follow_ups.c.parent_id.in_(parents)).values(due_at=_DUE_AT))
    stage.market.now = _DUE_AT
    under_way: dict[str, bool] = {}

    def read(place: str, customer_ids: Iterable[str] = places) -> None:
        for customer_id in customer_ids:
            if places[customer_id] == place and customer_id not in under_way:
                under_way[customer_id] = stage.read(customer_id, _DUE_AT)

    stage.market.features.delay = lambda: read("in the decision")
    stage.provider.during = lambda message: read("in the send", [message.customer_id])
    read("before")
    turns = [turn_timer] * rng.randint(1, 3) + [turn_sender] * rng.randint(0, 2)
    rng.shuffle(turns)
    for turn in turns:
        turn()
    read("before the claim")
    for turn in [turn_sender, turn_timer, turn_sender]:
        turn()
    read("after")
    for turn in [turn_timer, turn_sender]:
        turn()
    return under_way


def collide(n: int, seed: int) -> Mapping[str, object]:
    """Readers, timers and senders at the same time, on PostgreSQL."""
    begun = time.monotonic()
    with shop_on("postgresql") as shop:
        stage = _Stage(shop.engine, n)
        stage.market.now = _DUE_AT
        readers = stage.customers.copy()
        Random(seed).shuffle(readers)
        readers = readers[: n * 3 // 4]  # the others never open
        under_way: dict[str, bool] = {}
        done = threading.Event()
        failures: list[BaseException] = []

        def guarded(work):  # type: ignore[no-untyped-def]
            try:
                work()
            except BaseException as exc:
                failures.append(exc)

        def open_all(part: list[str]) -> None:
            for customer_id in part:
                under_way[customer_id] = stage.read(customer_id, _DUE_AT)

        def keep_deciding() -> None:
            runner = FollowUpRunner(shop.engine, stage.service.decider, lambda: _DUE_AT)
            while not done.wait(0.02):
                runner.run_due()

        def keep_sending() -> None:
            sender = stage.sender()
            while not done.wait(0.02):
                asyncio.run(sender.run_once(_DUE_AT))

        works = [keep_deciding, keep_deciding, keep_sending, keep_sending]
        others = [threading.Thread(target=guarded, args=(work,)) for work in works]
        opening = [
            threading.Thread(target=guarded, args=(lambda part=readers[k::3]: open_all(part),))
            for k in range(3)
        ]
        for thread in [*others, *opening]:
            thread.start()
        for thread in opening:
            thread.join()
        waited_until = time.monotonic() + 300
        while time.monotonic() < waited_until and not failures:
            with shop.engine.connect() as conn:
                waiting = conn.scalars(
                    select(follow_ups.c.status).where(
                        follow_ups.c.status == "waiting", follow_ups.c.due_at <= _DUE_AT
                    )
                ).all()
                pending = conn.scalars(
                    select(outbox.c.status).where(outbox.c.status.in_(["pending", "claimed"]))
                ).all()
            if not waiting and not pending:
                break
            time.sleep(0.1)
        done.set()
        for thread in others:
            thread.join()
        stage.service.stop()
        wrong = 0
        for customer_id in stage.customers:
            first = customer_id in under_way and not under_way[customer_id]
            wrong += stage.provider.taken[customer_id] != (0 if first else 1)
    return {
        "passed": wrong == 0 and not failures,
        "customers": n,
        "wrong": wrong,
        "failures": [repr(failure) for failure in failures][:3],
        "read_first": sum(not late for late in under_way.values()),
        "fallback_first": sum(under_way.values()),
        "never_read": n - len(under_way),
        "seconds": round(time.monotonic() - begun, 1),
    }

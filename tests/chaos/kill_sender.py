"""`kill -9` of senders again and again while they work through a full outbox, then drained.

    make chaos NAME=kill_sender ARGS="--messages 10000 --kills 100"

Each database and each kind of provider by itself: one with an idempotency key; one without, under both policies.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from random import Random

from sqlalchemy import func, select

from features.history.tables import outbox
from serving.dispatch_settings import UnknownPolicy
from serving.store.endings import OutboxStatus
from tests.chaos.sending_provider import Provider
from tests.chaos.sending_shop import by_status, drained, report, shop_on, start_sender, unsettled
from tests.integration.sending.conftest import Shop

PARK, AGAIN = UnknownPolicy.PARK_UNKNOWN, UnknownPolicy.AT_LEAST_ONCE
CASES = {"keyed": (True, AGAIN), "keyless": (False, AGAIN), "keyless_parked": (False, PARK)}
_DRAIN_SECONDS = 600.0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="kill_sender", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    results = {
        f"{database}/{case}": kill(database, case, asked.messages, asked.kills, asked.seed)
        for database in asked.databases.split(",")
        for case in asked.cases.split(",")
    }
    return report(
        {
            "chaos": "kill_sender",
            "passed": all(result["passed"] for result in results.values()),
            "messages": asked.messages,
            "kills": asked.kills,
            "results": results,
        }
    )


def kill(database: str, case: str, n_messages: int, n_kills: int, seed: int) -> Mapping[str, object]:
    """Two senders at a time; whichever is killed is replaced."""
    keyed, policy = CASES[case]
    rng = Random(seed)
    with shop_on(database) as shop, Provider(keyed, answer_seconds=0.02) as provider:
        messages = set(shop.add_messages(n_messages))
        senders = [_start(shop, provider, policy) for _ in range(2)]
        n_killed = 0
        begun = time.monotonic()
        while n_killed < n_kills and unsettled(shop.engine):
            # Spread over the work: the next kill falls when the next share of the messages is settled.
            share = (n_killed + rng.random()) / n_kills
            while n_messages - unsettled(shop.engine) < share * n_messages:
                time.sleep(0.005)
            victim = rng.randrange(2)
            senders[victim].kill()
            senders[victim].join()
            n_killed += 1
            senders[victim] = _start(shop, provider, policy)
        ended = drained(shop.engine, _DRAIN_SECONDS)
        seconds = time.monotonic() - begun
        for sender in senders:
            sender.terminate()
            sender.join()
        with shop.engine.connect() as conn:
            # Nothing else makes a message be claimed twice here.
            n_in_flight = conn.execute(select(func.sum(outbox.c.fencing_token - 1))).scalar_one()
            unknown = set(
                conn.scalars(select(outbox.c.message_id).where(outbox.c.status == OutboxStatus.UNKNOWN))
            )
        lost = messages - set(provider.taken) - unknown
        n_duplicates = sum(provider.taken.values()) - len(provider.taken)
        most = {"keyed": 0, "keyless": n_in_flight, "keyless_parked": 0}[case]
        return {
            "passed": ended
            and not lost
            and n_duplicates <= most
            and (case == "keyless_parked" or not unknown),
            "kills": n_killed,
            "lost": len(lost),
            "duplicates": n_duplicates,
            "in_flight_at_kills": int(n_in_flight),
            "unknown_listed": len(unknown),
            "unknown_that_were_taken": len(unknown & set(provider.taken)),
            "statuses": by_status(shop.engine),
            "seconds": round(seconds, 1),
        }


def _start(shop: Shop, provider: Provider, policy: UnknownPolicy) -> BaseProcess:
    return start_sender(shop.engine, provider.port, keyed=provider.keyed, policy=policy)

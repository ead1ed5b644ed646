"""Senders come and go: one, eight, two; then one is paused past its lease and comes back.

    make chaos NAME=workers

Without idempotency key, so that every message sent twice would be seen.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Mapping
from multiprocessing.process import BaseProcess

from sqlalchemy import func, select

from features.history.tables import interactions, outbox
from serving.dispatch_settings import UnknownPolicy
from tests.chaos.sending_provider import Provider
from tests.chaos.sending_shop import by_status, drained, report, shop_on, start_sender, unsettled
from tests.integration.sending.conftest import Shop

_LEASE_SECONDS = 6.0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="workers", description=__doc__)
    parser.add_argument("--messages", type=int, default=3_000)
    parser.add_argument("--databases", default="sqlite,postgresql")
    asked = parser.parse_args(arguments)
    results: dict[str, Mapping[str, object]] = {}
    for database in asked.databases.split(","):
        results[f"{database}/1-8-2"] = scale(database, asked.messages)
        results[f"{database}/paused"] = pause(database)
    return report(
        {
            "chaos": "workers",
            "passed": all(result["passed"] for result in results.values()),
            "results": results,
        }
    )


def scale(database: str, n_messages: int, steps: tuple[int, ...] = (1, 8, 2)) -> Mapping[str, object]:
    """A third of the messages with each number of senders."""
    with shop_on(database) as shop, Provider(keyed=False, answer_seconds=0.01) as provider:
        messages = shop.add_messages(n_messages)
        senders: list[BaseProcess] = []
        for turn, n_senders in enumerate(steps):
            while len(senders) < n_senders:
                senders.append(_start(shop, provider))
            while len(senders) > n_senders:
                _stop(senders.pop())
            while n_messages - unsettled(shop.engine) < n_messages * (turn + 1) // len(steps):
                time.sleep(0.02)
        ended = drained(shop.engine, 300)
        for sender in senders:
            _stop(sender)
        with shop.engine.connect() as conn:
            n_claims = conn.execute(select(func.sum(outbox.c.fencing_token))).scalar_one()
        duplicates = provider.taken.total() - len(provider.taken)
        return {
            "passed": ended and duplicates == 0 and n_claims == n_messages == _n_sent(shop),
            "lost": len(set(messages) - set(provider.taken)),
            "duplicates": duplicates,
            "claims": int(n_claims),
            "statuses": by_status(shop.engine),
        }


def pause(database: str) -> Mapping[str, object]:
    """A sender is stopped by a signal while the provider has its messages, until another one has taken over."""
    with shop_on(database) as shop, Provider(keyed=False, answer_seconds=1.0) as provider:
        messages = shop.add_messages(8)
        paused = _start(shop, provider)
        while provider.taken.total() < 8:
            time.sleep(0.02)
        os.kill(paused.pid or 0, signal.SIGSTOP)
        time.sleep(_LEASE_SECONDS + 0.5)
        other = _start(shop, provider)
        ended = drained(shop.engine, 60)
        tokens_before = _tokens(shop)
        os.kill(paused.pid or 0, signal.SIGCONT)
        time.sleep(1.5)
        _stop(paused)
        _stop(other)
        return {
            # Taken over once each, and what the paused sender wanted to write was refused.
            "passed": ended and _n_sent(shop) == 8 and _tokens(shop) == tokens_before == 16,
            "messages": len(messages),
            "sent_facts": _n_sent(shop),
            "claims": tokens_before,
            "statuses": by_status(shop.engine),
        }


def _start(shop: Shop, provider: Provider) -> BaseProcess:
    return start_sender(
        shop.engine,
        provider.port,
        keyed=False,
        policy=UnknownPolicy.AT_LEAST_ONCE,
        lease_seconds=_LEASE_SECONDS,
    )


def _stop(sender: BaseProcess) -> None:
    sender.terminate()
    sender.join(30)


def _n_sent(shop: Shop) -> int:
    with shop.engine.connect() as conn:
        return conn.execute(select(func.count()).where(interactions.c.kind == "sent")).scalar_one()


def _tokens(shop: Shop) -> int:
    with shop.engine.connect() as conn:
        return int(conn.execute(select(func.sum(outbox.c.fencing_token))).scalar_one())

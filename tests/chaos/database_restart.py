"""PostgreSQL is restarted ten times while senders work: nothing is lost, and sending goes on.

    make chaos NAME=database_restart

It starts a cluster of its own, and needs PostgreSQL's server programs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping

from sqlalchemy.exc import SQLAlchemyError

from serving.dispatch_settings import UnknownPolicy
from tests.chaos._servers import postgres_cluster
from tests.chaos.sending_provider import Provider
from tests.chaos.sending_shop import by_status, report, shop_on, start_sender, unsettled
from tests.integration.sending.conftest import Shop

_MOST_SECONDS = 30.0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="database_restart", description=__doc__)
    parser.add_argument("--messages", type=int, default=5_000)
    parser.add_argument("--restarts", type=int, default=10)
    asked = parser.parse_args(arguments)
    return report({"chaos": "database_restart", **play(asked.messages, asked.restarts)})


def play(n_messages: int, n_restarts: int) -> Mapping[str, object]:
    """Immediate restarts, which abort whatever is under way."""
    with (
        postgres_cluster() as (url, restart),
        shop_on(url) as shop,
        Provider(keyed=True, answer_seconds=0.02) as provider,
    ):
        messages = shop.add_messages(n_messages)
        senders = [
            start_sender(shop.engine, provider.port, keyed=True, policy=UnknownPolicy.AT_LEAST_ONCE)
            for _ in range(2)
        ]
        resumed: list[float] = []
        for number in range(n_restarts):
            _wait(shop, lambda left, n=number: left <= n_messages * (1 - (n + 0.5) / n_restarts))
            restart()
            left, begun = _left(shop), time.monotonic()
            if left:
                _wait(shop, lambda now_left, before=left: now_left < before)
            resumed.append(time.monotonic() - begun)
        _wait(shop, lambda left: left == 0)
        for sender in senders:
            sender.terminate()
            sender.join(30)
        lost = set(messages) - set(provider.taken)
        return {
            "passed": not lost and max(resumed) <= _MOST_SECONDS and provider.taken.total() == n_messages,
            "messages": n_messages,
            "restarts": n_restarts,
            "lost": len(lost),
            "duplicates": provider.taken.total() - len(provider.taken),
            "longest_until_resumed_seconds": round(max(resumed), 1),
            "statuses": by_status(shop.engine),
        }


def _left(shop: Shop) -> int:
    while True:
        try:
            return unsettled(shop.engine)
        except SQLAlchemyError:
            time.sleep(0.05)


def _wait(shop: Shop, condition) -> None:  # type: ignore[no-untyped-def]
    ends_at = time.monotonic() + 300
    while not condition(_left(shop)):
        if time.monotonic() > ends_at:
            raise TimeoutError("the senders stand still")
        time.sleep(0.05)

"""The provider takes the message and its answer is lost, three times out of ten.

    make chaos NAME=answer_lost

With an idempotency key nothing goes out twice. Without one `at_least_once` may send again, `park_unknown` never does
and lists each.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import datetime
from random import Random

from models.domain.message import Message
from serving.backoff import Backoff
from serving.breaker import BreakerSettings
from serving.channels.contract import UnknownOutcomeError
from serving.dispatch_settings import DispatchSettings, UnknownPolicy
from tests.chaos.sending_shop import by_status, report, shop_on
from tests.chaos.sending_simulation import SimulatedProvider, run

_CASES = {
    "keyed": (True, UnknownPolicy.AT_LEAST_ONCE),
    "keyless": (False, UnknownPolicy.AT_LEAST_ONCE),
    "keyless_parked": (False, UnknownPolicy.PARK_UNKNOWN),
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="answer_lost", description=__doc__)
    parser.add_argument("--messages", type=int, default=2_000)
    parser.add_argument("--database", default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    results = {case: play(asked.database, case, asked.messages, asked.seed) for case in _CASES}
    return report(
        {
            "chaos": "answer_lost",
            "passed": all(result["passed"] for result in results.values()),
            "messages": asked.messages,
            "results": results,
        }
    )


def play(database: str, case: str, n_messages: int, seed: int) -> Mapping[str, object]:
    keyed, policy = _CASES[case]
    rng = Random(seed)
    n_lost_answers = 0

    async def behave(message: Message, now: datetime) -> str:
        nonlocal n_lost_answers
        if rng.random() < 0.3:
            n_lost_answers += 1
            provider.take(message.message_id)
            raise UnknownOutcomeError("the connection broke")
        return "taken"

    with shop_on(database) as shop:
        messages = shop.add_messages(n_messages)
        provider = SimulatedProvider("provider", behave, keyed)
        settings = DispatchSettings(
            max_attempts=40,
            unknown_outcome=policy,
            backoff=Backoff(base_seconds=1, cap_seconds=10),
            breaker=BreakerSettings(failures=50),
        )
        run(shop, {"email": provider}, settings)
        statuses = by_status(shop.engine)
    duplicates = provider.taken.total() - len(provider.taken)
    lost = len(set(messages) - set(provider.taken))
    fair = duplicates <= n_lost_answers if case == "keyless" else duplicates == 0
    listed = statuses.get("unknown", 0) == (n_lost_answers if case == "keyless_parked" else 0)
    return {
        "passed": lost == 0 and fair and listed,
        "lost": lost,
        "duplicates": duplicates,
        "answers_lost": n_lost_answers,
        "statuses": statuses,
    }

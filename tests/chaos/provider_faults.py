"""A provider that answers 30 % 429, 10 % 5xx and hangs at 5 %: everything ends, and nothing comes too early.

make chaos NAME=provider_faults ARGS="--messages 10000"
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from random import Random

from models.domain.message import Message
from serving.backoff import Backoff
from serving.channels.contract import QuotaError, RetryLaterError
from serving.dispatch_settings import DispatchSettings
from serving.store.rates import Rate
from tests.chaos.sending_shop import by_status, report, shop_on
from tests.chaos.sending_simulation import Call, SimulatedProvider, run

_RETRY_AFTER = timedelta(seconds=3)
_RATE = Rate(25, burst=50)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="provider_faults", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--database", default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    return report({"chaos": "provider_faults", **play(asked.database, asked.messages, asked.seed)})


def play(database: str, n_messages: int, seed: int) -> Mapping[str, object]:
    rng = Random(seed)

    async def behave(message: Message, now: datetime) -> str:
        draw = rng.random()
        if draw < 0.30:
            raise QuotaError("429", _RETRY_AFTER)
        if draw < 0.40:
            raise RetryLaterError("503")
        if draw < 0.45:
            await asyncio.sleep(3600)
        return "taken"

    with shop_on(database) as shop:
        messages = shop.add_messages(n_messages)
        provider = SimulatedProvider("provider", behave)
        settings = DispatchSettings(
            max_attempts=30,
            send_timeout_seconds=0.02,
            backoff=Backoff(base_seconds=2, cap_seconds=30),
            rates={"provider": _RATE},
        )
        seconds = run(shop, {"email": provider}, settings, step_seconds=0.5)
        statuses = by_status(shop.engine)
    early = _early(provider.calls)
    over_rate = _over_rate(provider.calls)
    ended = statuses.get("sent", 0) + statuses.get("failed", 0) + statuses.get("unknown", 0)
    return {
        "passed": ended == n_messages
        and early == 0
        and over_rate <= 0
        and set(provider.taken) == set(messages),
        "messages": n_messages,
        "statuses": statuses,
        "calls": len(provider.calls),
        "lost": len(set(messages) - set(provider.taken)),
        "before_retry_after": early,
        "most_over_the_rate": over_rate,
        "simulated_seconds": seconds,
    }


def _early(calls: list[Call]) -> int:
    """Calls of the account after a 429 and before it was to be called again."""
    early, rests_from, rests_until = 0, None, None
    for call in calls:
        if rests_until is not None and rests_from < call.at < rests_until:  # type: ignore[operator]
            early += 1
        if call.answer == "QuotaError":
            rests_from, rests_until = call.at, call.at + _RETRY_AFTER
    return early


def _over_rate(calls: list[Call]) -> int:
    """Most calls that any run of seconds had beyond burst + rate * seconds."""
    per_second: dict[int, int] = {}
    begun = calls[0].at
    for call in calls:
        second = int((call.at - begun).total_seconds())
        per_second[second] = per_second.get(second, 0) + 1
    tokens, worst = _RATE.most, 0.0
    for second in range(max(per_second) + 1):
        tokens -= per_second.get(second, 0)
        worst = max(worst, -tokens - _RATE.per_second)  # what comes in during the second
        tokens = min(_RATE.most, tokens + _RATE.per_second)
    return max(0, round(worst))

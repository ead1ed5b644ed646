"""One message in a hundred breaks the adapter whenever it is tried: a dead letter in the end, and the rest goes out.

make chaos NAME=poison
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from models.domain.message import Message
from serving.backoff import Backoff
from serving.dispatch_settings import DispatchSettings
from serving.store.endings import OutboxStatus
from serving.store.outbox_by_hand import list_messages
from tests.chaos.sending_shop import by_status, report, shop_on
from tests.chaos.sending_simulation import SimulatedProvider, run

_MOST_ATTEMPTS = 5


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="poison", description=__doc__)
    parser.add_argument("--messages", type=int, default=5_000)
    parser.add_argument("--database", default="sqlite")
    asked = parser.parse_args(arguments)
    return report({"chaos": "poison", **play(asked.database, asked.messages)})


def play(database: str, n_messages: int) -> Mapping[str, object]:
    async def behave(message: Message, now: datetime) -> str:
        if message.message_id in poisonous:
            raise ValueError("poison")
        return "taken"

    with shop_on(database) as shop:
        messages = shop.add_messages(n_messages)
        poisonous = set(messages[::100])
        provider = SimulatedProvider("provider", behave)
        settings = DispatchSettings(
            max_attempts=_MOST_ATTEMPTS, backoff=Backoff(base_seconds=1, cap_seconds=10)
        )
        run(shop, {"email": provider}, settings)
        statuses = by_status(shop.engine)
        with shop.engine.connect() as conn:
            dead = list_messages(conn, [OutboxStatus.FAILED], n_messages)
    tries = Counter(call.message_id for call in provider.calls if call.message_id in poisonous)
    return {
        "passed": (
            {row.message_id for row in dead} == poisonous
            and set(tries.values()) == {_MOST_ATTEMPTS}
            and statuses == {"sent": n_messages - len(poisonous), "failed": len(poisonous)}
        ),
        "messages": n_messages,
        "poisonous": len(poisonous),
        "attempts_each": sorted(set(tries.values())),
        "reason": dead[0].detail if dead else None,
        "statuses": statuses,
    }

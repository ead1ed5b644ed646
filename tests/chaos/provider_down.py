"""One provider is down for ten simulated minutes: its breaker opens, other channels notice nothing.

make chaos NAME=provider_down
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import datetime, timedelta

from models.domain.message import Message
from serving.backoff import Backoff
from serving.channels.contract import UnknownOutcomeError
from serving.dispatch_settings import DispatchSettings
from tests.chaos.sending_shop import by_status, moment, report, shop_on
from tests.chaos.sending_simulation import SimulatedProvider, run

_DOWN_SECONDS = 600.0
_MOST_CALLS = 20


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="provider_down", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000)
    parser.add_argument("--database", default="sqlite")
    asked = parser.parse_args(arguments)
    return report({"chaos": "provider_down", **play(asked.database, asked.messages)})


def play(database: str, n_messages: int) -> Mapping[str, object]:
    """As many messages by e-mail, whose provider is down, as by SMS."""
    back_at = moment(_DOWN_SECONDS)

    async def email(message: Message, now: datetime) -> str:
        if now < back_at:
            raise UnknownOutcomeError("connection timed out")
        return "taken"

    async def sms(message: Message, now: datetime) -> str:
        return "taken"

    with shop_on(database) as shop:
        shop.add_messages(n_messages)
        shop.add_messages(n_messages, first=n_messages, channel="sms")
        down, up = SimulatedProvider("mail", email), SimulatedProvider("text", sms)
        settings = DispatchSettings(max_attempts=100, backoff=Backoff(base_seconds=1, cap_seconds=10))
        seconds = run(shop, {"email": down, "sms": up}, settings)
        statuses = by_status(shop.engine)
    before_open = sum(call.at < moment(5) for call in down.calls)
    while_down = sum(call.at < back_at for call in down.calls)
    others_done = (max(call.at for call in up.calls) - moment(0)) / timedelta(seconds=1)
    return {
        "passed": statuses == {"sent": 2 * n_messages} and before_open <= _MOST_CALLS,
        "messages": 2 * n_messages,
        "calls_before_it_opened": before_open,
        "calls_while_down": while_down,
        "other_channel_done_after_seconds": others_done,
        "all_done_after_it_came_back_seconds": seconds - _DOWN_SECONDS,
        "statuses": statuses,
    }

"""A provider in the same process and a clock that jumps: what sending does over minutes, in seconds."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from random import Random
from typing import Any

from models.domain.channel import ContentKind
from models.domain.message import Message, Receipt
from serving.channels.console import ConsoleAdapter
from serving.channels.contract import Capabilities, Idempotency
from serving.dispatch_settings import DispatchSettings
from serving.dispatcher import Dispatcher
from tests.chaos.sending_shop import moment, unsettled
from tests.integration.sending.conftest import Shop


@dataclass(frozen=True)
class Call:
    """One call that the provider got."""

    message_id: str
    at: datetime
    answer: str


class SimulatedProvider(ConsoleAdapter):
    """Does what `behave` says with each message: raises, waits, or returns the name of its answer.

    Attributes:
        calls: Every call, in order.
        taken: How many times each message went out: with a key, the second time is none.
    """

    def __init__(self, name: str, behave: Callable[[Message, datetime], Any], keyed: bool = True) -> None:
        super().__init__(StringIO())
        self.name = name
        self.capabilities = Capabilities(
            content_kinds=frozenset(ContentKind),
            receipts=frozenset(),
            idempotency=Idempotency.KEYED if keyed else Idempotency.NONE,
        )
        self.behave = behave
        self.keyed = keyed
        self.now = moment(0)
        self.calls: list[Call] = []
        self.taken: Counter[str] = Counter()

    async def send(self, message: Message) -> Receipt:
        await asyncio.sleep(0)  # calls of one round overlap
        at = self.now
        try:
            answer = await self.behave(message, at)
        except Exception as exc:
            self.calls.append(Call(message.message_id, at, type(exc).__name__))
            raise
        self.calls.append(Call(message.message_id, at, answer))
        self.take(message.message_id)
        return await super().send(message)

    def take(self, message_id: str) -> None:
        if not (self.keyed and message_id in self.taken):
            self.taken[message_id] += 1


def run(
    shop: Shop,
    adapters: Mapping[str, SimulatedProvider],
    settings: DispatchSettings,
    *,
    step_seconds: float = 1.0,
    longest_seconds: float = 4 * 3600.0,
    seed: int = 1,
) -> float:
    """Send round after round until everything is settled; simulated seconds."""
    logging.disable(logging.ERROR)

    async def work() -> float:
        sender = Dispatcher(shop.engine, adapters, shop.links, settings, Random(seed))
        seconds = 0.0
        while unsettled(shop.engine) and seconds < longest_seconds:
            for adapter in adapters.values():
                adapter.now = moment(seconds)
            await sender.run_once(moment(seconds))
            seconds += step_seconds
        return seconds

    try:
        return asyncio.run(work())
    finally:
        logging.disable(logging.NOTSET)

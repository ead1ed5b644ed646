"""Sends what is due: claim, judge again, hand to the adapter, write how it ended.

    Claiming -> Claim -> Delivery.attempt -> Ending -> Settling.write

While messages are under way the next ones are claimed already. Each provider account - an adapter as it was built -
has its own share of what is under way, its own rate and its own circuit breaker, so that one provider that is slow or
down holds up no other channel.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from random import Random

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from models.domain.channel import Channel, CostUnit
from models.domain.interaction import InteractionKind
from serving.accounts import accounts_of
from serving.channels.contract import ChannelAdapter, Links
from serving.claiming import Claim, Claiming
from serving.delivery import Clock, Delivery
from serving.dispatch_settings import DispatchSettings
from serving.send_check import SendFacts
from serving.settling import Settlement, Settling
from serving.store.availability import lost
from serving.store.endings import ClaimedMessage, Ending, OutboxStatus

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchReport:
    """What happened to the messages of one or several rounds.

    Attributes:
        claimed: Messages taken; the sum of all the others.
        later: To be tried again: the provider asked for it, or quiet hours.
        unsettled: Their ending could not be written: another sender holds them, or the database failed. Nothing
            is known of them here; they can be claimed again when the lease expires.
    """

    claimed: int = 0
    sent: int = 0
    later: int = 0
    failed: int = 0
    suppressed: int = 0
    unknown: int = 0
    unsettled: int = 0


class Dispatcher:
    """Sends the messages of the channels that it has adapters for.

    Any number may work on one database, in one process or in many.

    Args:
        engine: The history.
        adapters: Adapter by channel.
        links: Makes tracked addresses.
        settings: How to work.
        rng: Draws the jitter of the back-off.
    """

    def __init__(
        self,
        engine: Engine,
        adapters: Mapping[str, ChannelAdapter],
        links: Links,
        settings: DispatchSettings,
        rng: Random,
    ) -> None:
        self._adapters = adapters
        self._settings = settings
        self._accounts = accounts_of(adapters, settings.rates, settings.breaker)
        self._account_of = {name: account for account in self._accounts for name in account.channels}
        self._claiming = Claiming(engine, self._accounts, settings)
        self._delivery = Delivery(adapters, links, settings, rng)
        for account in self._accounts:
            account.parks = any(map(self._delivery.parks, account.channels))
        self._settling = Settling(engine, self._any_under_way)
        self._most = max(settings.concurrency, *(account.batch_size for account in self._accounts), 1)

    async def run_once(self, now: datetime) -> DispatchReport:
        """Send one round of what is due at `now`, which counts as the time of all that happens.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database is away.
        """
        self._enter_loop()
        claim = await asyncio.to_thread(self._claiming.claim, lambda: now, self._most)
        columns = await asyncio.gather(*self._start(claim, lambda: now))
        return _report(Counter(chain.from_iterable(columns)))

    async def run(self, stop: asyncio.Event, clock: Clock) -> DispatchReport:
        """Send until `stop` is set, then finish what is under way.

        While the database is away it waits and tries again.

        Args:
            stop: Set by somebody else.
            clock: Gives the present, aware UTC.
        """
        self._enter_loop()
        tally: Counter[str] = Counter()
        unsettled: dict[asyncio.Task[list[str]], int] = {}

        def count(task: asyncio.Task[list[str]]) -> None:
            tally.update(_columns(task, unsettled.pop(task)))
            self._free.set()

        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._free.set())
        idle = False
        while not stop.is_set():
            self._free.clear()
            claim = await self._claim_more(clock, self._most - sum(unsettled.values()), after_none=idle)
            idle = claim is not None and not claim.messages
            if claim is None or idle:
                await self._pause(stop if idle else self._free)
                continue
            for task, n_messages in self._start(claim, clock).items():
                unsettled[task] = n_messages
                task.add_done_callback(count)
        if unsettled:
            await asyncio.wait(unsettled)
        return _report(tally)

    def _enter_loop(self) -> None:
        """What belongs to an event loop."""
        self._free = asyncio.Event()
        for account in self._accounts:
            account.turns = asyncio.Semaphore(self._settings.concurrency_per_account)

    async def _claim_more(self, clock: Clock, free: int, *, after_none: bool) -> Claim | None:
        """What was claimed; None where there is no room for enough to be worth it, or the database is away."""
        if free < max(1, self._most // 4) or not self._has_room(clock()):
            return None
        try:
            if after_none and not await asyncio.to_thread(self._claiming.any_due, clock()):
                return Claim()
            return await asyncio.to_thread(self._claiming.claim, clock, free)
        except SQLAlchemyError as exc:
            if not lost(exc):
                raise
            _log.warning("cannot claim messages, trying again: %s", exc)
            return None

    async def _pause(self, until: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.poll_seconds):
                await until.wait()

    def _has_room(self, now: datetime) -> bool:
        return any(account.room(self._settings.concurrency_per_account, now) for account in self._accounts)

    def _any_under_way(self) -> bool:
        return any(account.in_flight for account in self._accounts)

    def _start(self, claim: Claim, clock: Clock) -> dict[asyncio.Task[list[str]], int]:
        """Deliver them; how many messages each task has."""
        calls: dict[str, list[ClaimedMessage]] = {}
        for each in claim.messages:
            self._account_of[each.channel].in_flight += 1
            calls.setdefault(each.batch_id or each.message_id, []).append(each)
        return {
            asyncio.create_task(self._deliver(together, claim.facts, clock)): len(together)
            for together in calls.values()
        }

    async def _deliver(self, claims: Sequence[ClaimedMessage], facts: SendFacts, clock: Clock) -> list[str]:
        """Bring what goes out in one call to its endings and write them; the names of the report's columns."""
        account = self._account_of[claims[0].channel]
        try:
            endings = await self._delivery.attempt(claims, account, facts, clock)
        finally:
            account.in_flight -= len(claims)
            if account.room(self._settings.concurrency_per_account, clock()):
                self._free.set()
        written = await self._settling.write_all(
            [self._settlement(ending, facts) for ending in endings], self._settings.lease_seconds
        )
        return [
            _column(ending) if holds else "unsettled" for ending, holds in zip(endings, written, strict=True)
        ]

    def _settlement(self, ending: Ending, facts: SendFacts) -> Settlement:
        channel = facts.channels.get(ending.claimed.channel)
        return Settlement(
            ending=ending,
            campaign=facts.decided.get(ending.claimed.decision_id),
            reports_delivery=channel is not None and channel.reports(InteractionKind.DELIVERED),
            cost_minor=None if channel is None else self._charged(ending, channel),
        )

    def _charged(self, ending: Ending, channel: Channel) -> float | None:
        """What the message has cost, minor units, as far as its receipt says more than the channel's price."""
        by_part = self._adapters[channel.name].capabilities.cost_unit is not CostUnit.MESSAGE
        if ending.receipt is None or not by_part or channel.cost_unit is CostUnit.MESSAGE:
            return None
        return None if channel.cost_minor is None else channel.cost_minor * ending.receipt.n_units


def _column(ending: Ending) -> str:
    return "later" if ending.status is OutboxStatus.PENDING else ending.status


def _columns(task: asyncio.Task[list[str]], n_messages: int) -> list[str]:
    """Where the report counts the messages of a call; a defect in one does not stop the others."""
    error = task.exception()
    if error is None:
        return task.result()
    _log.error("messages could not be settled", exc_info=error)
    return ["unsettled"] * n_messages


def _report(tally: Counter[str]) -> DispatchReport:
    return DispatchReport(claimed=tally.total(), **tally)

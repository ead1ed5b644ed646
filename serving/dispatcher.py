"""Sends what is due: claim, judge again, hand to the adapter, write how it ended.

Each provider account - an adapter as it was built - has its own share of what is under way, its own rate and its own
circuit breaker, so that one provider that is slow or down holds up no other channel.

What a kill -9 does:
- before the claim: nothing is lost, the message is sent once by whoever claims it;
- between claim and settlement: the message is claimed again when the lease has expired. Whether the provider
  had taken it by then nobody knows. A provider with an idempotency key sends it once all the same; without one
  `at_least_once` sends it again and `park_unknown` leaves it to a person.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from features.history.engine import read_only
from models.domain.campaign import Campaign
from models.domain.channel import Channel, CostUnit
from models.domain.errors import require
from models.domain.interaction import InteractionKind
from models.domain.message import Message
from serving.accounts import Account, accounts_of
from serving.backoff import Backoff
from serving.breaker import BreakerSettings
from serving.channels.contract import (
    ChannelAdapter,
    FinalRefusalError,
    Idempotency,
    Links,
    QuotaError,
    RecipientBusyError,
    RetryLaterError,
    UnknownOutcomeError,
)
from serving.followups.conversation import answered, begin
from serving.send_check import SendFacts, judge, read_send_facts
from serving.store.availability import lost
from serving.store.charge import charge
from serving.store.outbox import (
    ClaimedMessage,
    Ending,
    OutboxStatus,
    any_due,
    claim,
    failed,
    later,
    sent,
    settle,
    settled_message,
    suppressed,
    unknown,
)
from serving.store.rates import Rate, spend, tokens

_log = logging.getLogger(__name__)
_DATABASE_PAUSE_SECONDS = 0.5
# Endings that come within this time share a transaction; by so much later may a message be marked as sent.
_GATHER_SECONDS = 0.05
_STOPPED = "an earlier sender stopped before it wrote how it ended"

Clock = Callable[[], datetime]


class UnknownPolicy(StrEnum):
    """What to do when a provider without idempotency key does not answer."""

    AT_LEAST_ONCE = "at_least_once"
    PARK_UNKNOWN = "park_unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchSettings:
    """How a dispatcher works.

    Attributes:
        concurrency: Most messages in flight; no more are claimed.
        concurrency_per_account: Most calls at a time to one provider account; as many again wait for their turn.
        lease_seconds: How long a claimed message belongs to this process.
        send_timeout_seconds: Longest that an adapter may take; shorter than the lease.
        max_attempts: After so many the message is a dead letter.
        poll_seconds: How often to look for due messages when there were none.
        unknown_outcome: For providers without idempotency key.
        unknown_outcomes: The same for some channels by name, instead.
        backoff: Wait between attempts.
        rates: Rate by name of the adapter, over all senders of the database; absent for no limit.
        breaker: When a provider is left alone.
    """

    concurrency: int = 64
    concurrency_per_account: int = 16
    lease_seconds: float = 90.0
    send_timeout_seconds: float = 45.0
    max_attempts: int = 10
    poll_seconds: float = 0.5
    unknown_outcome: UnknownPolicy = UnknownPolicy.AT_LEAST_ONCE
    unknown_outcomes: Mapping[str, UnknownPolicy] = field(default_factory=dict)
    backoff: Backoff = field(default_factory=Backoff)
    rates: Mapping[str, Rate] = field(default_factory=dict)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)

    def __post_init__(self) -> None:
        require(self.concurrency >= 1, "concurrency", self.concurrency, "must be >= 1")
        require(
            self.concurrency_per_account >= 1,
            "concurrency_per_account",
            self.concurrency_per_account,
            "must be >= 1",
        )
        require(self.max_attempts >= 1, "max_attempts", self.max_attempts, "must be >= 1")
        require(self.poll_seconds > 0, "poll_seconds", self.poll_seconds, "must be > 0")
        require(
            0 < self.send_timeout_seconds < self.lease_seconds,
            "send_timeout_seconds",
            self.send_timeout_seconds,
            f"must be > 0 and < lease_seconds {self.lease_seconds}",
        )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settlement:
    """An ending, and what its conversation depends on.

    Attributes:
        campaign: In the version that was decided for; None where it is gone.
        reports_delivery: Whether the channel's silence about delivery means that there was none.
        cost_minor: What it has cost, where the provider charges by the part; None where it costs what was expected.
    """

    ending: Ending
    campaign: Campaign | None
    reports_delivery: bool
    cost_minor: float | None


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
        self._engine = engine
        self._adapters = adapters
        self._links = links
        self._settings = settings
        self._rng = rng
        self._accounts = accounts_of(adapters, settings.rates, settings.breaker)
        self._account_of = {name: account for account in self._accounts for name in account.channels}
        self._waiting: list[tuple[_Settlement, asyncio.Future[bool]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def run_once(self, now: datetime) -> DispatchReport:
        """Send one round of what is due at `now`, which counts as the time of all that happens.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database is away.
        """
        self._enter_loop()
        claimed, facts = await asyncio.to_thread(self._claim, lambda: now, self._settings.concurrency)
        tally = await asyncio.gather(*self._start(claimed, facts, lambda: now))
        return _report(Counter(tally))

    async def run(self, stop: asyncio.Event, clock: Clock) -> DispatchReport:
        """Send until `stop` is set, then finish what is in flight.

        While the database is away it waits and tries again.

        Args:
            stop: Set by somebody else.
            clock: Gives the present, aware UTC.
        """
        self._enter_loop()
        tally: Counter[str] = Counter()
        in_flight: set[asyncio.Task[str]] = set()
        stopping = asyncio.create_task(stop.wait())
        least = max(1, self._settings.concurrency // 2)  # a claim for each single message would cost too much
        idle = False
        while not stop.is_set():
            free = self._settings.concurrency - len(in_flight)
            claimed: Sequence[ClaimedMessage] = ()
            if free >= least and self._has_room(clock()):
                try:
                    if not idle or await asyncio.to_thread(self._any_due, clock()):
                        claimed, facts = await asyncio.to_thread(self._claim, clock, free)
                except SQLAlchemyError as exc:
                    if not lost(exc):
                        raise
                    _log.warning("cannot claim messages, trying again: %s", exc)
                else:
                    idle = not claimed
                    if claimed:
                        in_flight |= set(self._start(claimed, facts, clock))
            if not claimed:
                await asyncio.wait(
                    {stopping, *in_flight},
                    timeout=self._settings.poll_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            done = {task for task in in_flight if task.done()}
            in_flight -= done
            tally.update(_column(task) for task in done)
        if in_flight:
            await asyncio.wait(in_flight)
        tally.update(_column(task) for task in in_flight)
        return _report(tally)

    def _enter_loop(self) -> None:
        """Semaphores belong to an event loop."""
        for account in self._accounts:
            account.turns = asyncio.Semaphore(self._settings.concurrency_per_account)

    def _has_room(self, now: datetime) -> bool:
        most = self._settings.concurrency_per_account
        return any(account.room(most, now) for account in self._accounts)

    def _any_due(self, now: datetime) -> bool:
        with read_only(self._engine).connect() as conn:
            return any_due(conn, now, self._account_of)

    def _claim(self, clock: Clock, limit: int) -> tuple[list[ClaimedMessage], SendFacts]:
        """Claim, and read what judging takes, in one transaction: what cannot be judged is not claimed."""
        claimed: list[ClaimedMessage] = []
        self._accounts.rotate()  # whoever comes first may take all that is free
        with self._engine.begin() as conn:
            now = clock()  # once the write lock is there: waiting for it must not use up the lease
            for account in self._accounts:
                claimed += self._claim_for(conn, account, now, limit - len(claimed))
            if claimed:
                claimed = self._without_answered(conn, claimed, now)
                return claimed, read_send_facts(conn, claimed, now)
        return [], SendFacts(customers={}, channels={}, campaigns={}, decided={})

    def _start(
        self, claimed: Sequence[ClaimedMessage], facts: SendFacts, clock: Clock
    ) -> list[asyncio.Task[str]]:
        for each in claimed:
            self._account_of[each.channel].in_flight += 1
        return [asyncio.create_task(self._deliver(each, facts, clock)) for each in claimed]

    def _without_answered(
        self, conn: Connection, claimed: Sequence[ClaimedMessage], now: datetime
    ) -> list[ClaimedMessage]:
        """Settle fallbacks that nobody needs any more; no answer can come between this and the claim."""
        needless = answered(conn, [each.decision_id for each in claimed])
        if not needless:
            return list(claimed)
        settle(
            conn,
            [
                unknown(each, now, _STOPPED) if each.abandoned else suppressed(each, now, "answered")
                for each in claimed
                if each.decision_id in needless
            ],
        )
        return [each for each in claimed if each.decision_id not in needless]

    def _claim_for(
        self, conn: Connection, account: Account, now: datetime, limit: int
    ) -> list[ClaimedMessage]:
        room = min(limit, account.room(self._settings.concurrency_per_account, now))
        if room and account.rate is not None:
            room = min(room, tokens(conn, account.name, account.rate, now))
        if not room:
            return []
        claimed = claim(conn, now, self._settings.lease_seconds, room, account.channels)
        if account.rate is not None:
            spend(conn, account.name, len(claimed))
        return claimed

    async def _deliver(self, claimed: ClaimedMessage, facts: SendFacts, clock: Clock) -> str:
        """Bring one message to an ending and write it; the name of the report's column."""
        gives_up_at = asyncio.get_running_loop().time() + self._settings.lease_seconds
        try:
            ending = await self._attempt(claimed, facts, clock)
        finally:
            self._account_of[claimed.channel].in_flight -= 1
        channel = facts.channels.get(claimed.channel)
        settlement = _Settlement(
            ending=ending,
            campaign=facts.decided.get(claimed.decision_id),
            reports_delivery=channel is not None and channel.reports(InteractionKind.DELIVERED),
            cost_minor=None if channel is None else self._charged(ending, channel),
        )
        while True:
            try:
                holds = await self._write(settlement)
            except SQLAlchemyError as exc:
                if not lost(exc):
                    raise
                if asyncio.get_running_loop().time() >= gives_up_at:
                    _log.exception("message %s: its ending is lost", claimed.message_id)
                    return "unsettled"
                await asyncio.sleep(_DATABASE_PAUSE_SECONDS)
                continue
            if not holds:
                _log.warning("message %s: claimed by another sender", claimed.message_id)
                return "unsettled"
            return "later" if ending.status is OutboxStatus.PENDING else ending.status

    def _charged(self, ending: Ending, channel: Channel) -> float | None:
        """What the message has cost, minor units, as far as its receipt says more than the channel's price."""
        by_part = self._adapters[channel.name].capabilities.cost_unit is not CostUnit.MESSAGE
        if ending.receipt is None or not by_part or channel.cost_unit is CostUnit.MESSAGE:
            return None
        return None if channel.cost_minor is None else channel.cost_minor * ending.receipt.n_units

    async def _attempt(self, claimed: ClaimedMessage, facts: SendFacts, clock: Clock) -> Ending:
        settings = self._settings
        try:
            message = judge(claimed, facts, self._links, clock())
        except Exception as exc:  # one message that cannot be made must not stop the others
            _log.exception("message %s: cannot be made", claimed.message_id)
            return self._again(claimed, clock(), f"cannot be made: {exc}")
        adapter = self._adapters[claimed.channel]
        keyed = adapter.capabilities.idempotency is Idempotency.KEYED
        policy = settings.unknown_outcomes.get(claimed.channel, settings.unknown_outcome)
        parks = policy is UnknownPolicy.PARK_UNKNOWN and not keyed
        if claimed.abandoned:
            gone = isinstance(message, Ending) and message.status is OutboxStatus.SUPPRESSED
            if parks or gone or claimed.attempts > settings.max_attempts:
                return unknown(claimed, clock(), _STOPPED)
        if isinstance(message, Ending):
            return message
        account = self._account_of[claimed.channel]
        try:
            # Waiting and sending together must end before the lease does.
            async with asyncio.timeout((settings.lease_seconds - settings.send_timeout_seconds) / 2):
                await account.turns.acquire()
        except TimeoutError:
            return later(claimed, clock(), clock(), "waited for its turn", attempted=False)
        try:
            return await self._call(account, adapter, claimed, message, clock, parks=parks)
        finally:
            account.turns.release()

    async def _call(
        self,
        account: Account,
        adapter: ChannelAdapter,
        claimed: ClaimedMessage,
        message: Message,
        clock: Clock,
        *,
        parks: bool,
    ) -> Ending:
        """Hand the message to the provider, and read its answer."""
        settings = self._settings
        if _left(claimed, clock()) < settings.send_timeout_seconds:
            # This process was held up: by the time of the answer the message might be another sender's.
            return later(claimed, clock(), clock(), "too little of the lease was left", attempted=False)
        if account.rested(clock()):  # since it was claimed
            wakes_at = max(filter(None, (account.breaker.open_until, account.paused_until)))
            return later(claimed, clock(), wakes_at, "provider_down", attempted=False)
        try:
            async with asyncio.timeout(settings.send_timeout_seconds):
                receipt = await adapter.send(message)
        except FinalRefusalError as exc:
            account.breaker.succeeded()
            return failed(claimed, clock(), str(exc))
        except RetryLaterError as exc:
            self._note(account, exc, claimed.attempts, clock())
            return self._again(claimed, clock(), str(exc), exc.retry_after)
        except Exception as exc:
            # Besides `UnknownOutcomeError` and the time limit: a defect of the adapter, at whatever point.
            if isinstance(exc, (UnknownOutcomeError, TimeoutError)):
                account.breaker.failed(clock())
            else:
                _log.exception("message %s: the adapter %s failed", claimed.message_id, adapter.name)
                if not parks:
                    return self._again(claimed, clock(), repr(exc))
            words = str(exc) or f"no answer within {settings.send_timeout_seconds} s"
            if parks or claimed.attempts >= settings.max_attempts:
                return unknown(claimed, clock(), words)
            return self._again(claimed, clock(), words)
        account.breaker.succeeded()
        return sent(claimed, clock(), receipt)

    def _note(self, account: Account, error: RetryLaterError, attempt: int, now: datetime) -> None:
        """What a refusal for now says of the account."""
        if isinstance(error, QuotaError):
            # Whatever else goes to this account now would be refused as well.
            wait = error.retry_after or self._settings.backoff.wait(attempt, self._rng)
            account.paused_until = max(now + wait, account.paused_until or now)
        if isinstance(error, QuotaError | RecipientBusyError):
            account.breaker.succeeded()
        else:
            account.breaker.failed(now)

    def _again(
        self, claimed: ClaimedMessage, now: datetime, detail: str, retry_after: timedelta | None = None
    ) -> Ending:
        """Later, unless it has been tried often enough."""
        if claimed.attempts >= self._settings.max_attempts:
            return failed(claimed, now, f"given up after {claimed.attempts} attempts: {detail}")
        wait = self._settings.backoff.wait(claimed.attempts, self._rng, retry_after)
        return later(claimed, now, now + wait, detail)

    async def _write(self, settlement: _Settlement) -> bool:
        """Settle in one transaction with whatever else ends meanwhile; False where the claim was stale."""
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((settlement, written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_waiting())
        return await written

    async def _write_waiting(self) -> None:
        while self._waiting:
            if any(account.in_flight for account in self._accounts):
                await asyncio.sleep(_GATHER_SECONDS)
            group, self._waiting = self._waiting, []
            try:
                stale = await asyncio.to_thread(self._settle, [settlement for settlement, _ in group])
            except Exception as exc:  # each of the waiting raises it
                for _, written in group:
                    written.set_exception(exc)
            else:
                for settlement, written in group:
                    written.set_result(settlement.ending not in stale)

    def _settle(self, settlements: Sequence[_Settlement]) -> list[Ending]:
        campaigns = {each.ending.claimed.decision_id: each.campaign for each in settlements}
        reporting = {each.ending.claimed.channel for each in settlements if each.reports_delivery}
        costs = {each.ending.claimed.decision_id: each.cost_minor for each in settlements}

        def follow(moved: Sequence[Ending]) -> None:
            begin(
                conn,
                [
                    (settled_message(ending), campaign)
                    for ending in moved
                    if ending.status in (OutboxStatus.SENT, OutboxStatus.FAILED)
                    and (campaign := campaigns[ending.claimed.decision_id]) is not None
                ],
                reporting,
            )
            ids = [ending.claimed.decision_id for ending in moved]
            charge(conn, {one: cost for one in ids if (cost := costs[one]) is not None})

        with self._engine.begin() as conn:
            return settle(conn, [each.ending for each in settlements], follow)


def _left(claimed: ClaimedMessage, now: datetime) -> float:
    """Seconds until somebody else may claim it."""
    assert claimed.lease_until is not None, "a claim has a lease"
    return (claimed.lease_until - now).total_seconds()


def _column(task: asyncio.Task[str]) -> str:
    """Where the report counts the message; a defect in one does not stop the others."""
    error = task.exception()
    if error is None:
        return task.result()
    _log.error("a message could not be settled", exc_info=error)
    return "unsettled"


def _report(tally: Counter[str]) -> DispatchReport:
    return DispatchReport(claimed=tally.total(), **tally)

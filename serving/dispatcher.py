"""Sends what is due: claim, judge again, hand to the adapter, write how it ended.

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

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from features.history.engine import read_only
from models.domain.errors import require
from serving.backoff import Backoff
from serving.channels.contract import (
    ChannelAdapter,
    FinalRefusalError,
    Idempotency,
    Links,
    RetryLaterError,
    UnknownOutcomeError,
)
from serving.send_check import SendFacts, judge, read_send_facts
from serving.store.outbox import (
    ClaimedMessage,
    Ending,
    OutboxStatus,
    claim,
    failed,
    later,
    sent,
    settle,
    unknown,
)

_log = logging.getLogger(__name__)
_DATABASE_PAUSE_SECONDS = 0.5
# Endings that come within this time share a transaction; by so much later may a message be marked as sent.
_GATHER_SECONDS = 0.01

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
        lease_seconds: How long a claimed message belongs to this process.
        send_timeout_seconds: Longest that an adapter may take; shorter than the lease.
        max_attempts: After so many the message is a dead letter.
        poll_seconds: How often to look for due messages when there were none.
        unknown_outcome: For providers without idempotency key.
        backoff: Wait between attempts.
    """

    concurrency: int = 32
    lease_seconds: float = 90.0
    send_timeout_seconds: float = 45.0
    max_attempts: int = 10
    poll_seconds: float = 0.5
    unknown_outcome: UnknownPolicy = UnknownPolicy.AT_LEAST_ONCE
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        require(self.concurrency >= 1, "concurrency", self.concurrency, "must be >= 1")
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
        self._waiting: list[tuple[Ending, asyncio.Future[bool]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def run_once(self, now: datetime) -> DispatchReport:
        """Send one round of what is due at `now`, which counts as the time of all that happens.

        Raises:
            sqlalchemy.exc.OperationalError: the database is away.
        """
        claimed, facts = await asyncio.to_thread(self._claim, now, self._settings.concurrency)
        tally = await asyncio.gather(*(self._deliver(each, facts, lambda: now) for each in claimed))
        return _report(Counter(tally))

    async def run(self, stop: asyncio.Event, clock: Clock) -> DispatchReport:
        """Send until `stop` is set, then finish what is in flight.

        While the database is away it waits and tries again.

        Args:
            stop: Set by somebody else.
            clock: Gives the present, aware UTC.
        """
        tally: Counter[str] = Counter()
        in_flight: set[asyncio.Task[str]] = set()
        stopping = asyncio.create_task(stop.wait())
        least = max(1, self._settings.concurrency // 2)  # a claim for each single message would cost too much
        while not stop.is_set():
            free = self._settings.concurrency - len(in_flight)
            claimed: Sequence[ClaimedMessage] = ()
            if free >= least:
                try:
                    claimed, facts = await asyncio.to_thread(self._claim, clock(), free)
                except OperationalError:
                    _log.exception("cannot claim messages; trying again")
                in_flight |= {asyncio.create_task(self._deliver(each, facts, clock)) for each in claimed}
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

    def _claim(self, now: datetime, limit: int) -> tuple[list[ClaimedMessage], SendFacts]:
        with self._engine.begin() as conn:
            claimed = claim(conn, now, self._settings.lease_seconds, limit, self._adapters)
        if not claimed:
            return [], SendFacts(customers={}, channels={}, campaigns={}, decided={})
        with read_only(self._engine).begin() as conn:
            return claimed, read_send_facts(conn, claimed, now)

    async def _deliver(self, claimed: ClaimedMessage, facts: SendFacts, clock: Clock) -> str:
        """Bring one message to an ending and write it; the name of the report's column."""
        gives_up_at = asyncio.get_running_loop().time() + self._settings.lease_seconds
        ending = await self._attempt(claimed, facts, clock)
        while True:
            try:
                holds = await self._write(ending)
            except OperationalError:
                if asyncio.get_running_loop().time() >= gives_up_at:
                    _log.exception("message %s: its ending is lost", claimed.message_id)
                    return "unsettled"
                await asyncio.sleep(_DATABASE_PAUSE_SECONDS)
                continue
            if not holds:
                _log.warning("message %s: claimed by another sender", claimed.message_id)
                return "unsettled"
            return "later" if ending.status is OutboxStatus.PENDING else ending.status

    async def _attempt(self, claimed: ClaimedMessage, facts: SendFacts, clock: Clock) -> Ending:
        settings = self._settings
        try:
            message = judge(claimed, facts, self._links, clock())
        except Exception as exc:  # one message that cannot be made must not stop the others
            _log.exception("message %s: cannot be made", claimed.message_id)
            return self._again(claimed, clock(), f"cannot be made: {exc}")
        adapter = self._adapters[claimed.channel]
        keyed = adapter.capabilities.idempotency is Idempotency.KEYED
        parks = settings.unknown_outcome is UnknownPolicy.PARK_UNKNOWN and not keyed
        if claimed.abandoned:
            gone = isinstance(message, Ending) and message.status is OutboxStatus.SUPPRESSED
            if parks or gone or claimed.attempts > settings.max_attempts:
                return unknown(claimed, clock(), "an earlier sender stopped before it wrote how it ended")
        if isinstance(message, Ending):
            return message
        try:
            async with asyncio.timeout(settings.send_timeout_seconds):
                receipt = await adapter.send(message)
        except FinalRefusalError as exc:
            return failed(claimed, clock(), str(exc))
        except RetryLaterError as exc:
            return self._again(claimed, clock(), str(exc), exc.retry_after)
        except Exception as exc:
            # Besides `UnknownOutcomeError` and the time limit: a defect of the adapter, at whatever point.
            if not isinstance(exc, (UnknownOutcomeError, TimeoutError)):
                _log.exception("message %s: the adapter %s failed", claimed.message_id, adapter.name)
            words = str(exc) or f"no answer within {settings.send_timeout_seconds} s"
            if parks or claimed.attempts >= settings.max_attempts:
                return unknown(claimed, clock(), words)
            return self._again(claimed, clock(), words)
        return sent(claimed, clock(), receipt)

    def _again(
        self, claimed: ClaimedMessage, now: datetime, detail: str, retry_after: timedelta | None = None
    ) -> Ending:
        """Later, unless it has been tried often enough."""
        if claimed.attempts >= self._settings.max_attempts:
            return failed(claimed, now, f"given up after {claimed.attempts} attempts: {detail}")
        wait = self._settings.backoff.wait(claimed.attempts, self._rng, retry_after)
        return later(claimed, now, now + wait, detail)

    async def _write(self, ending: Ending) -> bool:
        """Settle in one transaction with whatever else ends meanwhile; False where the claim was stale."""
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((ending, written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_waiting())
        return await written

    async def _write_waiting(self) -> None:
        while self._waiting:
            await asyncio.sleep(_GATHER_SECONDS)
            group, self._waiting = self._waiting, []
            try:
                stale = await asyncio.to_thread(self._settle, [ending for ending, _ in group])
            except Exception as exc:  # each of the waiting raises it
                for _, written in group:
                    written.set_exception(exc)
            else:
                for ending, written in group:
                    written.set_result(ending not in stale)

    def _settle(self, endings: Sequence[Ending]) -> list[Ending]:
        with self._engine.begin() as conn:
            return settle(conn, endings)


def _column(task: asyncio.Task[str]) -> str:
    """Where the report counts the message; a defect in one does not stop the others."""
    error = task.exception()
    if error is None:
        return task.result()
    _log.error("a message could not be settled", exc_info=error)
    return "unsettled"


def _report(tally: Counter[str]) -> DispatchReport:
    return DispatchReport(claimed=tally.total(), **tally)

"""Sends the lines of chats: by the reply token while it is fresh, else as a message of its own.

What a kill -9 does:
- before the claim, or before the provider has the line: it is sent once, by whoever claims it next;
- between the provider's taking it and the settlement: a key makes the second attempt harmless. A reply has no key, but
  its token is taken once: where it is refused while it is fresh, the first attempt was taken. Where it is too old by
  then, or the provider has neither, nobody knows; the policy for unknown outcomes says what to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from features.history.channels import load_channels
from features.history.engine import read_only
from features.history.query import load_recipients
from models.domain.channel import Channel, ContentKind, IdentityKind
from models.domain.message import Message
from serving.accounts import Account, accounts_of
from serving.channels.contract import (
    ChannelAdapter,
    FinalRefusalError,
    Idempotency,
    Replies,
    ReplyExpiredError,
    RetryLaterError,
    ShowsChoices,
    UnknownOutcomeError,
)
from serving.channels.rendering import as_list
from serving.chat.lines import ClaimedLine, LineEnding, claim, due_channels, settle
from serving.dispatch_settings import ChatSettings
from serving.store.availability import lost
from serving.store.endings import OutboxStatus
from serving.store.rates import spend, tokens

_log = logging.getLogger(__name__)
OUT_OF_WINDOW = "provider_window"
EXPIRED = "expired"
NO_IDENTITY = "no_identity"
_STOPPED = "an earlier sender stopped before it wrote how it ended"
_TAKEN_BEFORE = "an earlier attempt was taken"

Clock = Callable[[], datetime]
Recipients = Mapping[tuple[str, IdentityKind], Callable[[], str]]


@dataclass(frozen=True, slots=True)
class _Claim:
    """Lines, and what is known at their moment."""

    lines: list[ClaimedLine]
    channels: Mapping[str, Channel]
    recipients: Recipients


class ChatSender:
    """Sends the lines of the channels that it has adapters for; any number may work on one database.

    Args:
        engine: The history.
        adapters: Adapter by channel, of the event loop that runs this.
        settings: How to work.
        rng: Draws the jitter of the back-off.
    """

    def __init__(
        self, engine: Engine, adapters: Mapping[str, ChannelAdapter], settings: ChatSettings, rng: Random
    ) -> None:
        self._engine = engine
        self._adapters = adapters
        self._settings = settings
        self._rng = rng
        self._accounts = accounts_of(adapters, settings.rates, settings.breaker)
        self._reply_within = {
            name: adapter.reply_within for name, adapter in adapters.items() if isinstance(adapter, Replies)
        }
        self._keyed = frozenset(
            name
            for name, adapter in adapters.items()
            if adapter.capabilities.idempotency is Idempotency.KEYED
        )

    async def run_once(self, now: datetime) -> int:
        """Send one round of what is due at `now`, which counts as the time of all that happens; how many lines.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database is away.
        """
        return sum([await self._round(account, lambda: now) for account in self._accounts])

    async def run(self, stop: asyncio.Event, clock: Clock) -> None:
        """Send until `stop` is set, then finish what is under way; every account on its own.

        While the database is away it waits and tries again.
        """
        rounds: dict[str, asyncio.Task[None]] = {}
        while not stop.is_set():
            try:
                due = await asyncio.to_thread(self._due_channels, clock())
            except SQLAlchemyError as exc:
                if not lost(exc):
                    raise
                _log.warning("cannot look for lines of chats, trying again: %s", exc)
                due = frozenset()
            for account in self._accounts:
                under_way = rounds.get(account.name)
                if under_way is not None and under_way.done():
                    under_way.result()
                if due.intersection(account.channels) and (under_way is None or under_way.done()):
                    rounds[account.name] = asyncio.create_task(self._work_off(account, stop, clock))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.poll_seconds):
                    await stop.wait()
        await asyncio.gather(*rounds.values())

    async def _work_off(self, account: Account, stop: asyncio.Event, clock: Clock) -> None:
        try:
            while not stop.is_set() and await self._round(account, clock):
                pass
        except SQLAlchemyError as exc:
            if not lost(exc):
                raise
            _log.warning("cannot claim lines of chats, trying again: %s", exc)

    async def _round(self, account: Account, clock: Clock) -> int:
        found = await asyncio.to_thread(self._claim, account, clock)
        await asyncio.gather(*(self._bring_to_end(account, line, found, clock) for line in found.lines))
        return len(found.lines)

    def _due_channels(self, now: datetime) -> frozenset[str]:
        with read_only(self._engine).connect() as conn:
            return due_channels(conn, now, self._adapters)

    def _claim(self, account: Account, clock: Clock) -> _Claim:
        settings = self._settings
        with self._engine.begin() as conn:
            now = clock()
            most = min(
                settings.concurrency_per_account, account.room(settings.concurrency_per_account, now)
            )  # none while it rests
            if most and account.rate is not None:
                most = min(most, tokens(conn, account.name, account.rate, now))
            lines = (
                claim(
                    conn,
                    now,
                    settings.lease_seconds,
                    most,
                    account.channels,
                    self._reply_within,
                    self._keyed,
                )
                if most
                else []
            )
            if lines and account.rate is not None:
                spend(conn, account.name, len(lines))
            people = [line.customer_id for line in lines if line.customer_id is not None]
            return _Claim(
                lines,
                load_channels(conn) if lines else {},
                load_recipients(conn, people, now) if people else {},
            )

    async def _bring_to_end(self, account: Account, line: ClaimedLine, found: _Claim, clock: Clock) -> None:
        try:
            ending = await self._attempt(account, line, found, clock)
        except Exception as exc:  # one line that cannot be made must not stop the others
            _log.exception("line %s: cannot be sent", line.line_id)
            ending = self._again(line, clock(), repr(exc), in_doubt=self._may_be_taken(line))

        def write() -> bool:
            with self._engine.begin() as conn:
                return settle(conn, line, ending, clock())

        try:
            await asyncio.to_thread(write)
        except SQLAlchemyError as exc:  # it is claimed again when the lease expires
            if not lost(exc):
                raise
            _log.warning("line %s: its ending was not written: %s", line.line_id, exc)

    async def _attempt(self, account: Account, line: ClaimedLine, found: _Claim, clock: Clock) -> LineEnding:
        if line.in_doubt and line.token is None and self._settings.parks(line.channel):
            return LineEnding(status=OutboxStatus.UNKNOWN, detail=_STOPPED)
        now = clock()
        channel = found.channels.get(line.channel)
        if refused := _refused(line, channel, found.recipients, now):
            return LineEnding(status=OutboxStatus.SUPPRESSED, detail=refused)
        assert channel is not None, "a line without its channel is refused"
        adapter = self._adapters[line.channel]
        message = _message(line, channel, adapter, found.recipients)
        return await self._send(account, adapter, line, message, clock)

    async def _send(
        self, account: Account, adapter: ChannelAdapter, line: ClaimedLine, message: Message, clock: Clock
    ) -> LineEnding:
        """Hand the line to the provider, and read its answer."""
        try:
            async with asyncio.timeout(self._settings.send_timeout_seconds):
                if line.token is not None and isinstance(adapter, Replies):
                    receipt = await adapter.reply(line.token, message)
                else:
                    receipt = await adapter.send(message)
        except ReplyExpiredError as exc:
            account.breaker.succeeded()
            if line.in_doubt:
                return LineEnding(status=OutboxStatus.SENT, detail=_TAKEN_BEFORE)
            if line.chat_id is None:
                return LineEnding(status=OutboxStatus.FAILED, detail=str(exc))
            # Written before the next attempt, which goes without it.
            return LineEnding(
                status=OutboxStatus.PENDING,
                detail=str(exc),
                due_at=clock(),
                attempted=False,
                drops_token=True,
            )
        except FinalRefusalError as exc:
            account.breaker.succeeded()
            return LineEnding(status=OutboxStatus.FAILED, detail=str(exc))
        except RetryLaterError as exc:
            account.refuses(exc, lambda: self._settings.backoff.wait(line.attempts, self._rng), clock())
            return self._again(line, clock(), str(exc), exc.retry_after, in_doubt=line.in_doubt)
        except (UnknownOutcomeError, TimeoutError) as exc:
            account.breaker.failed(clock())
            words = str(exc) or f"no answer within {self._settings.send_timeout_seconds} s"
            doubt = self._may_be_taken(line)
            if doubt and line.token is None and self._settings.parks(line.channel):
                return LineEnding(status=OutboxStatus.UNKNOWN, detail=words)
            return self._again(line, clock(), words, in_doubt=doubt)
        account.breaker.succeeded()
        return LineEnding(status=OutboxStatus.SENT, detail=receipt.detail)

    def _may_be_taken(self, line: ClaimedLine) -> bool:
        """Whether an attempt without an answer leaves a doubt that no key clears up."""
        return line.token is not None or line.channel not in self._keyed

    def _again(
        self,
        line: ClaimedLine,
        now: datetime,
        detail: str,
        retry_after: timedelta | None = None,
        *,
        in_doubt: bool,
    ) -> LineEnding:
        if line.attempts >= self._settings.max_attempts:
            ends = OutboxStatus.UNKNOWN if in_doubt else OutboxStatus.FAILED
            return LineEnding(status=ends, detail=f"given up after {line.attempts} attempts: {detail}")
        wait = self._settings.backoff.wait(line.attempts, self._rng, retry_after)
        return LineEnding(status=OutboxStatus.PENDING, detail=detail, due_at=now + wait, in_doubt=in_doubt)


def in_window(channel: Channel, kind: ContentKind, heard_at: datetime, now: datetime) -> bool:
    """Whether the provider takes content of that kind, so long after the customer's last word."""
    window = channel.provider_window_seconds
    if window is None or kind in channel.kinds_outside_window:
        return True
    return now < heard_at + timedelta(seconds=window)


def _refused(line: ClaimedLine, channel: Channel | None, recipients: Recipients, now: datetime) -> str | None:
    """Why a line may not go out any more; None where it may."""
    if channel is None:
        return "channel_gone"
    if now >= line.expires_at:
        return EXPIRED
    if line.customer_id is None:
        return None if line.token is not None else EXPIRED
    if line.heard_at is None or not in_window(channel, line.content_kind, line.heard_at, now):
        return OUT_OF_WINDOW
    if line.token is None and (line.customer_id, channel.identity_kind) not in recipients:
        return NO_IDENTITY
    return None


def _message(line: ClaimedLine, channel: Channel, adapter: ChannelAdapter, recipients: Recipients) -> Message:
    kind, content = line.content_kind, line.content
    if line.choices and isinstance(adapter, ShowsChoices):
        kind, content = adapter.with_choices(content, line.choices)
    elif line.choices:
        content = replace(content, body=as_list(content.body, line.choices))
    recipient = ""
    if line.customer_id is not None and line.token is None:
        recipient = recipients[line.customer_id, channel.identity_kind]()
    return Message(
        message_id=line.line_id,
        decision_id="",
        customer_id=line.customer_id or "",
        campaign_id="",
        offer_id="",
        channel=line.channel,
        identity_kind=channel.identity_kind,
        recipient=recipient,
        content_kind=kind,
        content=content,
        send_at=line.said_at,
        expires_at=line.expires_at,
    )

"""Brings messages to their endings: judge them again, hand them to the adapter, read what its answer means.

A message goes out alone, or in a batch with others (`serving.batching`).

What a kill -9 does:
- before the claim: nothing is lost, the message is sent once by whoever claims it;
- between claim and settlement: the message is claimed again when the lease has expired. Whether the provider
  had taken it by then nobody knows. A provider with an idempotency key sends it once all the same; without one
  `at_least_once` sends it again and `park_unknown` leaves it to a person.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random

from models.domain.message import Message, Receipt
from serving.accounts import Account
from serving.channels.contract import (
    ChannelAdapter,
    FinalRefusalError,
    Idempotency,
    Links,
    RetryLaterError,
    SendsBatches,
    UnknownOutcomeError,
)
from serving.dispatch_settings import DispatchSettings
from serving.send_check import SendFacts, judge
from serving.store.endings import ClaimedMessage, Ending, OutboxStatus, failed, later, sent, unknown

_log = logging.getLogger(__name__)
_IN_DOUBT = "perhaps sent with others, and not to be sent any more"
STOPPED = "an earlier sender stopped before it wrote how it ended"

Clock = Callable[[], datetime]


class Delivery:
    """Delivers messages, as many calls at a time as their accounts have turns.

    Args:
        adapters: Adapter by channel.
        links: Makes tracked addresses.
        settings: How to work.
        rng: Draws the jitter of the back-off.
    """

    def __init__(
        self, adapters: Mapping[str, ChannelAdapter], links: Links, settings: DispatchSettings, rng: Random
    ) -> None:
        self._adapters = adapters
        self._links = links
        self._settings = settings
        self._rng = rng

    async def attempt(
        self, claims: Sequence[ClaimedMessage], account: Account, facts: SendFacts, clock: Clock
    ) -> list[Ending]:
        """How the messages ended; nothing is raised, whatever the messages or the adapter are like.

        Args:
            claims: One, or all of a batch.
            account: Of the messages' channel.
            facts: Read with the claims.
            clock: Gives the present, aware UTC.
        """
        parks = self.parks(claims[0].channel)
        most = self._settings.max_attempts
        given_up = [each for each in claims if each.abandoned and (parks or each.attempts > most)]
        endings = [unknown(each, clock(), STOPPED) for each in given_up]
        if len(given_up) == len(claims):
            return endings
        async with account.turns:
            to_send: list[tuple[ClaimedMessage, Message]] = []
            for each in claims:
                if each in given_up:
                    continue
                judged = self._judged(each, facts, clock)
                if isinstance(judged, Ending):
                    endings.append(judged)
                else:
                    to_send.append((each, judged))
            if to_send:
                endings += await self._call(account, to_send, clock, parks=parks)
        return endings

    def parks(self, channel: str) -> bool:
        """Whether a message of the channel that was perhaps sent is left to a person."""
        keyed = self._adapters[channel].capabilities.idempotency is Idempotency.KEYED
        return self._settings.parks(channel) and not keyed

    def _judged(self, claimed: ClaimedMessage, facts: SendFacts, clock: Clock) -> Message | Ending:
        try:
            message = judge(claimed, facts, self._links, clock())
        except Exception as exc:  # one message that cannot be made must not stop the others
            _log.exception("message %s: cannot be made", claimed.message_id)
            message = self._again(claimed, clock(), f"cannot be made: {exc}")
        if not isinstance(message, Ending):
            return message
        if claimed.was_in_batch:  # the others go again, under the key by which this one was perhaps sent
            return unknown(claimed, clock(), f"{_IN_DOUBT}: {message.detail}")
        gone = message.status is OutboxStatus.SUPPRESSED
        return unknown(claimed, clock(), STOPPED) if gone and claimed.abandoned else message

    async def _call(
        self,
        account: Account,
        to_send: Sequence[tuple[ClaimedMessage, Message]],
        clock: Clock,
        *,
        parks: bool,
    ) -> list[Ending]:
        """Hand the messages to the provider in one call, and read its answer."""
        settings, claims = self._settings, [claimed for claimed, _ in to_send]
        first = claims[0]
        if _left(first, clock()) < settings.send_timeout_seconds:
            # They waited for their turn, or this process was held up: by the time of the answer they might be
            # another sender's.
            words = "too little of the lease was left"
            return [later(each, clock(), clock(), words, attempted=False) for each in claims]
        if account.rested(clock()):  # since they were claimed
            wakes_at = max(filter(None, (account.breaker.open_until, account.paused_until)))
            return [later(each, clock(), wakes_at, "provider_down", attempted=False) for each in claims]
        try:
            async with asyncio.timeout(settings.send_timeout_seconds):
                receipts = await self._hand_over(first, [message for _, message in to_send])
        except FinalRefusalError as exc:
            account.breaker.succeeded()
            if len(claims) > 1:  # one of them may be at fault: each is tried alone
                return [later(each, clock(), clock(), str(exc), in_doubt=False) for each in claims]
            return [failed(first, clock(), str(exc))]
        except RetryLaterError as exc:
            account.refuses(exc, lambda: self._settings.backoff.wait(first.attempts, self._rng), clock())
            return [self._again(each, clock(), str(exc), exc.retry_after) for each in claims]
        except Exception as exc:
            # Besides `UnknownOutcomeError` and the time limit: a defect of the adapter, at whatever point.
            if isinstance(exc, (UnknownOutcomeError, TimeoutError)):
                account.breaker.failed(clock())
                words = str(exc) or f"no answer within {settings.send_timeout_seconds} s"
                ends = parks or first.attempts >= settings.max_attempts
            else:
                _log.exception("message %s: its adapter failed", first.message_id)
                words, ends = repr(exc), parks
            if ends:
                return [unknown(each, clock(), words) for each in claims]
            return [self._again(each, clock(), words, in_doubt=True) for each in claims]
        account.breaker.succeeded()
        return [sent(each, clock(), receipt) for each, receipt in zip(claims, receipts, strict=True)]

    async def _hand_over(self, first: ClaimedMessage, messages: Sequence[Message]) -> Sequence[Receipt]:
        adapter = self._adapters[first.channel]
        if first.batch_id is not None and isinstance(adapter, SendsBatches):
            return await adapter.send_batch(messages, first.batch_id)
        (message,) = messages
        return [await adapter.send(message)]

    def _again(
        self,
        claimed: ClaimedMessage,
        now: datetime,
        detail: str,
        retry_after: timedelta | None = None,
        *,
        in_doubt: bool | None = None,
    ) -> Ending:
        """Later, unless it has been tried often enough."""
        if claimed.attempts >= self._settings.max_attempts:
            return failed(claimed, now, f"given up after {claimed.attempts} attempts: {detail}")
        wait = self._settings.backoff.wait(claimed.attempts, self._rng, retry_after)
        return later(claimed, now, now + wait, detail, in_doubt=in_doubt)


def _left(claimed: ClaimedMessage, now: datetime) -> float:
    """Seconds until somebody else may claim it."""
    assert claimed.lease_until is not None, "a claim has a lease"
    return (claimed.lease_until - now).total_seconds()

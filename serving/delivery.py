"""Brings one claimed message to an ending: judge it again, hand it to the adapter, read what its answer means.

What a kill -9 does:
- before the claim: nothing is lost, the message is sent once by whoever claims it;
- between claim and settlement: the message is claimed again when the lease has expired. Whether the provider
  had taken it by then nobody knows. A provider with an idempotency key sends it once all the same; without one
  `at_least_once` sends it again and `park_unknown` leaves it to a person.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from random import Random

from models.domain.message import Message
from serving.accounts import Account
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
from serving.dispatch_settings import DispatchSettings, UnknownPolicy
from serving.send_check import SendFacts, judge
from serving.store.endings import ClaimedMessage, Ending, OutboxStatus, failed, later, sent, unknown

_log = logging.getLogger(__name__)
STOPPED = "an earlier sender stopped before it wrote how it ended"

Clock = Callable[[], datetime]


class Delivery:
    """Delivers messages one by one, as many at a time as their accounts have turns.

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
        self, claimed: ClaimedMessage, account: Account, facts: SendFacts, clock: Clock
    ) -> Ending:
        """How the message ended; nothing is raised, whatever the message or the adapter is like.

        Args:
            claimed: The claim.
            account: Of the message's channel.
            facts: Read with the claim.
            clock: Gives the present, aware UTC.
        """
        settings = self._settings
        parks = self._parks(claimed.channel)
        if claimed.abandoned and (parks or claimed.attempts > settings.max_attempts):
            return unknown(claimed, clock(), STOPPED)
        async with account.turns:
            message = self._judged(claimed, facts, clock)
            if isinstance(message, Ending):
                return message
            return await self._call(account, claimed, message, clock, parks=parks)

    def _parks(self, channel: str) -> bool:
        """Whether a message of the channel that was perhaps sent is left to a person."""
        settings = self._settings
        keyed = self._adapters[channel].capabilities.idempotency is Idempotency.KEYED
        policy = settings.unknown_outcomes.get(channel, settings.unknown_outcome)
        return policy is UnknownPolicy.PARK_UNKNOWN and not keyed

    def _judged(self, claimed: ClaimedMessage, facts: SendFacts, clock: Clock) -> Message | Ending:
        try:
            message = judge(claimed, facts, self._links, clock())
        except Exception as exc:  # one message that cannot be made must not stop the others
            _log.exception("message %s: cannot be made", claimed.message_id)
            return self._again(claimed, clock(), f"cannot be made: {exc}")
        gone = isinstance(message, Ending) and message.status is OutboxStatus.SUPPRESSED
        return unknown(claimed, clock(), STOPPED) if gone and claimed.abandoned else message

    async def _call(
        self,
        account: Account,
        claimed: ClaimedMessage,
        message: Message,
        clock: Clock,
        *,
        parks: bool,
    ) -> Ending:
        """Hand the message to the provider, and read its answer."""
        settings, adapter = self._settings, self._adapters[claimed.channel]
        if _left(claimed, clock()) < settings.send_timeout_seconds:
            # It waited for its turn, or this process was held up: by the time of the answer the message might be
            # another sender's.
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


def _left(claimed: ClaimedMessage, now: datetime) -> float:
    """Seconds until somebody else may claim it."""
    assert claimed.lease_until is not None, "a claim has a lease"
    return (claimed.lease_until - now).total_seconds()

"""Provider accounts as one sender sees them: what each may have under way, and when it is left alone."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from serving.breaker import Breaker, BreakerSettings, BreakerState
from serving.channels.contract import (
    ChannelAdapter,
    Idempotency,
    QuotaError,
    RecipientBusyError,
    RetryLaterError,
    SendsBatches,
)
from serving.store.rates import Rate

# So many messages are claimed for each call at a time: the next ones are there before the calls have ended. Fewer
# where a person must look into each one whose sender died.
_CLAIMED_FOR_A_CALL = 4
_CLAIMED_WHERE_PARKED = 2


@dataclass(slots=True)
class Account:
    """A provider account, as one sender sees it.

    Attributes:
        turns: Calls that may be made at the same time.
        in_flight: Messages that are claimed and whose attempt has not ended.
        parks: Whether what was perhaps sent is left to a person.
        batch_size: So many messages that say the same may go out in one call; 1 where each goes alone.
        paused_until: The provider said that there were too many of us.
    """

    name: str
    channels: tuple[str, ...]
    rate: Rate | None
    breaker: Breaker
    parks: bool = False
    batch_size: int = 1
    turns: asyncio.Semaphore = field(default_factory=asyncio.Semaphore)
    in_flight: int = 0
    paused_until: datetime | None = None

    def rested(self, now: datetime) -> bool:
        """Whether the provider is left alone at `now`."""
        paused = self.paused_until is not None and now < self.paused_until
        return paused or self.breaker.state(now) is BreakerState.OPEN

    def refuses(self, error: RetryLaterError, wait: Callable[[], timedelta], now: datetime) -> None:
        """Note what a refusal for now says of the account.

        Args:
            error: The refusal.
            wait: Asked how long to leave the account alone where a quota is used up and the provider names no time.
            now: Aware.
        """
        if isinstance(error, QuotaError):
            # Whatever else goes to this account now would be refused as well.
            until = now + (error.retry_after or wait())
            self.paused_until = max(until, self.paused_until or now)
        if isinstance(error, QuotaError | RecipientBusyError):
            self.breaker.succeeded()
        else:
            self.breaker.failed(now)

    def room(self, calls: int, now: datetime) -> int:
        """How many more messages it may have; few are not worth a claim.

        Args:
            calls: How many may be made at the same time.
            now: Aware.
        """
        if self.rested(now):
            return 0
        if self.breaker.state(now) is BreakerState.HALF_OPEN:
            return 0 if self.in_flight else 1
        most = max((_CLAIMED_WHERE_PARKED if self.parks else _CLAIMED_FOR_A_CALL) * calls, self.batch_size)
        free = most - self.in_flight
        return free if 2 * free >= most else 0


def accounts_of(
    adapters: Mapping[str, ChannelAdapter], rates: Mapping[str, Rate], breaker: BreakerSettings
) -> deque[Account]:
    """One account for each adapter, whatever channels it serves."""
    channels: dict[int, list[str]] = {}
    for channel, adapter in adapters.items():
        channels.setdefault(id(adapter), []).append(channel)
    return deque(
        Account(
            name=(name := adapters[served[0]].name),
            channels=tuple(served),
            rate=rates.get(name),
            breaker=Breaker(breaker),
            batch_size=_batch_size(adapters[served[0]]),
        )
        for served in channels.values()
    )


def _batch_size(adapter: ChannelAdapter) -> int:
    """A batch whose answer is lost is sent again: only with a key it is then not sent twice."""
    keyed = adapter.capabilities.idempotency is Idempotency.KEYED
    return adapter.capabilities.batch_size if keyed and isinstance(adapter, SendsBatches) else 1

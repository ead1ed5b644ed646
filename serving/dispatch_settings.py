"""How senders work: how much at a time, how long, how often, and what an answer that is lost means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from models.domain.errors import require
from serving.backoff import Backoff
from serving.breaker import BreakerSettings
from serving.store.rates import Rate


class UnknownPolicy(StrEnum):
    """What to do when a provider without idempotency key does not answer."""

    AT_LEAST_ONCE = "at_least_once"
    PARK_UNKNOWN = "park_unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingSettings:
    """How any sender works.

    Attributes:
        concurrency_per_account: Most calls at a time to one provider account.
        lease_seconds: How long what was claimed belongs to this process.
        send_timeout_seconds: Longest that an adapter may take; shorter than the lease.
        max_attempts: After so many it is given up.
        poll_seconds: How often to look for what is due when there was nothing.
        unknown_outcome: For providers without idempotency key.
        unknown_outcomes: The same for some channels by name, instead.
        backoff: Wait between attempts.
        rates: Rate by name of the adapter, over all senders of the database; absent for no limit.
        breaker: When a provider is left alone.
    """

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

    def parks(self, channel: str) -> bool:
        """Whether what was perhaps sent on the channel is left to a person, where no key clears it up."""
        return self.unknown_outcomes.get(channel, self.unknown_outcome) is UnknownPolicy.PARK_UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchSettings(SendingSettings):
    """How a dispatcher works; three times as many messages as calls to an account wait for their turn.

    Attributes:
        concurrency: Most messages that are claimed and not settled.
    """

    concurrency: int = 128

    def __post_init__(self) -> None:
        require(self.concurrency >= 1, "concurrency", self.concurrency, "must be >= 1")
        SendingSettings.__post_init__(
            self
        )  # a class with slots is made twice: `super()` would mean the first


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings(SendingSettings):
    """How lines of chats are sent: somebody waits for the answer.

    The lease is shorter than a reply token lasts, so that after a crash the token still tells whether the reply was taken.
    """

    lease_seconds: float = 25.0
    send_timeout_seconds: float = 10.0
    max_attempts: int = 8
    poll_seconds: float = 0.25
    backoff: Backoff = field(default_factory=lambda: Backoff(base_seconds=2.0, cap_seconds=300.0))

"""Stops calling a provider that does not work, and tries it again now and then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from models.domain.errors import require


class BreakerState(StrEnum):
    """What a breaker lets through."""

    CLOSED = "closed"
    """Everything."""
    OPEN = "open"
    """Nothing."""
    HALF_OPEN = "half_open"
    """One message, to see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """When a breaker opens, and for how long.

    With c calls under way at a time at most `failures + c - 1` calls are made before it opens.

    Attributes:
        failures: So many one after another open it.
        open_seconds: How long it stays open the first time; twice as long after each probe that fails.
        longest_open_seconds: Never longer than this.
    """

    failures: int = 5
    open_seconds: float = 5.0
    longest_open_seconds: float = 300.0

    def __post_init__(self) -> None:
        require(self.failures >= 1, "failures", self.failures, "must be >= 1")
        require(self.open_seconds > 0, "open_seconds", self.open_seconds, "must be > 0")
        require(
            self.longest_open_seconds >= self.open_seconds,
            "longest_open_seconds",
            self.longest_open_seconds,
            f"must be >= open_seconds {self.open_seconds}",
        )


class Breaker:
    """The breaker of one provider account: closed, open, half-open, and closed again.

    References:
        M. Nygard (2018), Release It!, second edition, chapter 5.

    Example:
        >>> from datetime import UTC
        >>> noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
        >>> breaker = Breaker(BreakerSettings(failures=2, open_seconds=10))
        >>> for _ in range(2):
        ...     breaker.failed(noon)
        >>> [str(breaker.state(noon + timedelta(seconds=s))) for s in (0, 9, 10)]
        ['open', 'open', 'half_open']
    """

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._failures = 0
        self._open_seconds = 0.0
        self._open_until: datetime | None = None

    def state(self, now: datetime) -> BreakerState:
        """What it lets through at `now`."""
        if self._open_until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._open_until else BreakerState.HALF_OPEN

    @property
    def open_until(self) -> datetime | None:
        """From when on the next message may go out to see; None while closed."""
        return self._open_until

    def succeeded(self) -> None:
        """The provider answered as it should: taken, refused for good, or too many of us."""
        self._failures = 0
        self._open_seconds = 0.0
        self._open_until = None

    def failed(self, now: datetime) -> None:
        """The provider, or the way to it, did not work."""
        self._failures += 1
        state = self.state(now)
        if state is BreakerState.OPEN:  # a call that began before it opened
            return
        if state is BreakerState.HALF_OPEN or self._failures >= self._settings.failures:
            doubled = self._open_seconds * 2 or self._settings.open_seconds
            self._open_seconds = min(doubled, self._settings.longest_open_seconds)
            self._open_until = now + timedelta(seconds=self._open_seconds)

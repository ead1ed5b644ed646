"""How long to wait before a message is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from random import Random

from models.domain.errors import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Full-jitter exponential back-off.

    After failed attempt n (from 1) the wait is

        retry_after + uniform(0, min(cap, base * 2 ** (n - 1)))

    so that nothing is tried before the provider's Retry-After (0 where it gives none), and messages
    that failed together do not come back together.

    Attributes:
        base_seconds: Longest jitter after the first failure.
        cap_seconds: Longest jitter ever.

    References:
        M. Brooker (2015), Exponential Backoff And Jitter,
        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    base_seconds: float = 30.0
    cap_seconds: float = 3600.0

    def __post_init__(self) -> None:
        require(self.base_seconds > 0, "base_seconds", self.base_seconds, "must be > 0")
        require(
            self.cap_seconds >= self.base_seconds,
            "cap_seconds",
            self.cap_seconds,
            f"must be >= base_seconds {self.base_seconds}",
        )

    def longest(self, attempt: int) -> float:
        """Longest jitter after failed attempt `attempt`, seconds."""
        doublings = min(attempt - 1, 64)  # beyond this the cap holds, and floats would overflow
        return float(min(self.cap_seconds, self.base_seconds * 2**doublings))

    def wait(self, attempt: int, rng: Random, retry_after: timedelta | None = None) -> timedelta:
        """Draw the wait after failed attempt `attempt`."""
        return (retry_after or timedelta()) + timedelta(seconds=rng.uniform(0, self.longest(attempt)))

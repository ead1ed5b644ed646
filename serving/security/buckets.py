"""Token buckets: how often a key may ask. They live in this process; every replica has its own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a bucket says to one request.

    Attributes:
        granted: Whether it may go on.
        limit: Size of the bucket.
        remaining: Whole tokens left.
        reset_seconds: Until the bucket is full again, or, where refused, until there is a token.
    """

    granted: bool
    limit: int
    remaining: int
    reset_seconds: int


class Buckets:
    """A bucket a key: refilled at a steady rate, emptied by one token a request.

    Args:
        per_second: Tokens that flow in; 0 or less: no limit.
        burst: Size of a bucket, at least 1.
        clock: Seconds that only grow.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = max(1, burst)
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, holder: str) -> Allowance | None:
        """Take a token; None where nothing is limited. There are as many buckets as keys."""
        if self._per_second <= 0:
            return None
        now = self._clock()
        bucket = self._buckets.get(holder)
        if bucket is None:
            bucket = self._buckets[holder] = _Bucket(float(self._burst), now)
        else:
            gained = (now - bucket.filled_at) * self._per_second
            bucket.tokens, bucket.filled_at = min(self._burst, bucket.tokens + gained), now
        granted = bucket.tokens >= 1.0
        if granted:
            bucket.tokens -= 1.0
        wanted = self._burst - bucket.tokens if granted else 1.0 - bucket.tokens
        return Allowance(
            granted=granted,
            limit=self._burst,
            remaining=int(bucket.tokens),
            reset_seconds=max(1, math.ceil(wanted / self._per_second)) if wanted > 0 else 0,
        )

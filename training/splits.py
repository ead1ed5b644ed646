"""Cut a log by time: later rows judge what earlier rows taught."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.choice import FloatArray
from models.domain.errors import require

# The response model learns from the first part, the bandit warms up on the second, the third judges both.
SHARES = (0.7, 0.1, 0.2)


def split_by_time(
    decided_at: FloatArray, seed: int, shares: tuple[float, ...] = SHARES
) -> tuple[NDArray[np.int64], ...]:
    """Row numbers of consecutive parts, oldest part first, each in order of time.

    Rows of the same moment are cut at random.

    Args:
        decided_at: Seconds since 1970, shape (n,).
        seed: Of the cut between rows of one moment.
        shares: Of the parts, summing to 1.

    Raises:
        InvalidInputError: there are fewer rows than parts.
    """
    n = len(decided_at)
    require(n >= len(shares), "rows", n, f"must be >= {len(shares)}")
    order = np.lexsort((np.random.default_rng(seed).permutation(n), decided_at))
    bounds = np.rint(np.cumsum(shares[:-1]) * n).astype(np.int64)
    return tuple(part.astype(np.int64) for part in np.split(order, bounds))

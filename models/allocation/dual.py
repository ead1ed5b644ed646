"""The Lagrangian dual of an allocation, and prices where it is least, one price at a time.

Letters in shapes: n customers, K choices, R resources.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.choice import FloatArray

IntArray = NDArray[np.intp]

PART = 1 << 13
"""Customers a part of a pass: what is made of them stays in the cache."""
SAME = 1e-9
"""When prices count as the best, as a share of the bound."""
ROUNDING = 1e-11
"""What counts as nothing, in units of the largest."""
INDIFFERENT = 1e-6
"""By how much the prices that are decided at lie lower, as a share: whoever is worth exactly the price shall take it."""
TINY = float(np.finfo(np.float64).tiny)
# Customers from which the first prices come; going down is cheap there.
_SAMPLE, _SAMPLE_SWEEPS = 10_000, 40


@dataclass(frozen=True, slots=True)
class Dual:
    """The dual of one instance.

    Attributes:
        value: By choice, shape (K, n).
        use: Shape (K, R).
        capacity: Shape (R,).
    """

    value: FloatArray
    use: FloatArray
    capacity: FloatArray

    @property
    def n(self) -> int:
        """Customers."""
        return int(self.value.shape[1])

    def parts(self) -> Iterator[slice]:
        """All customers, so many at a time."""
        return (slice(start, min(start + PART, self.n)) for start in range(0, self.n, PART))

    def sample(self, n: int) -> Dual:
        """About n customers, evenly from first to last, with their share of the capacity."""
        some = np.ascontiguousarray(self.value[:, :: max(1, self.n // n)])
        return Dual(some, self.use, self.capacity * (some.shape[1] / self.n))

    def at(self, price: FloatArray) -> tuple[float, IntArray]:
        """The dual at these prices, and every customer's best choice; ties to what uses least."""
        cost = self.use @ price
        choice = np.empty(self.n, np.intp)
        total = 0.0
        thrifty = np.lexsort((self.use.sum(axis=1), cost))
        for part in self.parts():
            best = np.full(part.stop - part.start, -np.inf)
            for k in thrifty:
                net = self.value[k, part] - cost[k]
                better = net > best
                np.copyto(best, net, where=better)
                np.copyto(choice[part], k, where=better)
            total += float(best.sum())
        return total + float(self.capacity @ price), choice

    def counts(self, choice: IntArray) -> FloatArray:
        """Customers of each choice, shape (K,)."""
        return np.bincount(choice, minlength=len(self.use)).astype(np.float64)

    def worth(self, choice: IntArray) -> float:
        """What the choices are worth together."""
        return float(np.take_along_axis(self.value, choice[None], axis=0).sum())

    def best_price(self, price: FloatArray, r: int) -> float:
        """The least price of resource r at which the dual is least, the others as they are."""
        levels, level = np.unique(self.use[:, r], return_inverse=True)
        cost = self.use @ price - self.use[:, r] * price[r]
        found: list[tuple[FloatArray, FloatArray]] = []
        for part in self.parts():
            best = np.full((len(levels), part.stop - part.start), -np.inf)
            for k, at in enumerate(level):
                np.maximum(best[at], self.value[k, part] - cost[k], out=best[at])
            found += _steps(best, levels)
        worth, size = (np.concatenate(each) for each in zip(*found, strict=True))
        return _margin(worth, size, float(self.capacity[r]))


def _steps(best: FloatArray, levels: FloatArray) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Where the usage of a resource steps down as its price goes up: the slopes of the concave majorant.

    Args:
        best: The best that each level of usage is worth to each customer, shape (L, m).
        levels: The levels of usage, ascending, the first 0, shape (L,).

    Yields:
        Prices > 0 at which customers leave a level, and the usage that each saves.
    """
    at = np.zeros(best.shape[1], np.intp)
    while True:
        here = np.take_along_axis(best, at[None], axis=0)[0]
        steepest, to = np.zeros(len(at)), at.copy()
        for level in range(1, len(levels)):
            width = levels[level] - levels[at]
            slope = np.divide(best[level] - here, width, out=np.zeros_like(here), where=width > 0)
            steeper = slope > steepest
            np.copyto(steepest, slope, where=steeper)
            np.copyto(to, level, where=steeper)
        on = np.flatnonzero(steepest > 0)
        yield steepest[on], levels[to[on]] - levels[at[on]]
        on = on[to[on] < len(levels) - 1]
        if not len(on):
            return
        best, at = best[:, on], to[on]


def _margin(worth: FloatArray, size: FloatArray, capacity: float) -> float:
    """What the first unit is worth that does not fit, of units given by their worth; 0 where all fit."""
    capacity *= 1 + SAME  # sums that are the capacity but for rounding fit
    while len(worth) > PART:
        pivot = np.median(worth[:: len(worth) // 1_001])
        above = worth > pivot
        taken = float(size[above].sum())
        if taken <= capacity:
            capacity -= taken
            above = ~above
        if above.all():
            break
        worth, size = worth[above], size[above]
    order = np.argsort(-worth)
    reached = np.cumsum(size[order]) > capacity
    return float(worth[order[np.argmax(reached)]]) if reached.any() else 0.0


def first_prices(dual: Dual) -> FloatArray:
    """Where to begin: of many customers the prices of a part of them."""
    none = np.zeros(len(dual.capacity))
    return none if dual.n < 2 * _SAMPLE else descend(dual.sample(_SAMPLE), none, _SAMPLE_SWEEPS)


def descend(dual: Dual, price: FloatArray, sweeps: int) -> FloatArray:
    """One price at a time, each to where the dual is least, until a sweep changes nothing."""
    price = price.copy()
    if dual.n:
        for _ in range(sweeps):
            before = price.copy()
            for r in range(len(price)):
                price[r] = dual.best_price(price, r)
            if len(price) == 1 or np.array_equal(price, before):
                break
    return price

"""Choices of whole customers: within the capacity, and what is left given out.

Letters in shapes: n customers, K choices, R resources.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.allocation.dual import ROUNDING, TINY, Dual, IntArray
from models.choice import FloatArray
from models.compiled import compiled, inlined

CLOSE = 1e-6
"""A gap that is left as it is, as a share of the bound."""
# Customers a choice among whom what is left is given out in the order of their loss, beside four for each unit of it;
# the most at once, which bounds the memory, and how often.
_FIRST, _MOST_FIRST, _MOST_ROUNDS = 1_000, 100_000, 4
# How often two customers change together, where there are few choices: all pairs of changes are looked at.
_MOST_CHANGES, _FEW_CHOICES = 100, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Who gets what.

    Attributes:
        price: Shadow price of each resource, minor units a unit of it, shape (R,), >= 0.
        choice: Index of every customer's choice, shape (n,), in [0, K).
        used: What the choices take of each resource, shape (R,), at most its capacity.
        value: What the choices are worth together, minor units.
        bound: No allocation is worth more, minor units: the dual at `price`.
    """

    price: FloatArray
    choice: IntArray
    used: FloatArray
    value: float
    bound: float

    @property
    def gap(self) -> float:
        """What the best allocation could be worth beyond this one at most, as a share of the bound."""
        return (self.bound - self.value) / max(abs(self.bound), TINY)


def repaired(dual: Dual, price: FloatArray, bound: float, choice: IntArray) -> Allocation:
    """The same choices within the capacity, and what is left given out."""
    choice = choice.copy()
    cost = dual.use @ price
    for r in range(len(price)):
        _step_back(dual, cost, choice, r)
    counts = dual.counts(choice)
    if len(price) and dual.n:
        _give_out(dual, price, bound, choice, counts)
    value = dual.worth(choice)
    return Allocation(
        price=price, choice=choice, used=_used(counts, dual.use), value=value, bound=max(bound, value)
    )


def _step_back(dual: Dual, cost: FloatArray, choice: IntArray, r: int) -> None:
    """Until resource r suffices: who loses least a unit takes what uses less of it, and no more of anything."""
    while True:
        over = _used(dual.counts(choice), dual.use)[r] - dual.capacity[r]
        if over <= 0:
            return
        who, to, loss = _lesser(dual, cost, choice, r)
        saved = dual.use[choice[who], r] - dual.use[to, r]
        order = np.argsort(loss / saved, kind="stable")
        enough = int(np.searchsorted(np.cumsum(saved[order]), over)) + 1
        first = order[:enough]
        choice[who[first]] = to[first]


def _lesser(dual: Dual, cost: FloatArray, choice: IntArray, r: int) -> tuple[IntArray, IntArray, FloatArray]:
    """Who can do with less of resource r, by what, and what is lost at these costs."""
    found = []
    for k in np.flatnonzero(dual.use[:, r]):
        who = np.flatnonzero(choice == k)
        less = np.flatnonzero((dual.use <= dual.use[k]).all(axis=1) & (dual.use[:, r] < dual.use[k, r]))
        net = dual.value[np.ix_(less, who)] - cost[less, None]
        best = net.argmax(axis=0)
        loss = dual.value[k, who] - cost[k] - net[best, np.arange(len(who))]
        found.append((who, less[best], loss))
    who, to, loss = (np.concatenate(each) for each in zip(*found, strict=True))
    return who, to, loss


def _give_out(dual: Dual, price: FloatArray, bound: float, choice: IntArray, counts: FloatArray) -> None:
    """What is left: to whom it costs the bound least, to anybody who gains by it, to two who change together."""
    for _ in range(_MOST_ROUNDS):
        if not _give_to_first(dual, price, choice, counts):
            break
    _take_all_better(dual, choice, counts)
    for _ in range(_MOST_CHANGES if len(dual.use) <= _FEW_CHOICES else 0):
        if bound - dual.worth(choice) <= CLOSE * abs(bound):
            break
        if not _change(dual.value, dual.use, dual.capacity, choice, counts, ROUNDING * abs(bound)):
            break
    _take_all_better(dual, choice, counts)


def _take_all_better(dual: Dual, choice: IntArray, counts: FloatArray) -> None:
    """Whoever gains by it, until nobody does."""
    while _take_better(dual.value, dual.use, dual.capacity, choice, counts):
        pass


def _give_to_first(dual: Dual, price: FloatArray, choice: IntArray, counts: FloatArray) -> bool:
    """What is left to whom it costs the bound least; whether so many took of it that others are to be looked at."""
    left = dual.capacity - _used(counts, dual.use)
    least = np.where(dual.use > 0, dual.use, np.inf).min(axis=0)
    # What has no price is left over in any case.
    wanted = 4 * (left / least)[price > 0].sum() + _FIRST
    first = int(min(dual.n, wanted, _MOST_FIRST))
    cost = dual.use @ price
    best = np.take_along_axis(dual.value, choice[None], axis=0)[0] - cost[choice]
    found = []
    for k in np.flatnonzero((dual.use - dual.use.max(axis=0) <= left).all(axis=1)):
        loss = best - (dual.value[k] - cost[k])
        loss[choice == k] = np.inf
        who = np.argpartition(loss, first - 1)[:first] if first < dual.n else np.arange(dual.n)
        found.append((who, np.full(len(who), k), loss[who]))
    who, to, loss = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.argsort(loss, kind="stable")
    order = order[np.isfinite(loss[order])]
    taken = _take(who[order], to[order], dual.value, dual.use, dual.capacity, choice, counts)
    return first < min(dual.n, wanted) and taken > first // 8


@compiled("float64[::1](float64[::1], float64[:, ::1])")
def _used(counts: FloatArray, use: FloatArray) -> FloatArray:
    used = np.zeros(use.shape[1])
    for k in range(use.shape[0]):
        for r in range(use.shape[1]):
            used[r] += counts[k] * use[k, r]
    return used


@inlined
def _fits(counts: FloatArray, use: FloatArray, capacity: FloatArray) -> bool:
    for r in range(use.shape[1]):
        used = 0.0
        for k in range(use.shape[0]):
            used += counts[k] * use[k, r]
        if used > capacity[r]:
            return False
    return True


@compiled(
    "int64(int64[::1], int64[::1], float64[:, ::1], float64[:, ::1], float64[::1], int64[::1], float64[::1])"
)
def _take(
    who: IntArray,
    to: IntArray,
    value: FloatArray,
    use: FloatArray,
    capacity: FloatArray,
    choice: IntArray,
    counts: FloatArray,
) -> int:
    """In this order, whoever gains by it and for whom there is enough; how often that was."""
    taken = 0
    for j in range(len(who)):
        i, k = who[j], to[j]
        now = choice[i]
        if value[k, i] > value[now, i]:
            counts[now] -= 1.0
            counts[k] += 1.0
            if _fits(counts, use, capacity):
                choice[i] = k
                taken += 1
            else:
                counts[now] += 1.0
                counts[k] -= 1.0
    return taken


@compiled("boolean(float64[:, ::1], float64[:, ::1], float64[::1], int64[::1], float64[::1])")
def _take_better(
    value: FloatArray, use: FloatArray, capacity: FloatArray, choice: IntArray, counts: FloatArray
) -> bool:
    """The best that every customer gains by and for which there is enough, one after the other; whether there was any."""
    changed = False
    for i in range(value.shape[1]):
        now = choice[i]
        best = now
        for k in range(value.shape[0]):
            if value[k, i] > value[best, i]:
                counts[now] -= 1.0
                counts[k] += 1.0
                if _fits(counts, use, capacity):
                    best = k
                counts[now] += 1.0
                counts[k] -= 1.0
        if best != now:
            counts[now] -= 1.0
            counts[best] += 1.0
            choice[i] = best
            changed = True
    return changed


@compiled("boolean(float64[:, ::1], float64[:, ::1], float64[::1], int64[::1], float64[::1], float64)")
def _change(
    value: FloatArray,
    use: FloatArray,
    capacity: FloatArray,
    choice: IntArray,
    counts: FloatArray,
    least: float,
) -> bool:
    """The change of one customer, or of two together, that brings most and for which there is enough; whether any brings more than `least`."""
    n_choices, n = value.shape
    brings = np.full((n_choices, n_choices), -np.inf)
    who = np.zeros((n_choices, n_choices), np.int64)
    for i in range(n):
        now = choice[i]
        for k in range(n_choices):
            gain = value[k, i] - value[now, i]
            if k != now and gain > brings[now, k]:
                brings[now, k] = gain
                who[now, k] = i
    most = least
    found = np.full(4, -1)
    for a in range(n_choices):
        for b in range(n_choices):
            if not brings[a, b] > -np.inf:
                continue
            counts[a] -= 1.0
            counts[b] += 1.0
            if brings[a, b] > most and _fits(counts, use, capacity):
                most = brings[a, b]
                found[:] = np.array([a, b, -1, -1])
            for c in range(n_choices):
                for d in range(n_choices):
                    gain = brings[a, b] + brings[c, d]
                    if gain <= most or who[a, b] == who[c, d]:
                        continue
                    counts[c] -= 1.0
                    counts[d] += 1.0
                    if _fits(counts, use, capacity):
                        most = gain
                        found[:] = np.array([a, b, c, d])
                    counts[c] += 1.0
                    counts[d] -= 1.0
            counts[a] += 1.0
            counts[b] -= 1.0
    for at in (0, 2):
        if found[at] >= 0:
            choice[who[found[at], found[at + 1]]] = found[at + 1]
            counts[found[at]] -= 1.0
            counts[found[at + 1]] += 1.0
    return most > least

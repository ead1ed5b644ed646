"""Every customer gets one of a few choices, and resources are scarce: prices of the resources, and who gets what.

The multiple-choice knapsack over n customers and K choices

    maximise  sum_i value[i, k_i]   subject to   sum_i use[k_i, r] <= capacity[r]   for every resource r

is solved by its Lagrangian dual: one price a unit of each resource, after which every customer decides alone. The dual

    g(p) = sum_i max_k (value[i, k] - use[k] @ p) + capacity @ p,   p >= 0

lies nowhere below what can be reached and is convex and piecewise linear. It is gone down one price at a time, each to
its exact minimum: the usage of a resource falls in steps as its price goes up, and the price is where the capacity is
reached. That may stall in a corner, where prices have to move together; there the columns of Dantzig and Wolfe finish,
one assignment a column. Their best mixture also says in what shares customers that are worth the same are divided.

Between two customers several prices may be equally good; a single price is the least of them.

Letters in shapes: n customers, K choices, R resources.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.choice import FloatArray
from models.compiled import compiled, inlined, plain
from models.domain.errors import require

IntArray = NDArray[np.intp]

# Customers a part of a pass: what is made of them stays in the cache.
_PART = 1 << 13
# Customers from which the first prices come; going down is cheap there.
_SAMPLE, _SAMPLE_SWEEPS = 10_000, 40
# A gap that is left as it is, and when prices count as the best, both as a share of the bound.
_CLOSE, _SAME = 1e-6, 1e-9
# Assignments tried where one price at a time stalls.
_MOST_COLUMNS = 60
# Steps of the mixture of columns, and what counts as nothing there, in units of the largest.
_MOST_PIVOTS, _ROUNDING = 500, 1e-11
# Customers a choice among whom what is left is given out in the order of their loss, beside four for each unit of it;
# the most at once, which bounds the memory, and how often.
_FIRST, _MOST_FIRST, _MOST_ROUNDS = 1_000, 100_000, 4
# How often two customers change together, where there are few choices: all pairs of changes are looked at.
_MOST_CHANGES, _FEW_CHOICES = 100, 16
_TINY = float(np.finfo(np.float64).tiny)


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
        return (self.bound - self.value) / max(abs(self.bound), _TINY)


def shadow_prices(value: FloatArray, use: FloatArray, capacity: FloatArray, sweeps: int = 4) -> FloatArray:
    """What a unit of each resource is worth: where `g` of the module is least.

    Arguments and errors are those of `allocate`, and so are the prices.

    Returns:
        Minor units a unit of the resource, shape (R,), >= 0; 0 for one of which some is left in any case.
    """
    return allocate(value, use, capacity, sweeps).price


def allocate(value: FloatArray, use: FloatArray, capacity: FloatArray, sweeps: int = 4) -> Allocation:
    """Give every customer one choice, so that all together are worth most and no capacity is exceeded.

    At the prices every customer takes what is best for it. Where that takes too much, those step back who lose least
    a unit; what is left goes to whom it costs the bound least, until no single customer can be given anything better.
    How far from the best that may be is said by `gap`.

        gap = (bound - value) / |bound|,  bound - value = sum_i loss_i + price @ (capacity - used)

    with loss_i what customer i's choice is worth less, at the prices, than its best one.

    Args:
        value: What a choice is worth, minor units, shape (n, K); -inf where it is not open to the customer. Everybody
            has a choice that uses nothing, for example no contact.
        use: What a choice takes of each resource, shape (K, R), finite and >= 0.
        capacity: What there is of each resource, shape (R,), finite and >= 0.
        sweeps: How often all prices are gone through, >= 1; less where nothing changes any more.

    Raises:
        InvalidInputError: shapes do not fit, or a value is out of its bounds.

    References:
        Sinha and Zoltners (1979), The Multiple-Choice Knapsack Problem. Dantzig and Wolfe (1960), Decomposition
        Principle for Linear Programs.

    >>> value = np.array([[9.0, 0.0], [5.0, 0.0], [4.0, 0.0]])
    >>> given = allocate(value, use=np.array([[1.0], [0.0]]), capacity=np.array([2.0]))
    >>> given.choice.tolist(), given.price.tolist(), given.value, given.gap
    ([0, 0, 1], [4.0], 14.0, 0.0)
    """
    _check(value, use, capacity, sweeps)
    dual = _Dual(plain(value.T), plain(use), plain(capacity))
    price = _descend(dual, _first_prices(dual), sweeps)
    bound, choice = dual.at(price)
    found = _repaired(dual, price, bound, choice)
    if found.gap <= _CLOSE or not dual.use.any():
        return found
    price, bound, mixed = _mixed(dual, price, bound)
    found = replace(found, price=price, bound=max(bound, found.value))
    for start in (mixed, dual.at(price)[1]):
        if found.gap > _CLOSE:
            found = max(found, _repaired(dual, price, bound, start), key=lambda one: one.value)
    return found


def _check(value: FloatArray, use: FloatArray, capacity: FloatArray, sweeps: int) -> None:
    require(value.ndim == 2 and value.shape[1] > 0, "value", value.shape, "must have shape (n, K), K >= 1")
    n_choices = value.shape[1]
    require(capacity.ndim == 1, "capacity", capacity.shape, "must have shape (R,)")
    shape = (n_choices, len(capacity))
    require(use.shape == shape, "use", use.shape, f"must have shape {shape}")
    for name, array in (("use", use), ("capacity", capacity)):
        wrong = array[~((array >= 0) & (array < np.inf))]
        require(not wrong.size, name, wrong[:1].tolist(), "must be finite and >= 0")
    require(sweeps >= 1, "sweeps", sweeps, "must be >= 1")
    free = ~use.any(axis=1)
    require(bool(free.any()), "use", use.tolist(), "must have a choice that uses nothing")
    for start in range(0, len(value), _PART):
        part = value[start : start + _PART]
        wrong = part[~(part < np.inf)]
        require(not wrong.size, "value", wrong[:1].tolist(), "must be finite, or -inf where it is not open")
        stuck = np.flatnonzero((part[:, free] == -np.inf).all(axis=1))
        require(
            not stuck.size,
            f"value[{start + int(stuck[0]) if stuck.size else 0}]",
            part[stuck[:1]].tolist(),
            "must have a choice that uses nothing and is open",
        )


@dataclass(frozen=True, slots=True)
class _Dual:
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
        return int(self.value.shape[1])

    def parts(self) -> Iterator[slice]:
        return (slice(start, min(start + _PART, self.n)) for start in range(0, self.n, _PART))

    def sample(self, n: int) -> _Dual:
        """About n customers, evenly from first to last, with their share of the capacity."""
        some = np.ascontiguousarray(self.value[:, :: max(1, self.n // n)])
        return _Dual(some, self.use, self.capacity * (some.shape[1] / self.n))

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
    capacity *= 1 + _SAME  # sums that are the capacity but for rounding fit
    while len(worth) > _PART:
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


def _first_prices(dual: _Dual) -> FloatArray:
    none = np.zeros(len(dual.capacity))
    return none if dual.n < 2 * _SAMPLE else _descend(dual.sample(_SAMPLE), none, _SAMPLE_SWEEPS)


def _descend(dual: _Dual, price: FloatArray, sweeps: int) -> FloatArray:
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


def _mixed(dual: _Dual, price: FloatArray, bound: float) -> tuple[FloatArray, float, IntArray]:
    """Assignments beside the one that was found, until their best mixture is worth what the bound says.

    Returns:
        Prices where the dual is least of what was tried, the dual there, and choices in the shares of the mixture.
    """
    free = np.flatnonzero(~dual.use.any(axis=1))
    columns = [_Column.of(dual, free[dual.value[free].argmax(axis=0)])]
    best = point = price
    for _ in range(_MOST_COLUMNS):
        here, choice = dual.at(point)
        columns.append(_Column.of(dual, choice))
        if here < bound * (1 - _SAME):
            best, bound = point, here
        share, wanted, worth = _mixture(columns, dual.capacity)
        if bound - worth <= _SAME * abs(bound):
            break
        # Half-way between what is known to be good and what the columns would have: those say little of far away.
        halfway = (best + wanted) / 2
        point = wanted if np.array_equal(halfway, point) else halfway
    return best, bound, _divided(columns, share)


@dataclass(frozen=True, slots=True)
class _Column:
    choice: NDArray[np.unsignedinteger]
    value: float
    used: FloatArray

    @classmethod
    def of(cls, dual: _Dual, choice: IntArray) -> _Column:
        small = choice.astype(np.min_scalar_type(len(dual.use)))
        return cls(small, dual.worth(choice), dual.counts(choice) @ dual.use)


def _mixture(columns: list[_Column], capacity: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Shares of the columns that are worth most together within the capacity: the simplex method, its basis R + 1 wide.

    Args:
        columns: The first uses nothing.
        capacity: Shape (R,).

    Returns:
        Share of each column, prices at which none of them is worth more, and what the mixture is worth.
    """
    n, n_resources = len(columns), len(capacity)
    worth = np.array([one.value for one in columns])
    used = np.array([one.used for one in columns])
    # In units in which nothing is above 1.
    unit = np.maximum(np.maximum(capacity, used.max(axis=0)), _TINY)
    money = max(float(np.ptp(worth)), _TINY)
    gain = np.concatenate([(worth - worth[0]) / money, np.zeros(n_resources)])
    rows = np.zeros((n_resources + 1, n + n_resources))
    rows[:-1, :n] = (used / unit).T
    rows[-1, :n] = 1.0
    rows[:-1, n:] = np.eye(n_resources)
    basis = [*range(n, n + n_resources), 0]
    limit = np.append(capacity / unit, 1.0)
    for turn in range(_MOST_PIVOTS):
        inverse = np.linalg.inv(rows[:, basis])
        level = np.maximum(inverse @ limit, 0.0)
        price = gain[basis] @ inverse
        reduced = gain - price @ rows
        reduced[basis] = 0.0
        if reduced.max() <= _ROUNDING:
            break
        # By Bland's rule from some turn on, which ends in any case.
        enter = int(reduced.argmax() if turn < _MOST_PIVOTS // 2 else np.argmax(reduced > _ROUNDING))
        step = inverse @ rows[:, enter]
        ratio = np.divide(level, step, out=np.full_like(level, np.inf), where=step > _ROUNDING)
        least = np.flatnonzero(ratio <= ratio.min())
        basis[min(least, key=lambda row: basis[row])] = enter
    share = np.zeros(n + n_resources)
    share[basis] = level
    return (
        share[:n],
        np.maximum(price[:-1], 0.0) * money / unit,
        float(gain[basis] @ level) * money + float(worth[0]),
    )


def _divided(columns: list[_Column], share: FloatArray) -> IntArray:
    """One assignment out of several: among customers for whom they say the same, each is followed in its share."""
    some = np.flatnonzero(share > _ROUNDING)
    choice: IntArray = columns[some[0]].choice.astype(np.intp)
    others = [columns[j].choice for j in some[1:]]
    open_to = np.flatnonzero(
        np.logical_or.reduce([np.zeros(len(choice), np.bool_), *(other != choice for other in others)])
    )
    if not len(open_to):
        return choice
    said = np.array([columns[j].choice[open_to] for j in some])
    order = np.lexsort(said)
    said, open_to = said[:, order], open_to[order]
    starts = np.flatnonzero(np.append(True, (said[:, 1:] != said[:, :-1]).any(axis=0)))
    length = np.diff(np.append(starts, len(open_to)))
    place = (np.arange(len(open_to)) - np.repeat(starts, length) + 0.5) / np.repeat(length, length)
    ends = np.cumsum(share[some]) / share[some].sum()
    followed = np.minimum(np.searchsorted(ends, place), len(some) - 1)
    choice[open_to] = said[followed, np.arange(len(open_to))]
    return choice


def _repaired(dual: _Dual, price: FloatArray, bound: float, choice: IntArray) -> Allocation:
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


def _step_back(dual: _Dual, cost: FloatArray, choice: IntArray, r: int) -> None:
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


def _lesser(dual: _Dual, cost: FloatArray, choice: IntArray, r: int) -> tuple[IntArray, IntArray, FloatArray]:
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


def _give_out(dual: _Dual, price: FloatArray, bound: float, choice: IntArray, counts: FloatArray) -> None:
    """What is left: to whom it costs the bound least, to anybody who gains by it, to two who change together."""
    for _ in range(_MOST_ROUNDS):
        if not _give_to_first(dual, price, choice, counts):
            break
    _take_all_better(dual, choice, counts)
    for _ in range(_MOST_CHANGES if len(dual.use) <= _FEW_CHOICES else 0):
        if bound - dual.worth(choice) <= _CLOSE * abs(bound):
            break
        if not _change(dual.value, dual.use, dual.capacity, choice, counts, _ROUNDING * abs(bound)):
            break
    _take_all_better(dual, choice, counts)


def _take_all_better(dual: _Dual, choice: IntArray, counts: FloatArray) -> None:
    """Whoever gains by it, until nobody does."""
    while _take_better(dual.value, dual.use, dual.capacity, choice, counts):
        pass


def _give_to_first(dual: _Dual, price: FloatArray, choice: IntArray, counts: FloatArray) -> bool:
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

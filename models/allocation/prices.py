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

from dataclasses import replace

import numpy as np

from models.allocation.dual import INDIFFERENT, PART, Dual, descend, first_prices
from models.allocation.mixture import mixed
from models.allocation.whole import CLOSE, Allocation, repaired
from models.choice import FloatArray
from models.compiled import plain
from models.domain.errors import require


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
    dual = Dual(plain(value.T), plain(use), plain(capacity))
    price = descend(dual, first_prices(dual), sweeps)
    bound, choice = dual.at(price)
    found = repaired(dual, price, bound, choice)
    if found.gap <= CLOSE or not dual.use.any():
        return found
    price, bound, divided = mixed(dual, price, bound)
    found = replace(found, price=price, bound=max(bound, found.value))
    for start in (divided, dual.at(price)[1]):
        if found.gap > CLOSE:
            found = max(found, repaired(dual, price, bound, start), key=lambda one: one.value)
    return found


def highest_prices(value: FloatArray, use: FloatArray, made: Allocation) -> FloatArray:
    """The highest prices at which nobody gives up what the allocation gives them.

    Between what the last who gets something of a resource would pay and what the first who gets nothing would, every
    price is as good for the bound, and `allocate` gives the lowest. At the highest nobody else wants any.

    Args:
        value: As `allocate` was given.
        use: The same.
        made: What it gave.

    Returns:
        Shape (R,), at least `made.price`; a resource that nobody has any of keeps its price.
    """
    price = made.price.copy()
    row = np.arange(len(value))
    for r in np.flatnonzero(price > 0):
        left = value - use @ price
        more = use[made.choice, r][:, None] - use[None, :, r]
        gives_up = np.full(value.shape, np.inf)
        np.divide(left[row, made.choice][:, None] - left, more, out=gives_up, where=more > 0)
        least = float(gives_up.min(initial=np.inf))
        if least < np.inf:
            price[r] += max(0.0, least)
    return price


def asking_prices(value: FloatArray, use: FloatArray, made: Allocation) -> FloatArray:
    """The prices to decide at: the highest, a millionth lower, so that who is worth exactly the price takes it.

    Args:
        value: As `allocate` was given.
        use: The same.
        made: What it gave.

    Returns:
        Shape (R,).
    """
    return (1 - INDIFFERENT) * highest_prices(value, use, made)


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
    for start in range(0, len(value), PART):
        part = value[start : start + PART]
        wrong = part[~(part < np.inf)]
        require(not wrong.size, "value", wrong[:1].tolist(), "must be finite, or -inf where it is not open")
        stuck = np.flatnonzero((part[:, free] == -np.inf).all(axis=1))
        require(
            not stuck.size,
            f"value[{start + int(stuck[0]) if stuck.size else 0}]",
            part[stuck[:1]].tolist(),
            "must have a choice that uses nothing and is open",
        )

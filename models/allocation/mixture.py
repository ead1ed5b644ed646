"""Columns of Dantzig and Wolfe: where one price at a time stalls, assignments are mixed until they are worth the bound.

The best mixture has prices where all of them move together, and says in what shares customers who are worth the same are
divided. Letters in shapes: n customers, K choices, R resources.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.allocation.dual import ROUNDING, SAME, TINY, Dual, IntArray
from models.choice import FloatArray

# Assignments tried where one price at a time stalls.
_MOST_COLUMNS = 60
# Steps of the mixture of columns.
_MOST_PIVOTS = 500


def mixed(dual: Dual, price: FloatArray, bound: float) -> tuple[FloatArray, float, IntArray]:
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
        if here < bound * (1 - SAME):
            best, bound = point, here
        share, wanted, worth = _mixture(columns, dual.capacity)
        if bound - worth <= SAME * abs(bound):
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
    def of(cls, dual: Dual, choice: IntArray) -> _Column:
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
    unit = np.maximum(np.maximum(capacity, used.max(axis=0)), TINY)
    money = max(float(np.ptp(worth)), TINY)
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
        if reduced.max() <= ROUNDING:
            break
        # By Bland's rule from some turn on, which ends in any case.
        enter = int(reduced.argmax() if turn < _MOST_PIVOTS // 2 else np.argmax(reduced > ROUNDING))
        step = inverse @ rows[:, enter]
        ratio = np.divide(level, step, out=np.full_like(level, np.inf), where=step > ROUNDING)
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
    some = np.flatnonzero(share > ROUNDING)
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

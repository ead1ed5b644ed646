"""How policies settle on one contact: the lowest of each key in turn, then the lowest index."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.choice import ActionDistribution, BoolArray, ChoiceProblem, FloatArray
from models.domain.errors import NoPredictionsError, require


def preferred_contact(
    problem: ChoiceProblem, candidates: BoolArray, value_minor: FloatArray | None = None
) -> NDArray[np.intp]:
    """The contact each customer gets, or no contact where there is no candidate.

    Highest value (where given), then lowest cost, then earliest send time, then lowest index: first
    offer, first channel, first slot.

    Args:
        problem: What there is to choose from.
        candidates: Contacts to choose among, shape (n, A - 1).
        value_minor: Shape (n, A - 1), or None to choose by cost.

    Returns:
        Action indices, shape (n,).
    """
    offers, _, slots = problem.grid.shape
    cost = np.tile(np.repeat(problem.cost_minor, slots), offers)
    send_at = np.tile(problem.send_at, len(problem.grid.offers) * len(problem.grid.channels))
    if value_minor is not None:
        candidates = _lowest(candidates, -value_minor)
    candidates = _lowest(_lowest(candidates, cost), send_at)
    first: NDArray[np.intp] = candidates.argmax(axis=1)
    return np.where(candidates.any(axis=1), first, problem.grid.no_contact)


def best_action(problem: ChoiceProblem, value_minor: FloatArray) -> NDArray[np.intp]:
    """The candidate with the highest value; no contact wins unless a contact is worth more than 0.

    Args:
        problem: What there is to choose from.
        value_minor: Shape (n, A); no contact is 0.

    Returns:
        Action indices, shape (n,).
    """
    contacts = value_minor[:, :-1]
    worthwhile = contacts > 0
    worthwhile &= problem.mask[:, :-1]
    ranked = contacts * worthwhile
    best: NDArray[np.intp] = ranked.argmax(axis=1)
    top = ranked.take(np.arange(0, ranked.size, ranked.shape[1]) + best)
    if np.count_nonzero((ranked == top[:, None]) & worthwhile) > np.count_nonzero(
        top
    ):  # somewhere there is a tie
        return preferred_contact(problem, worthwhile, contacts)
    return np.where(top > 0, best, problem.grid.no_contact)


def certainly(problem: ChoiceProblem, action: NDArray[np.intp]) -> ActionDistribution:
    """All probability on one action a customer."""
    probabilities = np.zeros(problem.mask.shape)
    probabilities[np.arange(len(action)), action] = 1.0
    return ActionDistribution(probabilities=probabilities)


def values_of(problem: ChoiceProblem, policy: str) -> FloatArray:
    """The problem's net values, shape (n, A).

    Raises:
        NoPredictionsError: there are none.
        InvalidInputError: one is not a number.
    """
    values = problem.net_value_minor
    if values is None:
        raise NoPredictionsError(policy)
    require(not np.isnan(values).any(), "net_value_minor", float("nan"), "must be a number for every action")
    return values


def _lowest(candidates: BoolArray, key: FloatArray) -> BoolArray:
    """The candidates with the lowest key of their row; `key` has shape (n, A - 1) or (A - 1,)."""
    lowest = np.where(candidates, key, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    return np.asarray(candidates & (key <= lowest))

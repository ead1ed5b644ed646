"""How policies settle on one contact: the lowest of each key in turn, then the lowest index."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.choice import ActionDistribution, BoolArray, ChoiceProblem, FloatArray
from models.compiled import compiled
from models.domain.errors import NoPredictionsError, require


def preferred_contact(problem: ChoiceProblem, candidates: BoolArray) -> NDArray[np.intp]:
    """The contact each customer gets by cost, or no contact where there is no candidate.

    Lowest cost, then earliest send time, then lowest index: first offer, first channel, first slot.

    Args:
        problem: What there is to choose from.
        candidates: Contacts to choose among, shape (n, A - 1).

    Returns:
        Action indices, shape (n,).
    """
    return _preferred(problem, candidates, np.ones(candidates.shape))


def best_action(problem: ChoiceProblem, value_minor: FloatArray) -> NDArray[np.intp]:
    """The candidate with the highest value; no contact wins unless a contact is worth more than 0.

    Among equal values the order is that of `preferred_contact`.

    Args:
        problem: What there is to choose from.
        value_minor: Shape (n, A); no contact is 0.

    Returns:
        Action indices, shape (n,).
    """
    return _preferred(problem, problem.mask[:, :-1], value_minor[:, :-1])


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
    # The least of some numbers is none where one of them is none.
    require(
        not np.isnan(values.min(initial=0.0)),
        "net_value_minor",
        float("nan"),
        "must be a number for every action",
    )
    return values


def _preferred(problem: ChoiceProblem, candidates: BoolArray, value_minor: FloatArray) -> NDArray[np.intp]:
    """The contact each customer gets, or no contact where none is a candidate and worth more than 0."""
    found = np.empty(len(candidates), dtype=np.intp)
    _prefer(
        value_minor,
        candidates,
        np.ascontiguousarray(problem.cost_minor, dtype=np.float64),
        np.ascontiguousarray(problem.send_at, dtype=np.float64),
        found,
    )
    return found


@compiled("void(float64[:, :], boolean[:, :], float64[::1], float64[:, ::1], int64[::1])")
def _prefer(
    value: FloatArray,
    candidates: BoolArray,
    cost: FloatArray,
    send_at: FloatArray,
    found: NDArray[np.intp],
) -> None:
    """Highest value above 0, then lowest cost, then earliest send time, then lowest index."""
    n, n_contacts = candidates.shape
    n_channels, n_slots = len(cost), send_at.shape[1]
    for i in range(n):
        best, best_channel, best_slot, top = n_contacts, 0, 0, 0.0
        a = 0
        while a < n_contacts:
            for channel in range(n_channels):
                for slot in range(n_slots):
                    if candidates[i, a] and value[i, a] > 0.0 and value[i, a] >= top:
                        better = best == n_contacts or value[i, a] > top or cost[channel] < cost[best_channel]
                        if not better and cost[channel] == cost[best_channel]:
                            better = send_at[i, slot] < send_at[i, best_slot]
                        if better:
                            best, best_channel, best_slot, top = a, channel, slot, value[i, a]
                    a += 1
        found[i] = best

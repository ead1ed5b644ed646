"""What exploring may still cost today: rows draw on it in turn, and a row for which too little is left is decided greedily."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.choice import ActionDistribution, BoolArray, ChoiceProblem, FloatArray
from models.policy.preference import best_action


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored:
    """What n decisions draw on an allowance.

    Attributes:
        probabilities: Shape (n, A): as they were, or all on the best candidate where the allowance is spent.
        loss_minor: Expected loss of exploring, minor units, shape (n,), >= 0; 0 where nothing is explored.
        spent: Rows that would have explored and for which too little was left, shape (n,).
    """

    probabilities: FloatArray
    loss_minor: FloatArray
    spent: BoolArray


def draw_on(
    left_minor: float, problem: ChoiceProblem, answer: ActionDistribution, explores: BoolArray
) -> Explored:
    """Let rows explore, in their order, as long as their expected losses stay within what is left.

    The expected loss of a row is `sum over candidates of p(a) * (value of the best - value of a)`.

    Args:
        left_minor: What exploring may still cost, minor units; below 0 counts as 0.
        problem: What there is to choose from.
        answer: Distributions and the net values that they rank by; without values nothing is explored.
        explores: Rows whose policy explores on purpose, shape (n,).
    """
    n = len(problem.mask)
    values = answer.net_value_minor
    if values is None:
        return Explored(
            probabilities=answer.probabilities, loss_minor=np.zeros(n), spent=np.zeros(n, dtype=np.bool_)
        )
    best = best_action(problem, values)
    loss = expected_loss(answer.probabilities, values, best) * explores
    spent = np.zeros(n, dtype=np.bool_)
    left = max(left_minor, 0.0)
    for row in np.flatnonzero(loss > 0).tolist():
        if loss[row] <= left:
            left -= float(loss[row])
        else:
            spent[row] = True
    if not spent.any():
        return Explored(probabilities=answer.probabilities, loss_minor=loss, spent=spent)
    greedy = np.zeros_like(answer.probabilities)
    greedy[np.arange(n), best] = 1.0
    return Explored(
        probabilities=np.where(spent[:, None], greedy, answer.probabilities),
        loss_minor=np.where(spent, 0.0, loss),
        spent=spent,
    )


def expected_loss(probabilities: FloatArray, value_minor: FloatArray, best: np.ndarray) -> FloatArray:
    """What a draw is expected to lose against the best candidate, minor units, shape (n,), >= 0.

    Args:
        probabilities: Zero on what is no candidate, shape (n, A).
        value_minor: Shape (n, A); only candidates are looked at.
        best: Index of the best candidate, shape (n,).
    """
    short = value_minor[np.arange(len(best)), best][:, None] - value_minor
    lost = np.einsum("na,na->n", probabilities, np.where(probabilities > 0, short, 0.0))
    return np.asarray(np.maximum(lost, 0.0))

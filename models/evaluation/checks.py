"""Laws that every policy keeps, for anybody who writes one.

Each law is a function named as a sentence; `check_policy` runs them all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.choice import ChoiceProblem, Policy
from models.domain.errors import NextchannelError


class LawBrokenError(NextchannelError):
    """A policy breaks a law.

    Args:
        policy: Name of the policy.
        law: The law as a sentence.
        found: What was seen instead.
    """

    def __init__(self, policy: str, law: str, found: str) -> None:
        self.policy = policy
        self.law = law
        super().__init__(f"policy {policy} breaks the law '{law}': {found}")


def check_policy(policy: Policy, problem: ChoiceProblem) -> None:
    """Hold a policy to every law on one problem.

    Raises:
        LawBrokenError: it breaks one.
    """
    probabilities_sum_to_one(policy, problem)
    nothing_ineligible_is_chosen(policy, problem)
    same_in_same_out(policy, problem)
    permuting_customers_permutes_the_answers(policy, problem)
    each_customer_is_decided_alone(policy, problem)


def probabilities_sum_to_one(policy: Policy, problem: ChoiceProblem) -> None:
    """Every row sums to 1 within 1e-6 and none is negative."""
    answer = policy.distribution(problem).probabilities
    law = "probabilities sum to one"
    if answer.shape != problem.mask.shape:
        raise LawBrokenError(policy.name, law, f"shape {answer.shape}, must be {problem.mask.shape}")
    if not (answer >= 0).all():
        raise LawBrokenError(policy.name, law, "a probability is negative or not a number")
    off = np.abs(answer.sum(axis=1) - 1.0)
    if len(off) and off.max() > 1e-6:
        raise LawBrokenError(policy.name, law, f"row {off.argmax()} is off by {off.max():.3g}")


def nothing_ineligible_is_chosen(policy: Policy, problem: ChoiceProblem) -> None:
    """What is no candidate has probability 0 exactly."""
    wrong = np.argwhere((policy.distribution(problem).probabilities != 0) & ~problem.mask)
    if len(wrong):
        row, action = wrong[0]
        raise LawBrokenError(
            policy.name, "nothing ineligible is chosen", f"row {row} gives action {action} a probability"
        )


def same_in_same_out(policy: Policy, problem: ChoiceProblem) -> None:
    """Asked twice, it answers the same to the last bit."""
    first = policy.distribution(problem).probabilities
    if not np.array_equal(first, policy.distribution(problem).probabilities):
        raise LawBrokenError(policy.name, "same in, same out", "a second call answered otherwise")


def permuting_customers_permutes_the_answers(policy: Policy, problem: ChoiceProblem) -> None:
    """The order of the customers does not matter."""
    order = np.arange(len(problem.mask))[::-1]
    _agree(policy, problem, order, "permuting customers permutes the answers")


def each_customer_is_decided_alone(policy: Policy, problem: ChoiceProblem) -> None:
    """A customer gets the same answer alone as in a batch."""
    if len(problem.mask):
        _agree(policy, problem, np.array([0]), "each customer is decided alone")


def _agree(policy: Policy, problem: ChoiceProblem, rows: NDArray[np.intp], law: str) -> None:
    together = policy.distribution(problem).probabilities[rows]
    apart = policy.distribution(problem.take(rows)).probabilities
    off = float(np.abs(together - apart).max(initial=0.0))
    if not off <= 1e-9:
        raise LawBrokenError(policy.name, law, f"answers differ by {off:.3g}")

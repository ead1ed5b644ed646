"""A policy against every constant action, in numbers and in one honest sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from models.choice import FloatArray
from models.domain.errors import require
from models.evaluation.estimate import Estimate
from models.evaluation.off_policy import dr, dr_difference, snips
from models.evaluation.overlap import MIN_ESS_SHARE, Withheld, screened
from models.logged import IntArray


class Verdict(StrEnum):
    """What the interval of the difference supports."""

    BETTER = "better than"
    NO_BETTER = "no better than"
    WORSE = "worse than"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyComparison:
    """What a policy earns, and what beyond the best constant action.

    The best constant is picked by its estimate on the same rows, which flatters it: the comparison
    leans against the policy.

    Attributes:
        policy: Name of the policy.
        value: Doubly robust, a customer.
        check: The same by SNIPS.
        constants: Doubly robust value of each constant action, by name.
        best_constant: Name of the one with the highest value.
        difference: Policy minus best constant, paired.
    """

    policy: str
    value: Estimate
    check: Estimate
    constants: Mapping[str, Estimate]
    best_constant: str
    difference: Estimate

    @property
    def verdict(self) -> Verdict:
        """What the interval of the difference supports."""
        if self.difference.low > 0:
            return Verdict.BETTER
        return Verdict.WORSE if self.difference.high < 0 else Verdict.NO_BETTER

    def words(self, minor_per_unit: float = 1.0) -> str:
        """The verdict as a sentence.

        Args:
            minor_per_unit: What to divide by for display; 100 shows cents as dollars.
        """
        value, low, high = (
            amount / minor_per_unit
            for amount in (self.difference.value, self.difference.low, self.difference.high)
        )
        return (
            f"{self.verdict} the best constant action ({self.best_constant}): "
            f"{value:+.2f} [{low:+.2f}, {high:+.2f}] a customer"
        )


def compare_with_constants(
    policy: str,
    reward: FloatArray,
    propensity: FloatArray,
    action: IntArray,
    target: FloatArray,
    q: FloatArray,
    constants: Mapping[str, int],
    *,
    clusters: IntArray | None = None,
    confidence: float = 0.95,
    min_ess_share: float = MIN_ESS_SHARE,
) -> PolicyComparison | Withheld:
    """Judge a policy against doing the same for everybody.

    Args:
        policy: Its name.
        reward: Of the logged action, minor units, shape (n,).
        propensity: Of the logged action, shape (n,), in (0, 1].
        action: Index of the logged action, shape (n,).
        target: The policy's probabilities, shape (n, A).
        q: Predicted rewards by a model not fitted on these rows, minor units, shape (n, A).
        constants: Index of the action by its name, such as `{"nobody": 2}`. One whose own overlap is too
            thin is left out.
        clusters: Number of each row's customer, shape (n,).
        confidence: Of the intervals.
        min_ess_share: As in `screened`.

    Returns:
        The comparison, or why it is withheld: too little overlap with the policy, or with every constant.

    Raises:
        PropensityError: a propensity is zero, missing or above one.
        InvalidInputError: a shape does not fit.
    """
    n = len(reward)
    require(target.ndim == 2 and len(target) == n, "target", target.shape, f"must have shape ({n}, A)")
    require(q.shape == target.shape, "q", q.shape, f"must have shape {target.shape}")
    require(bool(constants), "constants", constants, "must name at least one action")
    rows = np.arange(n)
    q_logged = q[rows, action]
    same = target[rows, action]
    expected = np.einsum("na,na->n", target, q)
    value = screened(
        dr(reward, propensity, same, q_logged, expected, clusters=clusters, confidence=confidence),
        min_ess_share,
    )
    if isinstance(value, Withheld):
        return value
    values: dict[str, Estimate] = {}
    for name, index in constants.items():
        always = (action == index).astype(np.float64)
        constant = screened(
            dr(reward, propensity, always, q_logged, q[:, index], clusters=clusters, confidence=confidence),
            min_ess_share,
        )
        if isinstance(constant, Estimate):
            values[name] = constant
    if not values:
        return Withheld(
            reason="the log covers too little of every constant action to compare with",
            ess=value.ess,
            n=n,
        )
    best = max(values, key=lambda name: values[name].value)
    index = constants[best]
    return PolicyComparison(
        policy=policy,
        value=value,
        check=snips(reward, propensity, same, clusters=clusters, confidence=confidence),
        constants=values,
        best_constant=best,
        difference=dr_difference(
            reward,
            propensity,
            same,
            (action == index).astype(np.float64),
            q_logged,
            expected,
            q[:, index],
            clusters=clusters,
            confidence=confidence,
        ),
    )

"""Whether a log can say anything about a policy at all."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from models.choice import FloatArray
from models.evaluation.estimate import Estimate
from models.evaluation.off_policy import effective_sample_size, importance_weights

# Below this share the interval itself cannot be trusted.
MIN_ESS_SHARE = 0.2
# The log may lack this share of what the policy does, and what chance explains: the share is the reward model's word alone.
MAX_UNTRIED_SHARE = 0.1
_BY_CHANCE = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How well the log covers what the policy does.

    Attributes:
        ess: Effective sample size of the weights.
        ess_share: `ess / n`, in [0, 1].
        max_weight: Largest weight.
        mean_weight: Mean weight; 1 up to noise where the propensities are true and every action of the
            policy could have been logged.
        mean_weight_z: `(mean_weight - 1) / standard error`.
        unmatched_share: Share of rows whose logged action the policy never takes, in [0, 1].
    """

    ess: float
    ess_share: float
    max_weight: float
    mean_weight: float
    mean_weight_z: float
    unmatched_share: float

    @property
    def sufficient(self) -> bool:
        """Whether `ess_share` is at least 0.2."""
        return self.ess_share >= MIN_ESS_SHARE

    @property
    def propensities_plausible(self) -> bool:
        """Whether the mean weight is within four standard errors of 1."""
        return abs(self.mean_weight_z) <= 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """An estimate that is not given, and why.

    Attributes:
        reason: A sentence for people.
        ess: Effective sample size that there was.
        n: Rows.
        untried: Share of what the policy does that the log never did, where that is why, in [0, 1].
    """

    reason: str
    ess: float
    n: int
    untried: float = 0.0

    def __str__(self) -> str:
        return f"withheld: {self.reason}"


def overlap(propensity: FloatArray, target: FloatArray) -> Overlap:
    """Compare the log with a policy.

    Args:
        propensity: Probability of the logged action under the log, shape (n,), in (0, 1].
        target: Its probability under the policy, shape (n,), in [0, 1].

    Raises:
        PropensityError: a propensity is zero, missing or above one.
    """
    weights = importance_weights(propensity, target)
    n = len(weights)
    ess = effective_sample_size(weights)
    mean = float(weights.mean())
    error = float(weights.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    # A weight that is 1 throughout is the logging policy itself.
    off = 0.0 if math.isclose(mean, 1.0, abs_tol=1e-9) else math.copysign(math.inf, mean - 1.0)
    return Overlap(
        ess=ess,
        ess_share=ess / n,
        max_weight=float(weights.max()),
        mean_weight=mean,
        mean_weight_z=(mean - 1.0) / error if error > 1e-12 else off,
        unmatched_share=float(np.mean(target == 0)),
    )


def screened(estimate: Estimate, min_ess_share: float = MIN_ESS_SHARE) -> Estimate | Withheld:
    """The estimate, or why it is withheld: its effective sample size is too small a share of its rows, or its weights too small.

    Weights average 1 where the log could have done all that the policy does. Where it never did a part of that, no row has the
    large weight that would tell: the effective sample size looks ample, and `1 - mean weight` is the part.

    Args:
        estimate: By weighting.
        min_ess_share: The bar. Only a designed experiment may lower it: there the propensities are known and none is
            small, so that the share is a property of the design and says nothing against the weights.
    """
    if not estimate.ess_share >= min_ess_share:
        return Withheld(
            reason=(
                f"the log covers too little of what the policy does (effective sample size {estimate.ess:.0f} "
                f"of {estimate.n} rows, must be >= {min_ess_share:.0%})"
            ),
            ess=estimate.ess,
            n=estimate.n,
        )
    untried = 1.0 - estimate.mean_weight
    # Of the mean weight: mean * sqrt((n / ess - 1) / n).
    error = estimate.mean_weight * math.sqrt(max(1 / estimate.ess - 1 / estimate.n, 0.0))
    if untried > max(MAX_UNTRIED_SHARE, _BY_CHANCE * error):
        return Withheld(
            reason=f"the log never did {untried:.0%} of what the policy does, must be <= {MAX_UNTRIED_SHARE:.0%}",
            ess=estimate.ess,
            n=estimate.n,
            untried=untried,
        )
    return estimate

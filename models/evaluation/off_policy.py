"""What a policy would have earned, from decisions that another policy made.

Every estimator takes rows of a log in which action `a_i` was drawn with known propensity. Arrays:

- reward: observed reward of the logged action, minor units, shape (n,)
- propensity: probability with which the log chose it, shape (n,), in (0, 1]
- target: probability with which the policy in question would choose the *same* action, shape (n,)
- q_logged: reward that a model predicts for the logged action, minor units, shape (n,)
- q_target: reward that it predicts under the policy, `sum_a target(a) q(a)`, minor units, shape (n,)

The model must not have been fitted on the rows that it is used on. Manual overrides have no propensity
and do not belong in the rows. `dr` is the headline and `snips` its check; `dm` and `ips` are diagnostics:
what `dm` gets wrong looks just as certain as what it gets right. This screens; the holdout decides.

`clusters` numbers the customers where one has several rows: errors within a customer may then be
correlated in any way.
"""

from __future__ import annotations

import numpy as np

from models.choice import FloatArray
from models.domain.errors import InvalidInputError, PropensityError, require
from models.evaluation.estimate import Estimate, estimate_of
from models.logged import IntArray


def importance_weights(propensity: FloatArray, target: FloatArray) -> FloatArray:
    """`target / propensity`, shape (n,).

    Raises:
        PropensityError: a propensity is zero, missing or above one.
        InvalidInputError: a target probability is outside [0, 1].
    """
    require(target.shape == propensity.shape, "target", target.shape, f"must have shape {propensity.shape}")
    wrong = np.flatnonzero(~((propensity > 0) & (propensity <= 1)))
    if len(wrong):
        row = int(wrong[0])
        raise PropensityError("propensity", float(propensity[row]), f"must be in (0, 1] (row {row})")
    wrong = np.flatnonzero(~((target >= 0) & (target <= 1 + 1e-9)))
    if len(wrong):
        row = int(wrong[0])
        raise InvalidInputError("target", float(target[row]), f"must be in [0, 1] (row {row})")
    return target / propensity


def effective_sample_size(weights: FloatArray) -> float:
    """How many equally weighted rows would be as good: `(sum w)**2 / sum w**2`, in [0, n].

    Example:
        >>> effective_sample_size(np.array([1.0, 1.0, 0.0, 0.0]))
        2.0
    """
    squares = float(weights @ weights)
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def dm(q_target: FloatArray, *, clusters: IntArray | None = None, confidence: float = 0.95) -> Estimate:
    """The direct method: believe the model. `V = mean(q_target)`.

    Its interval covers the customers drawn, not the model's mistakes.

    Raises:
        InvalidInputError: fewer than two rows, or a prediction that is not finite.
    """
    value = float(_fitting(q_target, "q_target", q_target).mean())
    return estimate_of(value, q_target - value, float(len(q_target)), clusters, confidence)


def ips(
    reward: FloatArray,
    propensity: FloatArray,
    target: FloatArray,
    *,
    clusters: IntArray | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Inverse propensity scoring. `V = mean(w * reward)`, `w = target / propensity`.

    Unbiased, and noisy where weights are large.

    Raises:
        PropensityError: a propensity is zero, missing or above one.
        InvalidInputError: fewer than two rows, a wrong shape, a reward that is not finite.

    References:
        Horvitz and Thompson (1952); Strehl et al. (2010), Learning from Logged Implicit Exploration Data.
    """
    weights = importance_weights(propensity, target)
    terms = weights * _fitting(reward, "reward", weights)
    value = float(terms.mean())
    return _weighted(value, terms - value, weights, clusters, confidence)


def snips(
    reward: FloatArray,
    propensity: FloatArray,
    target: FloatArray,
    *,
    clusters: IntArray | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Self-normalised inverse propensity scoring. `V = sum(w * reward) / sum(w)`.

    Biased by O(1 / n); does not change its ranking when a constant is added to the rewards.

    Raises:
        PropensityError: a propensity is zero, missing or above one.
        InvalidInputError: no row has an action that the policy could choose; or as `ips`.

    References:
        Swaminathan and Joachims (2015), The Self-Normalized Estimator for Counterfactual Learning.
    """
    weights = importance_weights(propensity, target)
    _fitting(reward, "reward", weights)
    total = float(weights.sum())
    require(total > 0, "target", 0.0, "must be above 0 in at least one row")
    value = float(weights @ reward) / total
    influence = weights * (reward - value) / (total / len(weights))
    return _weighted(value, influence, weights, clusters, confidence)


def dr(
    reward: FloatArray,
    propensity: FloatArray,
    target: FloatArray,
    q_logged: FloatArray,
    q_target: FloatArray,
    *,
    clusters: IntArray | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Doubly robust. `V = mean(q_target + w * (reward - q_logged))`.

    Unbiased where the propensities or the model are right; the better the model, the less the noise.

    Raises:
        PropensityError: a propensity is zero, missing or above one.
        InvalidInputError: fewer than two rows, a wrong shape, a reward that is not finite.

    References:
        Dudik, Langford and Li (2011), Doubly Robust Policy Evaluation and Learning.

    Example:
        >>> reward, q_logged, q_target = np.array([[10.0, 4, 100, 2], [8, 6, 90, 3], [7, 5, 6, 3]])
        >>> propensity, target = np.array([[0.4, 0.5, 0.5, 0.5], [0.8, 0.25, 0, 1]])
        >>> str(dr(reward, propensity, target, q_logged, q_target))
        '+5.50 [+1.38, +9.62]'
    """
    weights = importance_weights(propensity, target)
    terms = _doubly_robust(reward, weights, q_logged, q_target)
    value = float(terms.mean())
    return _weighted(value, terms - value, weights, clusters, confidence)


def dr_difference(
    reward: FloatArray,
    propensity: FloatArray,
    target_a: FloatArray,
    target_b: FloatArray,
    q_logged: FloatArray,
    q_target_a: FloatArray,
    q_target_b: FloatArray,
    *,
    clusters: IntArray | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """What policy a earns beyond policy b, row by row on the same rows, doubly robust.

    Where the policies agree a row adds nothing, so the interval is narrower than that of two estimates.
    `ess` and `mean_weight` are each the smaller one of the two policies.

    Raises:
        PropensityError: a propensity is zero, missing or above one.
        InvalidInputError: fewer than two rows, a wrong shape, a reward that is not finite.
    """
    a = importance_weights(propensity, target_a)
    b = importance_weights(propensity, target_b)
    terms = _doubly_robust(reward, a, q_logged, q_target_a) - _doubly_robust(reward, b, q_logged, q_target_b)
    value = float(terms.mean())
    ess = min(effective_sample_size(a), effective_sample_size(b))
    tried = min(float(a.mean()), float(b.mean()))
    return estimate_of(value, terms - value, ess, clusters, confidence, tried)


def _weighted(
    value: float, influence: FloatArray, weights: FloatArray, clusters: IntArray | None, confidence: float
) -> Estimate:
    ess = effective_sample_size(weights)
    return estimate_of(value, influence, ess, clusters, confidence, float(weights.mean()))


def _doubly_robust(
    reward: FloatArray, weights: FloatArray, q_logged: FloatArray, q_target: FloatArray
) -> FloatArray:
    residual = _fitting(reward, "reward", weights) - _fitting(q_logged, "q_logged", weights)
    terms: FloatArray = _fitting(q_target, "q_target", weights) + weights * residual
    return terms


def _fitting(values: FloatArray, field: str, weights: FloatArray) -> FloatArray:
    """The values, once they are known to be finite and one for each weight."""
    require(values.shape == weights.shape, field, values.shape, f"must have shape {weights.shape}")
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        row = int(wrong[0])
        raise InvalidInputError(field, float(values[row]), f"must be finite (row {row})")
    return values

"""What each feature added to a prediction: parts that sum to it exactly.

A *breakdown* is a base - the prediction for an average customer on this channel at this time - and one amount a
feature. Nothing is left over: `base + sum(amounts) == total` up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from models.choice import FloatArray
from models.domain.action import ActionGrid

# Below this distance in logits the secant is the tangent, to the last digit that a double holds.
_NEAR = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """A prediction as a sum.

    Attributes:
        base: Prediction for the average customer, same offer, channel and slot.
        amounts: What each feature adds, in the unit of the prediction, shape (F,).
        total: The prediction.
    """

    base: float
    amounts: FloatArray
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseContributions:
    """Breakdowns of what one contact is expected to do for one customer.

    Attributes:
        p_open: Of the model's open probability.
        uplift: Of `p_convert - p_convert_no_contact`, before it is cut to what leaves p_convert in [0, 1].
    """

    p_open: Breakdown
    uplift: Breakdown


@runtime_checkable
class Explains(Protocol):
    """A response model that can say what its predictions are made of."""

    def contributions(
        self, features: FloatArray, grid: ActionGrid, contact: tuple[int, int, int]
    ) -> ResponseContributions:
        """Break one prediction down.

        Args:
            features: Of one customer, shape (F,); NaN where missing.
            grid: Axes of the decision.
            contact: Indices of offer, channel and slot.
        """
        ...


def through_curve(
    base_logit: float, logits: FloatArray, curve: Callable[[FloatArray], FloatArray]
) -> Breakdown:
    """Carry contributions to a logit over to the probability.

    Every contribution is multiplied by the slope of the secant between base and prediction,

        slope = (curve(base + sum) - curve(base)) / sum,

    so that signs and proportions stay and the sum is exact. Where the sum is 0 the slope is the tangent's.

    Args:
        base_logit: Of the average customer.
        logits: What each feature adds to it, shape (F,).
        curve: From logits to probabilities, increasing.

    Example:
        >>> half = through_curve(0.0, np.array([2.0, -1.0]), lambda x: 1 / (1 + np.exp(-x)))
        >>> round(half.base, 3), half.amounts.round(3).tolist(), round(half.total, 3)
        (0.5, [0.462, -0.231], 0.731)
    """
    step = float(logits.sum())
    low, high = curve(np.array([base_logit, base_logit + step])).tolist()
    if abs(step) > _NEAR:
        slope = (high - low) / step
    else:
        before, after = curve(np.array([base_logit - _NEAR, base_logit + _NEAR])).tolist()
        slope = (after - before) / (2 * _NEAR)
    return Breakdown(base=low, amounts=logits * slope, total=high)


def of_product(left: Breakdown, right: Breakdown) -> Breakdown:
    """The breakdown of a product of two predictions.

    Each side's amounts are weighted by the mean of the other side's base and total, which is the Shapley value of
    the two factors: `a b - a0 b0 = (a - a0) (b + b0) / 2 + (b - b0) (a + a0) / 2`.

    Example:
        >>> two = Breakdown(base=2.0, amounts=np.array([1.0, 0.0]), total=3.0)
        >>> ten = Breakdown(base=10.0, amounts=np.array([0.0, 4.0]), total=14.0)
        >>> of_product(two, ten)
        Breakdown(base=20.0, amounts=array([12., 10.]), total=42.0)
    """
    amounts = left.amounts * (right.base + right.total) / 2 + right.amounts * (left.base + left.total) / 2
    return Breakdown(base=left.base * right.base, amounts=amounts, total=left.total * right.total)


def of_sum(left: Breakdown, right: Breakdown) -> Breakdown:
    """The breakdown of a sum of two predictions."""
    return Breakdown(
        base=left.base + right.base, amounts=left.amounts + right.amounts, total=left.total + right.total
    )


def scaled(one: Breakdown, factor: float) -> Breakdown:
    """The breakdown of a multiple of a prediction."""
    return Breakdown(base=one.base * factor, amounts=one.amounts * factor, total=one.total * factor)


def linear(coefficients: FloatArray, inputs: FloatArray) -> Breakdown:
    """The breakdown of a linear prediction: coefficient times value.

    Args:
        coefficients: The intercept first, shape (1 + F,).
        inputs: 0 for an average customer, shape (F,).
    """
    amounts = coefficients[1:] * inputs
    base = float(coefficients[0])
    return Breakdown(base=base, amounts=amounts, total=base + float(amounts.sum()))


def largest(names: Sequence[str], amounts: FloatArray) -> list[tuple[str, float]]:
    """Every feature that added anything, the largest amounts first."""
    order = np.argsort(-np.abs(amounts), kind="stable")
    return [(names[i], float(amounts[i])) for i in order.tolist() if amounts[i] != 0.0]

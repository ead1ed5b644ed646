"""From net values to probabilities: mostly the best candidate, the others the less the worse they look."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.choice import BoolArray, FloatArray
from models.domain.action import ActionGrid
from models.domain.errors import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """How much to explore, and what it may cost.

    Attributes:
        value_scale_minor: What a conversion is worth, minor units, > 0: values are divided by it before
            they are compared, so that `gamma` means the same in every campaign.
        gamma: Greed. A candidate whose scaled value is d below the best of K gets `1 / (K + gamma d)`.
            In a simulated world of 25 candidates whose best is worth 0.7 % of the scale, the default
            costs 1.5 % of the value of greed, and three times the default 0.5 %; the slot floor costs 1.1 %.
        slot_floor: Share of each contact's probability spread evenly over the channel's eligible slots.
        max_loss_share: Most expected loss of one decision against the best candidate, as a share of
            `value_scale_minor`.
    """

    value_scale_minor: float = 10_000.0
    gamma: float = 900.0 * math.sqrt(60_000)
    slot_floor: float = 0.03
    max_loss_share: float = 0.0005

    def __post_init__(self) -> None:
        for name in ("value_scale_minor", "gamma"):
            value: float = getattr(self, name)
            require(0 < value < math.inf, f"exploration.{name}", value, "must be a finite number > 0")
        require(0 <= self.slot_floor <= 1, "exploration.slot_floor", self.slot_floor, "must be in [0, 1]")
        require(self.max_loss_share >= 0, "exploration.max_loss_share", self.max_loss_share, "must be >= 0")

    def distribution(
        self, grid: ActionGrid, mask: BoolArray, value_minor: FloatArray, best: NDArray[np.intp]
    ) -> FloatArray:
        """Inverse-gap weighting, then the slot floor, then the guardrail.

        Args:
            grid: Axes.
            mask: Candidates, shape (n, A).
            value_minor: Net values, shape (n, A).
            best: The best candidate by row, shape (n,).

        Returns:
            Probabilities, shape (n, A): zero outside the mask, each row sums to 1.
        """
        at_best = np.arange(0, value_minor.size, value_minor.shape[1]) + best
        loss = value_minor.take(at_best)[:, None] - value_minor
        loss *= mask
        explored = inverse_gap_weights(loss, mask, best, self.gamma / self.value_scale_minor)
        explored = floor_slots(explored, grid, mask, self.slot_floor)
        return bound_loss(explored, loss, best, self.max_loss_share * self.value_scale_minor)


def inverse_gap_weights(
    loss: FloatArray, mask: BoolArray, best: NDArray[np.intp], gamma: float
) -> FloatArray:
    """Probability `1 / (K + gamma * loss)` for the K - 1 others, the rest for the best.

    Candidates whose loss is exactly 0 share alike what they have together: nothing is believed that tells them apart, as
    the slots of a channel of which nothing is known. The expected loss is below `(K - 1) / gamma`, whatever the values.

    Args:
        loss: Value of the best candidate minus value of each, shape (n, A), >= 0 inside the mask.
        mask: Candidates, shape (n, A).
        best: The best candidate by row, shape (n,).
        gamma: Per unit of loss, > 0.

    References:
        Abe, Biermann and Long (2003); Foster and Rakhlin (2020), Beyond UCB, arXiv 2002.04926.

    Example:
        >>> inverse_gap_weights(np.array([[0.0, 1.0]]), np.array([[True, True]]), np.array([0]), gamma=8.0)
        array([[0.9, 0.1]])
    """
    weights: FloatArray = gamma * loss
    weights += np.add.reduce(mask, axis=1, keepdims=True, dtype=np.intp)
    np.divide(mask, weights, out=weights)
    at_best = np.arange(0, weights.size, weights.shape[1]) + best  # one number finds a place faster than two
    weights.put(at_best, 0.0)
    weights.put(at_best, 1.0 - np.add.reduce(weights, axis=1))
    tied = loss == 0.0
    tied &= mask
    if np.count_nonzero(tied) == len(best):  # nobody ties with the best
        return weights
    shared = (weights * tied).sum(axis=1, keepdims=True) / tied.sum(axis=1, keepdims=True)
    return np.where(tied, shared, weights)


def floor_slots(probabilities: FloatArray, grid: ActionGrid, mask: BoolArray, floor: float) -> FloatArray:
    """Spread a share of each contact's probability evenly over its eligible slots.

    A contact is a pair of offer and channel; its total probability stays as it was.
    """
    spread = probabilities.copy()
    n, n_slots = len(spread), len(grid.slots)
    contacts = spread[:, :-1].reshape(n, -1, n_slots)  # the same memory, by offer and channel
    open_slots = mask[:, :-1].reshape(contacts.shape)
    share = np.add.reduce(contacts, axis=2, keepdims=True)
    share /= np.maximum(np.add.reduce(open_slots, axis=2, keepdims=True, dtype=np.intp), 1)
    share *= floor
    contacts *= 1.0 - floor
    contacts += share * open_slots
    return spread


def bound_loss(
    probabilities: FloatArray, loss: FloatArray, best: NDArray[np.intp], max_loss: float
) -> FloatArray:
    """The guardrail: shrink exploration towards the best candidate until its expected loss is allowed.

    Args:
        probabilities: Shape (n, A).
        loss: Value of the best candidate minus value of each, shape (n, A).
        best: The best candidate by row, shape (n,).
        max_loss: Most expected loss of a row, in the unit of `loss`.
    """
    expected = np.einsum("na,na->n", probabilities, loss)
    if expected.max(initial=0.0) <= max_loss:
        return probabilities
    kept = np.divide(max_loss, expected, out=np.ones_like(expected), where=expected > max_loss)[:, None]
    bounded: FloatArray = probabilities * kept
    bounded[np.arange(len(best)), best] += 1.0 - kept[:, 0]
    return bounded

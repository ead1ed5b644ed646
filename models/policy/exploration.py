"""From net values to probabilities: mostly the best candidate, the others the less the worse they look."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.choice import BoolArray, FloatArray
from models.compiled import compiled, inlined
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
        probabilities = np.empty(value_minor.shape)
        _explore(
            value_minor,
            mask,
            best,
            len(grid.slots),
            self.gamma / self.value_scale_minor,
            self.slot_floor,
            self.max_loss_share * self.value_scale_minor,
            probabilities,
        )
        return probabilities


@inlined
def inverse_gap_weights(
    loss: FloatArray, mask: BoolArray, best: int, gamma: float, weights: FloatArray
) -> None:
    """Probability `1 / (K + gamma * loss)` for the K - 1 others, the rest for the best.

    Candidates whose loss is exactly 0 share alike what they have together: nothing is believed that tells them apart, as
    the slots of a channel of which nothing is known. The expected loss is below `(K - 1) / gamma`, whatever the values.

    Args:
        loss: Value of the best candidate minus value of each, shape (A,), >= 0 inside the mask.
        mask: Candidates, shape (A,).
        best: The best candidate.
        gamma: Per unit of loss, > 0.
        weights: Written to, shape (A,).

    References:
        Abe, Biermann and Long (2003); Foster and Rakhlin (2020), Beyond UCB, arXiv 2002.04926.

    Example:
        >>> weights = np.empty(2)
        >>> inverse_gap_weights(np.array([0.0, 1.0]), np.array([True, True]), 0, 8.0, weights)
        >>> weights
        array([0.9, 0.1])
    """
    candidates, tied = 0, 0
    for a in range(len(mask)):
        if mask[a]:
            candidates += 1
            tied += loss[a] == 0.0
    others = 0.0
    for a in range(len(mask)):
        weights[a] = 1.0 / (candidates + gamma * loss[a]) if mask[a] and a != best else 0.0
        others += weights[a]
    weights[best] = 1.0 - others
    if tied > 1:
        shared = 0.0
        for a in range(len(mask)):
            if mask[a] and loss[a] == 0.0:
                shared += weights[a]
        for a in range(len(mask)):
            if mask[a] and loss[a] == 0.0:
                weights[a] = shared / tied


@inlined
def floor_slots(probabilities: FloatArray, mask: BoolArray, n_slots: int, floor: float) -> None:
    """Spread a share of each contact's probability evenly over its eligible slots, in place.

    A contact is a pair of offer and channel; its total probability stays as it was.

    Args:
        probabilities: Shape (A,).
        mask: Candidates, shape (A,).
        n_slots: S.
        floor: The share.
    """
    for first in range(0, len(mask) - 1, n_slots):
        total, open_slots = 0.0, 0
        for a in range(first, first + n_slots):
            total += probabilities[a]
            open_slots += mask[a]
        each = floor * total / max(open_slots, 1)
        for a in range(first, first + n_slots):
            probabilities[a] = (1.0 - floor) * probabilities[a] + (each if mask[a] else 0.0)


@inlined
def bound_loss(probabilities: FloatArray, loss: FloatArray, best: int, max_loss: float) -> None:
    """The guardrail: shrink exploration towards the best candidate until its expected loss is allowed, in place.

    Args:
        probabilities: Shape (A,).
        loss: Value of the best candidate minus value of each, 0 of what is no candidate, shape (A,).
        best: The best candidate.
        max_loss: Most expected loss, in the unit of `loss`.
    """
    expected = 0.0
    for a in range(len(loss)):
        expected += probabilities[a] * loss[a]
    if expected > max_loss:
        kept = max_loss / expected
        for a in range(len(loss)):
            probabilities[a] *= kept
        probabilities[best] += 1.0 - kept


@compiled(
    "void(float64[:, ::1], boolean[:, ::1], int64[::1], int64, float64, float64, float64, float64[:, ::1])"
)
def _explore(
    value: FloatArray,
    mask: BoolArray,
    best: NDArray[np.intp],
    n_slots: int,
    gamma: float,
    floor: float,
    max_loss: float,
    probabilities: FloatArray,
) -> None:
    """Write every customer's distribution into `probabilities`."""
    n, n_actions = value.shape
    loss = np.empty(n_actions)
    for i in range(n):
        top = value[i, best[i]]
        for a in range(n_actions):
            loss[a] = top - value[i, a] if mask[i, a] else 0.0
        inverse_gap_weights(loss, mask[i], best[i], gamma, probabilities[i])
        floor_slots(probabilities[i], mask[i], n_slots, floor)
        bound_loss(probabilities[i], loss, best[i], max_loss)

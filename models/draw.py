"""Drawing one action a customer from a distribution over candidates, and whether it is such a distribution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.choice import BoolArray, FloatArray
from models.compiled import compiled, plain


def sample(probabilities: FloatArray, uniforms: FloatArray) -> NDArray[np.intp]:
    """Draw one action a row by inverting the cumulative distribution.

    The action is the first whose cumulative probability exceeds the row's uniform number; an action of
    probability 0 is never drawn.

    Args:
        probabilities: Shape (n, A); rows sum to 1.
        uniforms: Shape (n,), in [0, 1).

    Returns:
        Action indices, shape (n,).
    """
    action = np.empty(len(probabilities), dtype=np.intp)
    _draw(plain(probabilities), plain(uniforms), action)
    return action


def faults(probabilities: FloatArray, mask: BoolArray) -> tuple[int, float]:
    """How many actions that are no candidates have a probability, and how far the furthest row's sum is from 1.

    Args:
        probabilities: Shape (n, A).
        mask: Candidates, shape (n, A).
    """
    return _faults(plain(probabilities), plain(mask))


@compiled("void(float64[:, ::1], float64[::1], int64[::1])")
def _draw(probabilities: FloatArray, uniforms: FloatArray, action: NDArray[np.intp]) -> None:
    n, n_actions = probabilities.shape
    for i in range(n):
        whole = 0.0
        for a in range(n_actions):
            whole += probabilities[i, a]
        # Rounding may leave the sum a little off 1: scale the draw, not the law.
        drawn = uniforms[i] * whole
        passed = 0.0
        action[i] = 0
        for a in range(n_actions):
            passed += probabilities[i, a]
            action[i] += passed <= drawn


@compiled("Tuple((int64, float64))(float64[:, ::1], boolean[:, ::1])")
def _faults(probabilities: FloatArray, mask: BoolArray) -> tuple[int, float]:
    n, n_actions = probabilities.shape
    outside, furthest = 0, 0.0
    for i in range(n):
        total = 0.0
        for a in range(n_actions):
            total += probabilities[i, a]
            outside += probabilities[i, a] != 0.0 and not mask[i, a]
        off = abs(total - 1.0)
        # What is not a number stays the furthest.
        furthest = furthest if off <= furthest or np.isnan(furthest) else off
    return outside, furthest

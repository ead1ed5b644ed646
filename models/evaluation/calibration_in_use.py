"""Whether as much happened as was predicted, of decisions that were taken."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from models.domain.errors import require

TOLERATED = 1.25
"""Within this factor a prediction counts as kept: effects and costs of a channel differ by more."""
FEWEST_EXPECTED = 50.0
"""With fewer expected events chance alone moves the ratio beyond that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Events that were predicted, and those that happened.

    Attributes:
        n: Decisions.
        expected: Sum of their probabilities.
        observed: Events that happened.
        variance: Of observed less expected, from customers: the sum over customers of the square of what happened to them
            less what was expected of them. One customer's decisions are not independent; customers are.
    """

    n: int
    expected: float
    observed: int
    variance: float

    @property
    def ratio(self) -> float:
        """Observed over expected."""
        return self.observed / self.expected

    def interval(self, confidence: float = 0.99) -> tuple[float, float]:
        """Bounds of the ratio, normal.

        ratio -+ z sqrt(variance) / expected

        Raises:
            InvalidInputError: nothing was expected, or the confidence is not within (0, 1).
        """
        require(self.expected > 0, "expected", self.expected, "must be > 0")
        require(0 < confidence < 1, "confidence", confidence, "must be within (0, 1)")
        half = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(self.variance) / self.expected
        return max(0.0, self.ratio - half), self.ratio + half

    def broken(self, confidence: float = 0.99) -> bool | None:
        """Whether the whole interval lies beyond what is tolerated; None where too little was expected to tell."""
        if self.expected < FEWEST_EXPECTED:
            return None
        low, high = self.interval(confidence)
        return low > TOLERATED or high < 1 / TOLERATED

"""Randomised arms: holdout, control, treatment."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from models.domain.bounds import Within, check_bounds
from models.domain.errors import require


class Arm(StrEnum):
    """What a customer is assigned to in an experiment."""

    HOLDOUT = "holdout"
    CONTROL = "control"
    TREATMENT = "treatment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """How a campaign's customers are split.

    Attributes:
        experiment_id: Name, also the salt: experiments are independent of each other.
        holdout_share: Share that is never contacted, in [0, 1].
        control_share: Share that gets the campaign's control policy, in [0, 1].
    """

    experiment_id: str
    holdout_share: Annotated[float, Within(0, 1)] = 0.0
    control_share: Annotated[float, Within(0, 1)] = 0.0

    def __post_init__(self) -> None:
        check_bounds(self, "experiment.")
        require(
            self.holdout_share + self.control_share <= 1 + 1e-12,
            "experiment.control_share",
            self.control_share,
            "must be in [0, 1 - holdout_share]",
        )

    def share(self, arm: Arm) -> float:
        """Probability of the arm."""
        return {
            Arm.HOLDOUT: self.holdout_share,
            Arm.CONTROL: self.control_share,
            Arm.TREATMENT: max(0.0, 1.0 - self.holdout_share - self.control_share),
        }[arm]


def uniform(*parts: str) -> float:
    """A number in [0, 1) that depends on nothing but the words given.

    SHA-256 of the parts, joined by a unit separator; the first 53 bits over 2**53. Used wherever a
    draw must be repeatable: arms, and the choice of an action from its decision id.

    Example:
        >>> round(uniform("spring", "c-1"), 6) == round(uniform("spring", "c-1"), 6)
        True
    """
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def assign(customer_id: str, experiment: Experiment) -> Arm:
    """The customer's arm: sticky, and independent across experiments."""
    position = uniform("arm", experiment.experiment_id, customer_id)
    if position < experiment.holdout_share:
        return Arm.HOLDOUT
    if position < experiment.holdout_share + experiment.control_share:
        return Arm.CONTROL
    return Arm.TREATMENT

"""Rules a marketer would write: what the optimiser is compared with and what it degrades to.

Ties go to the lowest cost, then the earliest send time, then the lowest index (first offer, first
channel, first slot). A rule leaves a customer alone only where it finds no candidate; `Greedy` also
where no contact is worth more than nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from models.choice import ActionDistribution, ChoiceProblem
from models.domain.campaign import PolicyName
from models.domain.errors import require
from models.policy.preference import best_action, certainly, preferred_contact, values_of


@dataclass(frozen=True, slots=True)
class CheapestFirst:
    """The waterfall: the cheapest eligible channel, at its earliest send time, with the first offer."""

    name: ClassVar[str] = PolicyName.CHEAPEST_FIRST
    version: ClassVar[str] = "1"

    def distribution(self, problem: ChoiceProblem) -> ActionDistribution:
        """All probability on the cheapest contact; among equally cheap channels, on the first to send."""
        return certainly(problem, preferred_contact(problem, problem.mask[:, :-1]))


@dataclass(frozen=True, slots=True)
class Pinned:
    """One channel, at its earliest eligible send time, with the first offer that it carries."""

    channel: str
    name: ClassVar[str] = PolicyName.PINNED
    version: ClassVar[str] = "1"

    def distribution(self, problem: ChoiceProblem) -> ActionDistribution:
        """All probability on the pinned channel.

        Raises:
            InvalidInputError: the campaign does not use that channel.
        """
        names = problem.grid.channels
        require(self.channel in names, "pinned_channel", self.channel, f"must be one of {', '.join(names)}")
        offers, _, slots = problem.grid.shape
        pinned = np.tile(np.repeat([name == self.channel for name in names], slots), offers)
        return certainly(problem, preferred_contact(problem, problem.mask[:, :-1] & pinned))


@dataclass(frozen=True, slots=True)
class FixedTime:
    """One slot for everybody, on the cheapest channel that is eligible then."""

    slot: int
    name: ClassVar[str] = PolicyName.FIXED_TIME
    version: ClassVar[str] = "1"

    def distribution(self, problem: ChoiceProblem) -> ActionDistribution:
        """All probability on the slot.

        Raises:
            InvalidInputError: the campaign has no such slot.
        """
        offers, channels, slots = problem.grid.shape
        require(0 <= self.slot < slots, "fixed_slot", self.slot, f"must be in [0, {slots - 1}]")
        then = np.tile(np.arange(slots) == self.slot, offers * channels)
        return certainly(problem, preferred_contact(problem, problem.mask[:, :-1] & then))


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every candidate alike, no contact included."""

    name: ClassVar[str] = PolicyName.UNIFORM
    version: ClassVar[str] = "1"

    def distribution(self, problem: ChoiceProblem) -> ActionDistribution:
        """`1 / number of candidates` for each of them."""
        return ActionDistribution(probabilities=problem.mask / problem.mask.sum(axis=1, keepdims=True))


@dataclass(frozen=True, slots=True)
class Greedy:
    """The candidate with the highest expected net value; no contact unless one is worth more than 0."""

    name: ClassVar[str] = PolicyName.GREEDY
    version: ClassVar[str] = "1"

    def distribution(self, problem: ChoiceProblem) -> ActionDistribution:
        """All probability on the best candidate.

        Raises:
            NoPredictionsError: there is nothing to rank by.
        """
        return certainly(problem, best_action(problem, values_of(problem, self.name)))

"""Vowpal Wabbit's own contextual bandit (`--cb_explore_adf --squarecb`), as a challenger that only ever shadows.

It learns the value of a contact by itself, from replies within hours, where the bandit that serves corrects the open
probability of the response model (`models.policy.bandit`). After a large drift it has been seen to gain, and to lose more
where nothing changes: so it decides for nobody, and every training tells what it would have earned.

    value of a contact = (reply / p_open) * (ev + price) - price        in minor units, known within hours
    cost it learns     = - value / scale,   linear in tokens of the action and in the model's own value

A defect of Vowpal Wabbit 9.11.9: under `--squarecb` the last action keeps its 1/p weight when it is learned. So the label
says p = 1, and the true propensity stays in our own log.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from models.choice import ActionDistribution, ChoiceProblem, FloatArray
from models.domain.action import ActionGrid
from models.domain.errors import NoPredictionsError
from models.logged import IntArray, LoggedRows
from models.policy.exploration import Exploration
from models.policy.preference import best_action, values_of

BITS = 18
ARGUMENTS = f"--cb_explore_adf --squarecb --noconstant --sgd --power_t 0 -l 0.01 -b {BITS} --quiet"
# Replies to what was next to never opened would outweigh everything else.
_LEAST_P_OPEN = 0.02


@dataclass(frozen=True, kw_only=True, eq=False)
class NativeBandit:
    """Immutable, as it came out of one pass over a log.

    Attributes:
        grid: Axes of the weights.
        weights: Of the tokens in the order of `_tokens`, and last of the model's own value, shape (T + 1,).
        scale_minor: What a cost of 1 stands for, minor units, > 0.
        exploration: How it draws.
    """

    grid: ActionGrid
    weights: FloatArray
    scale_minor: float
    exploration: Exploration

    name: ClassVar[str] = "cb_explore_adf"

    @classmethod
    def learned(
        cls, problem: ChoiceProblem, rows: LoggedRows, replied: FloatArray, exploration: Exploration
    ) -> NativeBandit:
        """Let it see every contact whose reply is known once, oldest first.

        Args:
            problem: The choice that stood before whoever made the decisions, with predictions and net values.
            rows: The decisions, on the problem's grid.
            replied: 1, 0, or NaN where nobody can tell, shape (n,): see `models.policy.events.replies`.
            exploration: How it draws, which it does not learn.

        Raises:
            NoPredictionsError: there is no response model.
        """
        from vowpalwabbit import Workspace

        known = np.flatnonzero(rows.contacted & ~np.isnan(replied))
        known = known[np.argsort(rows.decided_at[known], kind="stable")]
        own = values_of(problem, cls.name)[known, rows.action[known]]
        if problem.predictions is None:
            raise NoPredictionsError(cls.name)
        channel = rows.channel[known]
        price = problem.cost_minor[channel] + problem.predictions.attention_minor[known, channel]
        p_open = np.maximum(problem.predictions.p_open[known, channel, rows.slot[known]], _LEAST_P_OPEN)
        value = replied[known] / p_open * (own + price) - price
        scale = float(value.std()) if len(value) and value.std() > 0 else 1.0
        tokens = _tokens(problem.grid, rows.offer[known], channel, rows.slot[known])
        size = _n_tokens(problem.grid)
        with Workspace(ARGUMENTS) as workspace:
            for some, mine, cost in zip(
                tokens.tolist(), (own / scale).tolist(), (-value / scale).tolist(), strict=True
            ):
                contact = f"0:{cost:.9g}:1 | {' '.join(map(str, some))} {size}:{mine:.9g}"
                seen = workspace.parse([contact, "| "])
                workspace.learn(seen)
                workspace.finish_example(seen)
            weights = np.array([workspace.get_weight(token) for token in range(size + 1)])
        return cls(
            grid=problem.grid,
            weights=weights,
            scale_minor=scale,
            exploration=exploration,
        )

    @cached_property
    def version(self) -> str:
        """Twelve hexadecimal digits of what was learned."""
        return hashlib.sha256(self.weights.tobytes()).hexdigest()[:12]

    def distribution(self, problem: ChoiceProblem) -> ActionDistribution:
        """Inverse-gap weighting over the values that it learned; on the grid that it learned on.

        Raises:
            NoPredictionsError: there is no response model, whose value is one of its inputs.
        """
        own = values_of(problem, self.name)
        offers, channels, slots = np.unravel_index(np.arange(self.grid.no_contact), self.grid.shape)
        fixed = self.weights[_tokens(self.grid, offers, channels, slots)].sum(axis=1)
        values = np.zeros_like(own)
        values[:, :-1] = -(fixed * self.scale_minor + self.weights[-1] * own[:, :-1])
        best = best_action(problem, values)
        return ActionDistribution(
            probabilities=self.exploration.distribution(problem.grid, problem.mask, values, best),
            net_value_minor=values,
        )


def _n_tokens(grid: ActionGrid) -> int:
    n_offers, n_channels, n_slots = grid.shape
    return n_channels + n_slots + n_offers * n_channels + n_channels * n_slots


def _tokens(grid: ActionGrid, offer: IntArray, channel: IntArray, slot: IntArray) -> IntArray:
    """Channel, slot, offer x channel, channel x slot of some contacts, as numbers of their own, shape (n, 4)."""
    n_offers, n_channels, n_slots = grid.shape
    starts = np.cumsum([0, n_channels, n_slots, n_offers * n_channels])
    parts = (channel, slot, offer * n_channels + channel, channel * n_slots + slot)
    return np.stack([start + part for start, part in zip(starts, parts, strict=True)], axis=1).astype(
        np.int64
    )

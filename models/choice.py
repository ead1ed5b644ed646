"""The decision as arrays: many customers, one campaign, one order of actions.

Every array over actions follows `ActionGrid`: offer-major, then channel, then slot, no contact last. Letters in
shapes: n customers, O offers, C channels, S slots, A = O * C * S + 1 actions, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.domain.action import ActionGrid
from models.domain.channel import Channel

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Rows = NDArray[np.intp] | slice


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What a response model says.

    Attributes:
        p_open: Probability that a message is opened, shape (n, C, S), in [0, 1].
        p_convert: Probability of a conversion after the contact, shape (n, O, C, S), in [0, 1].
        p_convert_no_contact: The same without contact, shape (n,), in [0, 1].
        attention_minor: Expected loss from unsubscribing, complaining and fatigue, minor units,
            shape (n, C), >= 0.
        worth: What a conversion that contact causes brings, as a share of the offer's margin, shape (O,) or ().
    """

    p_open: FloatArray
    p_convert: FloatArray
    p_convert_no_contact: FloatArray
    attention_minor: FloatArray
    worth: FloatArray | float = 1.0

    def take(self, rows: Rows) -> Predictions:
        """The same, for some customers."""
        return Predictions(
            p_open=self.p_open[rows],
            p_convert=self.p_convert[rows],
            p_convert_no_contact=self.p_convert_no_contact[rows],
            attention_minor=self.attention_minor[rows],
            worth=self.worth,
        )


class ResponseModel(Protocol):
    """Predicts what customers will do."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of `features`, in order."""
        ...

    def predict(self, features: FloatArray, grid: ActionGrid, channels: Mapping[str, Channel]) -> Predictions:
        """Predict for every customer and action.

        Args:
            features: Shape (n, F); NaN where missing.
            grid: Axes of the decision; offers, channels and slots that the model has never seen
                are predicted from what they share with the others.
            channels: Every channel of the grid, by name.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceProblem:
    """What a policy chooses from.

    Attributes:
        grid: Axes.
        mask: Candidates, shape (n, A); the last column (no contact) is True throughout.
        send_at: Send time of each slot, seconds since 1970, shape (n, S).
        cost_minor: Cost of a message, minor units, shape (C,).
        shadow_price_minor: What a unit of the channel's capacity is worth now, minor units, shape (C,) or (); (n, C) where
            each was decided at prices of its own, which `take` leaves as they are.
        features: Shape (n, F); NaN where missing.
        predictions: None where there is no response model.
        net_value_minor: Expected net value, shape (n, A); no contact is 0; None without predictions.
    """

    grid: ActionGrid
    mask: BoolArray
    send_at: FloatArray
    cost_minor: FloatArray
    features: FloatArray
    predictions: Predictions | None
    net_value_minor: FloatArray | None
    shadow_price_minor: FloatArray | float = 0.0

    def take(self, rows: Rows) -> ChoiceProblem:
        """The same, for some customers."""
        return ChoiceProblem(
            grid=self.grid,
            mask=self.mask[rows],
            send_at=self.send_at[rows],
            cost_minor=self.cost_minor,
            shadow_price_minor=self.shadow_price_minor,
            features=self.features[rows],
            predictions=None if self.predictions is None else self.predictions.take(rows),
            net_value_minor=None if self.net_value_minor is None else self.net_value_minor[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionDistribution:
    """What a policy answers.

    Attributes:
        probabilities: Shape (n, A); zero outside the mask; every row sums to 1.
        net_value_minor: The net values that the policy ranked by, shape (n, A), or None.
        p_open: The open probabilities behind them, shape (n, C, S), or None.
    """

    probabilities: FloatArray
    net_value_minor: FloatArray | None = None
    p_open: FloatArray | None = None


class Policy(Protocol):
    """Maps choice problems to distributions over candidates."""

    @property
    def name(self) -> str:
        """Name in the log, for example `cheapest_first`."""
        ...

    @property
    def version(self) -> str:
        """Version in the log."""
        ...

    def distribution(self, problem: ChoiceProblem) -> ActionDistribution:
        """Probabilities over the candidates of every customer."""
        ...

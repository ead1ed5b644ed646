"""Predictions of the rows that were asked for last, so that the same question costs no trees.

A row's predictions depend on nothing but the row, the grid and the model: the row's own bytes are the key, so that
nothing has to be told when features change.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np

from models.choice import FloatArray, Predictions
from models.domain.action import ActionGrid
from models.domain.channel import Channel
from models.explanation.contributions import ResponseContributions
from models.response.model import FittedResponse

# About 4 kB each with 8 channels and 12 slots.
MOST_ROWS = 20_000
# Of more rows together, the trees cost less than the look-up and the stacking.
MOST_TOGETHER = 16

_PARTS = tuple(each.name for each in fields(Predictions))


class RememberedResponse:
    """`models.choice.ResponseModel` that answers for another one.

    Args:
        response: The model; nothing of it may change.
        most: Rows kept; the one that was asked for first goes first.
    """

    def __init__(self, response: FittedResponse, most: int = MOST_ROWS) -> None:
        self._response = response
        self._most = most
        self._known: OrderedDict[tuple[int, bytes], Predictions] = OrderedDict()
        # A grid's own hash walks through all of its names.
        self._number: dict[ActionGrid, int] = {}

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of `features`, in order."""
        return self._response.feature_names

    def predict(self, features: FloatArray, grid: ActionGrid, channels: Mapping[str, Channel]) -> Predictions:
        """What the model says of these rows; of a few rows the arrays cannot be written to."""
        if not 0 < len(features) <= MOST_TOGETHER:
            return self._response.predict(features, grid, channels)
        number = self._number.setdefault(grid, len(self._number))
        keys = [(number, row.tobytes()) for row in features]
        found = [self._known.get(key) for key in keys]
        new = [row for row, one in enumerate(found) if one is None]
        if new:
            made = self._response.predict(features[new], grid, channels)
            for position, row in enumerate(new):
                found[row] = self._known[keys[row]] = _row(made, position)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return _stacked([one for one in found if one is not None])

    def contributions(
        self, features: FloatArray, grid: ActionGrid, contact: tuple[int, int, int]
    ) -> ResponseContributions:
        """What each feature adds to the prediction of one contact."""
        return self._response.contributions(features, grid, contact)


def _row(predictions: Predictions, row: int) -> Predictions:
    """One row by itself, which keeps nothing of the others alive."""
    parts = {name: getattr(predictions, name)[row : row + 1].copy() for name in _PARTS}
    for part in parts.values():
        part.flags.writeable = False
    return Predictions(**parts)


def _stacked(rows: Sequence[Predictions]) -> Predictions:
    if len(rows) == 1:
        return rows[0]
    return Predictions(**{name: np.concatenate([getattr(row, name) for row in rows]) for name in _PARTS})

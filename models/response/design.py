"""The design of the effects: groups of coefficients that pairs of offer and channel share, times inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.choice import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One group of coefficients of the design.

    Attributes:
        name: For people, and for `_WIDTHS`.
        path: 0 through the open, 1 without it.
        levels: Which level each pair (offer, channel) has, with one more row and column for an unseen offer or
            channel; -1 where the part does not know it, shape (O + 1, C + 1).
        on_features: Whether it multiplies the features, or the intercept.
    """

    name: str
    path: int
    levels: np.ndarray
    on_features: bool

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return int(self.levels.max()) + 1


def design_parts(n_offers: int, n_channels: int, paths: Sequence[int]) -> tuple[Part, ...]:
    """The groups of coefficients, in the order of the design's columns.

    A factor of one level has no part of its own: nothing could tell it from `all`.
    """
    everything = np.zeros((n_offers + 1, n_channels + 1), dtype=np.intp)
    channel = np.broadcast_to(np.r_[np.arange(n_channels), -1], everything.shape)
    offer = np.broadcast_to(np.r_[np.arange(n_offers), -1][:, None], everything.shape)
    pair = np.where((channel >= 0) & (offer >= 0), offer * n_channels + channel, -1)
    parts = []
    for path in paths:
        parts += [
            Part(name="all", path=path, levels=everything, on_features=False),
            Part(name="features", path=path, levels=everything, on_features=True),
        ]
        for name, levels, several in (("channel", channel, n_channels > 1), ("offer", offer, n_offers > 1)):
            if several:
                parts += [
                    Part(name=name, path=path, levels=levels, on_features=False),
                    Part(name=f"{name} features", path=path, levels=levels, on_features=True),
                ]
        if n_channels > 1 and n_offers > 1:
            parts.append(Part(name="pair", path=path, levels=pair, on_features=False))
    return tuple(parts)


def n_columns(part: Part, width: int) -> int:
    """Number of coefficients of a group.

    Args:
        part: The group.
        width: Number of inputs, the intercept included.
    """
    return part.n_levels * (width - 1 if part.on_features else 1)


class Columns:
    """Columns of the design for rows of a log.

    Args:
        parts: Groups of coefficients.
        n_offers: Of the log.
        n_channels: Of the log.
    """

    def __init__(self, parts: Sequence[Part], n_offers: int, n_channels: int) -> None:
        self._parts = parts
        self._spread = [np.eye(part.n_levels)[part.levels[:n_offers, :n_channels].ravel()] for part in parts]

    def of(self, contact: tuple[FloatArray, FloatArray], inputs: FloatArray) -> FloatArray:
        """The columns, shape (n, P).

        Args:
            contact: How much of a contact of every pair there is, times the open and plain, each of shape (n, O * C).
            inputs: Intercept and standardised features, shape (n, 1 + Z).
        """
        columns = []
        for part, levels in zip(self._parts, self._spread, strict=True):
            level = contact[part.path] @ levels
            columns.append(
                (level[:, :, None] * inputs[:, None, 1:]).reshape(len(level), -1)
                if part.on_features
                else level
            )
        return np.hstack(columns)

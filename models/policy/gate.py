"""Whom to believe about a channel: the response model, or an expert that learns online.

Each channel holds weights over the response model and the K experts. Whoever gave the higher probability
to what then happened gains weight; a little of the prior is mixed back, so that nobody is lost for good.
An expert that is wrong is demoted by this alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.choice import FloatArray
from models.domain.errors import require
from models.logged import IntArray

# The response model, then the experts from slow to fast.
PRIOR = (0.34, 0.22, 0.22, 0.22)
# Share of the prior mixed back after each event: about 500 events are remembered.
RETURN_RATE = 1 / 500


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gate:
    """Weights by channel.

    Attributes:
        channels: Channel names.
        weights: Shape (C, 1 + K), the response model first; rows sum to 1.
    """

    channels: tuple[str, ...]
    weights: FloatArray

    @classmethod
    def fresh(cls, channels: tuple[str, ...]) -> Gate:
        """The prior on every channel."""
        return cls(channels=channels, weights=np.tile(PRIOR, (len(channels), 1)))

    def covering(self, channels: tuple[str, ...]) -> Gate:
        """The same with further channels, which start at the prior."""
        more = tuple(name for name in channels if name not in self.channels)
        if not more:
            return self
        return Gate(
            channels=self.channels + more, weights=np.concatenate([self.weights, Gate.fresh(more).weights])
        )

    def for_channels(self, channels: tuple[str, ...]) -> FloatArray:
        """Weights of these channels, shape (C, 1 + K)."""
        wide = self.covering(channels)
        return wide.weights[[wide.channels.index(name) for name in channels]]

    def update(
        self, channels: tuple[str, ...], channel: IntArray, said: FloatArray, opened: FloatArray
    ) -> Gate:
        """Judge everybody by what happened.

        After each event `w_k <- w_k * P_k(outcome)`, normalised, then `w <- (1 - r) w + r prior`.

        Args:
            channels: Channel names that `channel` points into.
            channel: Channel of each event, oldest first, shape (n,).
            said: Open probability before the outcome was known, shape (1 + K, n).
            opened: 1 or 0, shape (n,).
        """
        width = len(PRIOR)
        require(said.shape == (width, len(channel)), "said", said.shape, f"must have shape ({width}, n)")
        wide = self.covering(channels)
        weights = wide.weights.copy()
        prior = np.asarray(PRIOR)
        held = np.clip(said, 1e-6, 1.0 - 1e-6)
        likelihood = np.where(opened > 0, held, 1.0 - held).T
        row = np.array([wide.channels.index(name) for name in channels])[channel]
        for i, c in enumerate(row.tolist()):
            after = weights[c] * likelihood[i]
            weights[c] = (1.0 - RETURN_RATE) * after / after.sum() + RETURN_RATE * prior
        return Gate(channels=wide.channels, weights=weights)

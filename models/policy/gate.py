"""Whom to believe about a channel: the response model, or an expert that learns online.

The belief in the response model and the K experts is a product: what all channels together have shown, times
what the channel itself has. Whoever gave the higher probability to what then happened gains; a little of the
first belief is mixed back, so that nobody is lost for good. An expert that is wrong is demoted by this alone, and
at once on every channel: also on one that is hardly ever used, where the experts still speak by the slots that
channels share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.choice import FloatArray
from models.domain.errors import require
from models.logged import IntArray

# The response model, then the experts from slow to fast.
PRIOR = (0.91, 0.03, 0.03, 0.03)
# Share of what was believed at first that returns after each event: about 2,000 events are remembered.
RETURN_RATE = 1 / 2_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gate:
    """Beliefs, the response model first.

    Attributes:
        channels: Channel names.
        overall: By all channels together, shape (1 + K,); sums to 1.
        own: By each channel's own events, shape (C, 1 + K); rows sum to 1.
    """

    channels: tuple[str, ...]
    overall: FloatArray
    own: FloatArray

    @classmethod
    def fresh(cls, channels: tuple[str, ...]) -> Gate:
        """The prior on every channel."""
        return cls(channels=channels, overall=np.asarray(PRIOR), own=_nothing_known(len(channels)))

    def covering(self, channels: tuple[str, ...]) -> Gate:
        """The same with further channels, of which nothing is known."""
        more = tuple(name for name in channels if name not in self.channels)
        if not more:
            return self
        own = np.concatenate([self.own, _nothing_known(len(more))])
        return Gate(channels=self.channels + more, overall=self.overall, own=own)

    def for_channels(self, channels: tuple[str, ...]) -> FloatArray:
        """Weights of these channels, `overall * own`, shape (C, 1 + K); rows sum to 1."""
        wide = self.covering(channels)
        weights = wide.overall * wide.own[[wide.channels.index(name) for name in channels]]
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def update(
        self, channels: tuple[str, ...], channel: IntArray, said: FloatArray, opened: FloatArray
    ) -> Gate:
        """Judge everybody by what happened.

        After each event `w_k <- w_k * P_k(outcome)`, normalised, then `w <- (1 - r) w + r first`: the overall
        belief, which was first the prior, and that by the event's channel, which was first the same for all.

        Args:
            channels: Channel names that `channel` points into.
            channel: Channel of each event, oldest first, shape (n,).
            said: Open probability before the outcome was known, shape (1 + K, n).
            opened: 1 or 0, shape (n,).
        """
        width = len(PRIOR)
        require(said.shape == (width, len(channel)), "said", said.shape, f"must have shape ({width}, n)")
        wide = self.covering(channels)
        overall, own = wide.overall, wide.own.copy()
        prior, level = np.asarray(PRIOR), _nothing_known(1)[0]
        held = np.clip(said, 1e-6, 1.0 - 1e-6)
        likelihood = np.where(opened > 0, held, 1.0 - held).T
        row = np.array([wide.channels.index(name) for name in channels])[channel]
        for i, c in enumerate(row.tolist()):
            overall = _judged(overall, likelihood[i], prior)
            own[c] = _judged(own[c], likelihood[i], level)
        return Gate(channels=wide.channels, overall=overall, own=own)


def _nothing_known(n: int) -> FloatArray:
    return np.full((n, len(PRIOR)), 1.0 / len(PRIOR))


def _judged(belief: FloatArray, likelihood: FloatArray, first: FloatArray) -> FloatArray:
    after = belief * likelihood
    return np.asarray((1.0 - RETURN_RATE) * after / after.sum() + RETURN_RATE * first)

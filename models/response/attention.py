"""What a contact puts at risk: who unsubscribes or complains is lost to the channel, and attention wears off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.choice import FloatArray
from models.logged import LoggedRows
from models.response.boosting import shrunk_rate

# One in a thousand messages, worth 500 messages of evidence, until the operator's own log says more.
PRIOR_RATE = 0.001
_PRIOR_MESSAGES = 500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionModel:
    """Expected loss of a contact through unsubscriptions and complaints, and through fatigue.

    attention = p_unsubscribe(channel) * what it is worth that a customer can be reached on the channel + fatigue

    Attributes:
        channels: Channels seen.
        rates: `p_unsubscribe` of each, shrunk to the mean of all, shape (C,).
        mean_rate: That mean; what an unseen channel gets.
        reach_minor: What the reach of each is worth, minor units, shape (C,), >= 0; an unseen channel gets the mean.
        fatigue_minor: What a contact takes from the contacts after it, minor units, >= 0.
    """

    channels: tuple[str, ...]
    rates: tuple[float, ...]
    mean_rate: float
    reach_minor: tuple[float, ...]
    fatigue_minor: float = 0.0

    def leaving(self, channels: Sequence[str]) -> FloatArray:
        """Probability that a contact makes the customer leave, by channel, shape (C,)."""
        known = dict(zip(self.channels, self.rates, strict=True))
        return np.array([known.get(name, self.mean_rate) for name in channels])

    def predict(self, channels: Sequence[str]) -> FloatArray:
        """Attention price by channel, minor units, shape (C,)."""
        known = dict(zip(self.channels, self.reach_minor, strict=True))
        unseen = float(np.mean(self.reach_minor))
        reach: FloatArray = np.array([known.get(name, unseen) for name in channels])
        return self.leaving(channels) * reach + self.fatigue_minor


def fit_attention(rows: LoggedRows, value_minor: float) -> AttentionModel:
    """Shrunk rates of unsubscriptions and complaints by channel.

    A channel's rate is shrunk to the mean of all channels, and the mean to one in a thousand: a channel
    with ten messages and one complaint is not taken to lose every tenth customer.

    Args:
        rows: Logged decisions.
        value_minor: What it is worth that a customer can be reached, on whatever channel, minor units, >= 0.
    """
    contacted = rows.contacted
    channel = rows.channel[contacted]
    lost = rows.unsubscribed[contacted]
    mean = float(shrunk_rate(lost.sum(), len(lost), PRIOR_RATE, _PRIOR_MESSAGES))
    n = np.bincount(channel, minlength=len(rows.channels))
    events = np.bincount(channel, weights=lost, minlength=len(rows.channels))
    return AttentionModel(
        channels=rows.channels,
        rates=tuple(shrunk_rate(events, n, mean, _PRIOR_MESSAGES).tolist()),
        mean_rate=mean,
        reach_minor=(value_minor,) * len(rows.channels),
    )

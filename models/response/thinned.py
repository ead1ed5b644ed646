"""Clicks as opens of which only some are told of: a channel that reports clicks and no opens.

    P(click) = sigmoid(logit of the open) / k,   k opens behind every click

A click is an open that went on. What moves an open by some logits moves the clicks by less, and by much less where most
messages are opened anyway: by `sensitivity` of it. With k = 1 the reply is the open itself, and everything is plain
logistic regression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.choice import FloatArray

# No more than this share of the messages of a channel is taken to be opened: a channel with more clicks than that has fewer
# opens behind each.
_MOST_OPENED = 0.7


def opens_behind(opens: float, clicks: float, own_clicks: float, own_messages: int) -> float:
    """How many opens stand behind a click of a channel that tells of no opens, >= 1.

    Args:
        opens: Of messages that tell of both.
        clicks: Of the same messages; without any, a click is taken to be the open.
        own_clicks: Of the channel.
        own_messages: Of the channel.
    """
    if clicks <= 0:
        return 1.0
    most = _MOST_OPENED * own_messages / own_clicks if own_clicks > 0 else np.inf
    return float(max(1.0, min(opens / clicks, most)))


def reply_logit(open_logit: FloatArray, opens_per_reply: FloatArray | float) -> FloatArray:
    """Logit of `sigmoid(open_logit) / k`: same shape.

    Args:
        open_logit: Of the open.
        opens_per_reply: k >= 1, broadcast.
    """
    return _thin(open_logit, np.log(opens_per_reply), _log_of_more(opens_per_reply))


def sensitivity(p_reply: FloatArray, opens_per_reply: FloatArray | float) -> FloatArray:
    """By how much of a change of the open's logit the reply's logit changes, in (0, 1]: `(1 - k p) / (1 - p)`."""
    return np.asarray((1.0 - opens_per_reply * p_reply) / (1.0 - p_reply))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ThinnedChannels:
    """The channels of a grid of which a reply is not the open, laid out once for all decisions.

    Attributes:
        at: Their places, shape (K,).
        log_per_reply: Logarithm of their k, shape (K, 1).
        log_more: Logarithm of their k - 1, shape (K, 1).
    """

    at: NDArray[np.intp]
    log_per_reply: FloatArray
    log_more: FloatArray

    @classmethod
    def of(cls, opens_per_reply: FloatArray) -> ThinnedChannels:
        """Of the channels of a grid, shape (C,)."""
        at = np.flatnonzero(opens_per_reply > 1.0)
        k = opens_per_reply[at, None]
        return cls(at=at, log_per_reply=np.log(k), log_more=_log_of_more(k))

    def thin(self, logits: FloatArray) -> None:
        """From logits of opens to those of replies, in place, shape (n, C, S)."""
        if len(self.at):
            logits[:, self.at] = _thin(logits[:, self.at], self.log_per_reply, self.log_more)


def _thin(open_logit: FloatArray, log_per_reply: FloatArray, log_more: FloatArray) -> FloatArray:
    """`-log(k * (1 + exp(-x)) - 1)`, without a difference of nearly equal numbers where k is 1."""
    return np.asarray(-np.logaddexp(log_per_reply - open_logit, log_more))


def _log_of_more(opens_per_reply: FloatArray | float) -> FloatArray:
    """`log(k - 1)`, minus infinity of 1."""
    more = np.asarray(opens_per_reply, dtype=np.float64) - 1.0
    return np.log(more, out=np.full(more.shape, -np.inf), where=more > 0)

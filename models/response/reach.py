"""What a contact costs the contacts after it, from the response model itself.

    reach(c) = decisions per customer within the horizon
               * mean over those whom c suits best of (best net value - best net value without c)
    fatigue  = share lost to a message of the week before * decisions per customer and week
               * mean over those who are contacted of the best net value

The first is what is lost with a customer who leaves the channel: who leaves was contacted there, so it suited them best.
The second is lost with everybody. Net values contain the price of attention, which contains both, so they are
found in passes: the first takes attention to be free, each later one uses the price of the one before.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from models.choice import BoolArray, FloatArray
from models.domain.action import ActionGrid
from models.domain.channel import Channel
from models.logged import LoggedRows
from models.response.model import FittedResponse
from models.value import net_value

# Who leaves is taken to be gone for a year: later customers, offers and prices are others.
HORIZON_DAYS = 365.0
# A log that spans less than a week does not say how often a customer is decided for: once a week is assumed at most.
_SHORTEST_SPAN_DAYS = 7.0
# The rhythm is that of now: a log may begin with pilots and pauses.
_RHYTHM_DAYS = 28.0
_SECONDS_PER_DAY = 86_400.0
_WEEK_DAYS = 7.0
# Of a list that was mailed seven times a week instead of twice 19 instead of 28 % opened (peasy.nu, Why email frequency
# impacts open rates and revenue differently, read 2026-11): one more message a week costs each of the others this share.
# An example of one company, taken as a first guess; a log tells it from keener people being written to more often only by
# an experiment on the rhythm.
LOST_TO_FATIGUE = 1 - (0.19 / 0.28) ** (1 / 5)
_PASSES = 3
# Enough for a mean; the newest rows.
PRICED_ROWS = 4_000


def priced_by_reach(
    response: FittedResponse,
    rows: LoggedRows,
    mask: BoolArray,
    margin_minor: FloatArray,
    channels: Mapping[str, Channel],
    decisions: float,
) -> FittedResponse:
    """The same model with attention priced by what each channel's reach is worth, and by fatigue.

    Args:
        response: Fitted; its own price of attention is not used.
        rows: Logged decisions, oldest first; the newest say what customers are like.
        mask: Their candidates, shape (n, A).
        margin_minor: Of a conversion by offer, shape (O,).
        channels: By name: costs.
        decisions: Of `decisions_per_customer`.
    """
    newest = slice(-PRICED_ROWS, None)
    features, candidates = rows.features[newest], mask[newest]
    cost = np.array([channels[name].cost_minor or 0.0 for name in rows.channels])
    messages_lost = LOST_TO_FATIGUE * decisions * _WEEK_DAYS / HORIZON_DAYS
    priced = response.with_attention(np.zeros(len(rows.channels)), 0.0)
    for _ in range(_PASSES):
        values = net_value(priced.predict(features, rows.grid, channels), margin_minor, cost)
        reach = decisions * advantage(values, candidates, rows.grid)
        priced = priced.with_attention(reach, messages_lost * worth_of_a_contact(values, candidates))
    return priced


def worth_of_a_contact(net_value_minor: FloatArray, mask: BoolArray) -> float:
    """Mean of the best net value over those for whom it is above 0, minor units; 0 where that is nobody.

    Args:
        net_value_minor: Of every action, no contact last, shape (n, A).
        mask: Candidates, shape (n, A).
    """
    best = np.where(mask, net_value_minor, -np.inf).max(axis=1)
    return float(best[best > 0].mean()) if (best > 0).any() else 0.0


def decisions_per_customer(rows: LoggedRows) -> float:
    """Decisions that the rhythm of the log's newest four weeks brings a customer within the horizon."""
    span = float(np.ptp(rows.decided_at)) / _SECONDS_PER_DAY
    days = min(max(span, _SHORTEST_SPAN_DAYS), _RHYTHM_DAYS)
    newest = rows.customer[rows.decided_at > rows.decided_at.max() - _RHYTHM_DAYS * _SECONDS_PER_DAY]
    return HORIZON_DAYS * len(newest) / len(np.unique(newest)) / days


def advantage(net_value_minor: FloatArray, mask: BoolArray, grid: ActionGrid) -> FloatArray:
    """Mean of what a decision loses without each channel, over those whom it suits best, shape (C,), >= 0.

    A channel that suits nobody best is worth 0: no one is contacted there.

    Args:
        net_value_minor: Of every action, shape (n, A).
        mask: Candidates, shape (n, A).
        grid: Axes.
    """
    n = len(net_value_minor)
    reached = mask[:, :-1].reshape(n, *grid.shape)
    contacts = np.where(reached, net_value_minor[:, :-1].reshape(n, *grid.shape), -np.inf)
    by_channel = contacts.max(axis=(1, 3), initial=-np.inf)
    # Beside the channels stands no contact, which is worth 0 and cannot be lost.
    ranked = np.sort(np.column_stack([by_channel, np.zeros((n, 2))]), axis=1)
    best, second = ranked[:, -1], ranked[:, -2]
    suits = (by_channel == best[:, None]) & (best > 0)[:, None]
    lost = np.where(suits, (best - second)[:, None], 0.0).sum(axis=0)
    return np.asarray(lost / np.maximum(suits.sum(axis=0), 1))

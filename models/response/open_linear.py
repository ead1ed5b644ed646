"""The linear part of the logit of an open: what every feature adds on a channel and at a slot.

    logit = table[c, s] + x' by_channel[c] + x' by_slot[s] + habit * h(x, s)
    by_channel[c] = shared + own[c],   table[c, s] = mean + channel[c] + slot[s]

`h` is how much the customer is about at that hour (`models.response.day_kinds`): one number for all slots, so that it
is known after few messages. Each group of coefficients (shared, own by channel, by slot, constants, habit) is shrunk
as far as the evidence asks, so a channel with few messages borrows from the others. The evidence is that of a
Gaussian approximation at the present fit (penalised quasi-likelihood).

References:
    Breslow and Clayton (1993), Approximate inference in generalized linear mixed models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.choice import Float32Array, FloatArray
from models.logged import IntArray
from models.response.boosting import sigmoid
from models.response.evidence import Moments, fit_evidence
from models.response.standardiser import Standardiser, fit_standardiser, varying_columns
from models.response.thinned import sensitivity

# Widths in logits before any message: shared (all features together), channel, channel x features, slot, slot x features,
# habit (by log density: 1 says that people open more as they are about more).
_WIDTHS = (0.5, 1.0, 0.4, 0.3, 0.4, 1.0)
_SHARED, _CHANNEL, _CHANNEL_FEATURES, _SLOT, _SLOT_FEATURES, _HABIT = range(6)
_SEARCHES = 2
_STEPS = 3
_LEAST_WEIGHT = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Replies:
    """Messages whose opening (or click) is known.

    Attributes:
        features: Shape (n, F).
        channel: Index into the learned channels, shape (n,).
        slot: Index of the slot, shape (n,).
        replied: 1 or 0, shape (n,).
        per_reply: Opens behind a reply, >= 1, shape (n,): see `models.response.thinned`.
        habit: How much the customer is about at the slot: see `models.response.day_kinds`, shape (n,).
    """

    features: Float32Array
    channel: IntArray
    slot: IntArray
    replied: FloatArray
    per_reply: FloatArray
    habit: FloatArray

    @property
    def thinned(self) -> FloatArray | None:
        """`per_reply`; None where every reply is an open."""
        return self.per_reply if (self.per_reply > 1.0).any() else None

    def take(self, rows: np.ndarray) -> Replies:
        """The same, of some rows."""
        return Replies(
            features=self.features[rows],
            channel=self.channel[rows],
            slot=self.slot[rows],
            replied=self.replied[rows],
            per_reply=self.per_reply[rows],
            habit=self.habit[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLinear:
    """Weights of the standardised features.

    Attributes:
        standardiser: From features to inputs.
        by_channel: Shape (C, Z).
        by_slot: Shape (S, Z).
        habit: Logits a unit of habit.
        variances: Prior variance of a coefficient of every group, by the evidence; empty before any fit.
    """

    standardiser: Standardiser
    by_channel: FloatArray
    by_slot: FloatArray
    habit: float
    variances: FloatArray

    @classmethod
    def nothing(cls, n_channels: int, n_slots: int) -> OpenLinear:
        """No feature adds anything."""
        empty = np.zeros(0)
        standardiser = Standardiser(
            columns=np.zeros(0, dtype=np.intp), low=empty, high=empty, center=empty, scale=empty
        )
        return cls(
            standardiser=standardiser,
            by_channel=np.zeros((n_channels, 0)),
            by_slot=np.zeros((n_slots, 0)),
            habit=0.0,
            variances=empty,
        )

    def inputs(self, features: Float32Array) -> FloatArray:
        """Standardised features, shape (n, Z)."""
        return self.standardiser.apply(features)[:, 1:]

    def row_logits(self, messages: Replies) -> FloatArray:
        """What the features add to every message as it was sent, shape (n,)."""
        weights = self.by_channel[messages.channel] + self.by_slot[messages.slot]
        by_features = np.einsum("nz,nz->n", self.inputs(messages.features), weights)
        return np.asarray(by_features + self.habit * messages.habit)


def fit_linear(
    messages: Replies, n_channels: int, n_slots: int, mean: float, variances: FloatArray
) -> tuple[OpenLinear, FloatArray]:
    """Fit by Newton steps; the variances are searched for unless they are given.

    Args:
        messages: With known replies.
        n_channels: Channels learned.
        n_slots: Slots learned.
        mean: Logit of the mean open.
        variances: Of an earlier fit, shape (6,), or empty.

    Returns:
        The weights, and the constants beside them: logits, shape (C, S).
    """
    features = messages.features.astype(np.float64)
    standardiser = fit_standardiser(features, varying_columns(features))
    z = standardiser.apply(features)[:, 1:]
    n_inputs = z.shape[1]
    sizes = (n_inputs, n_channels, n_channels * n_inputs, n_slots, n_slots * n_inputs, 1)
    group = np.repeat(np.arange(len(sizes)), sizes)
    per_feature = np.array([n_inputs, 1, n_inputs, 1, n_inputs, 1])
    prior = np.square(_WIDTHS) / np.maximum(per_feature, 1)
    theta: FloatArray = np.zeros(len(group))
    for _ in range(0 if len(variances) else _SEARCHES):
        moments = _moments(messages, z, n_channels, n_slots, mean, theta)
        posterior = fit_evidence(moments, group, prior)
        theta, found = posterior.mean, posterior.variances
    kept = variances if len(variances) else found
    for _ in range(_STEPS):
        moments = _moments(messages, z, n_channels, n_slots, mean, theta)
        theta = np.asarray(np.linalg.solve(moments.gram + np.diag(1.0 / kept[group]), moments.moment))
    parts = np.split(theta, np.cumsum(sizes)[:-1])
    model = OpenLinear(
        standardiser=standardiser,
        by_channel=parts[_SHARED] + parts[_CHANNEL_FEATURES].reshape(n_channels, n_inputs),
        by_slot=parts[_SLOT_FEATURES].reshape(n_slots, n_inputs),
        habit=float(parts[_HABIT][0]),
        variances=kept,
    )
    return model, mean + parts[_CHANNEL][:, None] + parts[_SLOT]


def _moments(
    messages: Replies, z: FloatArray, n_channels: int, n_slots: int, mean: float, theta: FloatArray
) -> Moments:
    """X'WX, X'Wr and r'Wr of the working residuals r at the present fit.

    All messages of one channel and slot have the same coefficients, so theirs are those of a small regression on
    (1, z, habit), put in the places of these coefficients.
    """
    n, n_inputs = z.shape
    gram, moment, total = np.zeros((len(theta), len(theta))), np.zeros(len(theta)), 0.0
    inputs = np.arange(1, 1 + n_inputs)
    # Which column of the small regression every coefficient of the cell belongs to.
    column = np.concatenate([inputs, [0], inputs, [0], inputs, [1 + n_inputs]])
    of_channel = n_inputs
    of_slot = of_channel + n_channels * (1 + n_inputs)
    cell = messages.channel * n_slots + messages.slot
    for c, s in np.ndindex(n_channels, n_slots):
        rows = np.flatnonzero(cell == c * n_slots + s)
        own = np.column_stack([np.ones(len(rows)), z[rows], messages.habit[rows]])
        place = np.concatenate(
            [
                np.arange(n_inputs),
                [of_channel + c],
                of_channel + n_channels + c * n_inputs + np.arange(n_inputs),
                [of_slot + s],
                of_slot + n_slots + s * n_inputs + np.arange(n_inputs),
                [len(theta) - 1],
            ]
        )
        linear: FloatArray = own @ np.bincount(column, weights=theta[place], minlength=n_inputs + 2)
        per_reply = messages.per_reply[rows]
        p = sigmoid(mean + linear) / per_reply
        felt = sensitivity(p, per_reply)
        weight = np.maximum(felt**2 * p * (1 - p), _LEAST_WEIGHT)
        working = linear + felt * (messages.replied[rows] - p) / weight
        weighted = own * weight[:, None]
        gram[np.ix_(place, place)] += (own.T @ weighted)[np.ix_(column, column)]
        moment[place] += (weighted.T @ working)[column]
        total += float(weight @ working**2)
    return Moments(gram=gram, moment=moment, total=total, n=n)

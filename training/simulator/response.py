"""The truth: how customers respond. A learner sees none of this, only what follows from it.

A contact acts in two ways, both added to the probability of a purchase without contact: through being
opened (`effect_opened`) and by mere delivery (`effect_direct`). On sleeping dogs it acts by taking away.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.simulator.population import Population, slot_hours
from training.simulator.presets import ChannelTruth, Preset

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

# One unit of pressure (a contact of intrusion 1 on the same channel) costs this much open log-odds...
_FATIGUE_LOGIT = 0.35
# ... and raises the risk of unsubscribing by this share. Pressure of other channels counts less.
_FATIGUE_RISK = 0.8
_OTHER_CHANNELS = 0.4
_DOG_RISK = 3.0
# Share of those who leave that complain; a complaint costs more, as it harms delivery to others.
COMPLAINT_SHARE = 0.1
_COMPLAINT_LOSS = 3.0
# Share of a customer's best value that pressure 1 costs until it has faded: a half-life of five days leaves
# about a third at the next weekly decision, times .35 log-odds, times the loss in both paths.
_FATIGUE_PRICE = 0.05
# By lifecycle (new, active, lapsing, dormant): log-odds of buying, factor on effects, log-odds of opening.
# The lapsing are most persuadable; the active buy anyway; the dormant do not look.
_LIFECYCLE_BASE = np.array([0.1, 0.4, -0.3, -1.0], dtype=np.float32)
_LIFECYCLE_EFFECT = np.array([1.1, 0.85, 1.3, 0.7], dtype=np.float32)
_LIFECYCLE_OPEN = np.array([0.2, 0.15, -0.1, -0.5], dtype=np.float32)


@dataclass(slots=True)
class Truth:
    """The parts of the truth that can drift, as arrays in the order of the preset's channels.

    Attributes:
        open_logit: Shape (C,).
        effect: Factor on both effects of a channel, shape (C,).
        hours_shift: Hours by which everybody's best hour has moved.
        season: Factor on purchases without contact.
    """

    open_logit: Floats
    effect: Floats
    hours_shift: float = 0.0
    season: float = 1.0


class Response:
    """Probabilities and values of every (offer, channel, slot) for rows of a population.

    All results are in the order of the preset's channels; letters of shapes as in `models.choice`.
    """

    def __init__(self, preset: Preset, population: Population) -> None:
        self._preset = preset
        self._population = population
        truths = tuple(preset.channels.values())
        self.truth = Truth(
            open_logit=_column(truths, "open_logit"), effect=np.ones(len(truths), dtype=np.float32)
        )
        self.cost_minor = _column(truths, "cost_minor")
        self.intrusion = _column(truths, "intrusion")
        self.p_fail = _column(truths, "p_fail")
        self._hour_weight = _column(truths, "hour_weight")
        self._effect_opened = _column(truths, "effect_opened")
        self._effect_direct = _column(truths, "effect_direct")
        self._p_unsubscribe = _column(truths, "p_unsubscribe")
        self.offer_margin = np.array(
            [preset.margin_minor * offer.margin_share for offer in preset.offers], dtype=np.float32
        )
        self.p_take_discount = np.array([o.p_take_discount for o in preset.offers], dtype=np.float32)

    def copy(self) -> Response:
        """The same people with a truth of their own, which can drift apart."""
        other = copy(self)
        other.truth = replace(
            self.truth, open_logit=self.truth.open_logit.copy(), effect=self.truth.effect.copy()
        )
        return other

    def p_base(self, rows: Rows, lifecycle: NDArray[np.int8]) -> Floats:
        """Probability of a purchase within seven days without contact, shape (n,)."""
        logit = self._population.base_logit[rows] + _LIFECYCLE_BASE[lifecycle]
        return np.asarray(np.minimum(_sigmoid(logit) * np.float32(self.truth.season), np.float32(0.4)))

    def p_open(self, rows: Rows, lifecycle: NDArray[np.int8], pressure: Floats) -> Floats:
        """Probability that a message which arrives is opened by a person, shape (n, C, S)."""
        people = self._population
        channel = self.truth.open_logit + people.affinity[rows] + _LIFECYCLE_OPEN[lifecycle][:, None]
        channel -= np.float32(_FATIGUE_LOGIT) * _felt(pressure)
        return _sigmoid(channel[:, :, None] + self._hour_weight[:, None] * self.hours(rows)[:, None, :])

    def hours(self, rows: Rows) -> Floats:
        """Log-odds that the slot adds, mean near 0, shape (n, S)."""
        distance = (
            slot_hours() - (self._population.best_hour[rows] + np.float32(self.truth.hours_shift))[:, None]
        )
        distance = (distance + 12) % 24 - 12
        attention = np.exp(-0.5 * (distance / np.float32(self._preset.hours_width)) ** 2)
        return np.float32(self._preset.hours_logit) * (attention - np.float32(0.4))

    def effects(self, rows: Rows, lifecycle: NDArray[np.int8]) -> tuple[Floats, Floats]:
        """Added probability of a conversion (if opened, by arrival), each of shape (n, O, C).

        The two are additive. Sleeping dogs lose a share of their own purchases by arrival alone.
        """
        people = self._population
        size = (
            people.persuasion[rows] * (self.truth.effect * _LIFECYCLE_EFFECT[lifecycle][:, None])[:, None, :]
        )
        dog = people.dog[rows][:, None, None]
        harm = -self._preset.dog_harm * self.p_base(rows, lifecycle)[:, None] * self.intrusion
        harm = np.maximum(harm, -self.p_base(rows, lifecycle)[:, None])
        opened = np.where(dog, np.float32(0), np.minimum(size * self._effect_opened, np.float32(0.4)))
        direct = np.where(dog, harm[:, None, :], np.minimum(size * self._effect_direct, np.float32(0.1)))
        return opened.astype(np.float32), direct.astype(np.float32)

    def p_unsubscribe(self, rows: Rows, pressure: Floats) -> Floats:
        """Risk that a contact ends in an unsubscription, shape (n, C)."""
        dog = np.where(self._population.dog[rows], np.float32(_DOG_RISK), np.float32(1))[:, None]
        risk = self._p_unsubscribe * dog * (1 + np.float32(_FATIGUE_RISK) * _felt(pressure))
        return np.minimum(risk, np.float32(0.5))

    def uplift(self, rows: Rows, lifecycle: NDArray[np.int8], pressure: Floats) -> Floats:
        """Added probability of a conversion by the contact, shape (n, O, C, S)."""
        opened, direct = self.effects(rows, lifecycle)
        p_open = self.p_open(rows, lifecycle, pressure)
        reached = (1 - self.p_fail)[:, None]
        return reached * (p_open[:, None] * opened[..., None] + direct[..., None])

    def net_value(self, rows: Rows, lifecycle: NDArray[np.int8], pressure: Floats) -> Floats:
        """Expected incremental net value of every contact, minor units, shape (n, O, C, S).

        spend * (margin * uplift - cannibalised margin) - cost - loss by unsubscribing - price of fatigue
        """
        full = np.float32(self._preset.margin_minor)
        spend = self._population.spend[rows]
        opened, direct = self.effects(rows, lifecycle)
        p_open = self.p_open(rows, lifecycle, pressure)
        # A lost purchase of a sleeping dog was one at the full price.
        margin = np.where(self._population.dog[rows][:, None], full, self.offer_margin)
        lost = self.p_take_discount * (full - self.offer_margin) * self.p_base(rows, lifecycle)[:, None]
        per_open = (margin[..., None] * opened - lost[..., None]) * (1 - self.p_fail)
        per_arrival = margin[..., None] * direct * (1 - self.p_fail)
        value = p_open[:, None] * (per_open * spend[:, None, None])[..., None]
        value += (per_arrival * spend[:, None, None])[..., None]
        loss = self._preset.unsubscribe_loss_minor * (1 + COMPLAINT_SHARE * (_COMPLAINT_LOSS - 1))
        value -= (self.p_unsubscribe(rows, pressure) * loss * spend[:, None] + self.cost_minor)[
            :, None, :, None
        ]
        best = np.maximum(value.reshape(len(rows), -1).max(axis=1), 0)
        value -= (np.float32(_FATIGUE_PRICE) * best[:, None] * self.intrusion)[:, None, :, None]
        return value


def _felt(pressure: Floats) -> Floats:
    """Pressure as felt on each channel: its own and a part of the others', shape (n, C)."""
    total = pressure.sum(axis=1, keepdims=True)
    felt: Floats = np.float32(1 - _OTHER_CHANNELS) * pressure + np.float32(_OTHER_CHANNELS) * total
    return felt


def _column(truths: tuple[ChannelTruth, ...], name: str) -> Floats:
    return np.array([getattr(truth, name) for truth in truths], dtype=np.float32)


def _sigmoid(x: Floats) -> Floats:
    p: Floats = np.float32(1) / (np.float32(1) + np.exp(-x))
    return p

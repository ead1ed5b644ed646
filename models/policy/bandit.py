"""The contextual bandit: SquareCB with Vowpal Wabbit as its oracle for `p_open`.

The response model says what a contact is worth and how likely it is to be opened. Experts that learn
within hours correct the open probability, as far as the gate believes them. Inverse-gap weighting over
the resulting net values draws the action. Vowpal Wabbit's probability enters every ranked value; it does
not draw the action.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import time
from functools import cached_property
from typing import ClassVar

import numpy as np

from models.choice import ActionDistribution, ChoiceProblem, FloatArray
from models.compiled import compiled, plain
from models.domain.campaign import PolicyName
from models.domain.errors import BundleError, NoPredictionsError
from models.policy import vw
from models.policy.corrections import Corrections, GridCorrections
from models.policy.events import ResponseEvents
from models.policy.exploration import Exploration
from models.policy.gate import PRIOR, Gate
from models.policy.preference import best_action, values_of
from models.policy.segments import Segments

FILE = "bandit.json"
FORMAT = 2
# A warm start replays this many of the newest contacts.
REPLAYED = 6_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Bandit:
    """Immutable: `learn` returns the next state, and a server may go on with this one meanwhile.

    Attributes:
        corrections: What the experts have learned.
        gate: How far each is believed, by channel.
        segments: How customers are grouped.
        exploration: How much to explore, and what it may cost.
    """

    corrections: Corrections
    gate: Gate
    segments: Segments = field(default_factory=Segments)
    exploration: Exploration = field(default_factory=Exploration)

    name: ClassVar[str] = PolicyName.BANDIT

    @classmethod
    def fresh(
        cls,
        channels: tuple[str, ...],
        slots: tuple[time, ...],
        segments: Segments | None = None,
        exploration: Exploration | None = None,
    ) -> Bandit:
        """Nothing learned: net values are those of the response model."""
        groups = segments or Segments()
        return cls(
            corrections=Corrections.zero(len(vw.LEARNING_RATES), channels, slots, len(groups)),
            gate=Gate.fresh(channels),
            segments=groups,
            exploration=exploration or Exploration(),
        )

    @cached_property
    def version(self) -> str:
        """Twelve hexadecimal digits of what was learned."""
        return hashlib.sha256(self.to_files()[FILE]).hexdigest()[:12]

    def valued_at(self, value_scale_minor: float) -> Bandit:
        """The same, exploring in proportion to what a conversion is worth, minor units."""
        return replace(self, exploration=replace(self.exploration, value_scale_minor=value_scale_minor))

    def distribution(self, problem: ChoiceProblem) -> ActionDistribution:
        """Probabilities over the candidates, with the net values and open probabilities behind them.

        `net_value = (p / p_model) * (ev + price) - price`, where `ev` is the response model's net value,
        p the corrected open probability and price all that a contact costs: message, shadow price and
        attention. The whole effect is scaled, also the part that works without an open.

        Raises:
            NoPredictionsError: there is no response model to correct.
        """
        predictions = problem.predictions
        if predictions is None:
            raise NoPredictionsError(self.name)
        model_values = values_of(problem, self.name)
        model_p_open = vw.held(predictions.p_open)
        p_open = self.p_open(problem, model_p_open)
        price = problem.cost_minor + problem.shadow_price_minor + predictions.attention_minor
        values = np.empty(model_values.shape)
        _value(
            plain(model_values),
            p_open,
            plain(model_p_open),
            plain(price),
            values,
        )
        best = best_action(problem, values)
        return ActionDistribution(
            probabilities=self.exploration.distribution(problem.grid, problem.mask, values, best),
            net_value_minor=values,
            p_open=p_open,
        )

    def p_open(self, problem: ChoiceProblem, model_p_open: FloatArray) -> FloatArray:
        """Open probabilities as the gate mixes them: `sigmoid(logit(p_model) + sum of weight * correction)`.

        Mixed in logits, a wrong expert of little weight moves a small probability by little.

        Args:
            problem: Gives the grid and the customers' segments.
            model_p_open: By the response model, shape (n, C, S), in (0, 1).

        Returns:
            Shape (n, C, S), in (0, 1).
        """
        tables, beliefs = self._on_grid(problem.grid.channels, problem.grid.slots)
        corrections = tables.mixed(self.segments.of(problem.features), model_p_open, beliefs)
        corrections += vw.logit(model_p_open)
        return vw.sigmoid(corrections)

    def learn(self, events: ResponseEvents) -> Bandit:
        """The next state: the gate judges what everybody said of each event, then the experts learn it."""
        corrections = self.corrections.covering(events.channels, events.slots)
        corrections, said = vw.learn(corrections, events)
        everybody = np.concatenate([events.p_open[None, :], said])
        gate = self.gate.update(events.channels, events.channel, everybody, events.opened.astype(np.float64))
        return replace(self, corrections=corrections, gate=gate)

    def warm_start(self, events: ResponseEvents) -> Bandit:
        """The state after replaying the newest contacts of a log."""
        return self.learn(events.last(REPLAYED))

    def to_files(self) -> dict[str, bytes]:
        """What was learned, by file name; exploration belongs to the campaign and is not in it."""
        state = {
            "format": FORMAT,
            "channels": self.corrections.channels,
            "slots": [slot.isoformat() for slot in self.corrections.slots],
            "learning_rates": vw.LEARNING_RATES,
            "segments": {
                "feature": self.segments.feature,
                "column": self.segments.column,
                "edges": self.segments.edges,
            },
            "weights": self.corrections.vectors.tolist(),
            "gate": {
                "channels": self.gate.channels,
                "overall": self.gate.overall.tolist(),
                "own": self.gate.own.tolist(),
            },
        }
        return {FILE: json.dumps(state, sort_keys=True).encode()}

    @classmethod
    def from_files(cls, files: dict[str, bytes], exploration: Exploration | None = None) -> Bandit:
        """What `to_files` gave, to the last bit.

        Raises:
            BundleError: a file is missing, damaged or made by another version.
        """
        try:
            state = json.loads(files[FILE])
            if state["format"] != FORMAT or tuple(state["learning_rates"]) != vw.LEARNING_RATES:
                raise BundleError(f"{FILE} was made by another version of the bandit")
            segments = Segments(
                feature=state["segments"]["feature"],
                column=state["segments"]["column"],
                edges=tuple(state["segments"]["edges"]),
            )
            blank = cls.fresh(
                tuple(state["channels"]),
                tuple(map(time.fromisoformat, state["slots"])),
                segments,
                exploration,
            )
            vectors = np.array(state["weights"], dtype=np.float32)
            gate = Gate(
                channels=tuple(state["gate"]["channels"]),
                overall=np.array(state["gate"]["overall"]),
                own=np.array(state["gate"]["own"]),
            )
            shapes = (len(vectors), *gate.own.shape, *gate.overall.shape)
            if shapes != (len(vw.LEARNING_RATES), len(gate.channels), len(PRIOR), len(PRIOR)):
                raise BundleError(f"{FILE}: the number of experts does not fit")
            return replace(blank, corrections=Corrections.from_vectors(vectors, blank.corrections), gate=gate)
        except (KeyError, TypeError, ValueError, IndexError) as exc:
            raise BundleError(f"{FILE} is missing or damaged: {exc}") from exc

    @cached_property
    def _laid_out(self) -> dict[tuple[tuple[str, ...], tuple[time, ...]], tuple[GridCorrections, FloatArray]]:
        return {}

    def _on_grid(
        self, channels: tuple[str, ...], slots: tuple[time, ...]
    ) -> tuple[GridCorrections, FloatArray]:
        """The corrections for a grid and the beliefs in them, shape (K, C); laid out once."""
        key = (channels, slots)
        found = self._laid_out.get(key)
        if found is None:
            beliefs = np.ascontiguousarray(self.gate.for_channels(channels)[:, 1:].T)
            found = self.corrections.for_grid(channels, slots), beliefs
            self._laid_out[key] = found
        return found


@compiled("void(float64[:, ::1], float64[:, :, ::1], float64[:, :, ::1], float64[:, ::1], float64[:, ::1])")
def _value(
    model_value: FloatArray,
    p_open: FloatArray,
    model_p_open: FloatArray,
    price: FloatArray,
    value: FloatArray,
) -> None:
    """Write the net values of `Bandit.distribution` into `value`; no contact is worth 0."""
    n, n_channels, n_slots = p_open.shape
    n_contacts = value.shape[1] - 1
    for i in range(n):
        value[i, n_contacts] = 0.0
        for first in range(0, n_contacts, n_channels * n_slots):
            for c in range(n_channels):
                for s in range(n_slots):
                    a = first + c * n_slots + s
                    ratio = p_open[i, c, s] / model_p_open[i, c, s]
                    value[i, a] = ratio * (model_value[i, a] + price[i, c]) - price[i, c]

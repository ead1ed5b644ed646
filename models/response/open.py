"""Who opens what, when: `p_open` of a customer, channel and slot.

    p_open(x, c, s) = calibrate(sigmoid(table[c, s] + f(x, c) + g(x, s)))

`f` and `g` are linear in the features, shrunk by the evidence, plus LightGBM trees where those help later data; `g` leans
on the hours at which the customer comes by unasked (`models.response.day_kinds`);
`table` holds shrunk constants and a small correction for every channel and slot. Written as a sum it needs C + S rows a customer instead of C * S.

A channel that cannot report opens is learned from clicks, the next thing it can report. Its `p_open` is then the
probability of a click, and the sum is the logit of the open that stands before it (`models.response.thinned`). A
channel that reports neither, or that was never used, is the mean (in logits) of the channels that report opens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import time

import numpy as np

from models.choice import Float32Array, FloatArray
from models.domain.channel import Channel
from models.domain.interaction import InteractionKind
from models.logged import IntArray, LoggedRows
from models.response.boosting import (
    MAX_TREES,
    Examples,
    Trees,
    fit_trees,
    later_rows,
    logit,
    shrunk_rate,
    sigmoid,
)
from models.response.calibration import Calibration, fit_calibration
from models.response.day_kinds import DayKinds, fit_day_kinds
from models.response.forest import NO_TREES, Part, plant
from models.response.open_grid import OpenGrid
from models.response.open_linear import OpenLinear, Replies, fit_linear
from models.response.thinned import ThinnedChannels, opens_behind, reply_logit, sensitivity

# What is believed of an opening rate before any message: one in five, worth ten messages.
_PRIOR_RATE = 0.2
_PRIOR_MESSAGES = 10.0
# Precision of the prior of a cell of the table: a standard deviation of 0.22 logits.
_CELL_PRECISION = 20.0
_LATER_SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenModel:
    """`p_open(x, channel, slot)`.

    Attributes:
        channels: Channels learned from.
        slots: Slots learned from; another time of day has `g` but no cell of the table.
        table: Logits, shape (C, S).
        typical: Whether the channel counts towards the mean that stands in for unknown channels, shape (C,).
        opens_per_reply: How many opens stand behind one reply that the channel reports: 1 where that is
            the open itself, shape (C,).
        linear: The linear parts of `f` and `g`.
        days: Kinds of day, for the habits that `g` leans on.
        by_channel: Trees of `f`, or None.
        by_slot: Trees of `g`, or None.
        calibration: From the raw probability.
    """

    channels: tuple[str, ...]
    slots: tuple[time, ...]
    table: FloatArray
    typical: tuple[bool, ...]
    opens_per_reply: tuple[float, ...]
    linear: OpenLinear
    days: DayKinds
    by_channel: Trees | None
    by_slot: Trees | None
    calibration: Calibration

    @property
    def learned(self) -> bool:
        """Whether any channel told of opens or clicks."""
        return bool(self.channels)

    def scale(self, channel: str) -> float:
        """Opens per reply of a channel; 1 where the channel is unknown."""
        return self.opens_per_reply[self.channels.index(channel)] if channel in self.channels else 1.0

    def predict(self, features: Float32Array, channels: Sequence[str], slots: Sequence[time]) -> FloatArray:
        """Probability of an open (or click, see above), shape (n, C, S)."""
        grid = self.lay_out(channels, slots)
        return self.predict_on(grid, features, plant(features.shape[1], self.parts(grid)).logits(features))

    def parts(self, grid: OpenGrid) -> tuple[Part, Part]:
        """The trees of `f` and `g`: alternatives of a forest are the wanted channels, then the slots."""
        return (
            (
                NO_TREES if self.by_channel is None else self.by_channel.each,
                grid.wanted[:, None].astype(np.float32),
            ),
            (NO_TREES if self.by_slot is None else self.by_slot.each, grid.hours),
        )

    def lay_out(self, channels: Sequence[str], slots: Sequence[time]) -> OpenGrid:
        """What predicting on these channels and slots needs and what does not depend on the customer."""
        places: IntArray = np.array(
            [self.channels.index(name) if name in self.channels else -1 for name in channels], dtype=np.int64
        )
        strange = bool((places < 0).any())
        wanted = np.arange(len(self.channels)) if strange else places
        return OpenGrid(
            shape=(len(channels), len(slots)),
            wanted=wanted,
            source=places if strange else np.arange(len(places)),
            typical=np.flatnonzero(self.typical) if strange else np.zeros(0, dtype=np.int64),
            cells=self._cells(slots)[wanted] if self.learned else np.zeros((0, len(slots))),
            weights=np.ascontiguousarray(
                np.concatenate([self.linear.by_channel[wanted], self._slot_weights(slots)]).T
            )
            if self.learned
            else np.zeros((0, len(slots))),
            habits=self.linear.habit * self.days.habits(slots),
            hours=_hours(slots),
            thinned=ThinnedChannels.of(np.array([self.scale(name) for name in channels])),
        )

    def predict_on(self, grid: OpenGrid, features: Float32Array, added: FloatArray) -> FloatArray:
        """`predict` on channels and slots that were laid out before.

        Args:
            grid: Of `lay_out`.
            features: Shape (n, F); NaN where missing.
            added: What the trees of `parts` add to logits, shape (n, K + S).
        """
        if not self.learned:
            return np.full((len(features), *grid.shape), _PRIOR_RATE)
        inputs = self.linear.standardiser.apply(features)
        raw = grid.logits(inputs, added, self.days.kinds(features))
        grid.thinned.thin(raw)
        return self.calibration.of_logit(raw)

    def _cells(self, slots: Sequence[time]) -> FloatArray:
        """The table for these slots, shape (C, S): a time of day not seen gets the channel's mean."""
        mean = self.table.mean(axis=1)
        return np.stack(
            [self.table[:, self.slots.index(s)] if s in self.slots else mean for s in slots], axis=1
        )

    def _slot_weights(self, slots: Sequence[time]) -> FloatArray:
        """Linear weights for these slots, shape (S, Z): a time of day not seen gets those of the nearest."""
        known, asked = _hours(self.slots)[:, 0], _hours(slots)[:, 0]
        apart = np.abs((asked[:, None] - known + 12) % 24 - 12)
        return np.asarray(self.linear.by_slot[apart.argmin(axis=1)])

    def row_logits(self, replies: Replies) -> FloatArray:
        """Raw logit of a reply to every message as it was sent, shape (n,)."""
        raw = self.table[replies.channel, replies.slot] + self.linear.row_logits(replies)
        if self.by_channel is not None:
            raw = raw + self.by_channel.logits(_with_channel(replies))
        if self.by_slot is not None:
            raw = raw + self.by_slot.logits(_with_hour(replies, self.slots))
        return reply_logit(raw, replies.per_reply)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFit:
    """A fitted `OpenModel`, what it was fitted on, and how it does on later data.

    Attributes:
        model: Fitted on all rows.
        rows: The rows of the log that it learned from, shape (m,).
        replies: Those rows.
        later_label: 1 or 0, of the later rows.
        later_probability: Calibrated, by trees that never saw them.
    """

    model: OpenModel
    rows: IntArray
    replies: Replies
    later_label: FloatArray
    later_probability: FloatArray

    def without(self, rows: np.ndarray, seed: int) -> OpenModel:
        """The same model, fitted again without some rows of the log (a mask): for cross-fitting."""
        if not self.model.learned:
            return self.model
        kept = self.replies.take(~rows[self.rows])
        return _fit(kept, self.model, seed=seed, trees=_sizes(self.model), calibration=self.model.calibration)


def fit_open(rows: LoggedRows, channels: Mapping[str, Channel], seed: int) -> OpenFit:
    """Fit `p_open` on the messages whose opening or click is known.

    The number of trees and the calibration come from the latest fifth; the model is then fitted again on all.
    """
    opened, clicked = _known(rows, channels)
    by_open = np.array([opened[rows.channel == c].any() for c in range(len(rows.channels))], dtype=np.bool_)
    by_click = np.array([clicked[rows.channel == c].any() for c in range(len(rows.channels))], dtype=np.bool_)
    learned = np.flatnonzero(by_open | by_click)
    usable = rows.contacted & np.where(by_open[rows.channel], opened, clicked)
    index = np.flatnonzero(usable)
    channel = rows.channel[index]
    place = np.searchsorted(learned, channel)
    replied = np.where(by_open[channel], rows.opened[index], rows.clicked[index])
    both = opened & clicked
    per_reply = tuple(
        1.0
        if by_open[c]
        else opens_behind(
            rows.opened[both].sum(),
            rows.clicked[both].sum(),
            replied[channel == c].sum(),
            int((channel == c).sum()),
        )
        for c in learned
    )
    days = fit_day_kinds(rows.features, rows.feature_names, seed).centred_on(rows.slots)
    replies = Replies(
        features=rows.features[index].astype(np.float32),
        channel=place,
        slot=rows.slot[index],
        replied=replied,
        per_reply=np.array(per_reply)[place],
        habit=np.einsum(
            "nd,nd->n", days.kinds(rows.features[index]), days.habits(rows.slots).T[rows.slot[index]]
        ),
    )
    blank = OpenModel(
        channels=tuple(rows.channels[c] for c in learned),
        slots=rows.slots,
        table=np.zeros((len(learned), len(rows.slots))),
        typical=tuple((by_open if by_open.any() else by_click)[learned].tolist()),
        opens_per_reply=per_reply,
        linear=OpenLinear.nothing(len(learned), len(rows.slots)),
        days=days,
        by_channel=None,
        by_slot=None,
        calibration=Calibration(),
    )
    if not blank.learned:
        return OpenFit(
            model=blank,
            rows=index,
            replies=replies,
            later_label=np.empty(0),
            later_probability=np.empty(0),
        )
    late = later_rows(rows.decided_at[index], _LATER_SHARE, seed)
    later = replies.take(late)
    trial = _fit(replies.take(~late), blank, seed=seed, later=later)
    raw = sigmoid(trial.row_logits(later))
    calibration = fit_calibration(later.replied, raw, seed)
    return OpenFit(
        model=_fit(replies, trial, seed=seed, trees=_sizes(trial), calibration=calibration),
        rows=index,
        replies=replies,
        later_label=later.replied,
        later_probability=calibration.apply(raw),
    )


def _known(rows: LoggedRows, channels: Mapping[str, Channel]) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose opening, and whose click, is known: the channel can tell, and it is in the log."""
    can_open = [channels[name].reports(InteractionKind.OPENED) for name in rows.channels]
    can_click = [channels[name].reports(InteractionKind.CLICKED) for name in rows.channels]
    # Index -1 (no contact) meets the False put at the end.
    opened = np.array([*can_open, False])[rows.channel] & ~np.isnan(rows.opened)
    clicked = np.array([*can_click, False])[rows.channel] & ~np.isnan(rows.clicked)
    return opened, clicked


def _sizes(model: OpenModel) -> tuple[int, int]:
    return (
        model.by_channel.n_trees if model.by_channel else 0,
        model.by_slot.n_trees if model.by_slot else 0,
    )


def _fit(
    replies: Replies,
    like: OpenModel,
    *,
    seed: int,
    trees: tuple[int, int] = (MAX_TREES, MAX_TREES),
    later: Replies | None = None,
    calibration: Calibration | None = None,
) -> OpenModel:
    """The linear part first, then trees by channel on top, then trees by slot, then the cells.

    `like` gives the channels and slots, and the shrinkage where it is a fitted model.
    """
    n_channels, n_slots = like.table.shape
    opens = np.minimum(replies.replied * replies.per_reply, len(replies.replied))
    mean = shrunk_rate(opens.sum(), len(opens), _PRIOR_RATE, _PRIOR_MESSAGES)
    linear, table = fit_linear(replies, n_channels, n_slots, float(logit(mean)), like.linear.variances)

    def start(messages: Replies) -> FloatArray:
        return table[messages.channel, messages.slot] + linear.row_logits(messages)

    known = [replies] if later is None else [replies, later]
    offsets = [start(messages) for messages in known]

    def grow(
        columns: Callable[[Replies], Float32Array], n_trees: int, categorical: Sequence[int] = ()
    ) -> Trees | None:
        """Trees on some columns, on top of all that came before; what they add joins it."""
        examples = [
            Examples(
                rows=columns(messages), label=messages.replied, offset=offset, per_reply=messages.thinned
            )
            for messages, offset in zip(known, offsets, strict=True)
        ]
        grown = fit_trees(
            examples[0],
            seed=seed,
            n_trees=n_trees,
            later=None if later is None else examples[1],
            categorical=categorical,
        )
        if grown is not None:
            offsets[:] = [one.offset + grown.logits(one.rows) for one in examples]
        return grown

    by_channel = grow(_with_channel, trees[0], [replies.features.shape[1]])
    by_slot = grow(lambda messages: _with_hour(messages, like.slots), trees[1]) if n_slots > 1 else None
    return OpenModel(
        channels=like.channels,
        slots=like.slots,
        table=table + _fit_cells(replies, offsets[0], (n_channels, n_slots)),
        typical=like.typical,
        opens_per_reply=like.opens_per_reply,
        linear=linear,
        days=like.days,
        by_channel=by_channel,
        by_slot=by_slot,
        calibration=calibration or Calibration(),
    )


def _fit_cells(replies: Replies, offset: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """What is left for every channel and slot: ridge logistic regression by Newton steps."""
    cell = replies.channel * shape[1] + replies.slot
    n_cells = shape[0] * shape[1]
    cells = np.zeros(n_cells)
    for _ in range(8):
        p = sigmoid(offset + cells[cell]) / replies.per_reply
        felt = sensitivity(p, replies.per_reply)
        gradient = np.bincount(cell, weights=felt * (replies.replied - p), minlength=n_cells)
        curvature = np.bincount(cell, weights=felt**2 * p * (1 - p), minlength=n_cells)
        cells += (gradient - _CELL_PRECISION * cells) / (curvature + _CELL_PRECISION)
    return cells.reshape(shape)


def _with_channel(replies: Replies) -> Float32Array:
    return np.column_stack([replies.features, replies.channel.astype(np.float32)])


def _with_hour(replies: Replies, slots: Sequence[time]) -> Float32Array:
    return np.column_stack([replies.features, _hours(slots)[replies.slot]])


def _hours(slots: Sequence[time]) -> Float32Array:
    """Local time of day as hour, sine and cosine, shape (S, 3)."""
    hour = np.array([s.hour + s.minute / 60 + s.second / 3600 for s in slots])
    angle = 2 * np.pi * hour / 24
    return np.column_stack([hour, np.sin(angle), np.cos(angle)]).astype(np.float32)

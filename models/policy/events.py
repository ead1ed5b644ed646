"""What the bandit learns from: contacts whose response is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import time

import numpy as np
from numpy.typing import NDArray

from models.choice import BoolArray, FloatArray
from models.domain.channel import Channel
from models.domain.errors import require
from models.domain.interaction import InteractionKind
from models.logged import IntArray, LoggedRows
from models.policy.segments import Segments


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseEvents:
    """One row a contact, oldest first.

    Attributes:
        channels: Channel names that `channel` points into.
        slots: Local times of day that `slot` and `best_slot` point into.
        channel: Index of the channel, shape (n,).
        slot: Index of the slot, shape (n,).
        best_slot: Index of the slot with the highest open probability by the response model for this
            customer and channel, shape (n,).
        p_open: Open probability of the contact by the response model, shape (n,), in [0, 1].
        segment: Segment of the customer, shape (n,).
        opened: Whether it was opened, or clicked on a channel that reports clicks but no opens, shape (n,).
    """

    channels: tuple[str, ...]
    slots: tuple[time, ...]
    channel: IntArray
    slot: IntArray
    best_slot: IntArray
    p_open: FloatArray
    segment: IntArray
    opened: BoolArray

    def __post_init__(self) -> None:
        n = len(self.channel)
        for name, bound in (
            ("channel", len(self.channels)),
            ("slot", len(self.slots)),
            ("best_slot", len(self.slots)),
        ):
            index: IntArray = getattr(self, name)
            inside = bool(((index >= 0) & (index < bound)).all())
            require(inside, name, index, f"must be in [0, {bound - 1}]")
        for name in ("slot", "best_slot", "p_open", "segment", "opened"):
            shape = getattr(self, name).shape
            require(shape == (n,), name, shape, f"must have shape ({n},)")
        sound = bool(((self.p_open >= 0) & (self.p_open <= 1)).all())
        require(sound, "p_open", self.p_open, "must be in [0, 1]")

    def __len__(self) -> int:
        return len(self.channel)

    def last(self, n: int) -> ResponseEvents:
        """The newest n rows."""
        start = max(0, len(self) - n)
        return ResponseEvents(
            channels=self.channels,
            slots=self.slots,
            channel=self.channel[start:],
            slot=self.slot[start:],
            best_slot=self.best_slot[start:],
            p_open=self.p_open[start:],
            segment=self.segment[start:],
            opened=self.opened[start:],
        )


def replies(rows: LoggedRows, channels: Mapping[str, Channel]) -> FloatArray:
    """Whether each contact was opened, or clicked where a channel reports clicks but no opens; NaN where nobody can tell.

    Args:
        rows: Logged decisions.
        channels: Every channel of the rows, by name: says what it can report.

    Returns:
        Shape (n,).
    """
    replied = np.full(len(rows), np.nan)
    for c, name in enumerate(rows.channels):
        sent = rows.channel == c
        if channels[name].reports(InteractionKind.OPENED):
            replied[sent] = rows.opened[sent]
        elif channels[name].reports(InteractionKind.CLICKED):
            replied[sent] = rows.clicked[sent]
    return replied


def response_events(
    rows: LoggedRows, p_open: FloatArray, segments: Segments, channels: Mapping[str, Channel]
) -> ResponseEvents:
    """The contacts among logged decisions whose response is known, oldest first.

    The response is the open where the channel reports opens, else the click where it reports clicks: what the
    response model's `p_open` of that channel stands for. Of any other channel only successes are ever seen, and
    learning from those alone would praise it without end.

    Args:
        rows: Logged decisions.
        p_open: Open (or click) probabilities by the response model for the rows' channels and slots, best those
            of a model that was not fitted on these rows, shape (n, C, S).
        segments: How customers are grouped.
        channels: Every channel of the rows, by name: says what it can report.

    Raises:
        InvalidInputError: `p_open` does not fit the rows.
    """
    shape = (len(rows), len(rows.channels), len(rows.slots))
    require(p_open.shape == shape, "p_open", p_open.shape, f"must have shape {shape}")
    responded = replies(rows, channels)
    known = np.flatnonzero(~np.isnan(responded))
    known = known[np.argsort(rows.decided_at[known], kind="stable")]
    channel, slot = rows.channel[known], rows.slot[known]
    best: NDArray[np.intp] = p_open[known, channel].argmax(axis=1)
    return ResponseEvents(
        channels=rows.channels,
        slots=rows.slots,
        channel=channel,
        slot=slot,
        best_slot=best.astype(np.int64),
        p_open=p_open[known, channel, slot],
        segment=segments.of(rows.features[known]).astype(np.int64),
        opened=responded[known] > 0,
    )

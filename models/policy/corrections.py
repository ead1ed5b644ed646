"""What the bandit's experts have learned, as tables: how far a response is from what was predicted.

An expert adds a correction to the response model's logit of `p_open`: the sum of one weight for each of
channel, slot, channel x slot, channel x segment, slot x segment and *shift*, the hours between the slot
and the customer's best slot by the response model. The shift lets one table notice that everybody's
best hours have moved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from datetime import time

import numpy as np
from numpy.typing import NDArray

from models.choice import FloatArray
from models.compiled import compiled, plain
from models.domain.errors import BundleError
from models.logged import IntArray
from models.policy.events import ResponseEvents

HOURS = 24
# Largest correction, in logits: a factor of 55 on the odds.
CLIP = 4.0

Weights = NDArray[np.float32]


def hours_apart(slots: tuple[time, ...]) -> IntArray:
    """Whole hours from slot i forward to slot j round the clock, shape (S, S), in [0, 24)."""
    hours = np.array([slot.hour + slot.minute / 60 + slot.second / 3600 for slot in slots])
    apart: IntArray = np.rint(hours[None, :] - hours[:, None]).astype(np.int64) % HOURS
    return apart


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Corrections:
    """Weights of K experts over C channels, S slots and G segments.

    With a single segment the two segment tables are not used: they would say what channel and slot say.

    Attributes:
        channels: Channel names, the order of C.
        slots: Local times of day, the order of S.
        n_segments: G.
        channel: Shape (K, C).
        slot: Shape (K, S).
        channel_slot: Shape (K, C, S).
        channel_segment: Shape (K, C, G).
        slot_segment: Shape (K, S, G).
        shift: By whole hours after the best slot, shape (K, 24).
    """

    channels: tuple[str, ...]
    slots: tuple[time, ...]
    n_segments: int
    channel: Weights
    slot: Weights
    channel_slot: Weights
    channel_segment: Weights
    slot_segment: Weights
    shift: Weights

    @classmethod
    def zero(
        cls, n_experts: int, channels: tuple[str, ...], slots: tuple[time, ...], n_segments: int
    ) -> Corrections:
        """Nothing learned yet: every correction is 0."""
        shapes = _shapes(n_experts, len(channels), len(slots), n_segments)
        blank = {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}
        return cls(channels=channels, slots=slots, n_segments=n_segments, **blank)

    @classmethod
    def from_vectors(cls, vectors: Weights, like: Corrections) -> Corrections:
        """Rebuild the tables from one row of weights an expert, in the order of `vectors`.

        Args:
            vectors: Shape (K, T).
            like: Gives channels, slots and segments.

        Raises:
            BundleError: T is not the number of tokens.
        """
        if vectors.shape[1:] != like.vectors.shape[1:]:
            raise BundleError(
                f"weights of the bandit: shape {vectors.shape}, must be (experts, {like.vectors.shape[1]})"
            )
        tables: dict[str, Weights] = {}
        start = 0
        for name, shape in _shapes(
            len(vectors), len(like.channels), len(like.slots), like.n_segments
        ).items():
            size = math.prod(shape[1:])
            tables[name] = vectors[:, start : start + size].reshape(shape).copy()
            start += size
        return cls(channels=like.channels, slots=like.slots, n_segments=like.n_segments, **tables)

    @property
    def vectors(self) -> Weights:
        """All weights, one row an expert, shape (K, T); a token's number is its column."""
        return np.concatenate(
            [getattr(self, name).reshape(len(self.channel), -1) for name in _TABLES], axis=1
        )

    def tokens(self, events: ResponseEvents) -> IntArray:
        """Tokens of each event: the columns of `vectors` that its correction sums, shape (n, 4 or 6).

        The events' channels and slots must be among those of the tables.
        """
        channel = np.array([self.channels.index(name) for name in events.channels])[events.channel]
        slot = np.array([self.slots.index(local) for local in events.slots])[events.slot]
        shift = hours_apart(events.slots)[events.best_slot, events.slot]
        n_slots, n_segments = len(self.slots), self.n_segments
        sizes = [getattr(self, name)[0].size for name in _TABLES]
        starts = dict(zip(_TABLES, np.cumsum([0, *sizes[:-1]]), strict=True))
        columns = [
            starts["channel"] + channel,
            starts["slot"] + slot,
            starts["channel_slot"] + channel * n_slots + slot,
            starts["shift"] + shift,
        ]
        if n_segments > 1:
            columns += [
                starts["channel_segment"] + channel * n_segments + events.segment,
                starts["slot_segment"] + slot * n_segments + events.segment,
            ]
        return np.stack(columns, axis=1).astype(np.int64)

    def covering(self, channels: tuple[str, ...], slots: tuple[time, ...]) -> Corrections:
        """The same with room for further channels and slots, which start at 0."""
        more_channels = tuple(name for name in channels if name not in self.channels)
        more_slots = tuple(local for local in slots if local not in self.slots)
        if not more_channels and not more_slots:
            return self
        wider = Corrections.zero(
            len(self.channel), self.channels + more_channels, self.slots + more_slots, self.n_segments
        )
        for name in _TABLES:
            table = getattr(self, name)
            getattr(wider, name)[tuple(slice(size) for size in table.shape)] = table
        return wider

    def for_grid(self, channels: tuple[str, ...], slots: tuple[time, ...]) -> GridCorrections:
        """The tables laid out for one campaign; what was never learned is 0."""
        wide = self.covering(channels, slots)
        c = [wide.channels.index(name) for name in channels]
        s = [wide.slots.index(local) for local in slots]
        own = wide.channel[:, c, None] + wide.slot[:, None, s] + wide.channel_slot[:, c][:, :, s]
        by_segment = wide.channel_segment[:, c, None, :] + wide.slot_segment[:, None, s, :]
        fixed = own[:, None] + by_segment.transpose(0, 3, 1, 2)
        return GridCorrections(
            fixed=np.ascontiguousarray(fixed, dtype=np.float64),
            shift=np.ascontiguousarray(wide.shift[:, hours_apart(slots)], dtype=np.float64),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GridCorrections:
    """Corrections laid out for one grid.

    Attributes:
        fixed: By segment, channel and slot, shape (K, G, C, S).
        shift: By best slot and slot, shape (K, S, S).
    """

    fixed: FloatArray
    shift: FloatArray

    def mixed(self, segment: NDArray[np.intp], p_open: FloatArray, beliefs: FloatArray) -> FloatArray:
        """What the experts say together: the sum of belief * correction, each correction in [-4, 4].

        Args:
            segment: Shape (n,).
            p_open: By the response model, shape (n, C, S): says every customer's best slot on a channel.
            beliefs: Shape (K, C).

        Returns:
            Logits, shape (n, C, S).
        """
        mixed = np.empty(p_open.shape)
        _mix(self.fixed, self.shift, segment, plain(p_open), beliefs, mixed)
        return mixed


@compiled(
    "void(float64[:, :, :, ::1], float64[:, :, ::1], int64[::1], float64[:, :, ::1], float64[:, ::1],"
    "float64[:, :, ::1])"
)
def _mix(
    fixed: FloatArray,
    shift: FloatArray,
    segment: NDArray[np.intp],
    p_open: FloatArray,
    beliefs: FloatArray,
    mixed: FloatArray,
) -> None:
    """Write the sums of `GridCorrections.mixed` into `mixed`."""
    n, n_channels, n_slots = p_open.shape
    for i in range(n):
        for c in range(n_channels):
            best = np.argmax(p_open[i, c])
            for s in range(n_slots):
                mixed[i, c, s] = 0.0
            for k in range(len(fixed)):
                for s in range(n_slots):
                    correction = fixed[k, segment[i], c, s] + shift[k, best, s]
                    mixed[i, c, s] += beliefs[k, c] * max(min(correction, CLIP), -CLIP)


def _shapes(n_experts: int, n_channels: int, n_slots: int, n_segments: int) -> dict[str, tuple[int, ...]]:
    return {
        "channel": (n_experts, n_channels),
        "slot": (n_experts, n_slots),
        "channel_slot": (n_experts, n_channels, n_slots),
        "channel_segment": (n_experts, n_channels, n_segments),
        "slot_segment": (n_experts, n_slots, n_segments),
        "shift": (n_experts, HOURS),
    }


_TABLES = tuple(f.name for f in fields(Corrections) if f.name not in ("channels", "slots", "n_segments"))

"""The requests of the past days, as arrays: what they could be given lies flat, request after request.

Letters in shapes: m requests, p options, e expected requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.allocation.dual import IntArray
from models.allocation.pacing import Asked
from models.choice import BoolArray, FloatArray
from serving.pacing.ask import Ask

_ASKS = np.dtype([("at", "f8"), ("n", "f8"), ("stream", "i8"), ("first", "i8"), ("options", "i8")])
_OPTIONS = np.dtype([("place", "i8"), ("days_ahead", "i8"), ("value_minor", "f8"), ("messages", "f8")])


class Place(NamedTuple):
    """A channel of a campaign."""

    campaign_id: str
    channel: str


class Offered(NamedTuple):
    """What expected requests could be given, one option after the other.

    Attributes:
        row: Which of the expected requests, shape (p,).
        place: Index into `Memory.places`, shape (p,).
        days_ahead: UTC days from the request to the message, shape (p,).
        value_minor: NaN where a rule decides, shape (p,).
        messages: Expected where a rule decides, else 0, shape (p,).
    """

    row: IntArray
    place: IntArray
    days_ahead: IntArray
    value_minor: FloatArray
    messages: FloatArray

    def some(self, which: BoolArray) -> Offered:
        """These of them, shape (p,)."""
        return Offered(
            self.row[which],
            self.place[which],
            self.days_ahead[which],
            self.value_minor[which],
            self.messages[which],
        )


class Memory:
    """Requests that were looked at, newer behind older."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        """Channels of campaigns that any of them could be given."""
        self._place_of: dict[Place, int] = {}
        self._stream_of: dict[tuple[str, ...], int] = {}
        self._asks = np.empty(0, _ASKS)
        self._options = np.empty(0, _OPTIONS)

    def __len__(self) -> int:
        return len(self._asks)

    @property
    def asked(self) -> Asked:
        """All of them."""
        return Asked(at=self._asks["at"], n=self._asks["n"], stream=self._asks["stream"])

    @property
    def streams(self) -> list[tuple[str, ...]]:
        """The campaigns that those of each stream ask."""
        return list(self._stream_of)

    def add(self, new: Sequence[Ask]) -> None:
        """Remember more of them."""
        if not new:
            return
        lengths = [len(one.options) for one in new]
        firsts = len(self._options) + np.cumsum([0, *lengths])
        asks = [
            (one.at.timestamp(), one.n, self._stream(one.campaigns), first, length)
            for one, first, length in zip(new, firsts, lengths, strict=False)
        ]
        options = [
            (
                self._place(Place(option.campaign_id, option.channel)),
                option.days_ahead,
                np.nan if option.value_minor is None else option.value_minor,
                option.messages,
            )
            for one in new
            for option in one.options
        ]
        self._asks = np.concatenate((self._asks, np.array(asks, _ASKS)))
        self._options = np.concatenate((self._options, np.array(options, _OPTIONS)))

    def forget(self, before: float) -> bool:
        """Forget those of before that moment, seconds since 1970; whether there were any."""
        old = self._asks["at"] < before
        if not old.any():
            return False
        kept = self._asks[~old]
        self._options = self._options[_places_of(kept)[1]]
        kept["first"] = np.cumsum(kept["options"]) - kept["options"]
        self._asks = kept
        return True

    def offered(self, rows: IntArray) -> Offered:
        """What these of them could be given.

        Args:
            rows: Which of them, shape (e,); one may be there several times.
        """
        of, at = _places_of(self._asks[rows])
        found = self._options[at]
        return Offered(of, found["place"], found["days_ahead"], found["value_minor"], found["messages"])

    def _stream(self, campaigns: tuple[str, ...]) -> int:
        return self._stream_of.setdefault(campaigns, len(self._stream_of))

    def _place(self, place: Place) -> int:
        found = self._place_of.get(place)
        if found is None:
            found = self._place_of[place] = len(self.places)
            self.places.append(place)
        return found


def _places_of(asks: NDArray[Any]) -> tuple[IntArray, IntArray]:
    """Of each option of these requests, which request it belongs to and where it lies."""
    lengths = asks["options"]
    of = np.repeat(np.arange(len(asks)), lengths)
    within = np.arange(len(of)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return of, asks["first"][of] + within

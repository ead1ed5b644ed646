"""What lies before a moment, as arrays: facts in order of customer and time, and how much of them each point sees.

Counts and sums over a window are differences of running totals, so that a feature costs two look-ups a point,
however many facts the window holds. Amounts are whole ten-thousandths of a minor unit: differences of running
totals are exact, and a feature is the same whichever other customers are computed with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.choice import BoolArray, FloatArray
from models.domain.interaction import InteractionKind
from models.logged import IntArray

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
# No feature looks further back, so that a build need not read the whole history.
LOOKBACK_DAYS: Final = 730
AMOUNTS_A_MINOR_UNIT: Final = 10_000
# Beyond any amount in any currency; larger ones are cut to it, so that a broken fact cannot stop a build.
LARGEST_MINOR: Final = 1e12

# Steps of the register, told in the same way as facts: an account linked; a permission given, or lost again.
ACCOUNT_LINKED: Final = "account_linked"
CONSENT_GIVEN: Final = "consent_given"
CONSENT_LOST: Final = "consent_lost"
OF_REGISTER: Final = (ACCOUNT_LINKED, CONSENT_GIVEN, CONSENT_LOST)
KINDS: Final = (*(kind.value for kind in InteractionKind), *OF_REGISTER)

_MOST_TOTALS = 12


@dataclass(frozen=True, slots=True)
class These:
    """Which facts a feature counts; what is not said does not matter.

    Attributes:
        kinds: Of `KINDS`.
        channels: On one of these channels.
        hours: From the first hour of the day up to, without, the second; local time of the customer.
        weekend: On a Saturday or Sunday, local time.
        places: Where a purchase was made.
        price: What was paid: `full` or `discounted`.
        contents: Content kind of the message that was answered.
    """

    kinds: tuple[str, ...]
    channels: tuple[str, ...] | None = None
    hours: tuple[int, int] | None = None
    weekend: bool = False
    places: tuple[str, ...] | None = None
    price: str | None = None
    contents: tuple[str, ...] | None = None

    def __str__(self) -> str:
        said = " or ".join(self.kinds)
        if self.channels is not None:
            said += f" on {' or '.join(self.channels) or 'no channel'}"
        if self.hours is not None:
            said += f" from {self.hours[0]}:00 to {self.hours[1]}:00"
        if self.weekend:
            said += " at a weekend"
        for name, values in (("place", self.places), ("content", self.contents)):
            if values is not None:
                said += f" with {name} {' or '.join(values)}"
        return said if self.price is None else f"{said} at price {self.price}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FactArrays:
    """Facts of numbered customers, in order of customer and time; every array has shape (m,).

    Texts are codes: positions in the vocabulary of their column, -1 for none.

    Attributes:
        person: Number of the customer.
        at_us: When, microseconds since 1970.
        kind: Position in `KINDS`.
        amount: Ten-thousandths of a minor unit.
        hour: Of the day, local, 0 to 23.
        weekday: Local, 1 for Monday to 7.
        channel: Code.
        place: Code.
        price: Code.
        content: Code.
        words: Vocabulary of every coded column.
    """

    person: IntArray
    at_us: IntArray
    kind: NDArray[np.int8]
    amount: IntArray
    hour: NDArray[np.int8]
    weekday: NDArray[np.int8]
    channel: NDArray[np.int32]
    place: NDArray[np.int32]
    price: NDArray[np.int32]
    content: NDArray[np.int32]
    words: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.at_us)


class Past:
    """What n points see: facts strictly before their moment.

    Args:
        facts: Of the customers of the points, at least.
        person: Number of every point's customer, shape (n,).
        at_us: Moments, microseconds since 1970, shape (n,).
        register: Columns that hold for a customer at any time, by name, shape (n,); NaN where unknown.
        created_us: When each point's customer was created, shape (n,); NaN where unknown.
    """

    def __init__(
        self,
        facts: FactArrays,
        person: IntArray,
        at_us: IntArray,
        register: Mapping[str, FloatArray],
        created_us: FloatArray,
    ) -> None:
        self._facts = facts
        self._at_us = at_us
        self._register = register
        self._created_us = created_us
        start = int(min(facts.at_us.min(initial=at_us.min()), at_us.min()))
        last = int(max(facts.at_us.max(initial=at_us.max()), at_us.max()))
        # Customer and time in one number, so that one search finds both.
        self._bits = max((last - start).bit_length(), 1)
        self._start = start
        self._keys = (facts.person << self._bits) | (facts.at_us - start)
        self._base = person << self._bits
        self._first = np.searchsorted(self._keys, self._base)
        self._upto = self._place(at_us)
        self._since: dict[int, NDArray[np.intp]] = {}
        self._totals: OrderedDict[tuple[str, These], NDArray[np.int64]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._at_us)

    @staticmethod
    def most_people(span_us: int) -> int:
        """How many customers fit beside a span of time into one number."""
        return 1 << max(62 - max(span_us.bit_length(), 1), 0)

    def count(self, these: These, days: int | None) -> IntArray:
        """How many happened within the window; None looks at everything, for steps of the register."""
        return self._difference("count", these, self._from(days))

    def amount(self, these: These, days: int) -> IntArray:
        """Sum of their amounts within the window, in ten-thousandths of a minor unit."""
        return self._difference("amount", these, self._from(days))

    def age_us(self, these: These) -> FloatArray:
        """Microseconds since the latest of them; NaN where there was none within `LOOKBACK_DAYS`."""
        at = self._latest(these)
        age = np.full(len(self), np.nan)
        known = at >= 0
        age[known] = self._at_us[known] - self._facts.at_us[at[known]]
        return age

    def count_after(self, these: These, event: These) -> IntArray:
        """How many happened after the latest `event`, or within `LOOKBACK_DAYS` where there was none."""
        at = self._latest(event)
        since = self._from(LOOKBACK_DAYS).copy()
        known = at >= 0
        since[known] = np.searchsorted(self._keys, self._keys[at[known]], side="right")
        return self._difference("count", these, since)

    def tenure_us(self) -> FloatArray:
        """Microseconds since the customer was created; NaN before that."""
        tenure = self._at_us - self._created_us
        return np.where(tenure >= 0, tenure, np.nan)

    def register(self, column: str) -> FloatArray:
        """A column of the register."""
        return self._register[column]

    def _place(self, at_us: IntArray) -> NDArray[np.intp]:
        """Position of the first fact of the point's customer that is no earlier than the moment."""
        return np.searchsorted(self._keys, self._base | np.maximum(at_us - self._start, 0))

    def _from(self, days: int | None) -> NDArray[np.intp]:
        if days is None:
            return self._first
        if days not in self._since:
            self._since[days] = self._place(self._at_us - days * DAY_US)
        return self._since[days]

    def _difference(self, what: str, these: These, since: NDArray[np.intp]) -> IntArray:
        total = self._running(
            what, these, lambda mask: np.cumsum(mask if what == "count" else self._facts.amount * mask)
        )
        return _at(total, self._upto) - _at(total, since)

    def _latest(self, these: These) -> NDArray[np.int64]:
        """Position of the latest of them before each point, within `LOOKBACK_DAYS`; -1 for none."""
        positions = self._running(
            "latest", these, lambda mask: np.maximum.accumulate(np.where(mask, np.arange(len(mask)), -1))
        )
        at = _at(positions, self._upto, nothing=-1)
        return np.where(at >= self._from(LOOKBACK_DAYS), at, -1)

    def _running(
        self, what: str, these: These, over: Callable[[BoolArray], NDArray[np.int64]]
    ) -> NDArray[np.int64]:
        """A running total over all facts; the last few are kept, for features of one kind follow each other."""
        key = what, these
        if key in self._totals:
            self._totals.move_to_end(key)
            return self._totals[key]
        if len(self._totals) >= _MOST_TOTALS:
            self._totals.popitem(last=False)
        self._totals[key] = over(self._mask(these))
        return self._totals[key]

    def _mask(self, these: These) -> BoolArray:
        facts = self._facts
        mask = _among(facts.kind, KINDS, these.kinds)
        for column, wanted in (
            ("channel", these.channels),
            ("place", these.places),
            ("price", None if these.price is None else (these.price,)),
            ("content", these.contents),
        ):
            if wanted is not None:
                mask &= _among(getattr(facts, column), facts.words[column], wanted)
        if these.hours is not None:
            mask &= (facts.hour >= these.hours[0]) & (facts.hour < these.hours[1])
        if these.weekend:
            mask &= facts.weekday >= 6
        return mask


def _among(codes: NDArray[np.signedinteger], words: tuple[str, ...], wanted: tuple[str, ...]) -> BoolArray:
    table = np.array([word in wanted for word in words] + [False])  # code -1 finds the last
    found: BoolArray = table[codes]
    return found


def _at(running: NDArray[np.int64], end: NDArray[np.intp], nothing: int = 0) -> NDArray[np.int64]:
    """The running total over everything before `end`."""
    if not len(running):
        return np.full(len(end), nothing, dtype=np.int64)
    return np.where(end > 0, running[np.maximum(end, 1) - 1], nothing)

"""How a feature follows from what lies before a moment. Each formula is also its own description."""

from __future__ import annotations

from dataclasses import Field, dataclass, fields
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from features.past import AMOUNTS_A_MINOR_UNIT, DAY_US, HOUR_US, LOOKBACK_DAYS, Past, These

_UNITS = {DAY_US: "days", HOUR_US: "hours"}


class Formula(Protocol):
    """A dataclass that computes one feature; its text says how, and changes whenever the values do."""

    __dataclass_fields__: ClassVar[dict[str, Field[object]]]

    def __call__(self, past: Past) -> NDArray[np.float64] | NDArray[np.int64]:
        """The feature of every point, shape (n,); NaN where missing."""
        ...


def facts_of(formula: Formula) -> tuple[These, ...]:
    """The facts that a formula looks at."""
    values = (getattr(formula, field.name) for field in fields(formula))
    return tuple(value for value in values if isinstance(value, These))


@dataclass(frozen=True, slots=True)
class Count:
    """How many happened within the window; without days, ever (steps of the register only)."""

    these: These
    days: int | None

    def __call__(self, past: Past) -> NDArray[np.int64]:
        """Counts."""
        return past.count(self.these, self.days)

    def __str__(self) -> str:
        return str(self.these) if self.days is None else f"{self.these} in {self.days} d"


@dataclass(frozen=True, slots=True)
class Standing:
    """How many were given and not lost again."""

    given: These
    lost: These

    def __call__(self, past: Past) -> NDArray[np.int64]:
        """Counts."""
        return past.count(self.given, None) - past.count(self.lost, None)

    def __str__(self) -> str:
        return f"{self.given} - {self.lost}"


@dataclass(frozen=True, slots=True)
class CountAfter:
    """How many happened after the latest event; within `LOOKBACK_DAYS` where there was none."""

    these: These
    event: These

    def __call__(self, past: Past) -> NDArray[np.int64]:
        """Counts."""
        return past.count_after(self.these, self.event)

    def __str__(self) -> str:
        return f"{self.these} after the last ({self.event})"


@dataclass(frozen=True, slots=True)
class Amount:
    """Sum of amounts within the window, minor units."""

    these: These
    days: int

    def __call__(self, past: Past) -> NDArray[np.float64]:
        """Amounts."""
        return past.amount(self.these, self.days) / AMOUNTS_A_MINOR_UNIT

    def __str__(self) -> str:
        return f"amount of ({self.these}) in {self.days} d"


@dataclass(frozen=True, slots=True)
class MeanAmount:
    """Amount by fact within the window, minor units; missing where there is none."""

    these: These
    days: int

    def __call__(self, past: Past) -> NDArray[np.float64]:
        """Means."""
        n = past.count(self.these, self.days)
        total = past.amount(self.these, self.days) / AMOUNTS_A_MINOR_UNIT
        return np.where(n > 0, total / np.maximum(n, 1), np.nan)

    def __str__(self) -> str:
        return f"mean amount of ({self.these}) in {self.days} d"


@dataclass(frozen=True, slots=True)
class Shrunk:
    """A rate or share, shrunk to what is usual where little was seen.

    (n_above + weight * prior) / (n_below + weight): as if `weight` more had been seen at the prior rate.

    Attributes:
        above: What is counted.
        below: Out of what.
        days: Window of both.
        prior: The usual rate, in [0, 1].
        weight: How many facts the prior is worth.
    """

    above: These
    below: These
    days: int
    prior: float
    weight: int

    def __call__(self, past: Past) -> NDArray[np.float64]:
        """Rates."""
        n_above, n_below = past.count(self.above, self.days), past.count(self.below, self.days)
        return (n_above + self.weight * self.prior) / (n_below + self.weight)

    def __str__(self) -> str:
        prior = f"{self.weight} x {self.prior:g}"
        return f"(({self.above}) + {prior}) / (({self.below}) + {self.weight}) in {self.days} d"


@dataclass(frozen=True, slots=True)
class Age:
    """Time since the latest; missing where there was none within `LOOKBACK_DAYS`.

    Attributes:
        these: Facts.
        unit_us: What it is measured in: `DAY_US` or `HOUR_US`.
        unless: Missing too where one of these came later, or at the same moment.
    """

    these: These
    unit_us: int = DAY_US
    unless: These | None = None

    def __call__(self, past: Past) -> NDArray[np.float64]:
        """Ages."""
        age = past.age_us(self.these)
        if self.unless is not None:
            age = np.where(past.age_us(self.unless) <= age, np.nan, age)
        return age / self.unit_us

    def __str__(self) -> str:
        unless = "" if self.unless is None else f" unless ({self.unless}) since"
        return f"time since ({self.these}){unless}, in {_UNITS[self.unit_us]}"


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a customer stands: 0 never bought, 1 first purchase of late, 2 buys again, 3 fading, 4 lost.

    Of late means within `recent_days`; fading within `fading_days`; lost is longer ago, within `LOOKBACK_DAYS`.
    """

    purchases: These
    recent_days: int
    fading_days: int

    def __call__(self, past: Past) -> NDArray[np.int64]:
        """Stages, 0 to 4."""
        n = past.count(self.purchases, LOOKBACK_DAYS)
        age = past.age_us(self.purchases) / DAY_US
        stage = np.select(
            [n == 0, (age <= self.recent_days) & (n == 1), age <= self.recent_days, age <= self.fading_days],
            [0, 1, 2, 3],
            4,
        )
        return stage.astype(np.int64)

    def __str__(self) -> str:
        return f"stage by ({self.purchases}), {self.recent_days} and {self.fading_days} d"


@dataclass(frozen=True, slots=True)
class Tenure:
    """Days since the customer was created; missing before that."""

    def __call__(self, past: Past) -> NDArray[np.float64]:
        """Days."""
        return past.tenure_us() / DAY_US

    def __str__(self) -> str:
        return "days since created_at"


@dataclass(frozen=True, slots=True)
class OfRegister:
    """A column of the customer register."""

    column: str

    def __call__(self, past: Past) -> NDArray[np.float64]:
        """As it stands there."""
        return past.register(self.column)

    def __str__(self) -> str:
        return f"column {self.column}"


@dataclass(frozen=True, slots=True)
class Flag:
    """1 where a column of the customer register is 1, else 0."""

    column: str

    def __call__(self, past: Past) -> NDArray[np.int64]:
        """0 or 1."""
        flags: NDArray[np.int64] = (past.register(self.column) == 1).astype(np.int64)
        return flags

    def __str__(self) -> str:
        return f"column {self.column} is 1"

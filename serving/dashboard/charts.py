"""Geometry of the page's charts; the templates draw it as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

PLOT_WIDTH = 520.0
STEPS_HEIGHT = 220.0
COLUMNS_HEIGHT = 180.0
_ROOM = 0.06  # empty share on both sides of the widest interval
_TICKS = 5
_COLUMN_SHARE = 0.7  # of the room of one day


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One line of a forest plot, in the unit of the axis.

    Attributes:
        always_low: Of the always-valid interval; None where there is none.
    """

    label: str
    value: float
    low: float
    high: float
    always_low: float | None = None
    always_high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnInterval:
    """The same in pixels from the left of the plot."""

    label: str
    value: float
    low: float
    high: float
    always_low: float | None
    always_high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark of the axis."""

    at: float
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """A forest plot: intervals over one axis, with a line at zero where zero is in sight."""

    width: float
    rows: tuple[DrawnInterval, ...]
    ticks: tuple[Tick, ...]
    zero: float | None


def forest(intervals: Sequence[Interval], include_zero: bool) -> Forest | None:
    """Lay out a forest plot; None where there is nothing to draw.

    Args:
        intervals: From top to bottom.
        include_zero: Whether the axis must show zero.
    """
    if not intervals:
        return None
    ends = [
        end
        for one in intervals
        for end in (one.low, one.high, one.always_low, one.always_high)
        if end is not None
    ]
    if include_zero:
        ends.append(0.0)
    low, high = min(ends), max(ends)
    room = (high - low or abs(high) or 1.0) * _ROOM
    low, high = low - room, high + room

    def at(value: float) -> float:
        return round((value - low) / (high - low) * PLOT_WIDTH, 1)

    return Forest(
        width=PLOT_WIDTH,
        rows=tuple(
            DrawnInterval(
                label=one.label,
                value=at(one.value),
                low=at(one.low),
                high=at(one.high),
                always_low=None if one.always_low is None else at(one.always_low),
                always_high=None if one.always_high is None else at(one.always_high),
            )
            for one in intervals
        ),
        ticks=tuple(Tick(at=at(value), value=value) for value in round_values(low, high)),
        zero=at(0.0) if low <= 0 <= high else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A share by the end of a day, with its interval, all in [0, 1]."""

    day: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """A share that grows day by day, with a band for its interval: corners as SVG has them, y downwards."""

    width: float
    height: float
    line: str
    band: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def steps(points: Sequence[Point], last_day: int, top: float) -> Steps:
    """Lay out a curve.

    Args:
        points: At least one, in order of days.
        last_day: At the right end, whether or not the curve goes so far.
        top: Share at the upper end, above 0.
    """

    def corners(name: str) -> list[str]:
        """A level holds from its day up to the next."""
        found, level = [], 0.0
        for one in points:
            for height in (level, getattr(one, name)):
                x, y = one.day / last_day * PLOT_WIDTH, (1.0 - height / top) * STEPS_HEIGHT
                found.append(f"{x:.1f},{y:.1f}")
            level = getattr(one, name)
        return found

    origin = f"0.0,{STEPS_HEIGHT:.1f}"
    return Steps(
        width=PLOT_WIDTH,
        height=STEPS_HEIGHT,
        line=" ".join([origin, *corners("value")]),
        band=" ".join([origin, *corners("high"), *reversed(corners("low"))]),
        x_ticks=tuple(
            Tick(at=round(day / last_day * PLOT_WIDTH, 1), value=day) for day in range(0, last_day + 1, 30)
        ),
        y_ticks=tuple(
            Tick(at=round((1.0 - share / top) * STEPS_HEIGHT, 1), value=share)
            for share in round_values(0.0, top)
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One day of a column chart, in pixels; y downwards.

    Attributes:
        at: Left edge.
        top: Upper edge.
        starts_month: Whether the month has to be written below it.
    """

    day: date
    n: int
    at: float
    top: float
    starts_month: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """A count by day: a column each."""

    width: float
    height: float
    column_width: float
    columns: tuple[Column, ...]
    y_ticks: tuple[Tick, ...]


def columns(by_day: Mapping[date, int]) -> Columns | None:
    """Lay out a column chart, in order of days; None where every count is 0."""
    top = max(by_day.values(), default=0)
    if not top:
        return None
    step = PLOT_WIDTH / len(by_day)
    days = sorted(by_day)
    return Columns(
        width=PLOT_WIDTH,
        height=COLUMNS_HEIGHT,
        column_width=round(step * _COLUMN_SHARE, 1),
        columns=tuple(
            Column(
                day=day,
                n=by_day[day],
                at=round((place + (1.0 - _COLUMN_SHARE) / 2) * step, 1),
                top=round((1.0 - by_day[day] / top) * COLUMNS_HEIGHT, 1),
                starts_month=place == 0 or day.day == 1,
            )
            for place, day in enumerate(days)
        ),
        y_ticks=tuple(
            Tick(at=round((1.0 - n / top) * COLUMNS_HEIGHT, 1), value=n)
            for n in round_values(0.0, top)
            if n.is_integer()
        ),
    )


def round_values(low: float, high: float) -> list[float]:
    """About five round values between the ends: multiples of 1, 2 or 5 times a power of ten.

    Example:
        >>> round_values(-13, 42)
        [-10.0, 0.0, 10.0, 20.0, 30.0, 40.0]
    """
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough * 0.75)
    first = math.ceil(low / step)
    return [round(multiple * step, 10) for multiple in range(first, math.floor(high / step) + 1)]

"""Office hours: whether somebody is there at a moment, and when somebody is next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)


class Weekday(StrEnum):
    """Days of a week, Monday first."""

    MONDAY = "mon"
    TUESDAY = "tue"
    WEDNESDAY = "wed"
    THURSDAY = "thu"
    FRIDAY = "fri"
    SATURDAY = "sat"
    SUNDAY = "sun"


_WEEK = tuple(Weekday)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningSpan:
    """From `opens` until just before `closes`, on the office's clock.

    One that closes no later than it opens lasts over midnight; 00:00 to 00:00 is the whole day.
    """

    opens: time
    closes: time

    def on(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """Its first moment and the first one after it, UTC, where it begins on that day.

        Of an hour that the clock shows twice it opens at the first and closes at the second. A time that the clock
        leaves out counts as the one that it shows then instead.
        """
        ends = day if self.closes > self.opens else day + _DAY
        closes = [datetime.combine(ends, self.closes, zone).replace(fold=fold) for fold in (0, 1)]
        opened = datetime.combine(day, self.opens, zone).astimezone(UTC)
        return opened, max(each.astimezone(UTC) for each in closes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """When an office is open.

    Attributes:
        zone: Of its clock.
        hours: Spans by the weekday on which they begin; none on a day that is absent.
        closed_on: Dates on which no span begins.
    """

    zone: ZoneInfo
    hours: Mapping[Weekday, tuple[OpeningSpan, ...]]
    closed_on: frozenset[date] = frozenset()

    def is_open(self, moment: datetime) -> bool:
        """Whether somebody is there; `moment` is aware."""
        today = moment.astimezone(self.zone).date()
        return any(
            opens <= moment < closes for n in (-1, 0, 1) for opens, closes in self._spans(today + n * _DAY)
        )

    def next_opening(self, moment: datetime) -> datetime | None:
        """The first moment at or after `moment` at which a span begins, UTC; None where none ever does."""
        today = moment.astimezone(self.zone).date()
        # A weekday with hours comes back every week, and each closed date takes one of its weeks.
        for n in range(-1, 7 * (len(self.closed_on) + 2)):
            later = [opens for opens, _ in self._spans(today + n * _DAY) if opens >= moment]
            if later:
                return min(later)
        return None

    def _spans(self, day: date) -> Iterator[tuple[datetime, datetime]]:
        if day not in self.closed_on:
            for span in self.hours.get(_WEEK[day.weekday()], ()):
                yield span.on(day, self.zone)

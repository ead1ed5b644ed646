"""When a date of a customer comes round."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta

from models.domain.customer import zone
from models.domain.slots import moment_of
from serving.occasions.occasion import OnDate

_FORM = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
# Clocks are at most 14 hours ahead of UTC and 12 behind: a local date is within a day of that of UTC.
_A_DAY = timedelta(days=1)


def date_in(value: object) -> date | None:
    """The date that an attribute holds as YYYY-MM-DD; None where it holds something else.

    Example:
        >>> date_in("1990-02-29"), date_in("2000-02-29")
        (None, datetime.date(2000, 2, 29))
    """
    if not isinstance(value, str) or _FORM.fullmatch(value) is None:
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None


def anniversary(told: date, year: int) -> date:
    """The day of a year on which a date comes round: 29 February on 28 February where there is none.

    Example:
        >>> anniversary(date(2000, 2, 29), 2026)
        datetime.date(2026, 2, 28)
    """
    try:
        return told.replace(year=year)
    except ValueError:
        return date(year, 2, 28)


def occurrences(
    rule: OnDate, told: date, time_zone: str, after: datetime, until: datetime
) -> Iterator[tuple[str, datetime]]:
    """Which occurrences of a date are due in `(after, until]`, and when.

    An anniversary is called by its year, so that a date which is corrected gives no second one; a date that counts
    once is called by itself, so that another date is another occurrence.

    Args:
        rule: Which days.
        told: The customer's date.
        time_zone: Theirs.
        after: Aware.
        until: Aware.
    """
    first, last = days_between(rule, after, until)
    if rule.every_year:
        named = [
            (str(year), anniversary(told, year))
            for year in range(max(first.year, told.year + 1), last.year + 1)
        ]
    else:
        named = [(told.isoformat(), told)]
    local = zone(time_zone)
    for name, day in named:
        if first <= day <= last:
            on = day + timedelta(days=rule.days)
            moment = moment_of(datetime.combine(on, rule.at, tzinfo=local))
            if after < moment <= until:
                yield name, moment


def days_between(rule: OnDate, after: datetime, until: datetime) -> tuple[date, date]:
    """First and last day whose occurrence can be due in `(after, until]` in any time zone."""
    shift = timedelta(days=rule.days)
    return after.date() - _A_DAY - shift, until.date() + _A_DAY - shift


def beginnings(rule: OnDate, after: datetime, until: datetime) -> tuple[list[str], bool]:
    """How dates that can be due in `(after, until]` are written: all of it, or the part from the month on.

    Returns:
        The texts, and whether they are month and day alone.
    """
    first, last = days_between(rule, after, until)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    if not rule.every_year:
        return [day.isoformat() for day in days], False
    texts = {f"{day:%m-%d}" for day in days}
    return sorted(texts | ({"02-29"} if "02-28" in texts else set())), True

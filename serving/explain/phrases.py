"""The small parts of sentences: actions, moments, probabilities, spaces."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache

from models.domain.action import Action
from models.domain.customer import zone
from serving.explain.catalogue import Catalogue, Span

# Chinese and Japanese put a space between their own writing and another one, and nowhere else.
_IDEOGRAPH = "\u3400-\u4dbf\u4e00-\u9fff"
_PUNCTUATION = "\u3001\u3002\u300c\u300d\uff08\uff09\uff0c\uff1a\uff1b"
_SPACES = re.compile(
    f" *(?<=[{_PUNCTUATION}]) +| +(?=[{_PUNCTUATION}])|(?<=[{_IDEOGRAPH}]) +(?=[{_IDEOGRAPH}])|(?<= ) +"
)


@lru_cache(maxsize=16_384)
def name_of(action: Action | None, time_zone: str, words: Catalogue) -> str:
    """A contact, or no contact, as a noun."""
    if action is None:
        return words.no_contact
    return words.action.format(
        offer=action.offer,
        channel=words.channel(action.channel),
        at=local_time(action.send_at, time_zone, words),
    )


def local_time(moment: datetime, time_zone: str, words: Catalogue) -> str:
    """A moment on the customer's own clock, for example `Mon 2 Mar 09:00`."""
    weekday, day, month, clock = _on_the_clock(moment, time_zone)
    return words.moment.format(
        weekday=words.weekdays[weekday], day=day, month=words.months[month], clock=clock
    )


@lru_cache(maxsize=4_096)
def _on_the_clock(moment: datetime, time_zone: str) -> tuple[int, int, int, str]:
    """Weekday and month from 0, day from 1, and the time: slots strike for all customers of a time zone at once."""
    local = moment.astimezone(zone(time_zone))
    return local.weekday(), local.day, local.month - 1, f"{local:%H:%M}"


# Each unit in seconds, with its words for one and for many.
_UNITS = (
    (86_400, Span.DAY, Span.DAYS),
    (3_600, Span.HOUR, Span.HOURS),
    (60, Span.MINUTE, Span.MINUTES),
    (1, Span.SECOND, Span.SECONDS),
)


def span(seconds: int, words: Catalogue) -> str:
    """A time above zero, in the largest unit of which it is a whole number."""
    size, one, many = next(unit for unit in _UNITS if seconds % unit[0] == 0)
    n = seconds // size
    return words.spans[one if n == 1 else many].format(n=n)


def odds(probability: float) -> str:
    """A probability of a draw, as a plain number."""
    return f"{probability:.3g}"


def percent(share: float) -> str:
    """A share of a hundred, three significant digits.

    Example:
        >>> percent(0.31234), percent(-0.002), percent(3e-9)
        ('31.2%', '-0.2%', '<0.0001%')
    """
    return "<0.0001%" if 0.0 < share < 1e-6 else f"{share * 100:.3g}%"


def points(share: float) -> str:
    """A difference of two shares, in percentage points with its sign.

    Example:
        >>> points(0.0612), points(-0.00042)
        ('+6.1', '-0.042')
    """
    return f"{share * 100:+.2g}"


def tidy(text: str) -> str:
    """Take away the spaces that templates leave beside full-width punctuation and between ideographs.

    Example:
        >>> tidy("\u6539\u70ba \u4e0d\u806f\u7d61\uff0c LINE \u3002") == "\u6539\u70ba\u4e0d\u806f\u7d61\uff0cLINE\u3002"
        True
    """
    return text if text.isascii() else _SPACES.sub("", text).strip()

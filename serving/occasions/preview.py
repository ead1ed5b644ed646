"""How many will be due, without deciding."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import Connection, Engine, select

from features.history.campaigns import load_campaign
from features.history.engine import read_only
from features.history.tables import customers
from serving.occasions.calendar import date_in
from serving.occasions.due import due_between
from serving.occasions.occasion import OnDate
from serving.occasions.standing import OccasionStanding, standing
from serving.occasions.store import Stored, load_occasion
from serving.store.availability import reaching_the_store

LONGEST_PREVIEW_DAYS = 366
_A_PAGE = 10_000
_LONGEST_EXAMPLE = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What an occasion is going to decide, as far as it is known.

    Attributes:
        n_at_once: Due already and not decided: decided by the next look, or when the campaign opens.
        by_day: How many are due, by the day of UTC; from that of `as_of` on, one entry a day.
        n_dates: Customers whose attribute is a date; 0 where facts are looked for.
        n_no_date: Customers whose attribute is something else; likewise.
        example: One of those values, at most 80 characters; None where there is none.
    """

    as_of: datetime
    standing: OccasionStanding
    n_at_once: int
    by_day: dict[date, int]
    n_dates: int
    n_no_date: int
    example: str | None


def preview(engine: Engine, name: str, now: datetime, days: int) -> Preview:
    """Look who will be due within so many days, as long as the campaign is open.

    Raises:
        NotFoundError: there is no such occasion.
        StoreUnavailableError: the database cannot be reached.
    """
    with reaching_the_store(), read_only(engine).connect() as conn:
        stored = load_occasion(conn, name)
        campaign = load_campaign(conn, stored.occasion.campaign_id)
        date_rule = stored.occasion.date
        n_dates, n_no_date, example = (0, 0, None) if date_rule is None else _values(conn, date_rule)
    opens_at = max(now, campaign.send_window.starts_at)
    until = now + timedelta(days=days)
    by_day = {now.date() + timedelta(days=n): 0 for n in range(days + 1)}
    n_at_once = 0
    if standing(campaign, now) is not OccasionStanding.CLOSED and opens_at <= until:
        caught_up_from = opens_at - timedelta(days=stored.occasion.catch_up_days)
        # A look at the very end of the window finds it closed.
        last = min(until, campaign.send_window.closes_at - timedelta(microseconds=1))
        counted = _counted(engine, stored, caught_up_from, opens_at, last)
        n_at_once = counted.pop(None, 0)
        by_day |= {day: n for day, n in counted.items() if day is not None}
    return Preview(
        as_of=now,
        standing=standing(campaign, now),
        n_at_once=n_at_once,
        by_day=by_day,
        n_dates=n_dates,
        n_no_date=n_no_date,
        example=example,
    )


def _counted(
    engine: Engine, stored: Stored, after: datetime, opens_at: datetime, until: datetime
) -> Counter[date | None]:
    """Occurrences by day; None for those that are due before the campaign can be decided for."""
    counted: Counter[date | None] = Counter()
    for page in due_between(engine, stored, after, until):
        counted.update(each.due_at.date() if each.due_at > opens_at else None for each in page)
    return counted


def _values(conn: Connection, rule: OnDate) -> tuple[int, int, str | None]:
    """How many values of the attribute are dates, how many are not, and one of the latter."""
    n_dates, n_others, example = 0, 0, None
    value = customers.c.attributes[rule.attribute].as_string()
    for told in conn.scalars(
        select(value).where(value.is_not(None)), execution_options={"yield_per": _A_PAGE}
    ):
        if date_in(told) is not None:
            n_dates += 1
        else:
            n_others += 1
            example = str(told)[:_LONGEST_EXAMPLE] if example is None else example
    return n_dates, n_others, example

"""Who is due: customers of a page, without those whose occurrence was settled before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import Engine, func, select

from features.history.engine import read_only
from features.history.tables import customers
from serving.occasions.book import settled_before
from serving.occasions.calendar import beginnings, date_in, occurrences
from serving.occasions.occasion import Due, OnDate
from serving.occasions.store import Stored
from serving.store.availability import reaching_the_store

_A_PAGE = 1_000


def due_between(engine: Engine, stored: Stored, after: datetime, until: datetime) -> Iterator[list[Due]]:
    """Occurrences that are due in `(after, until]` and were not settled before, page by page.

    Pages go by customer id: who joins, is merged or erased meanwhile shifts nothing. No transaction is open between
    two pages.

    Args:
        engine: The history.
        stored: The occasion.
        after: Aware.
        until: Aware.

    Raises:
        StoreUnavailableError: the database cannot be reached.
    """
    rule = stored.occasion.date
    texts, without_year = beginnings(rule, after, until)
    value = customers.c.attributes[rule.attribute].as_string()
    part = func.substr(value, 6, 5) if without_year else value
    last = ""
    while True:
        query = (
            select(customers.c.customer_id, customers.c.time_zone, value.label("told"))
            .where(customers.c.customer_id > last, part.in_(texts))
            .order_by(customers.c.customer_id)
            .limit(_A_PAGE)
        )
        with reaching_the_store(), read_only(engine).connect() as conn:
            rows = conn.execute(query).all()
            found = [
                each
                for customer_id, time_zone, told in rows
                for each in _of_date(rule, customer_id, time_zone, told, after, until)
            ]
            settled = settled_before(conn, stored.name, found)
        if page := _without(found, settled):
            yield page
        if len(rows) < _A_PAGE:
            return
        last = rows[-1].customer_id


def _of_date(
    rule: OnDate, customer_id: str, time_zone: str, told: object, after: datetime, until: datetime
) -> Iterator[Due]:
    day = date_in(told)
    if day is not None:
        for name, moment in occurrences(rule, day, time_zone, after, until):
            yield Due(customer_id=customer_id, occurrence=name, due_at=moment)


def _without(found: Sequence[Due], settled: set[tuple[str, str]]) -> list[Due]:
    return [each for each in found if (each.customer_id, each.occurrence) not in settled]

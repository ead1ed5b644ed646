"""Who is due by a date, a fact or a referral, page by page, without those whose occurrence was settled before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, func, literal_column, or_, select

from features.history.among import among
from features.history.engine import read_only
from features.history.query import present_ids
from features.history.referrals import REFERRED_BY, REGISTERED
from features.history.tables import SELDOM, customers, interactions
from serving.occasions.book import settled_before
from serving.occasions.calendar import beginnings, date_in, occurrences
from serving.occasions.occasion import AfterFact, Due, OnDate, Referral
from serving.occasions.store import Stored
from serving.store.availability import reaching_the_store

_A_PAGE = 1_000
_BOUGHT = interactions.c.kind.in_([literal_column("'converted'"), literal_column("'purchased'")])
_Facts = Sequence[Row[int, str, datetime]]


def due_between(engine: Engine, stored: Stored, after: datetime, until: datetime) -> Iterator[list[Due]]:
    """Occurrences that are due in `(after, until]` and were not settled before, page by page.

    Pages go by customer id, or by moment and number of the facts: what comes or goes meanwhile shifts nothing. No
    transaction is open between two pages.

    Args:
        engine: The history.
        stored: The occasion.
        after: Aware.
        until: Aware.

    Raises:
        StoreUnavailableError: the database cannot be reached.
    """
    occasion = stored.occasion
    if occasion.date is not None:
        yield from _by_date(engine, stored.name, occasion.date, after, until)
    elif occasion.after is not None:
        yield from _by_fact(engine, stored.name, occasion.after, after, until)
    elif occasion.referral is not None:
        yield from _by_referral(engine, stored.name, occasion.referral, after, until)


def _by_date(
    engine: Engine, name: str, rule: OnDate, after: datetime, until: datetime
) -> Iterator[list[Due]]:
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
            settled = settled_before(conn, name, found)
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


def _by_fact(
    engine: Engine, name: str, rule: AfterFact, after: datetime, until: datetime
) -> Iterator[list[Due]]:
    fact = interactions.c
    wanted = [
        fact.kind == literal_column(f"'{rule.fact.kind.value}'"),
        *(fact.attributes[key].as_string() == text for key, text in rule.fact.attributes.items()),
    ]
    wait = timedelta(seconds=rule.seconds)

    def find(conn: Connection, rows: _Facts) -> list[Due]:
        taken_back = _taken_back(conn, rule, rows, until)
        return [
            Due(
                customer_id=row.customer_id,
                occurrence=str(row.interaction_id),
                due_at=row.occurred_at + wait,
            )
            for row in rows
            if row.interaction_id not in taken_back
        ]

    return _of_facts(engine, name, wanted, (after - wait, until - wait), find)


def _by_referral(
    engine: Engine, name: str, rule: Referral, after: datetime, until: datetime
) -> Iterator[list[Due]]:
    wait = timedelta(seconds=rule.seconds)

    def find(conn: Connection, rows: _Facts) -> list[Due]:
        return _for_referrers(conn, rows, wait)

    return _of_facts(engine, name, [_BOUGHT], (after - wait, until - wait), find)


def _of_facts(
    engine: Engine,
    name: str,
    wanted: Sequence[ColumnElement[bool]],
    between: tuple[datetime, datetime],
    find: Callable[[Connection, _Facts], list[Due]],
) -> Iterator[list[Due]]:
    """What follows from facts that people made in `(after, until]`, page by page."""
    after, until = between
    fact = interactions.c
    query = (
        select(fact.interaction_id, fact.customer_id, fact.occurred_at)
        # Whoever is not known, or was erased, is not decided for.
        .join(customers, customers.c.customer_id == fact.customer_id)
        .where(SELDOM, *wanted, ~fact.machine_made, fact.occurred_at <= until)
        .order_by(fact.occurred_at, fact.interaction_id)
        .limit(_A_PAGE)
    )
    behind: ColumnElement[bool] = fact.occurred_at > after
    while True:
        with reaching_the_store(), read_only(engine).connect() as conn:
            rows = conn.execute(query.where(behind)).all()
            found = find(conn, rows)
            settled = settled_before(conn, name, found)
        if page := _without(found, settled):
            yield page
        if len(rows) < _A_PAGE:
            return
        last = rows[-1]
        behind = or_(
            fact.occurred_at > last.occurred_at,
            and_(fact.occurred_at == last.occurred_at, fact.interaction_id > last.interaction_id),
        )


def _taken_back(conn: Connection, rule: AfterFact, rows: _Facts, until: datetime) -> set[int]:
    """Which of these facts a later one of the same customer took back."""
    if not rule.unless or not rows:
        return set()
    fact = interactions.c
    against = conn.execute(
        select(fact.customer_id, func.max(fact.occurred_at).label("at"))
        .where(
            among(conn, fact.customer_id, {row.customer_id for row in rows}),
            fact.occurred_at > rows[0].occurred_at,
            fact.occurred_at <= until,
            ~fact.machine_made,
            or_(
                *(
                    and_(
                        fact.kind == each.kind.value,
                        *(fact.attributes[key].as_string() == text for key, text in each.attributes.items()),
                    )
                    for each in rule.unless
                )
            ),
        )
        .group_by(fact.customer_id)
    )
    last = {row.customer_id: row.at for row in against}
    return {
        row.interaction_id
        for row in rows
        if row.customer_id in last and last[row.customer_id] > row.occurred_at
    }


def _for_referrers(conn: Connection, rows: _Facts, wait: timedelta) -> list[Due]:
    """Who referred those of these buyers whose first purchase or conversion it is."""
    fact = interactions.c
    buyers = {row.customer_id for row in rows}
    theirs = (SELDOM, among(conn, fact.customer_id, buyers), ~fact.machine_made)
    first_at = {
        row.customer_id: row.at
        for row in conn.execute(
            select(fact.customer_id, func.min(fact.occurred_at).label("at"))
            .where(*theirs, _BOUGHT)
            .group_by(fact.customer_id)
        )
    }
    referrer = fact.attributes[REFERRED_BY].as_string()
    registered = conn.execute(
        select(fact.customer_id, fact.interaction_id, fact.occurred_at, referrer.label("referrer"))
        .where(*theirs, REGISTERED, referrer.is_not(None))
        # The number, not the moment: what is told later changes nothing.
        .order_by(fact.interaction_id.desc())
    )
    registration = {row.customer_id: row for row in registered}
    persons = present_ids(conn, {row.referrer for row in registration.values()})
    found = {}
    for row in rows:
        named = registration.get(row.customer_id)
        if (
            named is None
            or row.occurred_at != first_at[row.customer_id]
            or row.occurred_at < named.occurred_at
        ):
            continue
        person = persons.get(named.referrer, named.referrer)
        if person != row.customer_id:
            found[row.customer_id] = Due(
                customer_id=person, occurrence=str(named.interaction_id), due_at=row.occurred_at + wait
            )
    known = set(
        conn.scalars(
            select(customers.c.customer_id).where(
                among(conn, customers.c.customer_id, {each.customer_id for each in found.values()})
            )
        )
    )
    return [each for each in found.values() if each.customer_id in known]


def _without(found: Sequence[Due], settled: set[tuple[str, str]]) -> list[Due]:
    return [each for each in found if (each.customer_id, each.occurrence) not in settled]

"""Several customers as one person: the rows of all of them under one id, and back.

A merge moves every row of the absorbed customer to the person's id and keeps, in `recorded_as`, the id that each
row came with; the customers as they were alone stay in `customer_members`. So every reader sees the person
without knowing of merges, a decision costs no query more, and a split puts back exactly what belongs to whom,
rows that arrived in between included. Why rows move instead of readers following an alias: docs/decisions/0017.

The caller owns the transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, case, delete, insert, select, text, update

from features.history.attributes import Told, keep, keep_former
from features.history.engine import read_only
from features.history.tables import (
    agent_tasks,
    chat_lines,
    chats,
    consents,
    conversations,
    customer_members,
    customers,
    decisions,
    follow_ups,
    former_attributes,
    hard_bounces,
    identities,
    interactions,
    occurrences,
    outbox,
    points_entries,
    redemptions,
    survey_answers,
    tags,
    vouchers,
)
from features.history.unsettled import settle_anew
from models.domain.errors import ConflictError, NotFoundError

# Every table whose rows follow their customer. A test compares it with the schema.
FOLLOWING = (
    identities,
    consents,
    tags,
    interactions,
    decisions,
    outbox,
    hard_bounces,
    conversations,
    follow_ups,
    agent_tasks,
    chats,
    chat_lines,
    former_attributes,
    vouchers,
    redemptions,
    points_entries,
    survey_answers,
    occurrences,
)

_PEOPLE_LOCK = 7_301_956_103  # any number, the same in every process
_OWN = ("time_zone", "created_at", "attributes", "anonymous")


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did.

    Attributes:
        person_id: The id that both are under now.
        absorbed_id: The id that the other one had.
    """

    person_id: str
    absorbed_id: str


def lock_people(conn: Connection, customer_ids: Iterable[str] = ()) -> None:
    """Let nobody else link, merge, split or erase until the transaction ends, nor decide for these customers."""
    if conn.dialect.name != "postgresql":
        return  # SQLite has one writer
    conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _PEOPLE_LOCK})
    ids = sorted(set(customer_ids))
    if ids:
        conn.execute(
            select(customers.c.customer_id)
            .where(customers.c.customer_id.in_(ids))
            .order_by(customers.c.customer_id)
            .with_for_update()
        ).all()


def person_of(conn: Connection, customer_id: str) -> str:
    """The id under which a known customer is now.

    Raises:
        NotFoundError: there is no such customer.
    """
    found = conn.scalar(
        select(customer_members.c.person_id).where(customer_members.c.customer_id == customer_id)
    )
    if found is None:
        found = conn.scalar(select(customers.c.customer_id).where(customers.c.customer_id == customer_id))
    if found is None:
        raise NotFoundError("customer_id", customer_id)
    return str(found)


def members_of(conn: Connection, person_id: str) -> tuple[str, ...]:
    """Every id that is this person, their own first."""
    found = conn.scalars(
        select(customer_members.c.customer_id)
        .where(customer_members.c.person_id == person_id, customer_members.c.customer_id != person_id)
        .order_by(customer_members.c.customer_id)
    )
    return (person_id, *found)


def merge(conn: Connection, first_id: str, second_id: str, now: datetime) -> Merged | None:
    """Make two people one. The known one of longer standing keeps the id, so the order does not matter.

    Args:
        conn: In the caller's transaction.
        first_id: Any id of one of them.
        second_id: Any id of the other.
        now: Since when they share their attributes.

    Returns:
        None where they are one person already.

    Raises:
        NotFoundError: one of them is not there.
    """
    first, second = person_of(conn, first_id), person_of(conn, second_id)
    if first == second:
        return None
    lock_people(conn, (first, second))
    keeps, goes = sorted((first, second), key=lambda person: _standing(conn, person))
    _remember(conn, (keeps, goes))
    for table in FOLLOWING:
        came_as = case((table.c.recorded_as == "", goes), else_=table.c.recorded_as)
        conn.execute(
            update(table).where(table.c.customer_id == goes).values(customer_id=keeps, recorded_as=came_as)
        )
    conn.execute(update(customer_members).where(customer_members.c.person_id == goes).values(person_id=keeps))
    conn.execute(
        update(customer_members).where(customer_members.c.customer_id == goes).values(parent_id=keeps)
    )
    conn.execute(delete(customers).where(customers.c.customer_id == goes))
    settle_anew(conn, (keeps, goes))
    _show(conn, keeps, now)
    return Merged(keeps, goes)


def split(conn: Connection, customer_id: str, now: datetime) -> str:
    """Take a customer, with those who were merged into them, out of the person that they were merged into.

    Args:
        conn: In the caller's transaction.
        customer_id: Who leaves.
        now: Until when they share their attributes.

    Returns:
        The id of the person that they left.

    Raises:
        NotFoundError: there is no such customer.
        ConflictError: the customer was never merged into another.
    """
    left = person_of(conn, customer_id)
    if left == customer_id:
        others = members_of(conn, customer_id)[1:]
        raise ConflictError(
            f"{customer_id} was not merged into another customer"
            + (f"; split one of {', '.join(others)}" if others else "")
        )
    lock_people(conn, (left,))
    leaving = _below(conn, left, customer_id)
    conn.execute(insert(customers).values(customer_id=customer_id, **_own(conn, customer_id)))
    for table in FOLLOWING:
        came_as = case((table.c.recorded_as == customer_id, ""), else_=table.c.recorded_as)
        conn.execute(
            update(table)
            .where(table.c.customer_id == left, table.c.recorded_as.in_(sorted(leaving)))
            .values(customer_id=customer_id, recorded_as=came_as)
        )
    conn.execute(
        update(customer_members)
        .where(customer_members.c.customer_id.in_(sorted(leaving)))
        .values(person_id=customer_id)
    )
    conn.execute(
        update(customer_members).where(customer_members.c.customer_id == customer_id).values(parent_id=None)
    )
    settle_anew(conn, (customer_id, left))
    for person in (customer_id, left):
        _show(conn, person, now)
        if members_of(conn, person) == (person,):
            conn.execute(delete(customer_members).where(customer_members.c.customer_id == person))
    return left


def update_members(
    conn: Connection, records: Mapping[str, Mapping[str, Any]], told_at: Mapping[str, datetime]
) -> set[str]:
    """Take over new records of customers who are part of a merged person.

    Args:
        conn: In the caller's transaction.
        records: By customer: `time_zone`, `created_at`, `attributes`, `anonymous`.
        told_at: Since when that holds, by customer.

    Returns:
        The customers that this was done for; the others are not merged.
    """
    if conn.execute(select(customer_members.c.customer_id).limit(1)).first() is None:
        return set()
    asked = sorted(records)
    found: dict[str, str] = {}
    for start in range(0, len(asked), 10_000):
        rows = conn.execute(
            select(customer_members.c.customer_id, customer_members.c.person_id).where(
                customer_members.c.customer_id.in_(asked[start : start + 10_000])
            )
        )
        found |= {row.customer_id: row.person_id for row in rows}
    latest: dict[str, datetime] = {}
    for customer_id, person in found.items():
        since = told_at[customer_id]
        latest[person] = max(since, latest.get(person, since))
        if customer_id != person:
            told = Told(records[customer_id]["attributes"], since)
            keep(conn, person, _own(conn, customer_id)["attributes"], told, recorded_as=customer_id)
        conn.execute(
            update(customer_members)
            .where(customer_members.c.customer_id == customer_id)
            .values(**records[customer_id])
        )
    for person in sorted(latest):
        _show(conn, person, latest[person])
    return set(found)


def become_known(conn: Connection, person_id: str) -> None:
    """They were an anonymous visitor and are not any more."""
    for table in (customers, customer_members):
        conn.execute(update(table).where(table.c.customer_id == person_id).values(anonymous=False))


def is_anonymous(conn: Connection, person_id: str) -> bool:
    """Whether only devices are known of them."""
    return bool(conn.scalar(select(customers.c.anonymous).where(customers.c.customer_id == person_id)))


def gather(engine: Engine) -> int:
    """`gather_stragglers` in a transaction of its own; where nobody was merged this only reads."""
    with read_only(engine).connect() as conn:
        if conn.execute(select(customer_members.c.customer_id).limit(1)).first() is None:
            return 0
    with engine.begin() as conn:
        return gather_stragglers(conn)


def gather_stragglers(conn: Connection) -> int:
    """Move rows that were written under an absorbed id while its merge was under way; how many there were."""
    lock_people(conn)
    absorbed = conn.execute(
        select(customer_members.c.customer_id, customer_members.c.person_id).where(
            customer_members.c.parent_id.is_not(None)
        )
    ).all()
    n = 0
    for table in FOLLOWING:
        for start in range(0, len(absorbed), 10_000):
            person = {row.customer_id: row.person_id for row in absorbed[start : start + 10_000]}
            lost = conn.scalars(
                select(table.c.customer_id).where(table.c.customer_id.in_(sorted(person))).distinct()
            ).all()
            for customer_id in lost:
                n += conn.execute(
                    update(table)
                    .where(table.c.customer_id == customer_id)
                    .values(customer_id=person[customer_id], recorded_as=customer_id)
                ).rowcount
            settle_anew(conn, {*lost, *(person[customer_id] for customer_id in lost)})
    return n


def _standing(conn: Connection, person_id: str) -> tuple[bool, datetime, str]:
    own = _own(conn, person_id)
    return own["anonymous"], own["created_at"], person_id


def _own(conn: Connection, customer_id: str) -> dict[str, Any]:
    """The customer as they are alone."""
    for table in (customer_members, customers):
        row = conn.execute(
            select(*(table.c[name] for name in _OWN)).where(table.c.customer_id == customer_id)
        ).one_or_none()
        if row is not None:
            return dict(row._mapping)
    raise NotFoundError("customer_id", customer_id)


def _remember(conn: Connection, people: Sequence[str]) -> None:
    """Keep what they are alone before they become one."""
    known = set(
        conn.scalars(select(customer_members.c.customer_id).where(customer_members.c.customer_id.in_(people)))
    )
    for person in people:
        if person not in known:
            conn.execute(
                insert(customer_members).values(customer_id=person, person_id=person, **_own(conn, person))
            )


def _below(conn: Connection, person_id: str, customer_id: str) -> Collection[str]:
    """The customer and everybody who was merged into them."""
    parents = conn.execute(
        select(customer_members.c.customer_id, customer_members.c.parent_id).where(
            customer_members.c.person_id == person_id
        )
    ).all()
    below = {customer_id}
    while more := {row.customer_id for row in parents if row.parent_id in below} - below:
        below |= more
    return below


def _show(conn: Connection, person_id: str, now: datetime) -> None:
    """Write the person's row in `customers`: their own values, gaps in attributes filled by the others'."""
    members = conn.execute(select(customer_members).where(customer_members.c.person_id == person_id)).all()
    ranked: list[Row[Any]] = sorted(
        members,
        key=lambda one: (one.customer_id != person_id, one.anonymous, one.created_at, one.customer_id),
    )
    attributes: dict[str, Any] = {}
    for one in reversed(ranked):
        attributes |= one.attributes
    keep_former(conn, {person_id: Told(attributes, now)})
    conn.execute(
        update(customers)
        .where(customers.c.customer_id == person_id)
        .values(
            time_zone=ranked[0].time_zone,
            created_at=min(one.created_at for one in ranked),
            attributes={name: attributes[name] for name in sorted(attributes)}
            if len(ranked) > 1
            else attributes,
            anonymous=all(one.anonymous for one in ranked),
        )
    )

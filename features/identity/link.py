"""Which contact points belong to one person: link, merge, split, and what is left for a person to settle.

- A contact point that only one person uses (e-mail address, phone, chat account) links: two customers who share
  one are one person, and are merged.
- A device, browser or address may be shared by a household: by itself it merges nobody. It only stitches an
  anonymous visitor to the one who turns out to be using it; between two known customers it is a conflict.
- Whom a person has split, no link merges again: that is a conflict too.

Which customers end up as one person depends on the links alone, not on their order. Every step is in the journal,
with who did it and why. The caller owns the transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import uuid_utils
from sqlalchemy import Connection, and_, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from features.history.append import CustomerRecord, append_customers, append_identities
from features.history.members import (
    become_known,
    is_anonymous,
    lock_people,
    members_of,
    person_of,
)
from features.history.members import merge as merge_rows
from features.history.members import split as split_rows
from features.history.query import find_customer_id
from features.history.suppression import erased_contact_points, erased_customers
from features.history.tables import customers, identities, identity_conflicts, identity_journal
from features.identity.normalise import check, mask
from features.identity.vault import vault_of
from models.domain.channel import IdentityKind
from models.domain.customer import Identity
from models.domain.errors import ConflictError, NotFoundError, require

PERSONAL = frozenset(
    {
        IdentityKind.EMAIL,
        IdentityKind.PHONE,
        IdentityKind.WHATSAPP,
        IdentityKind.LINE,
        IdentityKind.MESSENGER,
        IdentityKind.INSTAGRAM,
        IdentityKind.WECHAT,
    }
)


class ConflictReason(StrEnum):
    """Why two customers were not merged although they share a contact point."""

    SHARED_DEVICE = "shared_device"
    SEPARATED = "separated"
    SAME_WHEN_NORMALISED = "same_when_normalised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Two customers who share a contact point and are not merged.

    Attributes:
        contact_point: Masked; empty where it is gone.
        customer_id: Who claims it.
        holder_id: Who has it.
    """

    conflict_id: int
    kind: IdentityKind
    contact_point: str
    customer_id: str
    holder_id: str
    reason: ConflictReason
    source: str
    found_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Contact points that belong to one person.

    Attributes:
        contact_points: (kind, value), at least one.
        customer_id: Whose, where the caller knows; one who is new is made known.
        linked_at: When it was learned, aware.
        source: Which system says so.
        time_zone: Of a customer who is new.
    """

    contact_points: Sequence[tuple[IdentityKind, str]]
    customer_id: str | None
    linked_at: datetime
    source: str
    time_zone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """What a link did.

    Attributes:
        customer_id: The person.
        created: Whether they were unknown before.
        n_linked: Contact points that are new.
        merged: Ids that became this person.
        conflicts: Ids of open conflicts that it met.
    """

    customer_id: str
    created: bool
    n_linked: int
    merged: tuple[str, ...]
    conflicts: tuple[int, ...]


def link(conn: Connection, asked: Link, actor: str) -> Linked:
    """Link contact points to a person; the same again changes nothing.

    Raises:
        InvalidInputError: something is no contact point of its kind.
        ConflictError: the customer or a contact point was erased.
    """
    region = vault_of(conn).region
    require(bool(asked.contact_points), "identities", [], "must not be empty")
    for kind, value in asked.contact_points:
        check(kind, value, region)
    lock_people(conn)
    _refuse_erased(conn, asked)
    holders = {point: find_customer_id(conn, *point) for point in asked.contact_points}
    person, created = _person(conn, asked, [holder for holder in holders.values() if holder])
    n_linked = 0
    merged: list[str] = []
    conflicts: list[int] = []
    # Personal contact points first: they may tell whose a shared one is.
    for point in sorted(holders, key=lambda one: (one[0] not in PERSONAL, one)):
        holder = find_customer_id(conn, *point)
        if holder is None:
            n_linked += append_identities(
                conn,
                [
                    Identity(
                        customer_id=person,
                        kind=point[0],
                        value=point[1],
                        linked_at=asked.linked_at,
                        source=asked.source,
                    )
                ],
            ).n_new
            _note(conn, asked.linked_at, "link", person, None, point[0], actor, f"told by {asked.source}")
        elif holder != person:
            reason = _against(conn, point[0], person, holder)
            if reason is not None:
                conflicts.append(_list(conn, point, person, holder, reason, asked))
                continue
            done = merge_rows(conn, person, holder, asked.linked_at)
            assert done is not None, "they were two"
            why = f"both have this {point[0]}, told by {asked.source}"
            _note_merge(conn, asked.linked_at, done.absorbed_id, done.person_id, point[0], actor, why)
            merged.append(done.absorbed_id)
            person = done.person_id
    if any(kind in PERSONAL for kind, _ in asked.contact_points) and is_anonymous(conn, person):
        become_known(conn, person)
    return Linked(
        customer_id=person,
        created=created,
        n_linked=n_linked,
        merged=tuple(merged),
        conflicts=tuple(conflicts),
    )


def merge(conn: Connection, first_id: str, second_id: str, now: datetime, actor: str, reason: str) -> str:
    """Make two customers one person, because somebody says so; open conflicts between them are settled.

    Returns:
        The id that the person has now.

    Raises:
        NotFoundError: one of them is not there.
        ConflictError: they are one person already.
    """
    _require_reason(actor, reason)
    lock_people(conn)
    done = merge_rows(conn, first_id, second_id, now)
    if done is None:
        raise ConflictError(f"{first_id} and {second_id} are one person already")
    _note_merge(conn, now, done.absorbed_id, done.person_id, None, actor, reason)
    return done.person_id


def split(conn: Connection, customer_id: str, now: datetime, actor: str, reason: str) -> str:
    """Take a customer out of the person that they were merged into; everything of theirs goes with them.

    Returns:
        The id of the person that they left.

    Raises:
        NotFoundError: there is no such customer.
        ConflictError: they were never merged into another.
    """
    _require_reason(actor, reason)
    lock_people(conn)
    left = split_rows(conn, customer_id, now)
    _note(conn, now, "split", customer_id, left, None, actor, reason)
    return left


def list_conflicts(conn: Connection, after: int = 0, limit: int = 100) -> list[Conflict]:
    """Open conflicts in the order in which they were found.

    Args:
        conn: Only read.
        after: The last conflict of the page before.
        limit: At most this many.
    """
    listed = identity_conflicts
    rows = conn.execute(
        select(listed, identities.c.customer_id.label("owner"), identities.c.recorded_as, identities.c.key_id, identities.c.sealed)
        .outerjoin(identities, and_(identities.c.kind == listed.c.kind, identities.c.lookup == listed.c.lookup))
        .where(listed.c.settled_at.is_(None), listed.c.conflict_id > after)
        .order_by(listed.c.conflict_id)
        .limit(limit)
    )  # fmt: skip
    vault = vault_of(conn)
    found = []
    for row in rows:
        kind = IdentityKind(row.kind)
        shown = ""
        if row.sealed is not None:
            shown = mask(kind, vault.open(kind, row.recorded_as or row.owner, row.key_id, row.sealed))
        found.append(
            Conflict(
                conflict_id=row.conflict_id,
                kind=kind,
                contact_point=shown,
                customer_id=row.customer_id,
                holder_id=row.holder_id,
                reason=ConflictReason(row.reason),
                source=row.source,
                found_at=row.found_at,
            )
        )
    return found


def dismiss(conn: Connection, conflict_id: int, now: datetime, actor: str, reason: str) -> None:
    """Settle a conflict: the two are different people and stay so.

    Raises:
        NotFoundError: there is no such open conflict.
    """
    _require_reason(actor, reason)
    row = conn.execute(
        select(identity_conflicts).where(
            identity_conflicts.c.conflict_id == conflict_id, identity_conflicts.c.settled_at.is_(None)
        )
    ).one_or_none()
    if row is None:
        raise NotFoundError("conflict_id", str(conflict_id))
    conn.execute(
        update(identity_conflicts)
        .where(identity_conflicts.c.conflict_id == conflict_id)
        .values(settled_at=now, settled_as="dismissed")
    )
    _note(conn, now, "dismiss", row.customer_id, row.holder_id, row.kind, actor, reason)


def _require_reason(actor: str, reason: str) -> None:
    require(0 < len(actor) <= 64, "actor", actor, "must have 1 to 64 characters")
    require(0 < len(reason) <= 512, "reason", reason, "must have 1 to 512 characters")


def _refuse_erased(conn: Connection, asked: Link) -> None:
    if asked.customer_id is not None and erased_customers(conn, [asked.customer_id]):
        raise ConflictError("this customer was erased and does not come back under the same id")
    for kind, _ in erased_contact_points(conn, asked.contact_points):
        raise ConflictError(f"the person with this {kind} was erased; readmit them first if they ask for it")


def _person(conn: Connection, asked: Link, holders: Sequence[str]) -> tuple[str, bool]:
    """Whom the link speaks of, and whether they are new."""
    if asked.customer_id is not None:
        try:
            return person_of(conn, asked.customer_id), False
        except NotFoundError:
            pass
    elif holders:
        personal = [
            holder
            for point in asked.contact_points
            if point[0] in PERSONAL and (holder := find_customer_id(conn, *point))
        ]
        among = personal or holders
        rows = conn.execute(
            select(customers.c.anonymous, customers.c.created_at, customers.c.customer_id).where(
                customers.c.customer_id.in_(sorted(set(among)))
            )
        ).all()
        return min(tuple(row) for row in rows)[2], False
    made = asked.customer_id or str(uuid_utils.uuid7())
    append_customers(
        conn,
        [
            CustomerRecord(
                customer_id=made,
                time_zone=asked.time_zone,
                created_at=asked.linked_at,
                anonymous=all(kind not in PERSONAL for kind, _ in asked.contact_points),
            )
        ],
    )
    return made, True


def _against(conn: Connection, kind: IdentityKind, person: str, holder: str) -> ConflictReason | None:
    """Why a shared contact point does not make them one, or None where it does."""
    if _separated(conn, person, holder):
        return ConflictReason.SEPARATED
    if kind in PERSONAL or is_anonymous(conn, person) or is_anonymous(conn, holder):
        return None
    return ConflictReason.SHARED_DEVICE


def _separated(conn: Connection, person: str, holder: str) -> bool:
    """Whether the last that was said of any two of them is that they are different people."""
    mine, theirs = members_of(conn, person), members_of(conn, holder)
    journal = identity_journal.c
    last = conn.scalar(
        select(journal.action)
        .where(
            journal.action.in_(("merge", "split", "dismiss")),
            or_(
                and_(journal.customer_id.in_(mine), journal.other_id.in_(theirs)),
                and_(journal.customer_id.in_(theirs), journal.other_id.in_(mine)),
            ),
        )
        .order_by(journal.entry_id.desc())
        .limit(1)
    )
    return last == "split"


def _list(
    conn: Connection,
    point: tuple[IdentityKind, str],
    person: str,
    holder: str,
    reason: ConflictReason,
    asked: Link,
) -> int:
    into = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    key = {
        "kind": point[0],
        "lookup": vault_of(conn).lookup(*point),
        "customer_id": person,
        "holder_id": holder,
    }
    conn.execute(
        into(identity_conflicts)
        .values(**key, reason=reason, source=asked.source, found_at=asked.linked_at)
        .on_conflict_do_nothing()
    )
    listed = identity_conflicts.c
    return int(
        conn.execute(
            select(listed.conflict_id).where(*(listed[name] == value for name, value in key.items()))
        ).scalar_one()
    )


def _note_merge(
    conn: Connection,
    at: datetime,
    absorbed: str,
    person: str,
    kind: IdentityKind | None,
    actor: str,
    reason: str,
) -> None:
    _note(conn, at, "merge", absorbed, person, kind, actor, reason)
    both = members_of(conn, person)
    listed = identity_conflicts.c
    conn.execute(
        update(identity_conflicts)
        .where(listed.settled_at.is_(None), listed.customer_id.in_(both), listed.holder_id.in_(both))
        .values(settled_at=at, settled_as="merged")
    )


def _note(
    conn: Connection,
    at: datetime,
    action: str,
    customer_id: str,
    other_id: str | None,
    kind: IdentityKind | None,
    actor: str,
    reason: str,
) -> None:
    conn.execute(
        insert(identity_journal).values(
            at=at,
            action=action,
            customer_id=customer_id,
            other_id=other_id,
            kind=kind,
            actor=actor[:64],
            reason=reason[:512],
        )
    )

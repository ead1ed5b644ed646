"""Take in people whole: who they are, their contact points, and what they allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, select

from features.history.append import (
    Appended,
    CustomerRecord,
    append_consents,
    append_customers,
    append_identities,
)
from features.history.query import present_ids
from features.history.suppression import erased_contact_points, erased_customers
from features.history.tables import identities
from features.identity.normalise import mask
from features.identity.vault import vault_of
from models.domain.customer import Consent, Identity
from models.domain.errors import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """All that is said of one person at a time; contact points and consents are of that person."""

    customer: CustomerRecord
    identities: tuple[Identity, ...] = ()
    consents: tuple[Consent, ...] = ()


def register(conn: Connection, people: Sequence[Registration], now: datetime) -> Appended:
    """Add people with their contact points and permissions; who is known already takes the new values.

    A person with the id or a contact point of somebody who was erased is passed over as a whole.

    Args:
        conn: In the caller's transaction.
        people: Any number; of several of one person the last counts.
        now: Since when their attributes are known, where others were known before.

    Raises:
        InvalidInputError: a contact point belongs to somebody else, or is none of its kind; the transaction must be
            rolled back.
    """
    erased = erased_customers(conn, (one.customer.customer_id for one in people))
    points = erased_contact_points(
        conn, ((link.kind, link.value) for one in people for link in one.identities)
    )
    kept = [
        one
        for one in people
        if one.customer.customer_id not in erased
        and not any((link.kind, link.value) in points for link in one.identities)
    ]
    appended = append_customers(conn, [replace(one.customer, told_at=now) for one in kept])
    links = [link for one in kept for link in one.identities]
    append_identities(conn, links)
    _refuse_contact_points_of_others(conn, links)
    append_consents(conn, [consent for one in kept for consent in one.consents])
    return replace(appended, n_erased=len(people) - len(kept))


def _refuse_contact_points_of_others(conn: Connection, links: Sequence[Identity]) -> None:
    owners = sorted({link.customer_id for link in links})
    person_of = present_ids(conn, owners)
    people = [person_of.get(owner, owner) for owner in owners]
    owned = {
        (row.customer_id, row.kind, row.lookup)
        for row in conn.execute(
            select(identities.c.customer_id, identities.c.kind, identities.c.lookup).where(
                identities.c.customer_id.in_(people)
            )
        )
    }
    vault = vault_of(conn)
    for link in links:
        person = person_of.get(link.customer_id, link.customer_id)
        require(
            (person, link.kind.value, vault.lookup(link.kind, link.value)) in owned,
            link.kind.value,
            mask(link.kind, link.value),
            f"must not belong to another customer than {link.customer_id}",
        )

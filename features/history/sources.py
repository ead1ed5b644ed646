"""From which systems the data about one person comes, and whose data it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Table, case, func, select

from features.history.tables import (
    consents,
    customer_members,
    customers,
    identities,
    interactions,
    tags,
)
from models.domain.party import Party, party_of

_MOMENTS: tuple[tuple[Table, ColumnElement[datetime], str], ...] = (
    (interactions, interactions.c.occurred_at, "n_interactions"),
    (identities, identities.c.linked_at, "n_identities"),
    (consents, consents.c.since, "n_consents"),
    (tags, tags.c.since, "n_tags"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceShown:
    """What one system told about a person.

    Attributes:
        party: Whose data it is; what was told of the person before they were known stands by itself.
        n_interactions: Facts.
        n_identities: Accounts and contact points.
        n_consents: Statements about permission.
        n_tags: Statements about tags.
        first_at: The earliest of all these.
        last_at: The latest of all these.
    """

    source: str
    party: Party
    n_interactions: int = 0
    n_identities: int = 0
    n_consents: int = 0
    n_tags: int = 0
    first_at: datetime
    last_at: datetime


def load_sources(conn: Connection, person_id: str, parties: Mapping[str, Party]) -> list[SourceShown]:
    """Who told what about a person: first party before second and third, then by name of the source.

    Args:
        conn: Only read.
        person_id: The person's own id.
        parties: Party by source, for those that somebody has named.
    """
    found: dict[tuple[Party, str], SourceShown] = {}
    for table, moment, counted in _MOMENTS:
        # What came under an id that was merged is anonymous where that one was a visitor when they were merged.
        told_of = case((table.c.recorded_as == "", table.c.customer_id), else_=table.c.recorded_as)
        anonymous = func.coalesce(customer_members.c.anonymous, customers.c.anonymous)
        rows = conn.execute(
            select(table.c.source, anonymous, func.count(), func.min(moment), func.max(moment))
            .select_from(table)
            .join(customers, customers.c.customer_id == table.c.customer_id)
            .outerjoin(customer_members, customer_members.c.customer_id == told_of)
            .where(table.c.customer_id == person_id)
            .group_by(table.c.source, anonymous)
        )
        for source, was_anonymous, n_rows, first_at, last_at in rows:
            party = party_of(source, parties, anonymous=bool(was_anonymous))
            known = found.get((party, source)) or SourceShown(
                source=source, party=party, first_at=first_at, last_at=last_at
            )
            found[party, source] = replace(
                known,
                first_at=min(known.first_at, first_at),
                last_at=max(known.last_at, last_at),
                **{counted: getattr(known, counted) + n_rows},
            )
    order = list(Party)
    return sorted(found.values(), key=lambda one: (order.index(one.party), one.source))

"""Whom a contact point belongs to; a cookie that nobody has yet is an anonymous visitor."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import uuid4

from sqlalchemy import Connection, delete

from features.history.among import among
from features.history.append import CustomerRecord, append_customers, append_identities
from features.history.query import find_customer_ids
from features.history.tables import customers
from models.domain.channel import IdentityKind
from models.domain.customer import Identity

Point = tuple[IdentityKind, str]

VISITOR_PREFIX = "visitor-"


def find_or_make_visitors(conn: Connection, seen: Mapping[Point, tuple[datetime, str]]) -> dict[Point, str]:
    """The customer of each contact point.

    A cookie that nobody has becomes a customer of their own, in UTC until more is known of them. Any other
    contact point that nobody has is absent.

    Args:
        conn: In the caller's transaction.
        seen: When each contact point was seen, aware, and the source that reports it. None of somebody who was erased
            (`erased_contact_points`): they do not come back as a visitor.
    """
    found = find_customer_ids(conn, seen)
    unknown = [point for point in seen if point[0] is IdentityKind.COOKIE and point not in found]
    if not unknown:
        return found
    made = {point: f"{VISITOR_PREFIX}{uuid4().hex}" for point in unknown}
    append_customers(
        conn,
        [
            CustomerRecord(
                customer_id=made[point], time_zone="UTC", created_at=seen[point][0], anonymous=True
            )
            for point in unknown
        ],
    )
    append_identities(
        conn,
        [
            Identity(
                customer_id=made[point],
                kind=point[0],
                value=point[1],
                linked_at=seen[point][0],
                source=seen[point][1],
            )
            for point in unknown
        ],
    )
    # Another writer may have met the same cookie; the one that came first keeps it.
    owners = find_customer_ids(conn, unknown)
    orphans = [made[point] for point in unknown if owners[point] != made[point]]
    if orphans:
        conn.execute(delete(customers).where(among(conn, customers.c.customer_id, orphans)))
    return found | owners

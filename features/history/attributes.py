"""What customers' attributes were before they changed, so that a decision of the past is learned from with those."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from features.history.among import among
from features.history.tables import customers, former_attributes


@dataclass(frozen=True, slots=True)
class Told:
    """Attributes of a customer, and since when they hold (aware)."""

    attributes: Mapping[str, Any]
    since: datetime


def keep_former(conn: Connection, told: Mapping[str, Told]) -> None:
    """Before the attributes of customers are overwritten, keep those that differ from what is told now.

    Of whom nothing was known nothing is kept: what is learned first counts as having been so always.

    Args:
        conn: In the caller's transaction.
        told: By customer, under the id that they have now.
    """
    rows = conn.execute(
        select(customers.c.customer_id, customers.c.attributes).where(
            among(conn, customers.c.customer_id, told)
        )
    )
    for customer_id, attributes in rows.all():
        keep(conn, customer_id, attributes, told[customer_id])


def keep(
    conn: Connection, customer_id: str, attributes: Mapping[str, Any], now: Told, recorded_as: str = ""
) -> None:
    """Keep the attributes of one customer as they were, where what is told now is different.

    Args:
        conn: In the caller's transaction.
        customer_id: The person.
        attributes: As they were until now.
        now: As they are from now on.
        recorded_as: The customer as they are alone, where they were merged into the person.
    """
    if attributes and dict(attributes) != dict(now.attributes):
        conn.execute(
            insert(former_attributes).values(
                customer_id=customer_id, recorded_as=recorded_as, attributes=attributes, until=now.since
            )
        )

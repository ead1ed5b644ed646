"""Give back what decisions reserved, once it is sure that their messages reach nobody."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, bindparam, select, update

from features.history.tables import reservations, resource_usage

_LESS = (
    update(resource_usage)
    .where(resource_usage.c.resource == bindparam("of_resource"))
    .values(used=resource_usage.c.used - bindparam("amount"))
)


def release(conn: Connection, decision_ids: Collection[str], at: datetime) -> None:
    """Release the reservations of these decisions; what is released already stays as it is.

    Args:
        conn: A connection whose transaction the caller commits.
        decision_ids: Whose.
        at: When, aware.
    """
    held = (
        select(reservations.c.decision_id, reservations.c.resource, reservations.c.amount)
        .where(reservations.c.decision_id.in_(sorted(decision_ids)), reservations.c.released_at.is_(None))
        .with_for_update()
    )
    given_back: dict[str, float] = defaultdict(float)
    for row in conn.execute(held):
        given_back[row.resource] += row.amount
    if not given_back:
        return
    conn.execute(
        update(reservations)
        .where(reservations.c.decision_id.in_(sorted(decision_ids)), reservations.c.released_at.is_(None))
        .values(released_at=at)
    )
    # In the order in which `record` locks them, so that the two never wait for each other.
    conn.execute(_LESS, [{"of_resource": name, "amount": given_back[name]} for name in sorted(given_back)])

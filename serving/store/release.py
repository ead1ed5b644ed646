"""Give back what decisions reserved, once it is sure that their messages reach nobody; or take it again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, bindparam, select, update

from features.history.tables import reservations, resource_usage
from features.history.unsettled import note

_MORE = (
    update(resource_usage)
    .where(resource_usage.c.resource == bindparam("of_resource"))
    .values(used=resource_usage.c.used + bindparam("amount"))
)


def release(conn: Connection, decision_ids: Collection[str], at: datetime) -> None:
    """Release the reservations of these decisions; what is released already stays as it is.

    Args:
        conn: A connection whose transaction the caller commits.
        decision_ids: Whose.
        at: When, aware.
    """
    _move(conn, decision_ids, reservations.c.released_at.is_(None), -1.0, at)


def reserve_again(conn: Connection, decision_ids: Collection[str]) -> None:
    """Take back what `release` gave back, even beyond the limit: a person has decided so."""
    _move(conn, decision_ids, reservations.c.released_at.is_not(None), 1.0, None)


def use_more(conn: Connection, amounts: Mapping[str, float]) -> None:
    """Count so much more of each resource as used; less, where it is negative."""
    # In the order in which `record` locks them, so that the two never wait for each other.
    conn.execute(_MORE, [{"of_resource": name, "amount": amounts[name]} for name in sorted(amounts)])


def _move(
    conn: Connection,
    decision_ids: Collection[str],
    which: ColumnElement[bool],
    sign: float,
    released_at: datetime | None,
) -> None:
    of_those = reservations.c.decision_id.in_(sorted(decision_ids)), which
    held = (
        select(reservations.c.decision_id, reservations.c.resource, reservations.c.amount)
        .where(*of_those)
        .with_for_update()
    )
    amounts: dict[str, float] = defaultdict(float)
    for row in conn.execute(held):
        amounts[row.resource] += sign * row.amount
    if not amounts:
        return
    conn.execute(update(reservations).where(*of_those).values(released_at=released_at))
    note(conn, decision_ids=decision_ids)
    use_more(conn, amounts)

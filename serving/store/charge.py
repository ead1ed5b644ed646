"""Put what messages have cost in the place of what they were expected to cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, select, update

from features.history.tables import decisions, reservations
from features.history.unsettled import note
from serving.store.release import use_more

_SET_COST = (
    update(decisions)
    .where(decisions.c.decision_id == bindparam("of_decision"))
    .values(cost_minor=bindparam("cost"))
)
_SET_AMOUNT = (
    update(reservations)
    .where(
        reservations.c.decision_id == bindparam("of_decision"),
        reservations.c.resource == bindparam("of_resource"),
    )
    .values(amount=bindparam("new_amount"))
)


def charge(conn: Connection, cost_minor: Mapping[str, float]) -> int:
    """Correct the cost of decisions, in the log and in the budgets that they use; how many were off.

    Evidence keeps the price that was decided with.

    Args:
        conn: A connection whose transaction the caller commits.
        cost_minor: What the message has cost, minor units, by decision id.
    """
    if not cost_minor:
        return 0
    expected = conn.execute(
        select(decisions.c.decision_id, decisions.c.cost_minor).where(
            decisions.c.decision_id.in_(sorted(cost_minor))
        )
    )
    off = {row.decision_id for row in expected if row.cost_minor != cost_minor[row.decision_id]}
    if not off:
        return 0
    conn.execute(_SET_COST, [{"of_decision": one, "cost": cost_minor[one]} for one in sorted(off)])
    note(conn, decision_ids=off)
    held = conn.execute(
        select(reservations.c.decision_id, reservations.c.resource, reservations.c.amount)
        .where(
            reservations.c.decision_id.in_(sorted(off)),
            reservations.c.resource.startswith("budget:"),
            reservations.c.released_at.is_(None),
        )
        .with_for_update()
    ).all()
    more: dict[str, float] = defaultdict(float)
    for row in held:
        more[row.resource] += cost_minor[row.decision_id] - row.amount
    if held:
        conn.execute(
            _SET_AMOUNT,
            [
                {
                    "of_decision": row.decision_id,
                    "of_resource": row.resource,
                    "new_amount": cost_minor[row.decision_id],
                }
                for row in held
            ],
        )
        use_more(conn, more)
    return len(off)

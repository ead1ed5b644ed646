"""Tell every process which feature rows are being replaced.

Whoever writes rows to the online store first announces them in the history's table `feature_changes`; every
process that caches rows reads the announcements some times a second. Of two that refresh one customer at the same
time the one that announced first sees the other's announcement after its own write, and writes again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, func, insert, select, text

from features.history.engine import read_only
from features.history.tables import feature_changes
from features.row_cache import RowCache

# How often a process looks for announcements.
FOLLOW_SECONDS = 0.1
# A process that has not looked for this long may have missed announcements, and drops what it cached.
KEPT = timedelta(minutes=10)
_LONGEST_ABSENCE_SECONDS = 300.0


def announce(conn: Connection, customer_ids: Sequence[str] | None, as_of: datetime) -> int:
    """Say that rows of these customers (None: everybody) made before `as_of` are being replaced.

    Announcements are numbered in the order in which they are committed: whoever has read one has read all before it.

    Args:
        conn: In a transaction of its own, committed at once: others wait for it.
        customer_ids: Whose rows; None for everybody's.
        as_of: Moment of the new rows.

    Returns:
        The number of the last of them.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(text("LOCK TABLE feature_changes IN SHARE ROW EXCLUSIVE MODE"))
    people: Sequence[str | None] = [None] if customer_ids is None else customer_ids
    conn.execute(
        insert(feature_changes),
        [{"customer_id": each, "as_of": as_of, "announced_at": as_of} for each in people],
    )
    return last_change(conn)


def announced_since(conn: Connection, change_id: int, customer_ids: Collection[str]) -> dict[str, datetime]:
    """Those of the customers of whom somebody announced a row after that announcement, and the row's moment."""
    asked = frozenset(customer_ids)
    found = conn.execute(
        select(feature_changes.c.customer_id, func.max(feature_changes.c.as_of))
        .where(feature_changes.c.change_id > change_id, feature_changes.c.customer_id.is_not(None))
        .group_by(feature_changes.c.customer_id)
    )
    return {customer_id: as_of for customer_id, as_of in found if customer_id in asked}


def last_change(conn: Connection) -> int:
    """The number of the latest announcement; 0 where there is none."""
    return conn.scalar(select(func.max(feature_changes.c.change_id))) or 0


def prune(conn: Connection, now: datetime) -> None:
    """Delete announcements that everybody has read."""
    conn.execute(delete(feature_changes).where(feature_changes.c.announced_at < now - KEPT))


class ChangeFollower:
    """Keeps the cache of this process true to what other processes write.

    Args:
        engine: The history.
        cache: Is told which rows to read again.
    """

    def __init__(self, engine: Engine, cache: RowCache) -> None:
        self._engine = read_only(engine)
        self._cache = cache
        self._seen: int | None = None
        self._looked_at = monotonic()

    def follow(self) -> int:
        """Read what was announced since the last time; how many announcements that were."""
        looked_at = monotonic()
        changes: Sequence[Row[Any, Any, Any]]
        with self._engine.connect() as conn:
            if self._seen is None or looked_at - self._looked_at > _LONGEST_ABSENCE_SECONDS:
                self._seen, changes = last_change(conn), []
                self._cache.clear()
            else:
                changes = conn.execute(
                    select(
                        feature_changes.c.change_id, feature_changes.c.customer_id, feature_changes.c.as_of
                    )
                    .where(feature_changes.c.change_id > self._seen)
                    .order_by(feature_changes.c.change_id)
                ).all()
        if changes:
            self._seen = changes[-1].change_id
            if any(change.customer_id is None for change in changes):
                self._cache.clear()
            self._cache.outdate(
                {
                    change.customer_id: change.as_of.timestamp()
                    for change in changes
                    if change.customer_id is not None
                }
            )
        self._looked_at = looked_at
        self._cache.confirm(looked_at)
        return len(changes)

"""Requests that were looked at, as rows: every process over the database knows those of all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from features.history.tables import asks
from serving.pacing.ask import Ask, Option

_AT_ONCE = 10_000


def write_asks(conn: Connection, new: Sequence[Ask]) -> None:
    """Add rows; the caller commits."""
    if new:
        conn.execute(
            insert(asks),
            [
                {
                    "asked_at": one.at,
                    "campaigns": list(one.campaigns),
                    "n": one.n,
                    "options": [list(option) for option in one.options],
                }
                for one in new
            ],
        )


def read_asks(conn: Connection, behind: int, since: datetime) -> tuple[list[Ask], int]:
    """Some of those that are new, in the order in which they were added.

    Of rows that several processes add at the same time PostgreSQL may show the later first; one that is missed so is one
    of some thousand.

    Args:
        conn: Only read.
        behind: Number of the last that is known; 0 where none is.
        since: Aware; older ones are left out.

    Returns:
        At most 10,000, and the number of the last; none, and `behind`, where there is nothing new.
    """
    rows = conn.execute(
        select(asks)
        .where(asks.c.ask_id > behind, asks.c.asked_at >= since)
        .order_by(asks.c.ask_id)
        .limit(_AT_ONCE)
    ).all()
    found = [
        Ask(
            at=row.asked_at,
            n=row.n,
            campaigns=tuple(row.campaigns),
            options=tuple(Option(*option) for option in row.options),
        )
        for row in rows
    ]
    return found, rows[-1].ask_id if rows else behind


def forget_asks(conn: Connection, before: datetime) -> None:
    """Delete those that nobody looks back upon any more; the caller commits."""
    conn.execute(delete(asks).where(asks.c.asked_at < before))

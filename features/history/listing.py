"""Decisions as they are listed: the newest first, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from features.history.tables import decisions, outbox

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionFilter:
    """Which decisions; None for any.

    Attributes:
        contact: Whether a contact was chosen.
        since: Decided then or later.
        until: Decided before then.
        message_status: State of its message.
    """

    customer_id: str | None = None
    campaign_id: str | None = None
    channel: str | None = None
    arm: str | None = None
    mode: str | None = None
    policy: str | None = None
    contact: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    message_status: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: the decision that was its last."""

    micros: int
    decision_id: str

    @property
    def decided_at(self) -> datetime:
        """When it was decided."""
        return _EPOCH + self.micros * _MICROSECOND

    @classmethod
    def of(cls, decided_at: datetime, decision_id: str) -> Place:
        """The place of a decision."""
        return cls((decided_at - _EPOCH) // _MICROSECOND, decision_id)


def list_decisions(
    conn: Connection, wanted: DecisionFilter, after: Place | None, limit: int
) -> list[Row[Any]]:
    """Rows of `decisions` without documents and evidence, with the state of their message as `message_status`.

    Args:
        conn: Only read.
        wanted: Which.
        after: Where the page before ended; None for the first page.
        limit: At most this many.
    """
    columns = [column for column in decisions.c if column.name not in ("document", "evidence")]
    query = (
        select(*columns, outbox.c.status.label("message_status"))
        .outerjoin_from(decisions, outbox, outbox.c.decision_id == decisions.c.decision_id)
        .order_by(decisions.c.decided_at.desc(), decisions.c.decision_id.desc())
        .limit(limit)
    )
    for name in ("customer_id", "campaign_id", "channel", "arm", "mode", "policy"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(decisions.c[name] == value)
    if wanted.contact is not None:
        silent = decisions.c.channel.is_(None)
        query = query.where(~silent if wanted.contact else silent)
    if wanted.since is not None:
        query = query.where(decisions.c.decided_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(decisions.c.decided_at < wanted.until)
    if wanted.message_status is not None:
        query = query.where(outbox.c.status == wanted.message_status)
    if after is not None:
        at = after.decided_at
        earlier = or_(decisions.c.decided_at < at, decisions.c.decision_id < after.decision_id)
        # The first condition is what an index can be entered by.
        query = query.where(decisions.c.decided_at <= at, earlier)
    return list(conn.execute(query))

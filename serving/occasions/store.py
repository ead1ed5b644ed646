"""Occasions in versions, and which process looks who is due. The caller owns the transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, and_, func, insert, or_, select, update

from features.history.campaigns import load_campaign
from features.history.insert import insert_new
from features.history.tables import occasion_passes, occasions
from models.domain.errors import NotFoundError
from serving.occasions.occasion import Occasion

HELD_FOR = timedelta(seconds=60)
"""A process that has not said for so long that it is at an occasion is taken to be dead."""

_ADAPTER = TypeAdapter(Occasion)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An occasion as it is stored.

    Attributes:
        passed_at: When the last complete look at who is due began; None before the first one of this version.
    """

    name: str
    version: int
    created_at: datetime
    occasion: Occasion
    passed_at: datetime | None


def save_occasion(conn: Connection, name: str, occasion: Occasion, now: datetime) -> Stored:
    """Store an occasion; one that is there already stays as it is.

    Raises:
        NotFoundError: there is no such campaign.
    """
    load_campaign(conn, occasion.campaign_id)
    insert_new(conn, occasion_passes, [{"name": name}])
    _lock(conn, name)
    latest = _latest(conn, name)
    if latest is not None and latest.document is not None and _stored(latest).occasion == occasion:
        return _stored(latest)
    document = _ADAPTER.dump_python(occasion, mode="json")
    _add(conn, name, 1 if latest is None else latest.version + 1, document, now)
    conn.execute(update(occasion_passes).where(occasion_passes.c.name == name).values(passed_at=None))
    return load_occasion(conn, name)


def delete_occasion(conn: Connection, name: str, now: datetime) -> None:
    """Nobody is decided for by it any more; what was decided stays.

    Raises:
        NotFoundError: there is none of that name.
    """
    _lock(conn, name)
    _add(conn, name, load_occasion(conn, name).version + 1, None, now)


def load_occasion(conn: Connection, name: str) -> Stored:
    """The occasion of that name.

    Raises:
        NotFoundError: there is none.
    """
    row = _latest(conn, name)
    if row is None or row.document is None:
        raise NotFoundError("name", name)
    return _stored(row)


def occasion_as_of(conn: Connection, name: str, moment: datetime) -> Occasion | None:
    """The occasion of that name in the version that held at a moment; None where there was none."""
    row = conn.execute(
        _ROWS.where(occasions.c.name == name, occasions.c.created_at <= moment)
        .order_by(occasions.c.version.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None or row.document is None else _stored(row).occasion


def list_occasions(conn: Connection, after: str = "", limit: int | None = None) -> list[Stored]:
    """Occasions in order of name.

    Args:
        conn: Only read.
        after: Name of the last one of the page before.
        limit: At most this many; None for all.
    """
    newest = (
        select(occasions.c.name, func.max(occasions.c.version).label("version"))
        .group_by(occasions.c.name)
        .subquery("newest")
    )
    rows = conn.execute(
        _ROWS.join(newest, and_(occasions.c.name == newest.c.name, occasions.c.version == newest.c.version))
        .where(occasions.c.name > after, occasions.c.document.is_not(None))
        .order_by(occasions.c.name)
        .limit(limit)
    )
    return [_stored(row) for row in rows]


def hold(conn: Connection, stored: Stored, holder: str, now: datetime) -> bool:
    """Say that this process looks who is due, or still does; whether it may.

    Args:
        conn: Its transaction is committed by the caller.
        stored: The occasion; one that was changed or deleted since may not be gone on with.
        holder: Names this process.
        now: By the machine's clock.
    """
    mine = occasion_passes.c
    held = conn.execute(
        update(occasion_passes)
        .where(
            mine.name == stored.name,
            or_(mine.holder == holder, mine.held_until.is_(None), mine.held_until < now),
        )
        .values(holder=holder, held_until=now + HELD_FOR)
    )
    if not held.rowcount:
        return False
    latest = _latest(conn, stored.name)
    return latest is not None and latest.version == stored.version


def let_go(conn: Connection, stored: Stored, holder: str, passed_at: datetime | None) -> None:
    """Hold it no longer.

    Args:
        conn: Its transaction is committed by the caller.
        stored: The occasion.
        holder: Names this process.
        passed_at: When the look began, where it is complete.
    """
    mine = and_(occasion_passes.c.name == stored.name, occasion_passes.c.holder == holder)
    conn.execute(update(occasion_passes).where(mine).values(holder=None, held_until=None))
    latest = _latest(conn, stored.name)
    if passed_at is not None and latest is not None and latest.version == stored.version:
        conn.execute(
            update(occasion_passes).where(occasion_passes.c.name == stored.name).values(passed_at=passed_at)
        )


_ROWS = select(occasions, occasion_passes.c.passed_at).join_from(
    occasions, occasion_passes, occasions.c.name == occasion_passes.c.name
)


def _lock(conn: Connection, name: str) -> None:
    """One version after the other."""
    conn.execute(select(occasion_passes.c.name).where(occasion_passes.c.name == name).with_for_update()).all()


def _latest(conn: Connection, name: str) -> Row[Any] | None:
    return conn.execute(
        _ROWS.where(occasions.c.name == name).order_by(occasions.c.version.desc()).limit(1)
    ).one_or_none()


def _add(conn: Connection, name: str, version: int, document: object | None, now: datetime) -> None:
    row = {"name": name, "version": version, "created_at": now}
    conn.execute(insert(occasions).values(row if document is None else row | {"document": document}))


def _stored(row: Row[Any]) -> Stored:
    return Stored(
        name=row.name,
        version=row.version,
        created_at=row.created_at,
        occasion=_ADAPTER.validate_python(row.document),
        passed_at=row.passed_at,
    )

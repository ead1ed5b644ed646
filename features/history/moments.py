"""Arithmetic with moments in the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    DateTime,
    Integer,
    cast,
    extract,
    func,
    type_coerce,
)

LocalPart = Literal["hour", "isodow"]
_EPOCH = datetime.fromtimestamp(0, UTC)


def earlier(conn: Connection, moment: ColumnElement[datetime], by: timedelta) -> ColumnElement[Any]:
    """A moment of the database's less a time, to compare others with."""
    if conn.dialect.name == "postgresql":
        return type_coerce(moment, DateTime(timezone=True)) - by
    return type_coerce(moment, BigInteger) - by // timedelta(microseconds=1)


def local_part(
    conn: Connection, part: LocalPart, moment: ColumnElement[Any], time_zone: ColumnElement[str]
) -> ColumnElement[int]:
    """Hour of the day (0 to 23) or day of the week (Monday is 1) of a moment of the database's, by a clock of that zone.

    The connection must have been taught by `teach_local_time`.
    """
    if conn.dialect.name == "postgresql":
        return extract(part, func.timezone(time_zone, moment))
    return func.local_part(part, moment, time_zone, type_=Integer)


def teach_local_time(conn: Connection) -> None:
    """SQLite knows no time zones."""
    if conn.dialect.name != "sqlite":
        return
    driver = conn.connection.driver_connection
    assert driver is not None
    driver.create_function("local_part", 3, _local_part, deterministic=True)


def _local_part(part: str, microseconds: int, time_zone: str) -> int:
    local = (_EPOCH + timedelta(microseconds=microseconds)).astimezone(ZoneInfo(time_zone))
    return local.hour if part == "hour" else local.isoweekday()


def whole_days(
    conn: Connection, start: ColumnElement[datetime], end: ColumnElement[datetime]
) -> ColumnElement[int]:
    """How many times 24 hours lie between two moments of the database's, the first not after the second."""
    if conn.dialect.name == "postgresql":
        return cast(func.floor(extract("epoch", end - start) / 86_400), Integer)
    day = timedelta(days=1) // timedelta(microseconds=1)
    return (type_coerce(end, BigInteger) - type_coerce(start, BigInteger)) // day

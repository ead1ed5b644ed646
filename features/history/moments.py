"""Arithmetic with moments in the database."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

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


def earlier(conn: Connection, moment: ColumnElement[datetime], by: timedelta) -> ColumnElement[Any]:
    """A moment of the database's less a time, to compare others with."""
    if conn.dialect.name == "postgresql":
        return type_coerce(moment, DateTime(timezone=True)) - by
    return type_coerce(moment, BigInteger) - by // timedelta(microseconds=1)


def whole_days(
    conn: Connection, start: ColumnElement[datetime], end: ColumnElement[datetime]
) -> ColumnElement[int]:
    """How many times 24 hours lie between two moments of the database's, the first not after the second."""
    if conn.dialect.name == "postgresql":
        return cast(func.floor(extract("epoch", end - start) / 86_400), Integer)
    day = timedelta(days=1) // timedelta(microseconds=1)
    return (type_coerce(end, BigInteger) - type_coerce(start, BigInteger)) // day

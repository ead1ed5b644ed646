"""Arithmetic with moments in the database."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, DateTime, type_coerce


def earlier(conn: Connection, moment: ColumnElement[datetime], by: timedelta) -> ColumnElement[Any]:
    """A moment of the database's less a time, to compare others with."""
    if conn.dialect.name == "postgresql":
        return type_coerce(moment, DateTime(timezone=True)) - by
    return type_coerce(moment, BigInteger) - by // timedelta(microseconds=1)

"""A condition on many values as one parameter."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
from sqlalchemy import ColumnElement, Connection, String, any_, column, func, literal, select
from sqlalchemy.dialects import postgresql


def among(conn: Connection, asked: ColumnElement[str], values: Iterable[str]) -> ColumnElement[bool]:
    """Whether the column has one of the values, however many: `IN` with a parameter a value is parsed each time."""
    listed = list(values)
    if conn.dialect.name == "postgresql":
        return asked == any_(literal(listed, postgresql.ARRAY(String)))
    each = func.json_each(orjson.dumps(listed).decode()).table_valued(column("value", String))
    return asked.in_(select(each.c.value))

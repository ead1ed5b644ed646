"""The history as columns."""

from __future__ import annotations

from typing import Any

import polars as pl
from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    Select,
    Text,
    cast,
    extract,
    type_coerce,
)
from sqlalchemy.types import JSON

from features.history.tables import UtcMoment

_ROWS_A_CHUNK = 50_000
MOMENT = pl.Datetime("us", "UTC")


def frame(conn: Connection, query: Select[Any]) -> pl.DataFrame:
    """The rows of a query as columns of the right type, in chunks of bounded memory.

    Moments come as `Datetime("us", "UTC")`, documents as JSON text. The types are those of the query, also
    where there are no rows.

    Args:
        conn: Only read.
        query: Its columns have distinct names.
    """
    columns = list(query.selected_columns)
    schema = {str(chosen.key): _polars_type(chosen) for chosen in columns}
    wire = {name: pl.Int64() if dtype == MOMENT else dtype for name, dtype in schema.items()}
    plain = query.with_only_columns(
        *(_on_the_wire(conn, chosen) for chosen in columns), maintain_column_froms=True
    )
    result = conn.execute(plain, execution_options={"yield_per": _ROWS_A_CHUNK})
    parts = [pl.DataFrame(rows, schema=wire, orient="row") for rows in result.partitions()]
    whole = pl.concat(parts) if parts else pl.DataFrame(schema=wire)
    return whole.with_columns(pl.col(name).cast(dtype) for name, dtype in schema.items() if dtype == MOMENT)


def _on_the_wire(conn: Connection, chosen: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column in a form that costs no Python code a value."""
    if isinstance(chosen.type, UtcMoment):
        if conn.dialect.name == "postgresql":
            microseconds = extract("epoch", chosen) * 1_000_000
            return cast(microseconds, BigInteger).label(str(chosen.key))
        return type_coerce(chosen, BigInteger).label(str(chosen.key))
    if isinstance(chosen.type, JSON):
        if conn.dialect.name == "postgresql":
            return cast(chosen, Text).label(str(chosen.key))
        return type_coerce(chosen, Text).label(str(chosen.key))
    return chosen


def _polars_type(chosen: ColumnElement[Any]) -> pl.DataType:
    if isinstance(chosen.type, UtcMoment):
        return MOMENT
    if isinstance(chosen.type, Boolean):
        return pl.Boolean()
    if isinstance(chosen.type, Integer):
        return pl.Int64()
    if isinstance(chosen.type, (Float, Numeric)):
        return pl.Float64()
    if isinstance(chosen.type, LargeBinary):
        return pl.Binary()
    return pl.String()

"""Insert many rows and pass over those that break a unique constraint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import repeat
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import (
    Column,
    Connection,
    Dialect,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    cast,
    column,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import JSON

from features.history.prepared import converter, run_many

_ROWS_A_STATEMENT = 10_000
# Up to here one parameter with all rows is faster than a temporary table.
_FEW_ROWS = 500
_NOTHING: Mapping[str, Any] = {}


def insert_new(
    conn: Connection, table: Table, rows: Sequence[dict[str, Any]], unsaid: Mapping[str, Any] = _NOTHING
) -> int:
    """Insert the rows that break no unique constraint, in bulk; the number inserted.

    On PostgreSQL they go in the order of their key, whatever the order given: two transactions that insert the same
    rows at the same time then wait for each other and never in a circle.

    Args:
        conn: In the caller's transaction.
        table: Any.
        rows: All with the same keys, names of columns, but for those of `unsaid`.
        unsaid: What a row that leaves a column out says.
    """
    if not rows:
        return 0
    names = tuple(sorted({*rows[0], *unsaid}))
    if conn.dialect.name != "postgresql":
        return _insert_sqlite(conn, table, names, rows, unsaid)
    rows = sorted(rows, key=itemgetter(*_key(table, names)))
    if len(rows) <= _FEW_ROWS:
        return _insert_few(conn, table, names, [{**unsaid, **row} for row in rows])
    n_new = _insert_by_copy(conn, table, names, rows, unsaid)
    if n_new >= _ROWS_A_STATEMENT:
        _tell_the_planner(conn, table, n_new)
    return n_new


def insert_into(conn: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that can say what happens on a conflict."""
    return postgresql.insert(table) if conn.dialect.name == "postgresql" else sqlite.insert(table)


def _insert_sqlite(
    conn: Connection,
    table: Table,
    names: tuple[str, ...],
    rows: Sequence[dict[str, Any]],
    unsaid: Mapping[str, Any],
) -> int:
    return run_many(
        conn,
        _sqlite_insert(conn.dialect, table, names),
        _as_the_driver_wants(conn.dialect, table, names, rows, unsaid),
    )


@lru_cache(maxsize=64)
def _key(table: Table, given: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that make a row unique, as far as they are given and never null."""
    uniques = [each for each in table.constraints if isinstance(each, UniqueConstraint)]
    constraint = min(uniques, key=lambda each: str(each.name)) if uniques else table.primary_key
    names = tuple(each.name for each in constraint.columns if each.name in given and not each.nullable)
    return names or given[:1]


@lru_cache(maxsize=32)
def _sqlite_insert(dialect: Dialect, table: Table, names: tuple[str, ...]) -> str:
    columns = ", ".join(dialect.identifier_preparer.format_column(table.c[name]) for name in names)
    places = ", ".join("?" * len(names))
    return f"INSERT INTO {table.name} ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING"  # noqa: S608 - our own names


def _insert_by_copy(
    conn: Connection,
    table: Table,
    names: tuple[str, ...],
    rows: Sequence[dict[str, Any]],
    unsaid: Mapping[str, Any],
) -> int:
    """By COPY into a temporary table, which takes anything: COPY itself knows no conflicts."""
    columns = ", ".join(conn.dialect.identifier_preparer.format_column(table.c[name]) for name in names)
    given = f"given_{table.name}"
    driver = conn.connection.driver_connection
    assert driver is not None
    with driver.cursor() as cursor:
        cursor.execute(
            f"CREATE TEMPORARY TABLE {given} ON COMMIT DROP AS SELECT {columns} FROM {table.name} WITH NO DATA"  # noqa: S608
        )
        with cursor.copy(f"COPY {given} ({columns}) FROM STDIN") as copy:
            for row in _as_the_driver_wants(conn.dialect, table, names, rows, unsaid):
                copy.write_row(row)
        cursor.execute(
            f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {given} ON CONFLICT DO NOTHING"  # noqa: S608
        )
        n_new: int = cursor.rowcount
        cursor.execute(f"DROP TABLE {given}")
    return n_new


def _insert_few(
    conn: Connection, table: Table, names: tuple[str, ...], rows: Sequence[dict[str, Any]]
) -> int:
    # All rows as one parameter: measured 6 times faster than one parameter a value.
    columns = [column(name, table.c[name].type) for name in names]
    given = func.json_to_recordset(cast(bindparam("rows", type_=Text), postgresql.JSON)).table_valued(
        *columns, name="given"
    )
    statement = (
        postgresql.insert(table)
        .from_select(list(names), select(*given.render_derived(with_types=True).c), include_defaults=False)
        .on_conflict_do_nothing()
        .execution_options(preserve_rowcount=True)
    )
    return conn.execute(statement, {"rows": _to_json(rows)}).rowcount


def _as_the_driver_wants(
    dialect: Dialect,
    table: Table,
    names: Sequence[str],
    rows: Sequence[dict[str, Any]],
    unsaid: Mapping[str, Any],
) -> Iterator[tuple[Any, ...]]:
    """The values converted column by column: measured twice as fast as through SQLAlchemy's execution."""
    columns: list[Iterable[Any]] = []
    for name in names:
        # What many rows share, such as the moment of their arrival, is converted once.
        values: Iterable[Any]
        if name in unsaid:
            shared = unsaid[name]
            values = map(dict.get, rows, repeat(name), repeat(shared))
        else:
            shared = rows[0][name]
            values = map(itemgetter(name), rows)
        convert = _converter(dialect, table.c[name])
        if convert is not None:
            converted = convert(shared)
            values = [converted if value is shared else convert(value) for value in values]
        columns.append(values)
    return zip(*columns, strict=True)


def _converter(dialect: Dialect, stored: Column[Any]) -> Callable[[Any], Any] | None:
    if isinstance(stored.type, JSON):
        return _to_json
    return converter(stored.type, dialect)


def _tell_the_planner(conn: Connection, table: Table, n_new: int) -> None:
    """Without statistics PostgreSQL takes a table for empty, and joins it by loops that never end.

    Autovacuum comes by later; only a table that has just grown to a multiple cannot wait for it.
    """
    known = conn.scalar(
        text("SELECT reltuples FROM pg_class WHERE oid = to_regclass(:name)"), {"name": table.name}
    )
    if known is None or known < n_new:
        conn.execute(text(f"ANALYZE {table.name}"))


def _to_json(document: object) -> str:
    return orjson.dumps(document, default=_moment_to_json, option=orjson.OPT_PASSTHROUGH_DATETIME).decode()


def _moment_to_json(value: object) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"{type(value).__name__} is no type of a column")
    if value.tzinfo is None:
        raise ValueError(f"{value.isoformat()} has no time zone")
    return value.isoformat()

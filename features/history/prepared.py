"""Statements that every decision runs, compiled once a database dialect.

SQLAlchemy walks a statement's tree each time it is executed, to find its compiled text. For the few statements
of the hot path the text is kept, with the converters of its parameters; they are generated from the same tables.
Within a transaction they run on the driver's own cursor: what SQLAlchemy builds around an execution takes as long as
SQLite takes to execute it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Dialect, LargeBinary, String, bindparam
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ClauseElement
from sqlalchemy.types import NULLTYPE, TypeDecorator, TypeEngine

_ONE_BY_ONE = nullcontext()


class Prepared:
    """One statement, ready to run.

    Args:
        statement: Its parameters are `bindparam`s, or the columns of an insert.
        columns: Of an insert, the columns that are given; the others get the database's own default.
    """

    def __init__(self, statement: ClauseElement, columns: Sequence[str] | None = None) -> None:
        self._statement = statement
        self._columns = columns
        self._compiled: dict[str, _Compiled] = {}

    def rows(self, conn: Connection, **values: Any) -> Sequence[Any]:
        """Execute once; the rows' values are as the driver gives them."""
        compiled = self._compiled.get(conn.dialect.name) or self._for(conn.dialect)
        laid_out = compiled.parameters(values)
        found: Sequence[Any]
        if _watched(conn):
            found = conn.exec_driver_sql(compiled.text, laid_out).fetchall()
        else:
            found = _run(conn, _driver_of(conn), compiled.text, laid_out, fetch=True)
        return found

    def run_all(self, conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute once for every row."""
        if not rows:
            return
        compiled = self._compiled.get(conn.dialect.name) or self._for(conn.dialect)
        laid_out = [compiled.parameters(row) for row in rows]
        if _watched(conn):
            conn.exec_driver_sql(compiled.text, laid_out)
        elif len(laid_out) == 1:
            _run(conn, _driver_of(conn), compiled.text, laid_out[0])
        else:
            _run(conn, _driver_of(conn), compiled.text, laid_out, many=True)

    def _for(self, dialect: Dialect) -> _Compiled:
        compiled = self._compiled[dialect.name] = _Compiled(self._statement, self._columns, dialect)
        return compiled


def run_many(conn: Connection, statement: str, rows: Iterable[tuple[Any, ...]]) -> int:
    """Execute a statement in the driver's own words once for every row; how many rows of the table it changed.

    The rows are taken one by one: ten thousand need not be there at once.
    """
    if _watched(conn):
        given = list(rows)
        return conn.exec_driver_sql(statement, given, execution_options={"preserve_rowcount": True}).rowcount
    changed: int = _run(conn, _driver_of(conn), statement, rows, many=True)
    return changed


def begin(conn: Connection, statement: str) -> None:
    """Execute the statement that begins a transaction, while SQLAlchemy still puts the transaction together."""
    if _watched(conn):
        conn.exec_driver_sql(statement)
    else:
        _run(conn, conn.connection.dbapi_connection, statement)


def in_one_trip(conn: Connection) -> AbstractContextManager[None]:
    """What prepared statements send to PostgreSQL inside the block goes there together.

    They are executed one after the other, as ever, but only rows that are asked for are waited for, and everything at the end
    of the block: an error may be that of an earlier statement. On SQLite, and where somebody listens to statements, this
    changes nothing.
    """
    if conn.dialect.name != "postgresql" or _watched(conn):
        return _ONE_BY_ONE
    return _pipeline(conn)


@contextmanager
def _pipeline(conn: Connection) -> Iterator[None]:
    try:
        with _driver_of(conn).pipeline():
            yield
    except conn.dialect.loaded_dbapi.Error as exc:
        raise _told(conn, "a pipeline", None, exc) from exc


def _watched(conn: Connection) -> bool:
    """Whether somebody listens to the engine's statements, such as a tracer: then they take SQLAlchemy's way."""
    return bool(conn.engine.dispatch.before_cursor_execute)


def _driver_of(conn: Connection) -> Any:
    """The driver's connection, in a transaction that SQLAlchemy knows of."""
    if not conn.in_transaction():
        conn.begin()
    return conn.connection.dbapi_connection


def _run(
    conn: Connection,
    driver: Any,
    statement: str,
    parameters: Any = (),
    *,
    many: bool = False,
    fetch: bool = False,
) -> Any:
    """Execute on the driver's own cursor, once or for each of many parameters; the rows, or how many were changed.

    No context manager: one that is a generator costs as much as SQLite takes to find a row, a dozen times a decision.
    """
    cursor = driver.cursor()
    try:
        if many:
            cursor.executemany(statement, parameters)
        else:
            cursor.execute(statement, parameters)
        return cursor.fetchall() if fetch else cursor.rowcount
    except conn.dialect.loaded_dbapi.Error as exc:
        raise _told(conn, statement, cursor, exc) from exc
    finally:
        cursor.close()


def _told(conn: Connection, statement: str, cursor: Any, error: Exception) -> Exception:
    """The driver's error as SQLAlchemy would raise it.

    A connection that turns out to be lost is given up, so that the pool makes a new one.
    """
    dialect: Any = conn.dialect
    is_lost = dialect.is_disconnect(error, conn.connection.dbapi_connection, cursor)
    told: Exception = DBAPIError.instance(
        statement,
        None,
        error,
        dialect.loaded_dbapi.Error,
        hide_parameters=True,
        connection_invalidated=is_lost,
        dialect=dialect,
    )
    if is_lost:
        conn.invalidate(told)
    return told


class _Compiled:
    """A statement's text for one dialect, and how to lay out its parameters."""

    def __init__(self, statement: ClauseElement, columns: Sequence[str] | None, dialect: Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect, column_keys=columns)
        given = {name: None for name, bind in compiled.binds.items() if bind.required}
        # Lists that are constants of the statement, such as the kinds that a condition names, become part of its text.
        expanded = compiled.construct_expanded_state(given)
        self.text: str = expanded.statement
        self._pick = None if expanded.positiontup is None else _picker(expanded.positiontup)
        self._constants: dict[str, Any] = {}
        self._converted: list[tuple[str, Callable[[Any], Any]]] = []
        for name, constant in expanded.parameters.items():
            bind = compiled.binds.get(name)
            convert = None if bind is None else converter(bind.type, dialect)
            if name not in given:
                self._constants[name] = constant if convert is None else convert(constant)
            elif convert is not None:
                self._converted.append((name, convert))
        order = expanded.positiontup or ()
        # Where every place has a value of its own, as in an insert, a row is picked once and converted in its places.
        apart = len(order) > 1 and not self._constants and len(set(order)) == len(order)
        self._alone = self._pick if apart else None
        self._converted_at = [(order.index(name), convert) for name, convert in self._converted if apart]

    def parameters(self, values: Mapping[str, Any]) -> Any:
        """As the driver wants them: in order, or by name."""
        if self._alone is not None:
            row = list(self._alone(values))
            for at, convert in self._converted_at:
                row[at] = convert(row[at])
            return tuple(row)
        found = {**self._constants, **values}
        for name, convert in self._converted:
            found[name] = convert(found[name])
        return found if self._pick is None else self._pick(found)


def converter(stored: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    """What makes a value of that type one that the driver takes; None where it is one as it is."""
    if isinstance(stored, LargeBinary):
        return None  # both drivers take bytes; SQLAlchemy would wrap them
    return stored.dialect_impl(dialect).bind_processor(dialect)


def _picker(names: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """The values of these names in their order."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: tuple([values[name] for name in names])


class TextList(TypeDecorator[Sequence[str]]):
    """Any number of texts as one parameter: an array on PostgreSQL, JSON on SQLite."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the type for the database."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.ARRAY(String()))
        return dialect.type_descriptor(String())

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> Any:
        """To the database."""
        texts = list(value or ())
        return texts if dialect.name == "postgresql" else orjson.dumps(texts).decode()


class one_of(ColumnElement[bool]):  # noqa: N801 - reads as an SQL function
    """SQL condition: the column's value is one of those in the parameter `name`, however many there are."""

    inherit_cache = False
    # Not a Boolean: on a database without that type SQLAlchemy would compare it with 1.
    type = NULLTYPE  # type: ignore[assignment]

    def __init__(self, column: ColumnElement[str], name: str) -> None:
        self.column = column
        self.among = bindparam(name, type_=TextList())


@compiles(one_of)
def _one_of(element: one_of, compiler: SQLCompiler, **options: Any) -> str:
    column, among = compiler.process(element.column, **options), compiler.process(element.among, **options)
    if compiler.dialect.name == "postgresql":
        return f"{column} = ANY ({among})"
    return f"{column} IN (SELECT value FROM json_each({among}))"  # noqa: S608 - both are compiled SQL

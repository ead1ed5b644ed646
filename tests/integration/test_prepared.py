"""Prepared statements that go to the database together."""

from __future__ import annotations

import pytest
from sqlalchemy import bindparam, event, func, insert, select
from sqlalchemy.exc import IntegrityError, OperationalError

from features.history.prepared import Prepared, in_one_trip
from features.history.tables import resource_usage

ADD = Prepared(insert(resource_usage), ("resource", "used"))
READ = Prepared(select(resource_usage.c.used).where(resource_usage.c.resource == bindparam("name")))


def used(name: str, amount: float) -> dict[str, object]:
    return {"resource": name, "used": amount}


def write(conn, *groups) -> None:
    with in_one_trip(conn):
        for rows in groups:
            ADD.run_all(conn, rows)


def n_rows(engine) -> int:
    with engine.connect() as conn:
        return conn.execute(select(func.count()).select_from(resource_usage)).scalar_one()


def test_a_statement_sees_what_an_earlier_one_of_the_trip_wrote(engine):
    with engine.begin() as conn:
        with in_one_trip(conn):
            ADD.run_all(conn, [used("a", 1.0)])
            ADD.run_all(conn, [used("b", 2.0), used("c", 3.0)])
            assert [tuple(row) for row in READ.rows(conn, name="c")] == [(3.0,)]
        assert [tuple(row) for row in READ.rows(conn, name="a")] == [(1.0,)]
    assert n_rows(engine) == 3


def test_an_error_of_the_trip_is_sqlalchemys_and_rolls_all_of_it_back(engine):
    conn = engine.connect()
    with pytest.raises(IntegrityError):
        write(conn, [used("a", 1.0)], [used("a", 2.0)], [used("b", 2.0)])
    conn.rollback()
    assert n_rows(engine) == 0
    write(conn, [used("a", 1.0)])  # the connection is good for the next
    conn.commit()
    conn.close()
    assert n_rows(engine) == 1


def test_whoever_listens_to_statements_hears_each_of_the_trip(engine):
    heard: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: heard.append(given[2]))
    with engine.begin() as conn:
        write(conn, [used("a", 1.0)], [used("b", 1.0)])
    assert sum(statement.startswith("INSERT") for statement in heard) == 2


def test_a_connection_that_is_lost_during_the_trip_is_replaced(engine):
    if engine.dialect.name != "postgresql":
        pytest.skip("only a server can be lost")
    conn = engine.connect()
    pid = conn.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    with engine.connect() as other:
        other.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
    with pytest.raises(OperationalError) as raised:
        write(conn, [used("a", 1.0)])
    assert raised.value.connection_invalidated
    conn.close()
    with engine.begin() as another:
        write(another, [used("a", 1.0)])
    assert n_rows(engine) == 1

"""Who writes next."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from features.history.engine import compact, connect, read_only
from features.history.turns import Turns

_SOON = 10.0


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_turns_are_taken_in_the_order_in_which_they_were_asked_for() -> None:
    turns, order = Turns(_SOON), []
    assert turns.take()

    def write(number: int) -> None:
        assert turns.take()
        order.append(number)
        turns.give_on()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for number, writer in enumerate(writers, start=1):
        writer.start()
        _until(lambda n=number: turns.n_waiting == n)  # type: ignore[misc]
    turns.give_on()
    # Whoever asks now comes after all of them, though nobody else runs.
    assert turns.take()
    order.append(8)
    turns.give_on()
    for writer in writers:
        writer.join()
    assert order == list(range(9))
    assert turns.take()


def test_who_is_out_of_patience_leaves_the_queue() -> None:
    turns = Turns(0.01)
    assert turns.take()
    assert not turns.take()
    assert turns.n_waiting == 0
    turns.give_on()
    assert turns.take()


@pytest.fixture
def database(tmp_path: Path) -> Engine:
    engine = connect(f"sqlite:///{tmp_path / 'history.db'}")
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE noted (number INTEGER PRIMARY KEY)"))
    return engine


def _note(engine: Engine, number: int) -> None:
    with engine.begin() as conn:
        conn.execute(text("INSERT INTO noted VALUES (:number)"), {"number": number})


def test_a_thread_that_writes_without_a_pause_lets_the_others_in(database: Engine) -> None:
    done, over = 0, threading.Event()

    def write_on() -> None:
        nonlocal done
        while not over.is_set():
            with database.begin():
                # While somebody waits for the file, SQLite would have it look again after longer and longer pauses.
                time.sleep(0.005)
            done += 1

    busy = threading.Thread(target=write_on)
    busy.start()
    _until(lambda: done > 0)
    waits = []
    for number in range(20):
        before = done
        _note(database, number)
        waits.append(done - before)
    over.set()
    busy.join()
    # The one that was under way, and one more where the other thread was faster than this one's first step.
    assert sorted(waits)[len(waits) // 2] <= 2, waits


def test_a_turn_ends_with_its_transaction_however_that_ends(database: Engine) -> None:
    _note(database, 1)
    with pytest.raises(IntegrityError):
        _note(database, 1)
    with pytest.raises(ZeroDivisionError), database.begin():
        1 / 0  # noqa: B018
    conn = database.connect()
    conn.begin()
    conn.close()
    lost = database.connect()
    lost.begin()
    lost.invalidate()
    _note(database, 2)
    with database.connect() as conn:
        assert conn.execute(text("SELECT count(*) FROM noted")).scalar_one() == 2


def test_whoever_only_reads_waits_for_nobody(database: Engine) -> None:
    with database.begin() as conn:
        conn.execute(text("INSERT INTO noted VALUES (1)"))
        with read_only(database).connect() as reader:
            assert reader.execute(text("SELECT count(*) FROM noted")).scalar_one() == 0


def test_another_process_is_waited_for_as_before(database: Engine) -> None:
    other = sqlite3.connect(database.url.database or "", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer = threading.Thread(target=_note, args=(database, 1))
    writer.start()
    time.sleep(0.05)
    assert writer.is_alive()
    other.execute("COMMIT")
    writer.join(_SOON)
    assert not writer.is_alive()
    assert other.execute("SELECT count(*) FROM noted").fetchone() == (1,)
    other.close()


def test_others_write_while_a_reader_keeps_the_log_from_being_emptied(database: Engine) -> None:
    emptied = []
    with read_only(database).connect() as reader:
        reader.execute(text("SELECT count(*) FROM noted")).scalar_one()
        emptying = threading.Thread(target=lambda: emptied.append(compact(database, patience_seconds=1.0)))
        emptying.start()
        n_written = 0
        while emptying.is_alive():
            n_written += 1
            _note(database, n_written)
    assert emptied == [False]
    # One would be all, after everybody's patience, if the file stayed locked until the reader has gone.
    assert n_written >= 5
    assert compact(database)

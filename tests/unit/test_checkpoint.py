"""A service's write-ahead log is moved into the file beside the requests, not by one of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from features.history import engine
from features.history.engine import Checkpoints, checkpoint, connect

PAGE = 4_096


def fill(database: Engine, n_pages: int) -> None:
    """About so many pages, in small transactions."""
    for _ in range(n_pages // 10):
        with database.begin() as conn:
            conn.execute(text("INSERT INTO kept VALUES (zeroblob(:size))"), {"size": 10 * PAGE})


def table(database: Engine) -> None:
    with database.begin() as conn:
        conn.execute(text("CREATE TABLE kept (content BLOB)"))


def test_transactions_leave_the_log_to_the_checkpoint_which_waits_for_no_writer(tmp_path: Path):
    file, log = tmp_path / "history.db", tmp_path / "history.db-wal"
    opened = connect(f"sqlite:///{file}", serves=True)
    table(opened)
    fill(opened, 3_000)
    assert log.stat().st_size > 3_000 * PAGE
    assert file.stat().st_size < 100 * PAGE
    with opened.begin() as conn:
        conn.execute(text("INSERT INTO kept VALUES (x'01')"))
        checkpoint(opened)
    assert file.stat().st_size > 3_000 * PAGE
    grown = log.stat().st_size
    checkpoint(opened)
    fill(opened, 1_000)
    assert log.stat().st_size == grown, "the log begins again from its start"
    with opened.connect() as conn:
        assert conn.scalar(text("SELECT count(*) FROM kept")) == 401


def test_it_is_time_once_a_second_or_once_much_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "history.db"
    opened = connect(f"sqlite:///{file}", serves=True)
    table(opened)
    now = [100.0]
    monkeypatch.setattr(engine, "monotonic", lambda: now[0])
    checkpoints = Checkpoints(opened)

    def moved_after(seconds: float) -> bool:
        before, now[0] = file.stat().st_size, now[0] + seconds
        checkpoints.work()
        return file.stat().st_size > before

    fill(opened, 500)
    assert not moved_after(0.4)
    assert moved_after(0.7)
    fill(opened, 1_000)
    assert not moved_after(0.4), "so far half a thousand a second came"
    monkeypatch.setattr(engine, "_CHECKPOINT_AFTER_PAGES", 200)
    assert moved_after(0.2)
    fill(opened, 1_000)
    assert moved_after(0.2), "now it is thousands"
    assert not moved_after(1.1), "nothing was written"
    with opened.connect() as conn:
        assert conn.scalar(text("SELECT count(*) FROM kept")) == 250


def test_nobody_else_opens_the_files_of_a_database_that_is_in_use():
    """Closing one of them would take away the locks that SQLite holds for the whole process."""
    root = Path(engine.__file__).parents[2]
    for folder in ("features", "serving", "training", "nextchannel"):
        for path in (root / folder).rglob("*.py"):
            assert "-shm" not in path.read_text(encoding="utf-8"), path


def test_elsewhere_a_transaction_moves_a_long_log_itself(tmp_path: Path):
    opened = connect(f"sqlite:///{tmp_path / 'history.db'}")
    table(opened)
    fill(opened, 3_000)
    assert (tmp_path / "history.db-wal").stat().st_size < 1_500 * PAGE

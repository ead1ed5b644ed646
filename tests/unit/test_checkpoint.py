"""A service's write-ahead log is moved into the file beside the requests, not by one of them."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, text

from features.history.engine import checkpoint, connect

PAGE = 4_096


def fill(engine: Engine, n_pages: int) -> None:
    """About so many pages, in small transactions."""
    for _ in range(n_pages // 10):
        with engine.begin() as conn:
            conn.execute(text("INSERT INTO kept VALUES (zeroblob(:size))"), {"size": 10 * PAGE})


def table(engine: Engine) -> None:
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE kept (content BLOB)"))


def test_transactions_leave_the_log_to_the_checkpoint_which_waits_for_no_writer(tmp_path: Path):
    file, log = tmp_path / "history.db", tmp_path / "history.db-wal"
    engine = connect(f"sqlite:///{file}", serves=True)
    table(engine)
    fill(engine, 3_000)
    assert log.stat().st_size > 3_000 * PAGE
    assert file.stat().st_size < 100 * PAGE
    with engine.begin() as conn:
        conn.execute(text("INSERT INTO kept VALUES (x'01')"))
        checkpoint(engine)
    assert file.stat().st_size > 3_000 * PAGE
    grown = log.stat().st_size
    checkpoint(engine)
    fill(engine, 1_000)
    assert log.stat().st_size == grown, "the log begins again from its start"
    with engine.connect() as conn:
        assert conn.scalar(text("SELECT count(*) FROM kept")) == 401


def test_elsewhere_a_transaction_moves_a_long_log_itself(tmp_path: Path):
    engine = connect(f"sqlite:///{tmp_path / 'history.db'}")
    table(engine)
    fill(engine, 3_000)
    assert (tmp_path / "history.db-wal").stat().st_size < 1_500 * PAGE

"""What one process writes, every process reads: announcements of feature rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine, func, select

from features.changes import KEPT, ChangeFollower, announce, announced_since, last_change, prune
from features.history.append import CustomerRecord, append_customers, append_interactions
from features.history.tables import feature_changes
from features.offline import materialize
from features.online import FeatureReader, FeatureWriter
from features.workspace import FeatureWorkspace
from models.domain.channel import DEFAULT_CHANNELS
from models.domain.interaction import Interaction, InteractionKind

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def visit(engine: Engine, at: datetime) -> None:
    with engine.begin() as conn:
        append_customers(
            conn, [CustomerRecord(customer_id="ada", time_zone="UTC", created_at=NOW - 100 * SECOND)]
        )
        append_interactions(
            conn,
            [
                Interaction(
                    source="web",
                    event_id=uuid4().hex,
                    customer_id="ada",
                    kind=InteractionKind.VISITED,
                    occurred_at=at,
                )
            ],
            at,
        )


class Replica:
    """A process of its own, as far as features go."""

    def __init__(self, engine: Engine, folder: Path, redis_address: str, project: str) -> None:
        store = {"type": "redis", "connection_string": redis_address}
        self.workspace = FeatureWorkspace(folder, engine, store, project)
        self.workspace.define(DEFAULT_CHANNELS[:1])
        self.writer = FeatureWriter(self.workspace)
        self.follower = ChangeFollower(engine, self.workspace.cache)
        self.follower.follow()
        self._reader = FeatureReader(self.workspace, ["visits_1d"])

    def visits(self, now: datetime) -> float:
        return float(self._reader.read(["ada"], now).values[0, 0])


@pytest.fixture
def replicas(engine: Engine, tmp_path: Path, redis_address: str) -> Iterator[tuple[Replica, Replica]]:
    project = f"test_{uuid4().hex[:12]}"
    made = [Replica(engine, tmp_path / name, redis_address, project) for name in "ab"]
    yield made[0], made[1]
    made[0].workspace.store.teardown()


def test_a_row_that_one_replica_writes_replaces_the_one_that_another_has_cached(
    engine: Engine, replicas: tuple[Replica, Replica]
) -> None:
    one, other = replicas
    other.workspace.cache.trust_seconds = 600.0
    for n in range(3):
        at = NOW + n * SECOND
        visit(engine, at)
        one.writer.refresh(["ada"], at + SECOND / 2)
        assert other.follower.follow() == 1
        assert other.visits(at + SECOND) == n + 1
        assert other.workspace.cache.get(["ada"])["ada"] is not None, "the new row is cached"
    visit(engine, NOW + 3 * SECOND)
    one.writer.refresh(["ada"], NOW + 4 * SECOND)
    assert other.visits(NOW + 4 * SECOND) == 3, "the test can fail: nobody told the other replica"


def test_an_announcement_keeps_an_old_row_out_of_the_cache_until_the_new_one_is_there(
    engine: Engine, replicas: tuple[Replica, Replica]
) -> None:
    one, other = replicas
    visit(engine, NOW)
    one.writer.refresh(["ada"], NOW + SECOND)
    other.follower.follow()
    with engine.begin() as conn:
        announce(conn, ["ada"], NOW + 3 * SECOND)
    other.follower.follow()
    assert other.visits(NOW + 4 * SECOND) == 1
    assert other.workspace.cache.get(["ada"]) == {}


def test_of_two_who_refresh_at_once_the_first_to_announce_writes_again(
    engine: Engine, replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = replicas
    visit(engine, NOW)
    write = one.workspace.write_online
    interrupted = []

    def late(rows: object) -> None:
        """Before the first write the other replica takes in a fact and writes a newer row."""
        if not interrupted:
            interrupted.append(True)
            visit(engine, NOW + SECOND)
            other.writer.refresh(["ada"], NOW + 2 * SECOND)
        write(rows)

    monkeypatch.setattr(one.workspace, "write_online", late)
    one.writer.refresh(["ada"], NOW + SECOND)
    one.workspace.cache.clear()
    assert one.visits(NOW + 3 * SECOND) == 2


def test_a_night_of_materialising_does_not_undo_a_refresh(
    engine: Engine, replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = replicas
    visit(engine, NOW)
    write = one.workspace.write_online
    interrupted = []

    def late(rows: object) -> None:
        if not interrupted:
            interrupted.append(True)
            visit(engine, NOW + SECOND)
            other.writer.refresh(["ada"], NOW + 2 * SECOND)
        write(rows)

    monkeypatch.setattr(one.workspace, "write_online", late)
    assert materialize(one.workspace, NOW + SECOND) == 1
    other.follower.follow()
    assert other.visits(NOW + 3 * SECOND) == 2


def test_announcements_are_numbered_told_and_forgotten(engine: Engine) -> None:
    with engine.begin() as conn:
        first = announce(conn, ["ada", "bob"], NOW)
        assert announced_since(conn, first, ["ada"]) == {}
        announce(conn, ["bob"], NOW + SECOND)
        announce(conn, None, NOW + SECOND)
        assert announced_since(conn, first, ["ada", "bob"]) == {"bob": NOW + SECOND}
        highest = last_change(conn)
        prune(conn, NOW + KEPT + 2 * SECOND)
        assert conn.scalar(select(func.count()).select_from(feature_changes)) == 0
        assert announce(conn, ["ada"], NOW) > highest, "a number is never given twice"


def test_served_rows_are_written_together(sqlite_engine: Engine, tmp_path: Path) -> None:
    workspace = FeatureWorkspace(tmp_path, sqlite_engine)
    workspace.define([])
    writer = FeatureWriter(workspace)

    def files() -> int:
        return len(list(workspace.rows_dir.glob("served-*.parquet")))

    for n in range(5):
        writer.refresh(["ada"], NOW + n * SECOND)
        writer.tidy(NOW)
    assert files() == 0
    writer.close()
    assert files() == 1
    writer.close()
    assert files() == 1

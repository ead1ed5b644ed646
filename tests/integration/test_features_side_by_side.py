"""Rows of features are the same whoever computes them: this process, several of the machine, a Dask cluster."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sqlalchemy import Engine, create_engine

from features import offline
from features.compute import POINTS
from features.feature_list import FeatureList
from features.offline import build_snapshots, materialize, training_frame
from features.online import FeatureReader
from features.side_by_side import rows_at, rows_of_parts
from features.workspace import FeatureWorkspace
from models.domain.errors import InvalidInputError, StoreUnavailableError
from nextchannel.commands.installation import open_features
from nextchannel.settings import Settings
from tests.integration.test_features_store import CHANNELS, CUSTOMERS, START, fill

distributed = pytest.importorskip("distributed", reason="Dask's scheduler is not installed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a scheduler with two workers in processes of their own."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    ) as started:
        yield started.scheduler_address


def defined(engine: Engine, folder: Path, dask: str = "") -> FeatureWorkspace:
    workspace = FeatureWorkspace(folder, engine, dask=dask)
    workspace.define(CHANNELS)
    return workspace


def points(n_moments: int = 1) -> pl.DataFrame:
    moments = [START - timedelta(days=10 * number) for number in range(n_moments)]
    return pl.DataFrame(
        [(name, moment) for name in CUSTOMERS for moment in moments], schema=POINTS, orient="row"
    )


def in_parts(n: int) -> list[pl.DataFrame]:
    return [points().slice(start, n) for start in range(0, len(CUSTOMERS), n)]


def test_a_cluster_gives_the_rows_of_one_process_in_the_order_of_the_parts(
    engine: Engine, tmp_path: Path, cluster: str
) -> None:
    fill(engine)
    features = defined(engine, tmp_path).features
    parts = in_parts(7)
    told = list(rows_of_parts(cluster, engine, features, parts))
    assert [part["customer_id"].to_list() for part, _ in told] == [part["customer_id"].to_list() for part in parts]  # fmt: skip
    assert_frame_equal(pl.concat(rows for _, rows in told), rows_at(engine, features, points()))


def test_several_processes_build_what_one_would_for_training_and_for_serving(
    sqlite_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str
) -> None:
    fill(sqlite_engine)
    alone = defined(sqlite_engine, tmp_path / "alone")
    build_snapshots(alone, points(3), START)
    assert materialize(alone, START) == 60
    monkeypatch.setattr(offline, "_PEOPLE_A_CHUNK", 25)
    together = defined(sqlite_engine, tmp_path / "together", dask="2")
    assert build_snapshots(together, points(3), START) == 180
    together = defined(sqlite_engine, tmp_path / "together", dask=cluster)
    shares: list[float] = []
    assert materialize(together, START, shares.append) == 60
    assert shares == pytest.approx([25 / 60, 50 / 60, 1.0])
    assert_frame_equal(training_frame(together, points(3)), training_frame(alone, points(3)))
    read, expected = (FeatureReader(each).read(CUSTOMERS, START) for each in (together, alone))
    assert read.values.tobytes() == expected.values.tobytes()


def test_a_worker_that_is_killed_loses_no_part(sqlite_engine: Engine, tmp_path: Path, cluster: str) -> None:
    fill(sqlite_engine)
    features = defined(sqlite_engine, tmp_path).features
    with distributed.Client(cluster) as client:
        first_pid = next(iter(client.run(os.getpid).values()))
    told = []
    for number, (_, rows) in enumerate(rows_of_parts(cluster, sqlite_engine, features, in_parts(3))):
        told.append(rows)
        if number == 1:
            os.kill(first_pid, signal.SIGKILL)
    assert_frame_equal(pl.concat(told), rows_at(sqlite_engine, features, points()))


def test_a_worker_that_cannot_give_the_same_rows_gives_none(
    sqlite_engine: Engine, tmp_path: Path, cluster: str
) -> None:
    features = defined(sqlite_engine, tmp_path).features
    elsewhere = create_engine("sqlite:////nowhere/history.db")
    with pytest.raises(StoreUnavailableError, match=r"no file /nowhere/history.db.*must be PostgreSQL"):
        list(rows_of_parts(cluster, elsewhere, features, in_parts(30)))
    assert not Path("/nowhere").exists()
    other = FeatureList(channels=features.channels, attributes=features.attributes)
    other.__dict__["fingerprint"] = "of another release"
    with pytest.raises(StoreUnavailableError, match="another release"):
        list(rows_of_parts(cluster, sqlite_engine, other, in_parts(30)))


def test_wrong_settings_say_what_would_be_right(
    sqlite_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in ("0", "-1", "many", "http://dask.example"):
        with pytest.raises(InvalidInputError, match="NEXTCHANNEL_DASK"):
            Settings(dask=wrong)
    fill(sqlite_engine)
    features = defined(sqlite_engine, tmp_path).features
    monkeypatch.setattr("features.side_by_side._ANSWERS_WITHIN_SECONDS", 1)
    settings = Settings(home=tmp_path, dask="tcp://127.0.0.1:1")
    with pytest.raises(InvalidInputError, match=r"NEXTCHANNEL_DASK == 'tcp://127.0.0.1:1'.*with workers"):
        list(open_features(settings, sqlite_engine).compute_parts(in_parts(30)))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InvalidInputError, match="extra `dask`"):
        list(rows_of_parts("2", sqlite_engine, features, in_parts(30)))

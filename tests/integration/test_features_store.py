"""What is served is what is trained on: Feast's offline and online stores over one computation."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from threading import Barrier
from uuid import uuid4

import numpy as np
import polars as pl
import pytest
from sqlalchemy import Engine, text

import features
from features.compute import POINTS
from features.history.append import CustomerRecord, append_customers, append_interactions
from features.history.erase import erase_rows
from features.history.tables import metadata
from features.offline import build_snapshots, materialize, training_frame
from features.online import STALE_AFTER, FeatureReader, FeatureWriter
from features.workspace import FeatureWorkspace
from models.domain.channel import DEFAULT_CHANNELS
from models.domain.errors import InvalidInputError, NotFoundError
from models.domain.interaction import Interaction, InteractionKind
from nextchannel.commands.installation import open_features
from nextchannel.service import service_config
from nextchannel.settings import Settings
from tests.chaos.parity import compare

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CHANNELS = [channel for channel in DEFAULT_CHANNELS if channel.name in ("email", "sms", "push")]
CUSTOMERS = [f"c-{number}" for number in range(60)]


def fill(engine: Engine) -> None:
    random = Random(5)
    with engine.begin() as conn:
        append_customers(
            conn,
            [
                CustomerRecord(
                    customer_id=name,
                    time_zone=random.choice(["Asia/Taipei", "Europe/Paris", "America/New_York"]),
                    created_at=START - timedelta(days=random.uniform(-10, 400)),
                    attributes={"age": random.randint(18, 90), "segment": random.choice(["gold", "silver"])},
                )
                for name in CUSTOMERS
            ],
        )
        append_interactions(
            conn,
            [
                Interaction(
                    source="random",
                    event_id=str(number),
                    customer_id=random.choice(CUSTOMERS),
                    kind=random.choice(list(InteractionKind)),
                    occurred_at=START + timedelta(days=random.uniform(-200, 30)),
                    channel=random.choice(["email", "sms", "push", None]),
                    value_minor=random.choice([None, random.uniform(-100, 10_000)]),
                    machine_made=random.random() < 0.1,
                )
                for number in range(6_000)
            ],
            START,
        )


@pytest.fixture
def workspace(sqlite_engine: Engine, tmp_path: Path) -> FeatureWorkspace:
    fill(sqlite_engine)
    opened = FeatureWorkspace(tmp_path / "data", sqlite_engine)
    opened.define(CHANNELS)
    return opened


def points(*pairs: tuple[str, datetime]) -> pl.DataFrame:
    return pl.DataFrame(pairs, schema=POINTS, orient="row")


def values(frame: pl.DataFrame, workspace: FeatureWorkspace) -> np.ndarray:
    return frame.select(workspace.features.names).cast(pl.Float64).fill_null(np.nan).to_numpy()


def test_a_setting_bounds_the_rows_that_a_process_keeps(sqlite_engine: Engine, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, cached_rows=2)
    assert service_config(settings).cached_rows == 2
    fill(sqlite_engine)
    workspace = open_features(settings, sqlite_engine)
    workspace.define(CHANNELS)
    FeatureWriter(workspace).refresh(CUSTOMERS[:5], START)
    assert len(workspace.cache) == 2
    read = FeatureReader(workspace).read(CUSTOMERS[:5], START)
    assert not read.missing.any()
    assert len(workspace.cache) == 2
    with pytest.raises(InvalidInputError, match="NEXTCHANNEL_CACHED_ROWS"):
        Settings(cached_rows=-1)


def test_who_reads_many_need_not_displace_what_others_use(sqlite_engine: Engine, tmp_path: Path) -> None:
    fill(sqlite_engine)
    workspace = FeatureWorkspace(tmp_path, sqlite_engine)
    workspace.define(CHANNELS)
    FeatureWriter(workspace).refresh(CUSTOMERS[:5], START)
    workspace.cache.clear()
    passing = FeatureReader(workspace, keeps=False).read(CUSTOMERS[:5], START)
    assert len(workspace.cache) == 0
    np.testing.assert_array_equal(passing.values, FeatureReader(workspace).read(CUSTOMERS[:5], START).values)
    assert len(workspace.cache) == 5


def test_features_online_equal_the_offline_frame_exactly(engine: Engine, tmp_path: Path) -> None:
    fill(engine)
    serving, training = (FeatureWorkspace(tmp_path / name, engine) for name in ("serving", "training"))
    for each in (serving, training):
        each.define(CHANNELS)
    random = Random(11)
    moments = sorted(START + timedelta(seconds=random.randrange(30 * 86_400)) for _ in range(10))
    asked = [(name, moment) for moment in moments for name in random.sample(CUSTOMERS, 40)]
    online = []
    for moment in moments:
        people = [name for name, at in asked if at == moment]
        assert FeatureWriter(serving).refresh(people, moment) == 40
        serving.cache.forget(people)  # read what the store holds, not what was just computed
        read = FeatureReader(serving).read(people, moment)
        assert not read.missing.any()
        assert read.as_of.tolist() == [moment.timestamp()] * 40
        online.append(read.values)
    assert build_snapshots(training, points(*asked), START) == 400
    offline = values(training_frame(training, points(*asked)), training)
    np.testing.assert_array_equal(np.concatenate(online), offline)
    served = values(training_frame(serving, points(*asked)), serving)
    np.testing.assert_array_equal(served, offline)


def test_rows_of_a_former_list_are_let_go_and_do_not_hold_up_those_of_the_new(
    workspace: FeatureWorkspace, tmp_path: Path
) -> None:
    other = FeatureWorkspace(tmp_path / "data", workspace.engine)
    workspace.keep_served(workspace.compute(points(("c-1", START))), START)
    other.define(CHANNELS[:1])
    workspace.keep_served(workspace.compute(points(("c-2", START))), START)
    assert workspace.flush_served()
    (file,) = workspace.rows_dir.glob("served-*.parquet")
    assert pl.read_parquet(file)["customer_id"].to_list() == ["c-1", "c-2"]
    workspace.keep_served(workspace.compute(points(("c-3", START))), START)
    workspace.define(CHANNELS)
    workspace.keep_served(workspace.compute(points(("c-4", START))), START)
    assert workspace.flush_served()
    assert not workspace.flush_served()
    written = [
        pl.read_parquet(each)["customer_id"].to_list() for each in workspace.rows_dir.glob("served-*.parquet")
    ]
    assert ["c-4"] in written
    assert not any("c-3" in each for each in written)


def test_training_sees_the_row_that_was_served(workspace: FeatureWorkspace) -> None:
    FeatureWriter(workspace).refresh(["c-1", "c-2"], START)
    asked = points(("c-1", START + timedelta(hours=5)), ("c-2", START + 2 * DAY), ("c-3", START))
    # c-1 was served a row five hours before; c-2's row was too old to be the one served; c-3 had none.
    assert build_snapshots(workspace, asked, START + 3 * DAY) == 2
    assert build_snapshots(workspace, asked, START + 3 * DAY) == 0
    frame = training_frame(workspace, asked)
    fresh = workspace.compute(points(("c-1", START), ("c-2", START + 2 * DAY), ("c-3", START)))
    np.testing.assert_array_equal(values(frame, workspace), values(fresh, workspace))


def test_a_training_frame_keeps_the_order_and_the_other_columns(workspace: FeatureWorkspace) -> None:
    asked = points(("c-2", START + DAY), ("c-1", START), ("c-2", START + DAY), ("c-2", START))
    asked = asked.with_columns(label=pl.Series([1, 2, 3, 4]))
    build_snapshots(workspace, asked, START)
    frame = training_frame(workspace, asked)
    assert frame.select(asked.columns).equals(asked)
    assert frame[0].drop("label").equals(frame[2].drop("label"))
    assert not frame[0].drop("label").equals(frame[3].drop("label"))


def test_a_point_without_a_row_is_told_and_not_dropped(workspace: FeatureWorkspace) -> None:
    build_snapshots(workspace, points(("c-1", START)), START)
    with pytest.raises(ValueError, match="1 of 2 points have no feature row"):
        training_frame(workspace, points(("c-1", START), ("c-1", START - DAY)))


def test_materialised_rows_are_read_by_feast_itself(workspace: FeatureWorkspace) -> None:
    assert materialize(workspace, START) == 60
    answer = workspace.store.get_online_features(
        features=[f"{workspace.views.vector.name}:vector"], entity_rows=[{"customer_id": "c-7"}]
    ).to_dict()
    read = FeatureReader(workspace).read(["c-7"], START)
    np.testing.assert_array_equal(answer["vector"][0], [START.timestamp(), *read.values[0]])
    stored = pl.read_parquet(workspace.vectors_file).filter(customer_id="c-7")["vector"].item()
    np.testing.assert_array_equal(stored.to_numpy(), answer["vector"][0])


def test_customers_without_a_row_have_defaults_and_are_marked(workspace: FeatureWorkspace) -> None:
    FeatureWriter(workspace).refresh(["c-1"], START)
    read = FeatureReader(workspace).read(["nobody", "c-1", "nobody"], START)
    assert read.missing.tolist() == [True, False, True]
    assert np.isnan(read.as_of[0])
    default = [np.nan if each.default is None else each.default for each in workspace.features.features]
    np.testing.assert_array_equal(read.values[0], default)
    assert FeatureReader(workspace).read([], START).values.shape == (0, len(read.names))


def test_a_row_of_a_later_moment_is_not_read(workspace: FeatureWorkspace) -> None:
    FeatureWriter(workspace).refresh(["c-1"], START + DAY)
    assert FeatureReader(workspace).read(["c-1"], START).missing.tolist() == [True]


def test_a_reader_gives_the_columns_it_was_asked_for(workspace: FeatureWorkspace) -> None:
    FeatureWriter(workspace).refresh(["c-1"], START)
    whole = FeatureReader(workspace).read(["c-1"], START)
    some = FeatureReader(workspace, ["attr_age", "visits_7d"]).read(["c-1"], START)
    assert some.names == ("attr_age", "visits_7d")
    assert some.values[0].tolist() == [whole.values[0, whole.names.index(name)] for name in some.names]
    with pytest.raises(NotFoundError, match="feature == 'shoe_size'"):
        FeatureReader(workspace, ["shoe_size"]).read(["c-1"], START)


def test_an_interaction_is_seen_at_once_after_a_refresh(workspace: FeatureWorkspace) -> None:
    reader, writer = FeatureReader(workspace, ["visits_7d"]), FeatureWriter(workspace)
    writer.refresh(["c-1"], START + 40 * DAY)
    assert reader.read(["c-1"], START + 40 * DAY).values.tolist() == [[0.0]]
    visit = Interaction(
        source="web",
        event_id="new",
        customer_id="c-1",
        kind=InteractionKind.VISITED,
        occurred_at=START + 40 * DAY,
    )
    with workspace.engine.begin() as conn:
        append_interactions(conn, [visit], START + 40 * DAY)
    later = START + 40 * DAY + timedelta(seconds=1)
    writer.refresh(["c-1"], later)
    assert reader.read(["c-1"], later).values.tolist() == [[1.0]]


def test_many_refreshes_leave_few_files(workspace: FeatureWorkspace) -> None:
    for minute in range(40):
        FeatureWriter(workspace).refresh(["c-1"], START + timedelta(minutes=minute))
    asked = points(*(("c-1", START + timedelta(minutes=minute)) for minute in range(40)))
    assert build_snapshots(workspace, asked, START + DAY) == 0
    assert len(list(workspace.rows_dir.iterdir())) == 1
    assert training_frame(workspace, asked).shape == (40, 2 + len(workspace.features.names))


def test_two_who_build_the_same_rows_at_once_build_each_once(workspace: FeatureWorkspace) -> None:
    for _ in range(40):  # so many files that both would join them
        workspace.write_rows(workspace.compute(points(("c-1", START))), "served", START)
    asked = points(*((name, START + number * DAY) for name in CUSTOMERS for number in range(2, 6)))
    together = Barrier(2)

    def train(opened: FeatureWorkspace) -> tuple[int, pl.DataFrame]:
        together.wait(30)
        return build_snapshots(opened, asked, START + 5 * DAY), training_frame(opened, asked)

    other = FeatureWorkspace(workspace.features_dir.parent, workspace.engine)
    assert workspace.store is not other.store
    with ThreadPoolExecutor(2) as both:
        (first, frame), (second, same) = both.map(train, (workspace, other))
    assert sorted((first, second)) == [0, len(asked)]
    assert frame.equals(same)
    rows = pl.concat(pl.read_parquet(path) for path in workspace.rows_dir.glob("built-*.parquet"))
    assert len(rows) == rows.select("customer_id", "event_timestamp").n_unique() == len(asked)


def test_rows_of_a_person_erased_while_they_were_built_are_taken_out_again(
    workspace: FeatureWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = workspace.compute_parts

    def compute_and_erase(parts: list[pl.DataFrame]) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        for part, rows in computed(parts):
            with workspace.engine.begin() as conn:
                erase_rows(conn, ["c-1"], START)
            yield part, rows

    monkeypatch.setattr(workspace, "compute_parts", compute_and_erase)
    asked = points(("c-1", START), ("c-2", START))
    assert build_snapshots(workspace, asked, START) == 2
    rows = pl.concat(pl.read_parquet(path) for path in workspace.rows_dir.glob("built-*.parquet"))
    assert rows["customer_id"].to_list() == ["c-2"]


def test_the_list_follows_the_history(workspace: FeatureWorkspace) -> None:
    before = workspace.features.fingerprint
    assert {"attr_age", "attr_segment_is_gold", "sends_90d_sms"} < set(workspace.features.names)
    assert workspace.define(CHANNELS).fingerprint == before
    assert "sends_90d_sms" not in workspace.define([]).names  # no campaign allows a channel
    again = FeatureWorkspace(workspace.features_dir.parent, workspace.engine)
    assert again.features.fingerprint == workspace.features.fingerprint != before


def test_the_repository_gives_feast_the_objects_of_the_workspace(
    workspace: FeatureWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXTCHANNEL_HOME", str(workspace.features_dir.parent))
    path = Path(features.__file__).parent / "repo" / "definitions.py"
    spec = importlib.util.spec_from_file_location("definitions", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.rows == workspace.store.get_feature_view(workspace.views.rows.name)
    assert [field.name for field in module.rows.features] == list(workspace.features.names)


def test_redis_serves_the_same_rows(sqlite_engine: Engine, tmp_path: Path, redis_address: str) -> None:
    fill(sqlite_engine)
    embedded = FeatureWorkspace(tmp_path / "sqlite", sqlite_engine)
    shared = FeatureWorkspace(
        tmp_path / "redis",
        sqlite_engine,
        online_store={"type": "redis", "connection_string": redis_address},
        project=f"test_{uuid4().hex[:12]}",
    )
    for each in (embedded, shared):
        each.define(CHANNELS)
        assert materialize(each, START) == 60
        each.cache.forget(CUSTOMERS)
    read = [FeatureReader(each).read([*CUSTOMERS, "nobody"], START) for each in (embedded, shared)]
    np.testing.assert_array_equal(read[0].values, read[1].values)
    assert read[1].missing.tolist() == [False] * 60 + [True]
    FeatureWriter(shared).refresh(["c-1"], START + DAY)
    shared.cache.forget(["c-1"])
    assert FeatureReader(shared).read(["c-1"], START + DAY).as_of.tolist() == [(START + DAY).timestamp()]
    shared.store.teardown()


def test_a_running_reader_goes_on_with_a_list_that_another_process_defined(
    workspace: FeatureWorkspace, sqlite_engine: Engine, tmp_path: Path
) -> None:
    now = START + 31 * DAY
    running = FeatureReader(FeatureWorkspace(tmp_path / "data", sqlite_engine))
    materialize(workspace, now)
    assert not running.read(["c-1"], now).missing.any()
    workspace.define(CHANNELS[:1])
    assert running.read(["c-1"], now).missing.all(), "no row of the new list is there yet"
    materialize(workspace, now)
    vectors = running.read(["c-1"], now)
    assert vectors.names == workspace.features.names
    assert vectors.values.shape == (1, len(vectors.names))


def test_features_in_redis_equal_the_offline_frame_from_postgresql(
    postgresql_engine: Engine, tmp_path: Path, redis_address: str
) -> None:
    with postgresql_engine.begin() as conn:
        conn.execute(text(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY CASCADE"))
    found = compare(
        postgresql_engine,
        tmp_path,
        n_pairs=200,
        n_customers=60,
        n_facts=3_000,
        online_store={"type": "redis", "connection_string": redis_address},
    )
    assert found["pairs_that_differ"] == 0
    assert found["pairs"] == 200
    assert found["distinct_values"] > 1_000, "the history is varied enough to show a difference"


def test_the_join_gives_what_feasts_own_store_gives(workspace: FeatureWorkspace) -> None:
    random = Random(3)
    moments = [START + timedelta(hours=6 * n) for n in range(60)]
    built = [(name, at) for name in CUSTOMERS[:30] for at in random.sample(moments, 8)]
    rows = workspace.compute(points(*built))
    for number, part in enumerate(rows.sample(fraction=1, shuffle=True, seed=1).iter_slices(50)):
        workspace.write_rows(part, "built", START + timedelta(minutes=number))
    # The same moments once more, made later and with another value: the later one counts.
    again = rows[:40].with_columns(visits_7d=pl.lit(1_000, pl.Int64))
    workspace.write_rows(again, "served", START + DAY)
    workspace.write_rows(rows[:20].with_columns(visits_7d=pl.lit(2_000, pl.Int64)), "served", START)
    asked = points(
        *((random.choice(CUSTOMERS[:40]), random.choice(moments) + random.choice([timedelta(0), DAY / 7]))
          for _ in range(400)),
        *built,
    ).with_row_index("point")  # fmt: skip
    names = [f"{workspace.views.rows.name}:{name}" for name in workspace.features.names]
    ours, feasts = (
        pl.DataFrame(store.get_historical_features(entity_df=asked.to_pandas(), features=names).to_arrow())
        .sort("point")
        .cast(dict.fromkeys(workspace.features.names, pl.Float64))
        for store in (workspace.store, workspace.open_feast(offline_store={"type": "duckdb"}))
    )
    assert len(ours) == len(feasts) == len(asked)
    assert ours["visits_7d"].null_count() > 0, "some points lie before every row"
    assert (ours["visits_7d"] == 1_000).sum() >= 40
    assert ours.select(workspace.features.names).equals(feasts.select(workspace.features.names))


def test_many_files_of_served_rows_become_one_whatever_the_order_of_their_columns(
    workspace: FeatureWorkspace,
) -> None:
    asked = points(*((name, START + 60 * DAY) for name in CUSTOMERS[:3]))
    expected = workspace.compute(asked).sort("customer_id").select(workspace.features.names).cast(pl.Float64)
    for number in range(1, 40):
        rows = workspace.compute(points((CUSTOMERS[number % 5], START + number * DAY)))
        if number % 2:
            workspace.keep_served(rows, START + number * DAY)
            workspace.flush_served()
        else:
            path = workspace.write_rows(rows, "served", START + number * DAY)
            # As former releases wrote them.
            written = pl.read_parquet(path)
            written.select([*written.columns[3:], *written.columns[:3]]).write_parquet(path)
    build_snapshots(workspace, asked, START + 61 * DAY)
    assert len(list(workspace.rows_dir.glob("served-*.parquet"))) == 1
    found = training_frame(workspace, asked).sort("customer_id").select(workspace.features.names)
    assert found.cast(pl.Float64).equals(expected)


def test_a_process_that_decides_loads_nothing_that_training_takes(
    workspace: FeatureWorkspace, tmp_path: Path
) -> None:
    program = (
        "import sys; from pathlib import Path; import serving.bootstrap, models.response.stored;"
        "from features.history.engine import connect; from features.workspace import FeatureWorkspace;"
        "workspace = FeatureWorkspace(Path(sys.argv[1]), connect(sys.argv[2]));"
        "rows = workspace.read_online(['c-1', 'nobody']);"
        "assert rows['nobody'] is None and len(rows['c-1']) == 1 + len(workspace.features.names), rows;"
        "import feast, typeguard; assert typeguard.typechecked.__module__.startswith('typeguard');"
        "assert 'typeguard' not in feast.Entity.__init__.__code__.co_names;"
        "print(*sys.modules)"
    )
    materialize(workspace, START + 90 * DAY)
    address = workspace.engine.url.render_as_string(hide_password=False)
    loaded = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "data"), address],
        cwd=Path(features.__path__[0]).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    training = {"duckdb", "ibis", "sqlglot", "lightgbm", "sklearn", "scipy.stats", "scipy.optimize"}
    assert training.isdisjoint(loaded.stdout.split())
    assert "feast" in loaded.stdout.split()


def test_rows_that_no_night_has_made_anew_are_stale(workspace: FeatureWorkspace) -> None:
    FeatureWriter(workspace).refresh(["c-1"], START)
    read = FeatureReader(workspace).read(["c-1", "nobody"], START + STALE_AFTER)
    assert read.stale.tolist() == [False, False]
    later = FeatureReader(workspace).read(["c-1", "nobody"], START + STALE_AFTER + timedelta(seconds=1))
    assert later.stale.tolist() == [True, False]
    assert later.missing.tolist() == [False, True]

"""From a history to a published model and a file of choices, on a small simulated market."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nbformat
import numpy as np
import orjson
import pytest
from sqlalchemy import Engine, func, select, update

from features.history.append import (
    append_consents,
    append_customers,
    append_decisions,
    append_identities,
    append_interactions,
)
from features.history.campaigns import load_campaign, save_campaign
from features.history.channels import load_channels, save_channel
from features.history.engine import connect, migrate
from features.history.tables import customers, decisions, outbox
from features.registry import ModelRegistry
from features.workspace import FeatureWorkspace
from models.bundle import CHALLENGER, CHAMPION, Bundle
from models.choice import Predictions
from models.domain.campaign import PolicyName
from models.domain.errors import BundleError, ConflictError, InvalidInputError, NotFoundError
from models.domain.experiment import Experiment
from training.choices import Chooser, ComputedFeatures, write_choices
from training.datasets import LoggedDecisions, logged_decisions
from training.evaluation import problem_of
from training.opened import open_bundle
from training.publish import Published, train_and_publish
from training.simulator.market import Market
from training.simulator.randomised import RandomisedLog, randomised_log

START = datetime(2024, 1, 8, 1, tzinfo=UTC)
DAYS = 20
AS_OF = START + timedelta(days=DAYS + 8)
CAMPAIGN = "simulated_retail"
REPOSITORY = Path(__file__).parents[2]
NOTEBOOK = REPOSITORY / "notebooks" / "retrain_and_promote.ipynb"
WITHHELD = ("web_push", "whatsapp", "call", "direct_mail")


def fill(engine: Engine, n_customers: int = 600) -> RandomisedLog:
    """A simulated market whose contacts were drawn at random."""
    market = Market("retail", n_customers, seed=3, withheld=WITHHELD)
    campaign = market.campaign(START, days=365, experiment=Experiment(experiment_id="none"))
    with engine.begin() as conn:
        for channel in market.channels().values():
            save_channel(conn, channel, START)
        save_campaign(conn, campaign, START)
        append_customers(conn, market.customers(START))
        append_identities(conn, market.identities(START))
        append_consents(conn, market.consents(START))
        append_interactions(conn, market.prior_history(START, 30), START)
        log = randomised_log(market, campaign, START, DAYS, 150, 0.2, np.random.default_rng(3))
        append_decisions(conn, log.decisions())
        append_interactions(conn, log.interactions, AS_OF)
    return log


class Home:
    """An installation with a trained model."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = connect(f"sqlite:///{path / 'history.db'}")
        migrate(self.engine)
        self.log = fill(self.engine)
        self.workspace = FeatureWorkspace(path, self.engine)
        self.registry = ModelRegistry(f"sqlite:///{path / 'mlflow.db'}", path / "mlartifacts")
        self.published: Published = train_and_publish(
            self.engine, self.workspace, self.registry, CAMPAIGN, as_of=AS_OF, promote=True
        )

    def bundle(self) -> Bundle:
        return self.published.trained.bundle


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("home"))
    yield home
    home.engine.dispose()


@pytest.fixture(scope="module")
def logged(home: Home) -> LoggedDecisions:
    return logged_decisions(home.engine, home.workspace, CAMPAIGN, AS_OF)


def test_the_rows_learned_from_are_the_log(home: Home, logged: LoggedDecisions) -> None:
    with home.engine.connect() as conn:
        stored = {
            row.decision_id: row
            for row in conn.execute(select(decisions).where(decisions.c.campaign_id == CAMPAIGN))
        }
    rows = logged.rows
    assert 0.9 * len(stored) < len(rows) <= len(stored)
    assert (np.diff(rows.decided_at) >= 0).all()
    of_log = {
        (int(row), at): i for i, (row, at) in enumerate(zip(home.log.row, home.log.decided_at, strict=True))
    }
    for i in range(0, len(rows), 97):
        number = int(logged.customer_ids[i].removeprefix("sim-"))
        j = of_log[number, rows.decided_at[i]]
        assert rows.action[i] == home.log.action[j]
        assert rows.propensity[i] == home.log.propensity[j]
        assert rows.cost_minor[i] == home.log.cost_minor[j]
    assert rows.randomised.all()


def test_nothing_that_is_published_names_a_customer(home: Home) -> None:
    with home.engine.connect() as conn:
        people = list(conn.scalars(select(customers.c.customer_id)))
    published = [
        home.path / "mlflow.db",
        *(path for path in (home.path / "mlartifacts").rglob("*") if path.is_file()),
    ]
    assert len(published) > 5
    for path in published:
        content = path.read_bytes()
        assert not [person for person in people if person.encode() in content], path.name


def test_a_policy_is_judged_at_the_shadow_prices_of_the_log(home: Home, logged: LoggedDecisions) -> None:
    """Whoever was decided for while a channel was scarce would have been decided for at that price by anybody."""
    assert logged.shadow_price_minor.shape == (len(logged), len(logged.rows.channels))
    assert not logged.shadow_price_minor.any()
    with home.engine.begin() as conn:
        some = select(decisions.c.decision_id).where(decisions.c.campaign_id == CAMPAIGN).limit(40)
        ids = list(conn.scalars(some))
        conn.execute(
            update(decisions)
            .where(decisions.c.decision_id.in_(ids))
            .values(shadow_prices=orjson.dumps({"line": 7.5}).decode())
        )
    again = logged_decisions(home.engine, home.workspace, CAMPAIGN, AS_OF)
    with home.engine.begin() as conn:
        conn.execute(update(decisions).values(shadow_prices=None))
        campaign, channels = load_campaign(conn, CAMPAIGN), load_channels(conn)
    line = again.rows.channels.index("line")
    scarce = again.shadow_price_minor[:, line] == 7.5
    assert 30 <= scarce.sum() <= 40
    assert again.shadow_price_minor.sum() == pytest.approx(7.5 * scarce.sum())
    n, grid = len(again), again.rows.grid
    nothing = Predictions(
        p_open=np.full((n, len(grid.channels), len(grid.slots)), 0.1),
        p_convert=np.full((n, *grid.shape), 0.1),
        p_convert_no_contact=np.full(n, 0.1),
        attention_minor=np.zeros((n, len(grid.channels))),
    )
    problem = problem_of(again, campaign, channels, nothing)
    values = problem.net_value_minor
    assert values is not None
    by_line = values[:, grid.index(0, line, 0)]
    assert np.ptp(by_line[scarce]) == np.ptp(by_line[~scarce]) == 0.0
    assert by_line[~scarce][0] - by_line[scarce][0] == pytest.approx(7.5)
    assert (values[:, grid.no_contact] == 0.0).all()


def test_an_outcome_that_a_channel_cannot_report_is_unknown(logged: LoggedDecisions) -> None:
    rows = logged.rows
    silent = rows.channels.index("sms")  # SMS reports clicks, never opens
    on_sms = rows.channel == silent
    assert on_sms.any()
    assert set(rows.opened[on_sms][~np.isnan(rows.opened[on_sms])]) <= {1.0}
    assert np.isnan(rows.opened[on_sms]).any()
    assert np.isnan(rows.opened[~rows.contacted]).all()
    email = rows.channel == rows.channels.index("email")
    assert set(rows.opened[email]) == {0.0, 1.0}


def test_conversions_say_at_which_price_they_were_made(logged: LoggedDecisions) -> None:
    rows = logged.rows
    assert rows.discounted is not None
    bought = rows.converted > 0
    assert (np.isfinite(rows.discounted) == bought).all()
    discount = rows.offers.index("ten_off")
    assert rows.discounted[bought & (rows.offer == discount)].mean() > 0.15
    # A late purchase at a discount may fall to the next decision.
    assert rows.discounted[bought & (rows.offer != discount)].mean() < 0.1


def test_a_decision_that_reached_nobody_teaches_nothing(home: Home, logged: LoggedDecisions) -> None:
    failed = {
        fact.decision_id
        for fact in home.log.interactions
        if fact.kind in ("failed", "bounced") and fact.decision_id
    }
    assert failed
    assert len(logged) == len(home.log) - len(failed)


def test_candidates_are_those_that_the_market_allowed(home: Home, logged: LoggedDecisions) -> None:
    rows = logged.rows
    # The log drew no contact with 0.2 and every other candidate alike.
    contacts = logged.mask[:, :-1].sum(axis=1)
    drawn = rows.contacted & (rows.decided_at < START.timestamp() + 86_400)
    assert np.allclose(rows.propensity[drawn], 0.8 / contacts[drawn])
    assert logged.mask[np.arange(len(rows)), rows.action].mean() > 0.99


def test_a_training_run_is_published_with_its_report_and_figures(home: Home) -> None:
    report = home.published.trained.report
    assert report.n_learned + report.n_replayed + report.evaluation.n_rows == len(
        logged_decisions(home.engine, home.workspace, CAMPAIGN, AS_OF)
    )
    assert report.simulated
    assert report.evaluation.policies[0].name == "bandit"
    page = home.registry.report(1)
    assert "(simulated)" in page
    assert "## What a caused conversion brings, as a share of the margin" in page
    metrics = report.metrics()
    assert metrics["rows.learned"] == report.n_learned
    assert all(np.isfinite(value) for value in metrics.values())


def test_the_first_model_is_promoted_only_if_every_check_passes(home: Home) -> None:
    promotion = home.published.trained.report.promotion
    assert home.published.promoted == promotion.promote == all(check.passed for check in promotion.checks)
    assert all(check.words for check in promotion.checks)


def test_what_was_published_predicts_the_same_when_loaded(home: Home, logged: LoggedDecisions) -> None:
    loaded = open_bundle(home.registry.load(1))
    trained = open_bundle(home.bundle())
    with home.engine.connect() as conn:
        grid = load_campaign(conn, CAMPAIGN).grid
    some = logged.rows.features[:50]
    channels = Market("retail", 100, seed=3, withheld=WITHHELD).channels()
    mine, theirs = (one.response.predict(some, grid, channels) for one in (trained, loaded))
    assert np.array_equal(mine.p_convert, theirs.p_convert)
    assert home.registry.load(1).version == home.bundle().version


def test_training_twice_gives_the_same_bundle_and_a_champion_is_compared_with(home: Home) -> None:
    home.registry.promote(1)
    again = train_and_publish(home.engine, home.workspace, home.registry, CAMPAIGN, as_of=AS_OF, promote=True)

    assert again.trained.bundle.version == home.bundle().version
    champion = again.trained.report.evaluation.policy("champion")
    assert champion is not None
    # The same model twice: nothing is gained, so the champion stays.
    assert not again.promoted
    assert home.registry.champion_version() == 1


def test_promote_and_rollback_walk_the_history_of_champions_and_damage_is_seen(home: Home) -> None:
    registry = ModelRegistry(f"sqlite:///{home.path / 'other.db'}", home.path / "other")
    assert registry.versions() == ()
    assert registry.champion_version() is None
    with pytest.raises(NotFoundError):
        registry.load(CHAMPION)
    bundle = home.bundle()
    numbers = [registry.publish(bundle, {"a": "b"}, {"m": 1.0}, "# Report") for _ in range(3)]
    assert numbers == [1, 2, 3]
    assert registry.champion_version() is None
    with pytest.raises(ConflictError):
        registry.rollback()
    with pytest.raises(NotFoundError):
        registry.promote(9)

    for number in (1, 3, 3, 2):
        registry.promote(number)
    assert registry.champion_version() == 2
    assert {one.version: one.aliases for one in registry.versions()} == {
        3: (CHALLENGER,),
        2: (CHAMPION,),
        1: (),
    }
    assert [registry.rollback(), registry.rollback()] == [3, 1]
    assert registry.champion_version() == 1
    with pytest.raises(ConflictError):
        registry.rollback()

    for model in (home.path / "other").rglob("response.json"):
        model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(BundleError, match="altered"):
        registry.load(1)


def test_a_campaign_without_finished_decisions_cannot_be_learned_from(home: Home) -> None:
    with pytest.raises(NotFoundError, match="final reward"):
        logged_decisions(home.engine, home.workspace, CAMPAIGN, START - timedelta(days=1))
    with pytest.raises(NotFoundError, match="nowhere"):
        logged_decisions(home.engine, home.workspace, "nowhere", AS_OF)


def test_choices_for_an_audience_are_one_row_a_customer_and_record_nothing(
    home: Home, tmp_path: Path
) -> None:
    audience = tmp_path / "audience.csv"
    ids = [f"sim-{i:07d}" for i in range(300)] + ["=nobody"]
    audience.write_text("name,customer_id\n" + "\n".join(f"x,{one}" for one in ids), encoding="utf-8")
    with home.engine.connect() as conn:
        before = [conn.scalar(select(func.count()).select_from(table)) for table in (decisions, outbox)]
    chooser = Chooser.open(home.engine, ComputedFeatures(home.workspace), CAMPAIGN, home.bundle())
    shares: list[float] = []

    done = write_choices(chooser, audience, tmp_path / "choices.csv", AS_OF, shares.append)

    with (tmp_path / "choices.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["customer_id"] for row in rows] == [*ids[:-1], "'=nobody"]
    assert rows[-1]["reason"] == "unknown customer"
    assert (done.n_contacts + done.n_no_contact, done.n_unknown) == (300, 1)
    for row in rows[:-1]:
        assert 0 < float(row["propensity"]) <= 1
        assert bool(row["channel"]) == bool(row["offer"]) == bool(row["slot"]) == bool(row["send_at"])
        assert bool(row["channel"]) != bool(row["reason"])
        if not row["channel"]:
            assert float(row["expected_net_value_minor"]) == 0.0
    assert shares[-1] == 1.0
    with home.engine.connect() as conn:
        after = [conn.scalar(select(func.count()).select_from(table)) for table in (decisions, outbox)]
    assert before == after
    assert not list(tmp_path.glob("*.part"))


def test_the_same_audience_gets_the_same_choices(home: Home) -> None:
    ids = [f"sim-{i:07d}" for i in range(200)]
    chooser = Chooser.open(home.engine, ComputedFeatures(home.workspace), CAMPAIGN, home.bundle())
    _, whole = chooser.choose(ids, AS_OF)
    _, half = chooser.choose(ids[100:], AS_OF)
    assert np.array_equal(whole.action[100:], half.action)
    assert np.allclose(whole.propensity[100:], half.propensity)


def test_without_a_model_business_as_usual_decides(home: Home) -> None:
    chooser = Chooser.open(home.engine, ComputedFeatures(home.workspace), CAMPAIGN, None)
    _, choices = chooser.choose([f"sim-{i:07d}" for i in range(50)], AS_OF)
    assert {policy.name for policy in choices.policies if policy} == {PolicyName.CHEAPEST_FIRST}
    assert choices.net_value_minor is None


def test_an_audience_without_ids_is_refused_and_leaves_no_file(home: Home, tmp_path: Path) -> None:
    audience = tmp_path / "audience.csv"
    audience.write_text("name\nx\n", encoding="utf-8")
    chooser = Chooser.open(home.engine, ComputedFeatures(home.workspace), CAMPAIGN, None)
    with pytest.raises(InvalidInputError, match="customer_id"):
        write_choices(chooser, audience, tmp_path / "choices.csv", AS_OF)
    assert not (tmp_path / "choices.csv").exists()


def in_home(home: Home) -> dict[str, str]:
    """The environment of a command that works on the installation."""
    return os.environ | {
        "NEXTCHANNEL_HOME": str(home.path),
        "MLFLOW_TRACKING_URI": f"sqlite:///{home.path / 'mlflow.db'}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def run(home: Home, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=in_home(home), cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False
    )


def test_the_commands_import_choose_and_list(home: Home, tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text(
        "customer_id,time_zone,created_at\nnew-1,UTC,2024-01-01T00:00:00Z\nnew-2,Moon,2024-01-01\n"
    )

    done = run(home, "nextchannel", "import", "customers", str(people))
    assert (done.returncode, done.stdout) == (0, "customers: 1 new, 0 already there, 1 rejected\n")
    assert run(home, "nextchannel", "import", "customers", str(people), "--strict").returncode == 1
    missing = run(home, "nextchannel", "import", "customers", str(tmp_path / "nowhere.csv"))
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1

    expired = run(
        home,
        "nextchannel",
        "decide",
        "--campaign",
        CAMPAIGN,
        "--audience",
        str(people),
        "--out",
        str(tmp_path / "out.csv"),
    )
    assert expired.returncode == 2
    assert "send window" in expired.stderr
    assert expired.stderr.count("\n") == 1
    listed = run(home, "nextchannel", "models", "list")
    assert listed.returncode == 0
    assert listed.stdout.split()[0].isdigit()


def test_mlflow_runs_the_project(home: Home) -> None:
    before = len(home.registry.versions())
    done = run(
        home, "mlflow", "run", "mlflow", "-e", "train", "--env-manager", "local", "-P", f"campaign={CAMPAIGN}"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "# Training report: simulated_retail (simulated)" in done.stdout
    assert len(home.registry.versions()) == before + 1


def test_the_notebook_runs_and_keeps_its_plots(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    kept = plots(notebook)
    monkeypatch.setenv("NEXTCHANNEL_HOME", str(home.path))
    before = len(home.registry.versions())
    NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(REPOSITORY)}}
    ).execute()

    assert kept == plots(notebook) == 4
    assert len(home.registry.versions()) == before + 1


def plots(notebook: nbformat.NotebookNode) -> int:
    return sum(
        "image/png" in output.get("data", {})
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )

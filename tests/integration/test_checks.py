"""The checks pass sound data, and each one fails on the fault that it is named after."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from features.checks.checks import CHECKS, Verdict, run_checks
from features.checks.log import EXPERIMENT
from features.checks.stability import bin_edges, psi
from features.checks.window import of_days, of_import
from features.history.append import CustomerRecord, append_customers, append_interactions
from features.history.channels import seed_channels
from features.history.engine import connect, migrate
from features.registry import open_client
from models.domain.interaction import Interaction, InteractionKind
from nextchannel.main import cli

NOW = datetime(2026, 3, 10, tzinfo=UTC)
DAY = timedelta(days=1)
_KINDS = ["visited"] * 5 + ["opened"] * 2 + ["purchased"] * 3


def facts(rng: random.Random, n: int, ends_at: datetime, days: float, name: str) -> list[dict[str, Any]]:
    found = []
    for number in range(n):
        kind = InteractionKind(rng.choice(_KINDS))
        found.append(
            {
                "source": "shop",
                "event_id": f"{name}-{number}",
                "customer_id": f"c-{rng.randrange(50)}",
                "kind": kind,
                "occurred_at": ends_at - timedelta(seconds=rng.random() * days * 86_400),
                "channel": rng.choice(["email", "sms", None]),
                "value_minor": rng.uniform(100, 9_000) if kind is InteractionKind.PURCHASED else None,
            }
        )
    return found


def store(engine: Engine, made: list[dict[str, Any]], received_at: datetime = NOW) -> None:
    with engine.begin() as conn:
        append_interactions(conn, [Interaction(**fact) for fact in made], received_at)


def prepare(engine: Engine) -> random.Random:
    """A register and four sound weeks before the window."""
    rng = random.Random(3)
    with engine.begin() as conn:
        seed_channels(conn, NOW)
        append_customers(
            conn, [CustomerRecord(customer_id=f"c-{n}", time_zone="UTC", created_at=NOW) for n in range(50)]
        )
    store(engine, facts(rng, 3_000, NOW - DAY, 28, "before"))
    return rng


def verdicts(engine: Engine, source: str | None = None) -> dict[str, Verdict]:
    with engine.connect() as conn:
        findings = run_checks(of_days(conn, NOW, 1, 28, source))
    assert [finding.name for finding in findings] == list(CHECKS)
    return {finding.name: finding.verdict for finding in findings}


def test_sound_data_passes_every_check(engine: Engine) -> None:
    store(engine, facts(prepare(engine), 2_500, NOW, 1, "now"))
    assert verdicts(engine) == dict.fromkeys(CHECKS, Verdict.PASS)


def _strange_channel(made: list[dict[str, Any]]) -> None:
    made[7]["channel"] = "pigeon"


def _negative(made: list[dict[str, Any]]) -> None:
    made[7] |= {"kind": InteractionKind.PURCHASED, "value_minor": -5.0}


def _strangers(made: list[dict[str, Any]]) -> None:
    for fact in made[:200]:
        fact["customer_id"] = "who"


def _twice(made: list[dict[str, Any]]) -> None:
    made += [fact | {"event_id": f"again-{fact['event_id']}"} for fact in made[:10]]


def _ahead(made: list[dict[str, Any]]) -> None:
    for fact in made[:10]:
        fact["occurred_at"] = NOW - timedelta(seconds=1)


def _midnight(made: list[dict[str, Any]]) -> None:
    for fact in made:
        fact["occurred_at"] = NOW - DAY


def _more_purchases(made: list[dict[str, Any]]) -> None:
    for fact in made[:1_500]:
        fact |= {"kind": InteractionKind.PURCHASED, "value_minor": 100.0 + len(fact["event_id"])}


def _one_channel(made: list[dict[str, Any]]) -> None:
    for fact in made:
        fact["channel"] = "sms"


def _morning(made: list[dict[str, Any]]) -> None:
    for fact in made:
        fact["occurred_at"] = fact["occurred_at"].replace(hour=fact["occurred_at"].hour // 2)


def _cents(made: list[dict[str, Any]]) -> None:
    for fact in made:
        if fact["value_minor"] is not None:
            fact["value_minor"] /= 100


@pytest.mark.parametrize(
    ("break_it", "failing"),
    [
        (_strange_channel, "schema"),
        (_negative, "ranges"),
        (_strangers, "known_customers"),
        (_twice, "duplicates"),
        (_ahead, "clock_skew"),
        (_midnight, "zero_variance"),
        (_more_purchases, "drift_kind"),
        (_one_channel, "drift_channel"),
        (_morning, "drift_hour"),
        (_cents, "drift_value"),
    ],
)
def test_each_fault_fails_the_check_that_is_named_after_it(
    sqlite_engine: Engine, break_it: Any, failing: str
) -> None:
    made = facts(prepare(sqlite_engine), 2_500, NOW, 1, "now")
    break_it(made)
    store(sqlite_engine, made, NOW - timedelta(minutes=6) if failing == "clock_skew" else NOW)
    assert verdicts(sqlite_engine)[failing] is Verdict.FAIL


def test_too_few_rows_are_skipped_and_not_passed(engine: Engine) -> None:
    store(engine, facts(prepare(engine), 100, NOW, 1, "now"))
    found = verdicts(engine)
    assert {name for name, verdict in found.items() if verdict is Verdict.SKIP} == {
        "zero_variance", "drift_kind", "drift_channel", "drift_hour", "drift_value",
    }  # fmt: skip
    assert set(verdicts(engine, "nobody").values()) == {Verdict.SKIP}


def test_an_import_is_compared_with_what_was_there_before(engine: Engine) -> None:
    rng = prepare(engine)
    made = facts(rng, 1_000, NOW, 28, "imported")
    _one_channel(made)
    store(engine, made, NOW + DAY)
    with engine.connect() as conn:
        window = of_import(conn, NOW + DAY)
    assert (len(window.rows), len(window.reference)) == (1_000, 3_000)
    assert {f.name for f in run_checks(window) if f.verdict is Verdict.FAIL} == {"drift_channel"}


def test_the_index_is_zero_for_equal_shares_and_known_for_a_worked_example() -> None:
    assert psi({"a": 10, "b": 30}, {"a": 100, "b": 300}) == 0.0
    # (0.7 - 0.5) ln(0.7 / 0.5) + (0.3 - 0.5) ln(0.3 / 0.5) = 0.2 * 0.33647 + 0.2 * 0.51083
    assert psi({"a": 50, "b": 50}, {"a": 70, "b": 30}) == pytest.approx(0.16946, abs=1e-5)
    # A new class: (0.5 - 0.0001) ln(5000) + (0.5 - 1) ln(0.5)
    assert psi({"a": 100}, {"a": 50, "b": 50}) == pytest.approx(4.60432, abs=1e-4)
    assert bin_edges(np.arange(101.0)).tolist() == pytest.approx([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert bin_edges(np.array([5.0] * 40)).tolist() == [5.0]


def test_the_command_prints_logs_and_says_by_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXTCHANNEL_HOME", str(tmp_path))
    monkeypatch.delenv("NEXTCHANNEL_DATABASE", raising=False)
    monkeypatch.delenv("NEXTCHANNEL_MLFLOW", raising=False)
    engine = connect(f"sqlite:///{tmp_path / 'history.db'}")
    migrate(engine)
    made = facts(prepare(engine), 2_500, NOW, 1, "now")
    store(engine, made)
    asked = ["check", "--as-of", NOW.isoformat()]
    sound = CliRunner().invoke(cli, [*asked, "--no-log"])
    assert sound.exit_code == 0, sound.output
    assert sound.output.count("PASS  ") == len(CHECKS)

    _twice(made)
    store(engine, made)
    broken = CliRunner().invoke(cli, asked)
    assert broken.exit_code == 1, broken.output
    assert "FAIL  duplicates                 10 of 2,510 (0.40%)" in broken.output
    client = open_client(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "mlartifacts")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["duplicates"] == pytest.approx(10 / 2_510)
    assert (run.data.tags["passed"], run.data.tags["check.duplicates"]) == ("false", "FAIL")
    assert run.info.status == "FINISHED"

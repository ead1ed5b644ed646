"""What the model looks at and what it said are held against what came: sound models pass, and each fault fails its check."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, insert
from typer.testing import CliRunner

from features.checks.checks import Finding, Verdict
from features.checks.inputs import check_inputs
from features.checks.predictions import check_predictions
from features.history.engine import connect, migrate
from features.history.evidence import FeatureOrders, pack
from features.history.tables import decisions, rewards
from models.domain.decision import Evidence
from models.evaluation.calibration_in_use import FEWEST_EXPECTED, Kept
from nextchannel.main import cli

NOW = datetime(2026, 3, 10, tzinfo=UTC)
N = 4_000


def store(
    engine: Engine,
    features: Mapping[str, np.ndarray] | None = None,
    p_open: float | None = 0.3,
    opens: float | None = 0.3,
    converts: float = 0.05,
    n: int = N,
    since_days: float = 29.0,
    final: bool = True,
    a_customer: int = 2,
    orders: FeatureOrders | None = None,
    name: str = "d",
) -> None:
    """Decisions for e-mail, evenly over the days before now, each as likely opened and converted as said."""
    rng = np.random.default_rng(7)
    opened, converted = rng.random(n), rng.random(n)
    made, came = [], []
    for i in range(n):
        evidence = Evidence(features={key: float(column[i]) for key, column in (features or {}).items()})
        made.append(
            {
                "decision_id": f"{name}{i:06}",
                "customer_id": f"c{i // a_customer}",
                "campaign_id": "spring",
                "campaign_version": 1,
                "decided_at": NOW - timedelta(days=since_days * (i + 1) / n),
                "arm": "treatment",
                "mode": "live",
                "policy": "bandit",
                "policy_version": "1",
                "channel": "email",
                "propensity": 1.0,
                "cost_minor": 1.0,
                "p_open": p_open,
                "p_convert": 0.05,
                "degraded": [],
                "evidence": None if features is None else pack(evidence, orders),
            }
        )
        came.append(
            {
                "decision_id": f"{name}{i:06}",
                "opened": None if opens is None else bool(opened[i] < opens),
                "converted": bool(converted[i] < converts),
                "value_minor": 0.0,
                "cost_minor": 1.0,
                "final": final,
                "as_of": NOW,
            }
        )
    with engine.begin() as conn:
        conn.execute(insert(decisions), made)
        conn.execute(insert(rewards), came)


def predictions(engine: Engine, days: float = 30.0) -> dict[str, Finding]:
    with engine.connect() as conn:
        return {one.name: one for one in check_predictions(conn, NOW, days)}


def inputs(engine: Engine) -> Finding:
    with engine.connect() as conn:
        return check_inputs(conn, NOW, 10, 20)


def test_predictions_that_are_kept_pass(engine):
    store(engine)
    found = predictions(engine)
    assert {name: one.verdict for name, one in found.items()} == {
        "calibration_open_email": Verdict.PASS,
        "calibration_convert_email": Verdict.PASS,
    }
    assert found["calibration_open_email"].figure == pytest.approx(1.0, abs=0.06)
    assert "of 4,000, 1,200 expected" in found["calibration_open_email"].words


@pytest.mark.parametrize(
    ("fault", "failing"),
    [
        ({"opens": 0.15}, "calibration_open_email"),
        ({"opens": 0.45}, "calibration_open_email"),
        ({"converts": 0.01}, "calibration_convert_email"),
        ({"converts": 0.12}, "calibration_convert_email"),
    ],
)
def test_predictions_that_are_not_kept_fail(sqlite_engine, fault, failing):
    store(sqlite_engine, **fault)
    assert {name for name, one in predictions(sqlite_engine).items() if one.verdict is Verdict.FAIL} == {
        failing
    }


def test_what_cannot_be_told_is_skipped(engine):
    assert [(one.name, one.verdict) for one in predictions(engine).values()] == [
        ("calibration", Verdict.SKIP)
    ]
    # The channel cannot report opens, and little was expected of the rest.
    store(engine, opens=None, n=600)
    (found,) = predictions(engine).values()
    assert (found.name, found.verdict) == ("calibration_convert_email", Verdict.SKIP)
    assert f"{FEWEST_EXPECTED:g} are needed" in found.words
    # What is not final is not told of, nor what was decided before.
    store(engine, final=False, name="e")
    assert len(predictions(engine)) == 1
    assert "calibration" in predictions(engine, days=0.001)


def test_decisions_of_one_customer_are_not_taken_for_independent():
    rng = np.random.default_rng(1)
    n_customers, each, p = 400, 10, 0.3
    broken = {True: 0, False: 0}
    for clustered in broken:
        for _ in range(300):
            # Everybody opens all or nothing: in the mean as predicted.
            opens = rng.random((n_customers, 1)) < p
            opened = np.repeat(opens, each, axis=1)
            less = opened.sum(axis=1) - p * each
            variance = float((less**2).sum()) if clustered else p * (1 - p) * n_customers * each
            kept = Kept(
                n=opened.size, expected=p * opened.size, observed=int(opened.sum()), variance=variance
            )
            low, high = kept.interval(0.95)
            broken[clustered] += not low <= 1.0 <= high
    assert broken[True] / 300 == pytest.approx(0.05, abs=0.03)
    assert broken[False] / 300 > 0.3


def columns(n: int = N, **changes: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    found = {
        "age": rng.normal(40, 10, n),
        "visits": rng.poisson(3, n).astype(float),
        "rare": np.full(n, np.nan),
    }
    found["rare"][rng.random(n) < 0.1] = 1.0
    return found | changes


def test_features_that_stay_as_they_were_pass(engine):
    orders = FeatureOrders()
    store(engine, columns(), orders=orders, since_days=30)
    found = inputs(engine)
    assert (found.verdict, found.figure) == (Verdict.PASS, pytest.approx(0.0, abs=0.03))
    assert "0 of 3 features" in found.words


@pytest.mark.parametrize("fault", ["moved", "missing", "filled"])
def test_features_that_have_moved_fail_and_are_named(sqlite_engine, fault):
    made = columns()
    late = np.arange(N) < N // 3  # the newest come first
    if fault == "moved":
        made["age"] = np.where(late, made["age"] + 15, made["age"])
    elif fault == "missing":
        made["age"] = np.where(late, np.nan, made["age"])
    else:
        made["age"] = np.where(late, 40.0, made["age"])
    store(sqlite_engine, made, since_days=30)
    found = inputs(sqlite_engine)
    assert found.verdict is Verdict.FAIL
    assert "1 of 3 features" in found.words
    assert "furthest age" in found.words


def test_too_few_decisions_are_skipped(engine):
    assert inputs(engine).verdict is Verdict.SKIP
    store(engine, columns(300), n=300, since_days=30)
    assert inputs(engine).verdict is Verdict.SKIP


def test_the_command_tells_of_the_model_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXTCHANNEL_HOME", str(tmp_path))
    monkeypatch.delenv("NEXTCHANNEL_DATABASE", raising=False)
    engine = connect(f"sqlite:///{tmp_path / 'history.db'}")
    migrate(engine)
    store(engine, columns(), opens=0.1)
    asked = ["check", "--no-log", "--as-of", NOW.isoformat()]
    found = CliRunner().invoke(cli, asked)
    assert found.exit_code == 1, found.output
    assert "FAIL  calibration_open_email" in found.output
    assert "PASS  calibration_convert_email" in found.output
    assert "drift_features" in found.output
    of_shop = CliRunner().invoke(cli, [*asked, "--source", "shop"])
    assert of_shop.exit_code == 0, of_shop.output
    assert "calibration" not in of_shop.output

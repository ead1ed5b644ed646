"""The service as it is really put together: SQLite file, Feast, MLflow, LightGBM, Vowpal Wabbit, sender."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from datetime import time as time_of_day

import numpy as np
from fastapi.testclient import TestClient
from sqlalchemy import Engine, Row, select, update

from features.history.engine import connect
from features.history.tables import outbox
from features.online import FeatureWriter
from features.registry import ModelRegistry
from features.workspace import FeatureWorkspace
from models.bundle import Bundle
from models.domain.action import ActionGrid
from models.domain.campaign import PolicyName, QuietHours
from models.domain.channel import DEFAULT_CHANNELS
from models.logged import LoggedRows
from models.policy.bandit import Bandit
from models.response.model import fit_response
from serving.app import create_app
from serving.bootstrap import build, tracking_secret


def random_log(grid: ActionGrid, names: tuple[str, ...], n: int = 1_500) -> LoggedRows:
    """A log in which contacts by SMS help and the others do nothing."""
    rng = np.random.default_rng(0)
    contact = rng.random(n) < 0.75
    channel = np.where(contact, rng.integers(0, 3, n), -1)
    opened = (rng.random(n) < 0.3).astype(float)
    converted = (rng.random(n) < np.where(channel == 2, 0.3, 0.05)).astype(float)
    return LoggedRows(
        offers=grid.offers,
        channels=grid.channels,
        slots=grid.slots,
        feature_names=names,
        features=rng.normal(size=(n, len(names))),
        customer=np.arange(n),
        offer=np.where(contact, rng.integers(0, 2, n), -1),
        channel=channel,
        slot=np.where(contact, rng.integers(0, 3, n), -1),
        propensity=np.full(n, 1 / 19),
        decided_at=np.arange(n, dtype=float),
        opened=np.where(channel == 0, opened, np.nan),
        clicked=np.full(n, np.nan),
        converted=converted,
        value_minor=converted * 3_000.0,
        cost_minor=np.where(contact, 1.0, 0.0),
        unsubscribed=np.zeros(n),
        randomised=np.ones(n, dtype=np.bool_),
    )


def test_from_an_empty_folder_to_a_decision_by_the_champion(config, market_on, tmp_path):
    with TestClient(create_app(build(config))) as api:
        assert api.get("/readyz").json()["degraded"] == [
            "there is no campaign yet",
            "there is no champion model: rules decide",
        ]

    now = datetime.now(UTC)
    engine = connect(config.database_url)
    market = market_on(engine, now)
    market.customers("ada", "bob")
    grid = market.campaign().grid
    workspace = FeatureWorkspace(config.data_dir, engine)
    names = workspace.define().names
    FeatureWriter(workspace).refresh(["ada"], now)
    log = random_log(grid, names)
    channels = {channel.name: channel for channel in DEFAULT_CHANNELS}
    bundle = Bundle(
        feature_names=names,
        offers=log.offers,
        channels=log.channels,
        slots=log.slots,
        created_at=now,
        response=fit_response(log, channels, attention_value_minor=100.0, seed=0).to_files(),
        bandit=Bandit.fresh(log.channels, log.slots).to_files(),
    )
    registry = ModelRegistry(config.tracking_uri, config.artifact_root)
    version = registry.publish(bundle, params={}, metrics={}, report="# report")

    service = build(config)
    with TestClient(create_app(service)) as api:

        def ask(customer_id: str) -> dict:
            body = {"customer_id": customer_id, "campaign_id": "spring", "dry_run": True}
            return api.post("/v1/decisions", json=body).json()

        assert ask("ada")["degraded"] == ["model_missing"]
        registry.promote(version)
        until = time.monotonic() + 20
        while ask("ada")["degraded"] and time.monotonic() < until:
            time.sleep(0.1)
        decision = ask("ada")
        assert decision["degraded"] == []
        assert (decision["policy"], decision["policy_version"]) == ("bandit", bundle.version)
        assert decision["expected"]["uplift"] is not None
        assert decision["alternatives"][0]["expected"]["net_value_minor"] is not None
        assert ask("bob")["degraded"] == ["features_missing"]

        posted = {
            "interactions": [
                {
                    "source": "shop",
                    "event_id": "1",
                    "customer_id": "bob",
                    "kind": "visited",
                    "occurred_at": now.isoformat(),
                }
            ]
        }
        assert api.post("/v1/interactions", json=posted).json() == {"n_new": 1, "n_repeated": 0}
        until = time.monotonic() + 60
        while ask("bob")["degraded"] and time.monotonic() < until:
            time.sleep(0.1)
        assert ask("bob")["degraded"] == []
        assert api.get("/readyz").json() == {
            "ready": True,
            "reasons": [],
            "degraded": [],
            "keys_required": False,
        }

        # At any hour of the day on which the test runs.
        never_quiet = QuietHours(start=time_of_day(0), end=time_of_day(0))
        market.campaign("today", policy=PolicyName.CHEAPEST_FIRST, quiet_hours=never_quiet)
        service.snapshots.reload()
        made = api.post("/v1/decisions", json={"customer_id": "ada", "campaign_id": "today"}).json()
        assert made["action"]["channel"] == "push"
        with engine.begin() as conn:
            conn.execute(update(outbox).values(send_at=now, due_at=now))
        until = time.monotonic() + 60
        while message(engine).status != "sent" and time.monotonic() < until:
            time.sleep(0.1)
        assert (message(engine).status, message(engine).provider) == ("sent", "console")
    engine.dispose()


def message(engine: Engine) -> Row:
    with engine.connect() as conn:
        return conn.execute(select(outbox)).one()


def test_the_tracking_secret_is_made_once_and_kept_private(config):
    config.data_dir.mkdir(exist_ok=True)
    made = tracking_secret(config)
    assert len(made) >= 32
    assert tracking_secret(config) == made
    assert (config.data_dir / "tracking.secret").stat().st_mode & 0o777 == 0o600
    assert (
        tracking_secret(replace(config, tracking_secret="given by the operator")) == "given by the operator"
    )

"""`/v1/models` over a real registry, and the report of an experiment."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient

from features.history.documents import to_document
from features.history.engine import connect
from features.registry import ModelRegistry
from models.domain.experiment import Experiment
from serving.app import create_app
from serving.bootstrap import build
from training.day_one import publish_prior

ASK = {"customer_id": "ada", "campaign_id": "spring", "dry_run": True}
ONE_DATABASE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def test_models_are_listed_promoted_and_rolled_back_and_decisions_follow_at_once(config, market_on):
    now = datetime.now(UTC)
    with TestClient(create_app(build(config))) as api:
        engine = connect(config.database_url)
        market = market_on(engine, now)
        market.customers("ada")
        market.campaign()
        assert api.get("/v1/models").json() == {"models": [], "next_cursor": None, "serving": None}
        refused = api.post("/v1/models:rollback")
        assert (refused.status_code, refused.json()["type"]) == (409, "/problems/conflict")

        registry = ModelRegistry(config.tracking_uri, config.artifact_root)
        first, second, damaged = (
            publish_prior(engine, registry, "spring", now + timedelta(seconds=n)) for n in range(3)
        )
        assert (first.version, second.version, damaged.version) == (1, 2, 3)
        promoted = api.post("/v1/models/1/promote").json()  # it is champion already
        assert (promoted["version"], promoted["aliases"]) == (1, ["champion"])

        listed = api.get("/v1/models", params={"limit": 2}).json()
        assert [one["version"] for one in listed["models"]] == [3, 2]
        rest = api.get("/v1/models", params={"limit": 2, "cursor": listed["next_cursor"]}).json()
        assert [one["version"] for one in rest["models"]] == [1]
        assert rest["next_cursor"] is None
        versions = {one["version"]: one["bundle_version"] for one in [*listed["models"], *rest["models"]]}
        assert listed["serving"] == versions[1]
        assert len(set(versions.values())) == 3

        one = api.get("/v1/models/2").json()
        assert one["bundle_version"] == versions[2]
        assert one["report"] == second.report

        def decided_by() -> str:
            return api.post("/v1/decisions", json=ASK).json()["policy_version"]

        assert decided_by() == versions[1]
        assert api.post("/v1/models/2/promote").json()["aliases"] == ["champion"]
        assert decided_by() == versions[2]
        assert api.post("/v1/models:rollback").json()["version"] == 1
        assert decided_by() == versions[1]

        run = next(one.run_id for one in registry.versions() if one.version == damaged.version)
        (config.artifact_root / run / "artifacts/bundle/bandit/bandit.json").write_text("{}")
        refused = api.post(f"/v1/models/{damaged.version}/promote")
        assert (refused.status_code, refused.json()["type"]) == (409, "/problems/conflict")
        assert decided_by() == versions[1]

        for method, path, status in (
            ("GET", "/v1/models/9", 404),
            ("POST", "/v1/models/9/promote", 404),
            ("GET", "/v1/models/0", 422),
            ("GET", "/v1/models/latest", 422),
        ):
            assert api.request(method, path).status_code == status, path
        engine.dispose()


def test_without_its_tracking_server_the_service_starts_decides_by_rules_and_says_why(config, market_on):
    with socket.socket() as closed:  # bound and not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with TestClient(create_app(build(replace(config, tracking_uri=address, artifact_root=None)))) as api:
            engine = connect(config.database_url)
            market = market_on(engine, datetime.now(UTC))
            market.customers("ada")
            campaign = json.loads(json.dumps(to_document(market.campaign()), default=str))
            assert api.put("/v1/campaigns/spring", json={"campaign": campaign}).status_code == 200
            assert api.post("/v1/decisions", json=ASK).json()["degraded"][-1] == "model_missing"
            ready = api.get("/readyz")
            assert ready.status_code == 200
            assert "the champion model cannot be loaded; the log says why" in ready.json()["degraded"]
            refused = api.get("/v1/models")
            assert (refused.status_code, refused.json()["type"]) == (503, "/problems/store-unavailable")
            assert refused.headers["retry-after"]
            engine.dispose()


@ONE_DATABASE
def test_the_report_of_an_experiment_has_every_campaign_that_it_splits(market):
    market.customers("ada", "bob")
    market.campaign("spring", experiment=Experiment(experiment_id="season", holdout_share=0.5))
    market.campaign("summer", experiment=Experiment(experiment_id="season", holdout_share=0.5))
    market.campaign("other")
    service = market.service(start=False)
    with TestClient(create_app(service)) as api:
        market.opened.remove(service)
        arms = [
            api.post("/v1/decisions", json={"customer_id": who, "campaign_id": campaign}).json()["arm"]
            for campaign in ("spring", "summer")
            for who in ("ada", "bob")
        ]
        assert arms[:2] == arms[2:]
        told = api.get("/v1/experiments/season/report").json()
        assert told["experiment_id"] == "season"
        assert [one["campaign_id"] for one in told["reports"]] == ["spring", "summer"]
        alone = api.get("/v1/report", params={"campaign_id": "summer"}).json()
        assert told["reports"][1]["arms"] == alone["arms"]
        assert sum(arm["n_customers"] for arm in told["reports"][0]["arms"]) == 2
        missing = api.get("/v1/experiments/winter/report")
        assert missing.status_code == 404
        assert missing.json()["errors"][0]["field"] == "experiment_id"


@ONE_DATABASE
def test_several_reports_wait_no_longer_together_than_one(market, monkeypatch):
    names = [f"spring-{number}" for number in range(4)]
    for name in names:
        market.campaign(name, experiment=Experiment(experiment_id="season"))
    service = market.service(start=False)
    waited = []

    def settled_never(engine, as_of, campaign_id, *, seconds):
        waited.append(seconds)
        time.sleep(seconds)
        return False

    monkeypatch.setattr("serving.report.settle_in_parts", settled_never)
    monkeypatch.setattr("serving.service.SETTLING_SECONDS", 0.1)
    with TestClient(create_app(service)) as api:
        market.opened.remove(service)
        told = api.get("/v1/experiments/season/report").json()
    assert [one["campaign_id"] for one in told["reports"]] == names
    assert not any(one["up_to_date"] for one in told["reports"])
    assert 0 < sum(waited) <= 0.1

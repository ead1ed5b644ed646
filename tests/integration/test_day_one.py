"""The first day of a campaign: no history, no features, and yet a choice with a propensity and a reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from features.history.channels import save_channel
from features.history.engine import connect, migrate
from features.history.tables import decisions
from features.registry import ModelRegistry
from models.domain.channel import DEFAULT_CHANNELS
from models.domain.errors import NotFoundError
from models.response.prior import EFFECT_OF_AN_OPEN, published_rate
from serving.app import create_app
from serving.bootstrap import build
from training.day_one import publish_prior


def test_the_prior_decides_for_customers_of_whom_nothing_is_known(config, market_on, tmp_path):
    now = datetime.now(UTC)
    engine = connect(config.database_url)
    migrate(engine)
    market = market_on(engine, now)
    market.campaign()
    market.customers(*(f"c-{i}" for i in range(30)))
    registry = ModelRegistry(config.tracking_uri, config.artifact_root)
    with pytest.raises(NotFoundError, match="nowhere"):
        publish_prior(engine, registry, "nowhere", now)
    with pytest.raises(NotFoundError, match="channels"):
        publish_prior(engine, registry, "spring", now)
    with engine.begin() as conn:
        for channel in DEFAULT_CHANNELS:
            save_channel(conn, channel, now)
    first = publish_prior(engine, registry, "spring", now)
    assert first.promoted
    assert "Mailchimp" in first.report

    with TestClient(create_app(build(replace(config, run_dispatcher=False)))) as api:
        answers = [
            api.post("/v1/decisions", json={"customer_id": f"c-{i}", "campaign_id": "spring"}).json()
            for i in range(30)
        ]
        read = api.get(f"/v1/decisions/{answers[0]['decision_id']}").json()

    assert {tuple(one["degraded"]) for one in answers} == {()}
    assert {one["policy"] for one in answers} == {"bandit"}
    assert all(0 < one["propensity"] < 1 for one in answers)
    sent = [one for one in answers if one["action"]]
    for one in sent:
        rate = published_rate(one["action"]["channel"]).p_open
        assert one["expected"]["p_open"] == pytest.approx(rate, abs=1e-4)
        assert one["expected"]["uplift"] == pytest.approx(rate * EFFECT_OF_AN_OPEN, abs=1e-4)
    # The slots look alike, so their propensities are alike and the log teaches when people open.
    assert len({one["action"]["slot"] for one in sent}) > 1
    assert read["decision_id"] == answers[0]["decision_id"]
    with engine.connect() as conn:
        assert conn.scalar(select(func.count()).select_from(decisions)) == 30

    # A champion stays until something better is promoted.
    assert not publish_prior(engine, registry, "spring", now).promoted
    assert registry.champion_version() == first.version
    engine.dispose()

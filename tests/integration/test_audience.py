"""A segment is decided for as a whole: everybody once, again with the same key nobody twice."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from features.history.tables import decisions, outbox
from models.domain.campaign import Caps, PolicyName, SendWindow
from serving.app import create_app
from serving.routes import audience

PEOPLE = [f"c{number:03}" for number in range(150)]  # more than one transaction holds
VIPS = PEOPLE[:140]


@pytest.fixture
def api(market: Any) -> Any:
    market.customers(*PEOPLE)
    market.campaign(policy=PolicyName.GREEDY, caps=Caps(contacts=None))
    service = market.service(start=False)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        market.opened.remove(service)
        tags = [{"customer_id": one, "tag": "vip", "source": "crm"} for one in VIPS]
        assert client.post("/v1/tags", json={"tags": tags}).json()["n_new"] == len(VIPS)
        client.put("/v1/segments/best", json={"condition": {"tag": "vip"}})
        yield client


def ask(api: TestClient, body: dict[str, Any], **headers: str) -> list[dict[str, Any]]:
    answer = api.post("/v1/segments/best/decisions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.content.splitlines()]


def n_rows(market: Any, table: Any) -> int:
    with market.engine.connect() as conn:
        return int(conn.execute(select(func.count()).select_from(table)).scalar_one())


def test_every_member_is_decided_for_once_and_a_rehearsal_records_nothing(
    api: TestClient, market: Any
) -> None:
    rehearsed = ask(api, {"campaign_id": "spring", "dry_run": True})
    assert [one["decision"]["customer_id"] for one in rehearsed] == VIPS
    assert n_rows(market, decisions) == 0
    done = ask(api, {"campaign_id": "spring"})
    assert [one["decision"]["customer_id"] for one in done] == VIPS
    assert n_rows(market, outbox) == len(VIPS)


def test_the_same_key_again_decides_for_newcomers_only(api: TestClient, market: Any) -> None:
    key = {"Idempotency-Key": "spring-1"}
    first = ask(api, {"campaign_id": "spring"}, **key)
    api.post("/v1/tags", json={"tags": [{"customer_id": PEOPLE[-1], "tag": "vip", "source": "crm"}]})
    again = ask(api, {"campaign_id": "spring"}, **key)
    assert again[: len(VIPS)] == first
    assert [one["decision"]["customer_id"] for one in again[len(VIPS) :]] == [PEOPLE[-1]]
    assert n_rows(market, outbox) == len(VIPS) + 1


def test_callers_that_send_themselves_get_held_messages(api: TestClient, market: Any) -> None:
    ask(api, {"campaign_id": "spring", "send": "caller"})
    with market.engine.connect() as conn:
        assert set(conn.scalars(select(outbox.c.status))) == {"held"}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_what_cannot_be_decided_is_refused_before_anybody_is_asked(
    api: TestClient, market: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = SendWindow(starts_at=market.now - timedelta(days=9), ends_at=market.now - timedelta(days=8))
    market.campaign("over", send_window=over)
    service_knows = api.get("/v1/campaigns/over")
    assert service_knows.status_code == 200

    def status(segment: str, campaign: str, **headers: str) -> int:
        posted = {"campaign_id": campaign}
        return api.post(f"/v1/segments/{segment}/decisions", json=posted, headers=headers).status_code

    assert status("none", "spring") == 404
    assert status("best", "none") == 404
    assert status("best", "spring", **{"Idempotency-Key": ""}) == 422
    monkeypatch.setattr(audience, "MOST_MEMBERS", len(VIPS) - 1)
    assert status("best", "spring") == 422
    assert n_rows(market, decisions) == 0

"""The short way to the decision endpoint answers what FastAPI's own way would answer."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from serving import app
from serving.app import create_app

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)

ASK = {"customer_id": "ada", "campaign_id": "spring", "dry_run": True}
BODIES = [
    json.dumps(ASK).encode(),
    json.dumps(ASK | {"decision_id": "01A2019C-FF02-74E0-82F9-FC1C4292B790"}).encode(),
    json.dumps(
        {"identity": {"kind": "email", "value": "email:ada"}, "campaigns": ["spring"], "dry_run": True}
    ).encode(),
    json.dumps(ASK).encode("utf-16"),
    b"\xef\xbb\xbf" + json.dumps(ASK).encode(),
    b'{"customer_id":"bob","customer_id":"ada","campaign_id":"spring","dry_run":true}',
    json.dumps(ASK | {"customer_id": "nobody"}).encode(),
    json.dumps(ASK | {"dry_run": "yes"}).encode(),
    json.dumps(ASK | {"more": 1}).encode(),
    json.dumps(ASK | {"customer_id": None}).encode(),
    json.dumps(ASK | {"decision_id": "x"}).encode(),
    json.dumps(ASK | {"customer_id": "a\x00b"}).encode(),
    json.dumps([ASK]).encode(),
    b'{"customer_id":"\\ud800","campaign_id":"spring"}',
    b'{"customer_id":NaN,"campaign_id":"spring"}',
    b'{"customer_id":"ada",',
    b"\xff\xfe",
    b"null",
    b"",
]
KINDS = ["application/json", "application/json; charset=utf-8", "Application/JSON"]


def told(client: TestClient, body: bytes, kind: str) -> tuple[int, dict[str, object]]:
    """Status and document of an answer, without what differs from one decision to the next."""
    answer = client.post("/v1/decisions", content=body, headers={"content-type": kind})
    document = answer.json()
    for name in ("decision_id", "propensity", "action", "expected", "alternatives", "explanation"):
        document.pop(name, None)
    return answer.status_code, document


def test_what_is_asked_in_any_form_is_answered_as_by_the_plain_route(market, monkeypatch):
    market.customers("ada", "bob")
    market.campaign()
    service = market.service(start=False)
    market.opened.remove(service)
    with TestClient(create_app(service)) as direct:
        found = [told(direct, body, kind) for body in BODIES for kind in KINDS]
    monkeypatch.setattr(app, "DirectEndpoint", lambda behind, **_: behind)
    service = market.service(start=False)
    market.opened.remove(service)
    with TestClient(create_app(service)) as plain:
        expected = [told(plain, body, kind) for body in BODIES for kind in KINDS]
    assert found == expected
    assert {status for status, _ in found} == {200, 404, 422}


def test_a_decision_id_is_kept_whatever_the_case_of_its_letters(market):
    market.customers("ada")
    market.campaign()
    service = market.service(start=False)
    market.opened.remove(service)
    given = "01A2019C-FF02-74E0-82F9-FC1C4292B790"
    with TestClient(create_app(service)) as client:
        answer = client.post("/v1/decisions", json=ASK | {"dry_run": False, "decision_id": given}).json()
    assert answer["decision_id"] == str(UUID(given))

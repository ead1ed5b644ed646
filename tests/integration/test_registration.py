"""`POST /v1/customers`: people come in whole, once, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from features.history.tables import consents, customers, identities
from serving.app import create_app


@pytest.fixture
def api(market: Any) -> Iterator[TestClient]:
    market.customers("bob")
    market.campaign()
    service = market.service(start=False)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        market.opened.remove(service)
        yield client


def person(customer_id: str = "ada", **more: object) -> dict[str, object]:
    return {
        "customer_id": customer_id,
        "time_zone": "Asia/Taipei",
        "created_at": "2026-01-05T00:00:00Z",
        "attributes": {"tier": "gold", "age": 41},
        "identities": [{"kind": "email", "value": f"{customer_id}@new.example"}],
        "consents": [{"channel": "email", "status": "granted"}],
    } | more


def register(api: TestClient, *people: dict[str, object]) -> Any:
    return api.post("/v1/customers", json={"source": "crm", "customers": list(people)})


def counts(market: Any) -> tuple[int, ...]:
    with market.engine.connect() as conn:
        return tuple(
            conn.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (customers, identities, consents)
        )


def test_who_was_registered_can_be_decided_for_at_once(api: TestClient) -> None:
    assert register(api, person()).json() == {"n_new": 1, "n_known": 0, "n_erased": 0}
    decision = api.post("/v1/decisions", json={"customer_id": "ada", "campaign_id": "spring"}).json()
    assert {each["channel"] for each in decision["exclusions"] if each["reason"] == "no_identity"} == {
        "push",
        "sms",
    }
    profile = api.get("/v1/customers/ada").json()
    assert profile["attributes"] == {"tier": "gold", "age": 41}
    assert [(each["channel"], each["status"]) for each in profile["consents"]] == [("email", "granted")]
    assert [(each["kind"], each["source"]) for each in profile["identities"]] == [("email", "crm")]


def test_repeating_changes_nothing_and_new_values_replace_the_old(api: TestClient, market: Any) -> None:
    register(api, person())
    before = counts(market)
    assert register(api, person()).json() == {"n_new": 0, "n_known": 1, "n_erased": 0}
    assert counts(market) == before
    register(api, person(attributes={"tier": "basic"}, time_zone="Asia/Tokyo"))
    profile = api.get("/v1/customers/ada").json()
    assert (profile["attributes"], profile["time_zone"]) == ({"tier": "basic"}, "Asia/Tokyo")


@pytest.mark.parametrize(
    ("wrong", "field", "bound"),
    [
        ({"time_zone": "Asia/Taipeh"}, "customers.1.time_zone", "IANA"),
        ({"created_at": "2026-03-02T00:00:00Z"}, "customers.1.created_at", "future"),
        ({"identities": [{"kind": "email", "value": "ada"}]}, "customers.1.identities.email", "address"),
        (
            {"consents": [{"channel": "fax", "status": "granted"}]},
            "customers.1.consents.0.channel",
            "must be * or one of call",
        ),
        (
            {"consents": [{"channel": "sms", "status": "granted", "since": "2026-03-02T00:00:00Z"}]},
            "customers.1.consents.0.since",
            "future",
        ),
        ({"attributes": {"age": float("1e999")}}, "customers.1.attributes.age", "finite"),
        ({"identities": [{"kind": "email", "value": "ada@new.example"}]}, "email", "than bea"),
        ({"nickname": "B"}, "customers.1.nickname", "not permitted"),
    ],
)
def test_one_wrong_person_keeps_everybody_out(
    api: TestClient, market: Any, wrong: dict[str, object], field: str, bound: str
) -> None:
    before = counts(market)
    body = {"source": "crm", "customers": [person(), person("bea") | wrong]}
    text = json.dumps(body).replace("Infinity", "1e999")
    answer = api.post("/v1/customers", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert field in answer.text
    assert bound in answer.text
    assert "ada@new.example" not in answer.text
    assert counts(market) == before


def test_nobody_who_was_erased_comes_back(api: TestClient) -> None:
    register(api, person())
    assert api.post("/v1/customers/ada/erase").status_code == 200
    assert register(api, person(), person("bea")).json() == {"n_new": 1, "n_known": 0, "n_erased": 1}
    assert api.get("/v1/customers/ada").status_code == 404


def test_at_most_a_thousand_at_a_time(api: TestClient) -> None:
    answer = register(api, *(person(f"c-{i}", identities=[]) for i in range(1_001)))
    assert answer.status_code == 422
    assert "1000" in answer.text
    assert register(api, *(person(f"c-{i}", identities=[]) for i in range(1_000))).json()["n_new"] == 1_000

"""People over HTTP: link, profile, history, consents, export, erase."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import insert, select

from features.history.append import append_interactions
from features.history.tables import customers, idempotency_keys, identities, interactions, outbox
from features.history.tables import tags as tags_table
from models.domain.interaction import Interaction, InteractionKind
from serving.app import create_app
from serving.security.keys import Scope, create_key
from serving.send_check import judge, read_send_facts
from serving.store.endings import Ending
from serving.store.outbox import claim
from serving.tracking import Signer, TrackedLinks

ADDRESS, NUMBER = "ada@example.com", "+886912345678"


@pytest.fixture
def api(market: Any) -> Iterator[TestClient]:
    market.customers("ada", "bob")
    market.campaign()
    service = market.service(start=False)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        market.opened.remove(service)
        client.app_state["key_ring"] = service.key_ring
        yield client


def by(market: Any, *scopes: Scope) -> dict[str, str]:
    """What a caller sends who has a key for these scopes."""
    with market.engine.begin() as conn:
        key = create_key(conn, "-".join(scopes), scopes, market.now)
    return {"Authorization": f"Bearer {key.text}"}


def link(api: TestClient, *points: tuple[str, str], **more: object) -> dict[str, Any]:
    body = {
        "identities": [{"kind": kind, "value": value} for kind, value in points],
        "source": "shop",
        **more,
    }
    answer = api.post("/v1/identities:link", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def visits(market: Any, customer_id: str, n: int, first: int = 0, minutes: int = 1) -> None:
    with market.engine.begin() as conn:
        append_interactions(
            conn,
            [
                Interaction(
                    source="web",
                    event_id=f"{customer_id}-{number}",
                    customer_id=customer_id,
                    kind=InteractionKind.VISITED,
                    occurred_at=market.now - timedelta(minutes=(number // 2) * minutes),
                )
                for number in range(first, first + n)
            ],
            market.now,
        )


def test_accounts_are_linked_step_by_step_and_decided_for_as_one(api: TestClient, market: Any) -> None:
    # E-mail at the first purchase, the app by phone number, LINE later.
    first = link(api, ("email", "Eve@Example.com"), time_zone="Asia/Taipei")
    assert (first["created"], first["n_linked"], first["merged"]) == (True, 1, [])
    app_user = link(api, ("phone", "+886 955 000 111"), ("device", "phone-of-eve"))
    assert app_user["customer_id"] != first["customer_id"]
    both = link(api, ("email", "eve@example.com"), ("phone", "+886955000111"), ("line", "Ueve"))
    person, (absorbed,) = both["customer_id"], both["merged"]
    assert {person, absorbed} == {first["customer_id"], app_user["customer_id"]}
    for body in ({"customer_id": absorbed}, {"identity": {"kind": "device", "value": "phone-of-eve"}}):
        decision = api.post("/v1/decisions", json={"campaign_id": "spring", "dry_run": True, **body}).json()
        assert decision["customer_id"] == person
    profile = api.get(f"/v1/customers/{absorbed}").json()
    assert (profile["customer_id"], profile["merged_ids"]) == (person, [absorbed])
    assert [one["kind"] for one in profile["identities"]] == ["email", "phone", "device", "line"]


def test_a_shared_device_is_listed_as_a_conflict_and_masked(api: TestClient) -> None:
    done = link(api, ("device", "device:bob"), customer_id="ada")
    assert (done["customer_id"], done["merged"], len(done["conflicts"])) == ("ada", [], 1)
    page = api.get("/v1/identities/conflicts").json()
    (conflict,) = page["conflicts"]
    assert (conflict["customer_id"], conflict["holder_id"], conflict["reason"]) == (
        "ada",
        "bob",
        "shared_device",
    )
    assert conflict["contact_point"] == "de***ob"
    assert page["next_after"] is None


@pytest.mark.parametrize(
    ("kind", "value"), [("email", "no-address"), ("phone", "0912 345 678"), ("line", "  ")]
)
def test_what_is_no_contact_point_is_a_problem_that_does_not_repeat_it(
    api: TestClient, kind: str, value: str
) -> None:
    answer = api.post(
        "/v1/identities:link", json={"identities": [{"kind": kind, "value": value}], "source": "s"}
    )
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == f"identities.{kind}"
    assert not value.strip() or value not in answer.text


def test_an_unknown_identity_is_a_problem_that_does_not_repeat_it(api: TestClient) -> None:
    body = {"campaign_id": "spring", "identity": {"kind": "email", "value": "secret.person@example.com"}}
    answer = api.post("/v1/decisions", json=body)
    assert answer.status_code == 404
    assert "secret.person@example.com" not in answer.text
    answer = api.post("/v1/decisions", json={**body, "secret.person@example.com": 1})
    assert answer.status_code == 422
    assert "secret.person@example.com" not in answer.json()["errors"][0]["value"]


def test_contact_points_are_masked_without_the_scope_admin(api: TestClient, market: Any) -> None:
    link(api, ("email", ADDRESS), ("phone", NUMBER), customer_id="cleo")
    open_ = api.get("/v1/customers/cleo").json()["identities"]
    assert [one["contact_point"] for one in open_] == [ADDRESS, NUMBER]
    reader, keeper = by(market, Scope.READ, Scope.DECIDE), by(market, Scope.READ, Scope.ADMIN)
    api.app_state["key_ring"].refresh()
    assert api.get("/v1/customers/cleo", headers=keeper).json()["identities"] == open_
    masked = api.get("/v1/customers/cleo", headers=reader)
    assert [one["contact_point"] for one in masked.json()["identities"]] == ["a***@example.com", "+886***678"]
    assert ADDRESS not in masked.text


def test_a_profile_shows_the_last_offers_with_their_outcomes_and_the_refusals(
    api: TestClient, market: Any
) -> None:
    decision = api.post("/v1/decisions", json={"customer_id": "ada", "campaign_id": "spring"}).json()
    channel = decision["action"]["channel"]
    facts = [
        {"kind": "clicked", "occurred_at": market.now.isoformat(), "decision_id": decision["decision_id"]},
        {
            "kind": "unsubscribed",
            "occurred_at": market.now.isoformat(),
            "decision_id": decision["decision_id"],
        },
    ]
    body = {
        "interactions": [
            {"source": "web", "event_id": str(number), "customer_id": "ada", **fact}
            for number, fact in enumerate(facts)
        ]
    }
    assert api.post("/v1/interactions", json=body).status_code == 200
    profile = api.get("/v1/customers/ada").json()
    (offer,) = profile["last_offers"]
    assert (offer["offer"], offer["channel"], offer["status"]) == (
        decision["action"]["offer"],
        channel,
        "pending",
    )
    assert offer["outcomes"] == ["clicked", "unsubscribed"]
    assert profile["refusals"][0]["kind"] == "unsubscribed"
    held = {(one["channel"], one["status"]) for one in profile["consents"]}
    assert (channel, "unsubscribed") in held
    assert api.get("/v1/customers/nobody").status_code == 404


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_pages_of_history_miss_and_repeat_nothing_while_facts_arrive(
    api: TestClient, market: Any, limit: int
) -> None:
    visits(market, "ada", 11)
    for _ in range(2):
        api.post("/v1/decisions", json={"customer_id": "ada", "campaign_id": "spring"})
    whole = api.get("/v1/customers/ada/history", params={"limit": 200}).json()["entries"]
    assert len(whole) == 13
    assert [one["at"] for one in whole] == sorted((one["at"] for one in whole), reverse=True)
    seen: list[tuple[str, str]] = []
    cursor, arriving = None, 100
    while True:
        asked = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
        page = api.get("/v1/customers/ada/history", params=asked).json()
        seen += [(one["type"], one["entry_id"]) for one in page["entries"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        with market.engine.begin() as conn:  # something new, at the very moment of the newest entries
            row = {"source": "web", "kind": "visited", "occurred_at": market.now, "received_at": market.now}
            conn.execute(
                insert(interactions),
                {**row, "event_id": f"n{arriving}", "customer_id": "ada", "attributes": {}},
            )
        arriving += 1
    before = [(one["type"], one["entry_id"]) for one in whole]
    assert len(seen) == len(set(seen))
    assert [one for one in seen if one in set(before)] == before


@pytest.mark.parametrize("cursor", ["nonsense", "WyJhIl0=", "e30="])
def test_a_cursor_of_somebody_else_is_a_problem(api: TestClient, cursor: str) -> None:
    answer = api.get("/v1/customers/ada/history", params={"cursor": cursor})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "cursor"


def test_a_withdrawal_holds_at_once_for_a_message_that_is_on_its_way(api: TestClient, market: Any) -> None:
    decision = api.post("/v1/decisions", json={"customer_id": "ada", "campaign_id": "spring"}).json()
    channel = decision["action"]["channel"]
    said = {"channel": channel, "status": "withdrawn", "source": "call centre"}
    answer = api.post("/v1/customers/ada/consents", json={"consents": [said]})
    assert answer.json()["n_new"] == 1
    again = api.post(
        "/v1/customers/ada/consents", json={"consents": [{**said, "since": market.now.isoformat()}]}
    )
    assert again.json()["n_new"] == 0
    later = datetime.fromisoformat(decision["action"]["send_at"])
    with market.engine.begin() as conn:
        (claimed,) = claim(conn, later, 60, 1)
        facts = read_send_facts(conn, [claimed], later)
        judged = judge(claimed, facts, TrackedLinks("https://t.test", Signer("a secret of the tests")), later)
    assert isinstance(judged, Ending)
    assert (judged.status, judged.detail) == ("suppressed", "no_consent")


def test_consents_are_told_as_of_any_moment_with_their_source(api: TestClient, market: Any) -> None:
    def held(as_of: datetime) -> dict[tuple[str, str], tuple[str, str]]:
        answer = api.get("/v1/customers/ada/consents", params={"as_of": as_of.isoformat()}).json()
        return {
            (one["channel"], one["purpose"]): (one["status"], one["source"]) for one in answer["consents"]
        }

    when = market.now - timedelta(days=10)
    said = [
        {"channel": "sms", "status": "withdrawn", "since": when.isoformat(), "source": "call"},
        {
            "channel": "sms",
            "purpose": "service",
            "status": "granted",
            "since": when.isoformat(),
            "source": "form",
        },
    ]
    assert api.post("/v1/customers/ada/consents", json={"consents": said}).json()["n_new"] == 2
    assert held(when - timedelta(seconds=1)).get(("sms", "marketing")) == ("granted", "test")
    assert held(when)["sms", "marketing"] == ("withdrawn", "call")
    assert held(market.now)["sms", "service"] == ("granted", "form")
    for wrong in (
        {"channel": "fax", "status": "granted", "source": "form"},
        {"channel": "sms", "status": "granted", "source": "form", "since": "2199-01-01T00:00:00Z"},
    ):
        assert api.post("/v1/customers/ada/consents", json={"consents": [said[0], wrong]}).status_code == 422
    assert api.post("/v1/customers/nobody/consents", json={"consents": said[:1]}).status_code == 404
    for no_moment in ("0.5", "1773133200", "2026-03-10T09:30:00", "now"):
        asked = {"as_of": no_moment}
        assert api.get("/v1/customers/ada/consents", params=asked).status_code == 422, no_moment


def test_an_export_holds_everything_and_an_erasure_leaves_nothing_of_it(api: TestClient, market: Any) -> None:
    link(api, ("email", ADDRESS), customer_id="ada")
    visits(market, "ada", 3)
    decision = api.post("/v1/decisions", json={"customer_id": "ada", "campaign_id": "spring"}).json()
    export = api.get("/v1/customers/ada/export").json()
    assert ADDRESS in [one["value"] for one in export["identities"]]
    assert len(export["interactions"]) == 3
    assert len(export["consents"]) == 3
    assert [one["decision_id"] for one in export["decisions"]] == [decision["decision_id"]]
    assert export["decisions"][0]["document"]["evidence"]["time_zone"] == "Asia/Taipei"
    assert [one["decision_id"] for one in export["outbox"]] == [decision["decision_id"]]
    done = api.post("/v1/customers/ada/erase").json()
    assert done["rows"]["decisions"] == 1
    assert done["finished_at"] is not None
    assert api.get("/v1/customers/ada").status_code == 404
    assert api.delete("/v1/customers/ada").status_code == 409
    assert api.delete("/v1/customers/bob").status_code == 200
    shown = api.get(f"/v1/decisions/{decision['decision_id']}").json()
    assert shown["customer_id"] == done["tombstone_id"]
    assert "ada" not in json.dumps(shown)
    with market.engine.connect() as conn:
        assert conn.execute(select(identities)).all() == []
        assert conn.scalar(select(outbox.c.status)) == "suppressed"


def test_the_page_of_a_customer_shows_what_the_profile_says_and_escapes_it(
    api: TestClient, market: Any
) -> None:
    link(api, ("email", ADDRESS), customer_id="<b>cleo")
    visits(market, "<b>cleo", 30)
    reader = by(market, Scope.READ)
    api.app_state["key_ring"].refresh()
    page = api.get("/customers/%3Cb%3Ecleo", headers=reader)
    assert page.status_code == 200
    assert "<b>cleo" not in page.text
    assert "&lt;b&gt;cleo" in page.text
    assert "a***@example.com" in page.text
    assert ADDRESS not in page.text
    assert page.text.count("visited") == 25
    earlier = page.text.split('href="?cursor=')[1].split('"')[0]
    assert api.get(f"/customers/%3Cb%3Ecleo?cursor={earlier}", headers=reader).text.count("visited") == 5
    assert api.get("/customers/nobody", headers=reader).status_code == 404


def test_nothing_that_is_kept_for_repeated_requests_speaks_of_an_erased_person(
    api: TestClient, market: Any
) -> None:
    keyed = {"Idempotency-Key": "one"}
    for customer_id in ("ada", "bob"):
        body = {"campaign_id": "spring", "customer_id": customer_id}
        named = {"Idempotency-Key": f"single-{customer_id}"}
        assert api.post("/v1/decisions", json=body, headers=named).status_code == 200
        tags = {"tags": [{"customer_id": customer_id, "tag": "regular", "source": "shop"}]}
        assert api.post("/v1/tags", json=tags).json()["n_new"] == 1
    batch = {"requests": [{"campaign_id": "spring", "customer_id": "ada"}]}
    assert api.post("/v1/decisions/batch", json=batch, headers=keyed).status_code == 200
    done = api.post("/v1/customers/ada/erase").json()
    assert (done["rows"]["idempotency_keys"], done["rows"]["tags"]) == (2, 1)
    with market.engine.connect() as conn:
        assert list(conn.scalars(select(idempotency_keys.c.idempotency_key))) == ["single-bob"]
        assert list(conn.scalars(select(tags_table.c.customer_id))) == ["bob"]
    body = {"campaign_id": "spring", "customer_id": "ada"}
    assert api.post("/v1/decisions", json=body).status_code == 404


def test_a_decision_for_an_id_that_was_merged_is_the_persons(api: TestClient, market: Any) -> None:
    tagged = {"tags": [{"customer_id": "bob", "tag": "regular", "source": "shop"}]}
    assert api.post("/v1/tags", json=tagged).status_code == 200
    link(api, ("email", "both@example.com"), customer_id="ada")
    assert link(api, ("email", "both@example.com"), customer_id="bob")["merged"] == ["bob"]
    asked = [{"campaign_id": "spring", "customer_id": one} for one in ("bob", "ada")]
    made = api.post("/v1/decisions/batch", json={"requests": asked}).json()
    assert [one["decision"]["customer_id"] for one in made["outcomes"]] == ["ada", "ada"]
    assert api.post("/v1/tags", json={"tags": [tagged["tags"][0] | {"tag": "friend"}]}).json()["n_new"] == 1
    with market.engine.connect() as conn:
        rows = conn.execute(select(tags_table.c.customer_id, tags_table.c.recorded_as)).all()
    assert [tuple(row) for row in rows] == [("ada", "bob"), ("ada", "bob")]


def test_facts_that_name_an_erased_person_by_a_contact_point_are_passed_over(
    api: TestClient, market: Any
) -> None:
    link(api, ("email", ADDRESS), ("cookie", "7f9c"), customer_id="ada")
    assert api.post("/v1/customers/ada/erase").status_code == 200
    facts = [
        {
            "source": "web",
            "event_id": f"{number}",
            "kind": "visited",
            "occurred_at": "2026-03-01T06:00:00Z",
            **named,
        }
        for number, named in enumerate(
            (
                {"identity": {"kind": "cookie", "value": "7f9c"}},
                {"identity": {"kind": "email", "value": ADDRESS}},
                {"customer_id": "ada"},
                {"customer_id": "bob"},
            )
        )
    ]
    answer = api.post("/v1/interactions", json={"interactions": facts})
    assert answer.json() == {"n_new": 1, "n_repeated": 0}
    with market.engine.connect() as conn:
        assert list(
            conn.scalars(select(interactions.c.customer_id).where(interactions.c.source == "web"))
        ) == ["bob"]
        assert list(conn.scalars(select(customers.c.customer_id))) == ["bob"]

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from features.history.engine import connect
from features.history.tables import interactions
from models.domain.campaign import Content, Offer
from models.domain.channel import ContentKind
from models.domain.experiment import Experiment
from serving.app import create_app
from serving.service import Service

FIELDS = {
    "decision_id", "customer_id", "campaign_id", "campaign_version", "decided_at", "action", "propensity", "expected",
    "alternatives", "exclusions", "arm", "mode", "policy", "policy_version", "degraded", "explanation", "parent_id",
    "dry_run",
    "shadow", "arbitration", "decided_with", "lost_to",
}  # fmt: skip


# What is refused before the database is asked is the same on every database.
BEFORE_THE_DATABASE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture
def api(market):
    market.customers("ada", "bob")
    market.campaign()
    service = market.service(start=False)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        market.opened.remove(service)  # the application's lifespan stops it
        yield client


def ask(**changes: object) -> dict[str, object]:
    return {"customer_id": "ada", "campaign_id": "spring", **changes}


def problem(answer: httpx.Response, status: int, field: str | None) -> dict[str, object]:
    """The problem document, after checking its form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert set(document) == {"type", "title", "status", "detail", "instance", "errors"}
    assert document["status"] == status
    assert document["instance"] == answer.request.url.path
    if field is not None:
        assert field in [error["field"] for error in document["errors"]], document
        assert all(error["bound"] for error in document["errors"])
    return document


def test_a_decision_has_every_field(api):
    answer = api.post("/v1/decisions", json=ask())
    assert answer.status_code == 200
    decision = answer.json()
    assert set(decision) == FIELDS
    assert set(decision["action"]) == {"offer", "channel", "slot", "send_at", "expires_at"}
    assert set(decision["expected"]) == {
        "p_open", "p_convert", "p_convert_no_contact", "uplift", "cost_minor", "net_value_minor",
    }  # fmt: skip
    assert 0 < decision["propensity"] <= 1
    assert len(decision["alternatives"]) == 5
    assert (decision["arm"], decision["mode"], decision["policy"]) == ("treatment", "live", "bandit")


def test_a_decision_can_be_looked_up_with_its_evidence(api):
    decision = api.post("/v1/decisions", json=ask()).json()
    found = api.get(f"/v1/decisions/{decision['decision_id']}").json()
    evidence = found["evidence"]
    assert {name: found[name] for name in decision} == decision
    assert set(found) - set(decision) == {
        "evidence",
        "best",
        "contributions",
        "flips",
        "scarce",
        "missing",
        "occasion",
        "told",
        "replay",
    }
    assert evidence["features"] == {"age": 40.0}
    assert sum(evidence["distribution"].values()) == pytest.approx(1.0)
    problem(api.get("/v1/decisions/01a2019c-ff02-74e0-82f9-fc1c4292b790"), 404, "decision_id")
    problem(api.get("/v1/decisions/nonsense"), 422, "decision_id")


@BEFORE_THE_DATABASE
@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (ask(customer_id="eve"), 404, "customer_id"),
        (ask(campaign_id="autumn"), 404, "campaign_id"),
        (ask(customer_id=None, identity={"kind": "phone", "value": "0"}), 404, "identity"),
        (ask(customer_id=None), 422, "customer_id"),
        (ask(identity={"kind": "phone", "value": "0"}), 422, "customer_id"),
        (ask(customer_id=None, identity={"kind": "fax", "value": "0"}), 422, "identity.kind"),
        (ask(colour="red"), 422, "colour"),
        (ask(customer_id=7), 422, "customer_id"),
        (ask(customer_id=""), 422, "customer_id"),
        (ask(customer_id="a\x00b"), 422, "customer_id"),
        (ask(customer_id="x" * 129), 422, "customer_id"),
        (ask(dry_run="perhaps"), 422, "dry_run"),
        (ask(decision_id="7"), 422, "decision_id"),
        ({"customer_id": "ada"}, 422, "campaign_id"),
        (ask(campaigns=["spring"]), 422, "campaign_id"),
        (ask(send="pigeon"), 422, "send"),
        ([], 422, "body"),
    ],
)
def test_a_wrong_request_gets_a_problem_that_names_the_field(api, body, status, field):
    problem(api.post("/v1/decisions", json=body), status, field)


@BEFORE_THE_DATABASE
def test_bodies_that_are_not_json_get_a_problem_too(api):
    for body in (b"", b"{", b"\xff\xfe", b'{"customer_id": "\\ud800", "campaign_id": "spring"}', b"NaN"):
        problem(
            api.post("/v1/decisions", content=body, headers={"content-type": "application/json"}), 422, None
        )
    problem(api.get("/v1/nothing"), 404, None)
    problem(api.delete("/v1/decisions"), 405, None)


def test_an_ended_campaign_is_a_conflict_that_names_it(api, market):
    market.now += timedelta(days=40)
    document = problem(api.post("/v1/decisions", json=ask()), 409, "campaign_id")
    assert "closed at" in document["detail"]


def test_a_customer_without_consent_gets_no_contact_with_reasons(api, market):
    market.customers("mute", consent=False)
    answer = api.post("/v1/decisions", json=ask(customer_id="mute"))
    assert answer.status_code == 200
    decision = answer.json()
    assert decision["action"] is None
    assert decision["alternatives"] == []
    assert [(e["channel"], e["reason"]) for e in decision["exclusions"]] == [
        ("email", "no_consent"), ("push", "no_consent"), ("sms", "no_consent"),
    ]  # fmt: skip
    assert all("has not agreed" in e["words"] for e in decision["exclusions"])
    assert decision["explanation"].startswith("No contact: no channel is left")


def test_a_batch_answers_each_with_a_decision_or_a_problem(api):
    requests = [ask(), ask(customer_id="eve"), ask(customer_id="bob", dry_run=True), ask(customer_id=None)]
    outcomes = api.post("/v1/decisions/batch", json={"requests": requests}).json()["outcomes"]
    assert [outcome["problem"] and outcome["problem"]["status"] for outcome in outcomes] == [
        None,
        404,
        None,
        422,
    ]
    assert [outcome["decision"] and outcome["decision"]["customer_id"] for outcome in outcomes] == [
        "ada", None, "bob", None,
    ]  # fmt: skip
    assert set(outcomes[0]["decision"]) == FIELDS


@BEFORE_THE_DATABASE
def test_a_batch_has_bounds(api):
    problem(api.post("/v1/decisions/batch", json={"requests": []}), 422, "requests")
    problem(api.post("/v1/decisions/batch", json={"requests": [ask()] * 1_001}), 422, "requests")
    problem(
        api.post("/v1/decisions/batch", json={"requests": [ask(), ask(colour="red")]}),
        422,
        "requests.1.colour",
    )


def fact(event_id: str = "1", **changes: object) -> dict[str, object]:
    return {
        "source": "shop",
        "event_id": event_id,
        "customer_id": "ada",
        "kind": "converted",
        "occurred_at": "2026-03-01T05:00:00Z",
        "value_minor": 3990,
        **changes,
    }


def n_interactions(market) -> int:
    with market.engine.connect() as conn:
        return conn.execute(select(func.count()).select_from(interactions)).scalar_one()


def test_interactions_are_counted_once_however_often_they_are_posted(api, market):
    posted = {"interactions": [fact("1"), fact("2"), fact("2")]}
    assert api.post("/v1/interactions", json=posted).json() == {"n_new": 2, "n_repeated": 1}
    assert api.post("/v1/interactions", json=posted).json() == {"n_new": 0, "n_repeated": 3}
    assert n_interactions(market) == 2


@BEFORE_THE_DATABASE
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "teleported"}, "kind"),
        ({"occurred_at": "2026-03-01T05:00:00"}, "occurred_at"),
        ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "occurred_at"),
        ({"occurred_at": "9999-12-31T23:59:59-14:00"}, "occurred_at"),
        ({"customer_id": ""}, "customer_id"),
        ({"value_minor": "much"}, "value_minor"),
        ({"attributes": {"a": 1}}, "attributes.a"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_one_bad_interaction_is_named_and_nothing_is_written(api, market, change, field):
    posted = {"interactions": [fact("1"), fact("2", **change), fact("3")]}
    problem(api.post("/v1/interactions", json=posted), 422, f"interactions.1.{field}")
    assert n_interactions(market) == 0


@BEFORE_THE_DATABASE
def test_numbers_that_are_not_finite_are_refused(api, market):
    body = '{"interactions": [{"source": "s", "event_id": "1", "customer_id": "ada", "kind": "converted", '
    body += '"occurred_at": "2026-03-01T05:00:00Z", "value_minor": Infinity}]}'
    headers = {"content-type": "application/json"}
    problem(api.post("/v1/interactions", content=body, headers=headers), 422, "interactions.0.value_minor")


@BEFORE_THE_DATABASE
def test_interactions_have_bounds(api):
    problem(api.post("/v1/interactions", json={"interactions": []}), 422, "interactions")
    many = {"interactions": [fact(str(i)) for i in range(10_001)]}
    document = problem(api.post("/v1/interactions", json=many), 422, "interactions")
    assert "10000" in document["errors"][0]["bound"]


def test_features_of_customers_who_did_something_are_refreshed_within_a_second(api, market):
    api.post("/v1/interactions", json={"interactions": [fact("1"), fact("2", customer_id="bob"), fact("3")]})
    until = time.monotonic() + 1.0
    while sorted(market.features.refreshed) != ["ada", "bob"] and time.monotonic() < until:
        time.sleep(0.02)
    assert sorted(market.features.refreshed) == ["ada", "bob"]


def test_an_unsubscription_closes_the_channel_for_the_next_decision(api):
    api.post(
        "/v1/interactions",
        json={"interactions": [fact(kind="unsubscribed", channel="sms", value_minor=None)]},
    )
    decision = api.post("/v1/decisions", json=ask()).json()
    assert ("sms", "unsubscribed") in {(e["channel"], e["reason"]) for e in decision["exclusions"]}


def test_campaigns_are_versioned_and_channels_listed(api, market):
    stored = api.get("/v1/campaigns").json()["campaigns"]
    assert [(one["campaign_id"], one["version"]) for one in stored] == [("spring", 1)]
    changed = stored[0] | {"conversion_value_minor": 2000.0}
    answer = api.post("/v1/campaigns", json={"campaign": changed})
    assert answer.status_code == 201
    returned = answer.json()["campaign"]
    assert set(returned.pop("touch_levels")) == set(changed.pop("touch_levels"))
    assert returned == changed | {"version": 2}
    assert api.post("/v1/decisions", json=ask()).json()["campaign_version"] == 2
    channels = {one["name"]: one for one in api.get("/v1/channels").json()["channels"]}
    assert channels["sms"]["cost_minor"] == 1.45
    assert channels["whatsapp"]["cost_minor"] is None


@BEFORE_THE_DATABASE
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"channels": ["email", "pigeon"]}, "campaign.channels.1"),
        ({"offers": []}, "campaign.offers"),
        ({"slots": ["18:00", "09:00"]}, "campaign.slots"),
        ({"colour": "red"}, "campaign.colour"),
        ({"policy": "luck"}, "campaign.policy"),
        ({"budget_minor": -1}, "campaign.budget_minor"),
        (
            {"send_window": {"starts_at": "2026-01-01T00:00:00Z", "ends_at": "2026-02-01T00:00:00Z"}},
            "campaign.send_window.ends_at",
        ),
    ],
)
def test_a_wrong_campaign_is_refused_with_the_field(api, change, field):
    stored = api.get("/v1/campaigns").json()["campaigns"][0]
    problem(api.post("/v1/campaigns", json={"campaign": stored | change}), 422, field)
    assert api.get("/v1/campaigns").json()["campaigns"] == [stored]


def test_health_and_readiness(api, market):
    assert api.get("/healthz").json() == {"status": "ok"}
    assert api.get("/readyz").json() == {
        "ready": True,
        "reasons": [],
        "degraded": [],
        "keys_required": False,
    }


def test_readiness_says_what_is_missing(market, tmp_path):
    market.champion.model = None
    service = market.service(start=False)
    with TestClient(create_app(service)) as client:
        market.opened.remove(service)
        ready = client.get("/readyz").json()
        assert ready["ready"]
        assert "there is no champion model: rules decide" in ready["degraded"]
        service.writer.stop()
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["reasons"] == ["decisions cannot be recorded: the writer is not running"]


def test_a_lost_database_gives_503_with_retry_after(market, tmp_path):
    market.customers("ada")
    market.campaign()
    service = market.service(start=False)
    with TestClient(create_app(service)) as client:
        market.opened.remove(service)
        service.writer._engine = connect(f"sqlite:///{tmp_path / 'gone.db'}")
        answer = client.post("/v1/decisions", json=ask())
        problem(answer, 503, None)
        assert answer.headers["retry-after"] == "1"


def test_a_failure_of_our_own_tells_nothing_of_our_insides(market):
    market.customers("ada")
    market.campaign()
    service = market.service(start=False)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        market.opened.remove(service)
        service.snapshots._current = replace(service.snapshots.current, policies={})
        document = problem(client.post("/v1/decisions", json=ask()), 500, None)
        assert "spring" not in document["detail"]


@BEFORE_THE_DATABASE
def test_openapi_has_examples_for_success_silence_exclusion_and_problems(api):
    described = api.get("/openapi.json").json()
    operation = described["paths"]["/v1/decisions"]["post"]
    examples = operation["responses"]["200"]["content"]["application/json"]["examples"]
    assert set(examples) == {"contact", "no_contact", "excluded", "arbitrated"}
    for example in examples.values():
        assert set(example["value"]) == FIELDS
    assert "application/problem+json" in operation["responses"]["404"]["content"]
    assert "application/json" not in operation["responses"]["404"]["content"]
    assert set(operation["requestBody"]["content"]["application/json"]["examples"]) == {
        "by_customer",
        "by_identity",
        "several_campaigns",
        "caller_sends",
        "in_a_hurry",
    }
    assert set(described["paths"]) == {
        "/v1/decisions/simulate", "/v1/decisions/{decision_id}/activate", "/v1/decisions/{decision_id}/cancel",
        "/v1/decisions", "/v1/decisions/batch", "/v1/decisions/{decision_id}", "/v1/interactions", "/v1/campaigns",
        "/v1/campaigns/{campaign_id}", "/v1/campaigns/{campaign_id}/versions", "/v1/campaigns/{campaign_id}/preview",
        "/v1/channels", "/v1/channels/{name}", "/v1/receipts/{channel}", "/v1/report", "/healthz", "/readyz",
        "/v1/experiments/{experiment_id}/report", "/v1/models", "/v1/models/{version}", "/v1/models/{version}/promote",
        "/v1/models:rollback",
        "/v1/segments", "/v1/segments/{name}", "/v1/segments/{name}/size", "/v1/segments/{name}/members",
        "/v1/segments/{name}/profile",
        "/v1/identities:link", "/v1/identities/conflicts",
        "/v1/clock", "/v1/customers",
        "/v1/customers/{customer_id}", "/v1/customers/{customer_id}/history", "/v1/customers/{customer_id}/consents",
        "/v1/customers/{customer_id}/export", "/v1/customers/{customer_id}/erase",
        "/v1/segments/{name}/members/{customer_id}", "/v1/segments/{name}/decisions", "/v1/tags",
        "/v1/plans", "/v1/plans/{plan_id}", "/v1/plans/{plan_id}/start", "/v1/plans/{plan_id}/pause", "/v1/plans/{plan_id}/cancel",
        "/v1/occasions", "/v1/occasions/{name}", "/v1/occasions/{name}/preview",
        "/v1/shadow-prices",
        "/v1/lifecycle", "/v1/lifecycle/channels",
        "/v1/campaigns/{campaign_id}/offers/{offer_id}/incentive", "/v1/campaigns/{campaign_id}/offers/{offer_id}/codes",
        "/v1/campaigns/{campaign_id}/offers/{offer_id}/answers", "/v1/decisions/{decision_id}/voucher",
        "/v1/redemptions", "/v1/redemptions/{code}",
        "/v1/channels/{name}/answers", "/v1/channels/{name}/answers/try",
        "/v1/chats", "/v1/chats/{chat_id}", "/v1/chats/{chat_id}/take", "/v1/chats/{chat_id}/say", "/v1/chats/{chat_id}/end",
    }  # fmt: skip


class _Served:
    """The application behind a real server on a loopback port."""

    def __init__(self, service: Service) -> None:
        self.server = uvicorn.Server(
            uvicorn.Config(create_app(service), host="127.0.0.1", port=0, log_level="warning")
        )
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join()


def test_over_a_real_socket_32_requests_at_a_time_are_all_answered(market):
    people = [f"c{i}" for i in range(96)]
    market.customers(*people)
    market.campaign(experiment=Experiment(experiment_id="x", holdout_share=0.2))
    service = market.service(start=False)
    with _Served(service) as url, httpx.Client(base_url=url) as client:
        market.opened.remove(service)
        answers: list[httpx.Response] = []

        def work(mine: list[str]) -> None:
            answers.extend(client.post("/v1/decisions", json=ask(customer_id=person)) for person in mine)

        threads = [threading.Thread(target=work, args=(people[i::32],)) for i in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200] * 96
        report = client.get("/v1/report", params={"campaign_id": "spring"}).json()
        assert report["n_customers"] == 96
        assert report["n_contacts"] == sum(answer.json()["action"] is not None for answer in answers)


def test_a_preview_shows_each_message_with_links_and_personal_words(api, market):
    text = Content(body="Dear {{ first_name }}, see https://shop.test/coats", subject="For {{ first_name }}")
    offer = Offer(offer_id="coats", margin_minor=1.0, content={ContentKind.TEXT: text})
    market.campaign("personal", offers=(offer,), fields={"first_name": "friend"}, channels=("email", "sms"))
    answer = api.post("/v1/campaigns/personal/preview", json={"attributes": {"first_name": "Ada"}})
    previews = answer.json()["previews"]
    assert [one["channel"] for one in previews] == ["email", "sms"]
    assert previews[0]["subject"] == "For Ada"
    assert previews[0]["body"].startswith("Dear Ada, see https://preview.example.org/t/c/")
    assert previews[1]["length"] == len(previews[1]["body"])
    assert previews[1]["fits"]
    unknown = api.post("/v1/campaigns/personal/preview", json={"customer_id": "nobody"})
    problem(unknown, 404, "customer_id")


def test_a_campaign_with_an_unknown_field_is_refused(api):
    stored = api.get("/v1/campaigns").json()["campaigns"][0]
    stored["offers"][0]["content"]["text"]["body"] = "Dear {{ frist_name }}"
    document = problem(
        api.post("/v1/campaigns", json={"campaign": stored}), 422, "campaign.offers.coats.content.text.body"
    )
    assert "frist_name" in document["detail"]

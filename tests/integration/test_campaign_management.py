"""Campaigns and channels over HTTP: versions, pages, and every finding at once."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import reduce

import pytest
from fastapi.testclient import TestClient

from models.domain.campaign import PolicyName
from serving.app import create_app
from serving.background import Repeating
from serving.request import DecisionRequest
from serving.routes.paging import to_cursor

# What is refused, or differs, before the database is asked.
BEFORE_THE_DATABASE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
ASK = {"customer_id": "ada", "campaign_id": "spring"}


@pytest.fixture
def api(market):
    market.customers("ada", "bob")
    market.campaign()
    service = market.service(start=False)
    with TestClient(create_app(service)) as client:
        market.opened.remove(service)
        yield client


def spring(api) -> dict:
    return api.get("/v1/campaigns/spring").json()["campaign"]


def put(api, campaign: dict, **more):
    return api.put(f"/v1/campaigns/{campaign['campaign_id']}", json={"campaign": campaign, **more})


def fields(answer) -> set[str]:
    assert answer.status_code == 422, answer.text
    return {one["field"] for one in answer.json()["errors"]}


def test_a_put_campaign_is_created_then_versioned_then_left_alone(api):
    autumn = spring(api) | {"campaign_id": "autumn"}
    assert (put(api, autumn).status_code, put(api, autumn).status_code) == (201, 200)
    changed = autumn | {"conversion_value_minor": 5.0}
    assert put(api, changed).json()["campaign"]["version"] == 2
    assert put(api, changed).json()["campaign"]["version"] == 2, "the same again is no new version"
    assert api.get("/v1/campaigns/autumn", params={"version": 1}).json()["campaign"] == autumn
    versions = api.get("/v1/campaigns/autumn/versions", params={"limit": 1}).json()
    assert [one["campaign"]["version"] for one in versions["versions"]] == [2]
    rest = api.get("/v1/campaigns/autumn/versions", params={"cursor": versions["next_cursor"]}).json()
    assert [one["campaign"]["version"] for one in rest["versions"]] == [1]
    assert rest["next_cursor"] is None
    assert api.get("/v1/campaigns/winter").status_code == 404
    assert api.get("/v1/campaigns/winter/versions").status_code == 404
    assert fields(api.put("/v1/campaigns/winter", json={"campaign": autumn})) == {"campaign.campaign_id"}


def test_pages_of_campaigns_hold_each_once(api):
    for name in ("a", "b", "c", "d"):
        put(api, spring(api) | {"campaign_id": name})
    seen, cursor = [], None
    for _ in range(10):
        page = api.get("/v1/campaigns", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [one["campaign_id"] for one in page["campaigns"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ["a", "b", "c", "d", "spring"]
    assert fields(api.get("/v1/campaigns", params={"cursor": "nonsense"})) == {"cursor"}
    assert fields(api.get("/v1/campaigns", params={"limit": 0})) == {"limit"}
    channels = api.get("/v1/channels", params={"limit": 5}).json()
    rest = api.get("/v1/channels", params={"cursor": channels["next_cursor"]}).json()
    assert len(channels["channels"]) + len(rest["channels"]) == 12


def test_everything_that_is_wrong_with_a_campaign_is_told_at_once(api):
    campaign = spring(api)
    text = campaign["offers"][0]["content"]["text"]
    wrong = campaign | {
        "channels": ["email", "pigeon", "sms"],
        "send_window": {"starts_at": "2025-01-01T00:00:00Z", "ends_at": "2025-02-01T00:00:00Z"},
        "offers": [
            {"offer_id": "free", "margin_minor": 0, "content": {"text": text}},
            {"offer_id": "film", "margin_minor": 100, "content": {"video": text}},
        ],
        "slots": ["22:00:00"],
        "budget_minor": -1,
        "canary_share": 2,
    }
    answer = put(api, wrong)
    assert fields(answer) == {
        "campaign.budget_minor", "campaign.canary_share", "campaign.send_window.ends_at", "campaign.channels.1",
        "campaign.slots", "campaign.offers.1.content", "campaign.offers.0.margin_minor",
    }  # fmt: skip
    for one in answer.json()["errors"]:
        assert one["value"], one
        assert "must" in one["bound"], one
    assert spring(api) == campaign, "nothing is stored"


@BEFORE_THE_DATABASE
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"slots": ["09:00:00Z"]}, "campaign.slots"),
        ({"slots": ["09:00:00Z", "10:00:00"]}, "campaign.slots"),
        ({"quiet_hours": {"start": "21:00:00+02:00"}}, "campaign.quiet_hours.start"),
        (
            {"send_window": {"starts_at": "2026-03-01T00:00:00", "ends_at": "2026-04-01T00:00:00Z"}},
            "campaign.send_window.starts_at",
        ),
        ({"purpose": "a\x00b"}, "campaign.purpose"),
        ({"purpose": ""}, "campaign.purpose"),
        (
            {
                "send_window": {
                    "starts_at": "2026-03-01T00:00:00Z",
                    "ends_at": "9999-12-31T23:00:00Z",
                    "in_local_time": True,
                }
            },
            "campaign.send_window.ends_at",
        ),
        (
            {"send_window": {"starts_at": "0001-01-01T00:00:00+14:00", "ends_at": "2026-04-01T00:00:00Z"}},
            "campaign.send_window.starts_at",
        ),
        ({"attribution_window_seconds": 604_800_000}, "campaign.attribution_window_seconds"),
        ({"message_ttl_seconds": 2**63}, "campaign.message_ttl_seconds"),
        (
            {"follow_ups": [{"on": "unopened", "after_seconds": 86_400_000}]},
            "campaign.follow_ups.after_seconds",
        ),
        ({"conversion_value_minor": -1}, "campaign.conversion_value_minor"),
        ({"offers": []}, "campaign.offers"),
        ({"slots": []}, "campaign.slots"),
        ({"channels": []}, "campaign.channels"),
        ({"pinned_channel": "sms", "channels": ["email"]}, "campaign.pinned_channel"),
        ({"budget_minor": 0.001, "channels": ["sms"]}, "campaign.budget_minor"),
        ({"touch_levels": ["high"]}, "campaign.touch_levels"),
        ({"channels": ["whatsapp"]}, "campaign.channels.0"),
    ],
)
def test_each_thing_that_cannot_work_is_refused_by_name(api, change, field):
    assert field in fields(put(api, spring(api) | change))


@BEFORE_THE_DATABASE
def test_names_that_no_column_holds_are_refused(api):
    campaign = spring(api)
    long = campaign | {"campaign_id": "x" * 129}
    assert fields(api.post("/v1/campaigns", json={"campaign": long})) == {"campaign.campaign_id"}
    offers = [campaign["offers"][0] | {"offer_id": "a\x00"}]
    assert "campaign.offers.0.offer_id" in fields(put(api, campaign | {"offers": offers}))
    for cursor in (to_cursor("a\x00b"), to_cursor(3), to_cursor("a", "b")):
        assert fields(api.get("/v1/campaigns", params={"cursor": cursor})) == {"cursor"}
    for cursor in (to_cursor(2**60, "x"), to_cursor(-1, "x"), to_cursor(1)):
        assert fields(api.get("/v1/decisions", params={"cursor": cursor})) == {"cursor"}
    assert fields(api.get("/v1/campaigns/spring", params={"version": 2**31})) == {"version"}


def places(document: object, kind: type | tuple[type, ...] = str, path: tuple = ()) -> Iterator[tuple]:
    """Where a document holds text, or values of another kind."""
    if isinstance(document, kind) and not isinstance(document, bool):
        yield path
    elif isinstance(document, dict | list):
        inner = document.items() if isinstance(document, dict) else enumerate(document)
        for name, part in inner:
            yield from places(part, kind, (*path, name))


@BEFORE_THE_DATABASE
@pytest.mark.parametrize("text", ["\0", "\ud800"])
def test_text_that_no_database_stores_is_refused_wherever_it_stands(api, text):
    campaign = spring(api) | {"fields": {"tier": "gold"}, "pinned_channel": "email"}
    campaign["offers"][0]["content"]["text"]["locales"] = {"ja": {"body": "x"}}
    asked = {
        "/v1/campaigns/spring": {"campaign": campaign},
        "/v1/channels/email": api.get("/v1/channels/email").json() | {"confirm_cost": True},
        "/v1/segments/best": {"description": "Our best", "condition": {"any": [{"tag": "vip"}]}},
        "/v1/tags": {"tags": [{"customer_id": "ada", "tag": "vip", "source": "crm"}]},
    }
    asked["/v1/channels/email"].pop("warnings")
    for path, body in asked.items():
        method = "POST" if path == "/v1/tags" else "PUT"
        assert api.request(method, path, json=body).status_code in (200, 201), path
        for *outer, last in places(body):
            spoilt = copy.deepcopy(body)
            reduce(lambda part, name: part[name], outer, spoilt)[last] = text
            answer = api.request(
                method, path, content=json.dumps(spoilt), headers={"content-type": "application/json"}
            )
            assert answer.status_code == 422, (path, *outer, last)


@BEFORE_THE_DATABASE
@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_a_number_that_json_cannot_write_is_refused_wherever_it_stands(api, number):
    budgets = {"budget_minor": 1e6, "exploration_budget_minor": 1e3}
    asked = {
        "/v1/campaigns/spring": {"campaign": spring(api) | budgets},
        "/v1/channels/email": api.get("/v1/channels/email").json() | {"confirm_cost": True},
    }
    asked["/v1/channels/email"].pop("warnings")
    for path, body in asked.items():
        numbers = list(places(body, (int, float)))
        assert numbers
        for *outer, last in numbers:
            spoilt = copy.deepcopy(body)
            reduce(lambda part, name: part[name], outer, spoilt)[last] = number
            answer = api.put(path, content=json.dumps(spoilt), headers={"content-type": "application/json"})
            assert answer.status_code == 422, (path, *outer, last)
            assert ".".join(map(str, (*outer, last))) in fields(answer)
    # Nor a whole number that is longer than a database's.
    for given in (1e308, 2**63, 10**400):
        answer = api.patch("/v1/channels/email", json={"capacity_per_day": given})
        assert (answer.status_code, fields(answer)) == (422, {"capacity_per_day"})
        caps = asked["/v1/campaigns/spring"]["campaign"] | {"caps": {"contacts": int(given)}}
        assert "campaign.caps.contacts" in fields(put(api, caps))
    # Nothing of it was stored.
    assert api.get("/v1/campaigns/spring").json()["campaign"]["budget_minor"] is None


def test_wrong_types_and_broken_bounds_are_told_together(api):
    answer = put(api, spring(api) | {"policy": "luck", "fixed_slot": "x", "caps": {"contacts": -1}})
    assert fields(answer) == {"campaign.policy", "campaign.fixed_slot", "campaign.caps.contacts"}


@BEFORE_THE_DATABASE
@pytest.mark.parametrize(
    ("change", "field", "bound"),
    [
        ({"policy": "cheapest_first", "offers": "free"}, "campaign.offers.0.margin_minor", "should be > 0"),
        ({"slots": ["07:00:00", "12:00:00"]}, "campaign.slots.0", "quiet hours"),
        ({"channels": ["email", "whatsapp"]}, "campaign.channels.1", "PATCH /v1/channels/whatsapp"),
        (
            {"experiment": {"experiment_id": "x", "holdout_share": 1}},
            "campaign.experiment.holdout_share",
            "nobody",
        ),
        ({"mode": "canary", "canary_share": 0}, "campaign.canary_share", "nobody"),
        ({"caps": {"contacts": 0}}, "campaign.caps.contacts", "nobody"),
        ({"offers": 30.0}, "campaign.offers.0.margin_minor", "in major units it is 3000"),
    ],
)
def test_what_works_but_may_surprise_is_a_warning(api, change, field, bound):
    campaign = spring(api)
    if "offers" in change:
        change = change | {
            "offers": [campaign["offers"][0] | {"margin_minor": 0 if change["offers"] == "free" else 30.0}]
        }
    answer = put(api, campaign | change)
    assert answer.status_code == 200, answer.text
    warnings = {one["field"]: one["bound"] for one in answer.json()["warnings"]}
    assert bound in warnings[field]


def test_a_channel_that_costs_more_than_a_conversion_earns_is_told_and_refused_where_it_is_the_only_one(api):
    cheap = spring(api)
    cheap["offers"] = [cheap["offers"][0] | {"margin_minor": 1.0}]
    answer = put(api, cheap)
    assert [one["field"] for one in answer.json()["warnings"]] == ["campaign.channels.2"]
    assert fields(put(api, cheap | {"channels": ["sms"]})) == {"campaign.channels.0"}


def test_a_dry_run_stores_nothing(api):
    new = spring(api) | {"campaign_id": "summer"}
    checked = api.post("/v1/campaigns?dry_run=true", json={"campaign": new})
    assert checked.status_code == 200, checked.text
    assert api.get("/v1/campaigns/summer").status_code == 404
    changed = spring(api) | {"conversion_value_minor": 1.0}
    answer = api.put("/v1/campaigns/spring?dry_run=true", json={"campaign": changed})
    assert answer.status_code == 200
    assert spring(api)["version"] == 1


def test_a_change_of_an_older_version_is_a_conflict(api):
    campaign = spring(api)
    assert put(api, campaign | {"budget_minor": 10.0}, expected_version=1).status_code == 200
    lost = put(api, campaign | {"budget_minor": 20.0}, expected_version=1)
    assert lost.status_code == 409
    assert "is at version 2, not 1" in lost.json()["detail"]


def test_racing_changes_of_one_campaign_each_get_a_version(api):
    campaign = spring(api)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda i: put(api, campaign | {"budget_minor": 100.0 + i}), range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.json()["campaign"]["version"] for answer in answers) == [2, 3, 4, 5, 6, 7]


def test_a_price_in_major_units_is_refused_until_it_is_confirmed(api):
    answer = api.patch("/v1/channels/sms", json={"cost_minor": 0.0083, "cost_source": "our contract"})
    assert fields(answer) == {"cost_minor"}
    assert "0.83" in answer.json()["errors"][0]["bound"]
    assert api.get("/v1/channels/sms").json()["channel"]["cost_minor"] == 1.45
    confirmed = api.patch("/v1/channels/sms", json={"cost_minor": 0.0083, "confirm_cost": True})
    assert confirmed.json()["channel"]["cost_minor"] == 0.0083
    assert (
        api.patch("/v1/channels/sms", json={"cost_minor": 8.0, "cost_source": "our contract"}).json()[
            "warnings"
        ]
        == []
    )
    # Far from the list price as it is, but a hundredth of what the channel cost until now.
    slip = api.patch("/v1/channels/sms", json={"cost_minor": 0.08})
    assert fields(slip) == {"cost_minor"}
    assert "near its present price 8" in slip.json()["errors"][0]["bound"]
    assert api.get("/v1/channels/sms").json()["channel"]["cost_minor"] == 8.0
    far = api.patch("/v1/channels/sms", json={"cost_minor": 100.0})
    assert [one["field"] for one in far.json()["warnings"]] == ["cost_minor"]


@BEFORE_THE_DATABASE
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cost_minor": -1}, "cost_minor"),
        ({"capacity_per_day": -1}, "capacity_per_day"),
        ({"capacity_per_day": 1.5}, "capacity_per_day"),
        ({"price": 1}, "price"),
        ({"enabled": "perhaps"}, "enabled"),
        ({"enabled": 0}, "enabled"),
        ({"confirm_cost": 1}, "confirm_cost"),
        ({"cost_minor": "1.5"}, "cost_minor"),
    ],
)
def test_a_wrong_change_of_a_channel_is_refused_by_name(api, change, field):
    assert fields(api.patch("/v1/channels/sms", json=change)) == {field}
    assert api.patch("/v1/channels/pigeon", json={"enabled": False}).status_code == 404


def test_a_patch_changes_what_it_names_and_a_put_the_whole(api):
    before = api.get("/v1/channels/sms").json()["channel"]
    after = api.patch("/v1/channels/sms", json={"capacity_per_day": 5}).json()["channel"]
    assert {k: v for k, v in after.items() if k != "capacity_per_day"} == {
        k: v for k, v in before.items() if k != "capacity_per_day"
    }
    assert api.patch("/v1/channels/sms", json={"capacity_per_day": None}).json()["channel"] == before
    viber = before | {"name": "viber"}
    assert api.put("/v1/channels/viber", json={"channel": viber}).status_code == 201
    assert api.put("/v1/channels/viber", json={"channel": viber}).status_code == 200
    assert fields(api.put("/v1/channels/viber", json={"channel": before})) == {"channel.name"}


def test_a_channel_that_is_switched_off_is_out_of_the_next_decision(api):
    assert put(api, spring(api) | {"policy": PolicyName.GREEDY}).status_code == 200
    assert api.post("/v1/decisions", json=ASK).json()["action"]["channel"] == "sms"
    assert not api.patch("/v1/channels/sms", json={"enabled": False}).json()["channel"]["enabled"]
    decision = api.post("/v1/decisions", json=ASK).json()
    assert decision["action"]["channel"] == "push"
    assert ("sms", "channel_down") in {(e["channel"], e["reason"]) for e in decision["exclusions"]}
    api.patch("/v1/channels/sms", json={"enabled": True})
    assert api.post("/v1/decisions", json=ASK).json()["action"]["channel"] == "sms"


def test_every_replica_follows_a_change_under_load_and_no_request_fails(api, market):
    """Two replicas decide all the while; campaign, channel and model change; each sees each, and nobody errs."""
    other = market.service()
    followers = [Repeating("snapshot", service.snapshots.reload, 0.05) for service in (other,)]
    for follower in followers:
        follower.start()
    stopped = threading.Event()
    seen: list[tuple[int, str, float | None]] = []
    failures: list[object] = []

    def load(number: int) -> None:
        while not stopped.is_set():
            try:
                if number % 2:
                    answer = api.post("/v1/decisions", json=ASK | {"dry_run": True})
                    assert answer.status_code == 200, answer.text
                else:
                    request = DecisionRequest(customer_id="bob", campaign_id="spring", dry_run=True)
                    decision = other.decider.decide(request, market.now)
                    cost = decision.evidence.cost_minor["sms"]
                    seen.append((decision.campaign_version, decision.policy_version, cost))
            except Exception as exc:
                failures.append(exc)
                return

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        campaign = spring(api)
        assert put(api, campaign | {"policy": "greedy", "budget_minor": 1e6}).status_code == 200
        assert api.patch("/v1/channels/sms", json={"cost_minor": 2.0}).status_code == 200
        market.champion.succeed(replace(market.champion.model, version="rule-2"))
        until = time.monotonic() + 20
        while (2, "rule-2", 2.0) not in seen and not failures and time.monotonic() < until:
            time.sleep(0.02)
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
        for follower in followers:
            follower.stop()
    assert failures == []
    assert (2, "rule-2", 2.0) in seen


def test_decisions_are_listed_newest_first_through_pages_and_filters(api, market):
    made = []
    for turn in range(5):
        market.now += timedelta(minutes=1)
        who = "ada" if turn % 2 else "bob"
        made.append(api.post("/v1/decisions", json=ASK | {"customer_id": who}).json())
    market.customers("mute", consent=False)
    silent = api.post("/v1/decisions", json=ASK | {"customer_id": "mute"}).json()
    ids = [one["decision_id"] for one in [*made, silent]][::-1]
    seen, cursor = [], None
    for _ in range(10):
        page = api.get("/v1/decisions", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [one["decision_id"] for one in page["decisions"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    # The two that were decided in the same minute come in order of their ids.
    assert seen == ids

    def listed(**params) -> list[str]:
        answer = api.get("/v1/decisions", params=params)
        assert answer.status_code == 200, answer.text
        return [one["decision_id"] for one in answer.json()["decisions"]]

    assert listed(customer_id="ada") == [made[3]["decision_id"], made[1]["decision_id"]]
    assert listed(customer_id="mute", action="no_contact") == [silent["decision_id"]]
    assert listed(customer_id="mute", action="contact") == []
    assert listed(campaign_id="autumn") == []
    assert listed(since=made[4]["decided_at"], action="contact") == (
        [made[4]["decision_id"]] if made[4]["action"] else []
    )
    assert listed(until=made[1]["decided_at"]) == [made[0]["decision_id"]]
    assert listed(arm="holdout") == []
    assert listed(message_status="held") == []
    waiting = [one["decision_id"] for one in made[::-1] if one["action"]]
    assert sorted(listed(message_status="pending")) == sorted(waiting)
    (row,) = api.get("/v1/decisions", params={"customer_id": "mute"}).json()["decisions"]
    assert (row["channel"], row["message_status"], row["arm"]) == (None, None, "treatment")
    window = {"since": made[1]["decided_at"], "until": made[0]["decided_at"]}
    assert fields(api.get("/v1/decisions", params=window)) == {"until"}
    assert fields(api.get("/v1/decisions", params={"arm": "left"})) == {"arm"}

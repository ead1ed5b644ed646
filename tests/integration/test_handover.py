"""Messages that the caller sends: held, then sent or cancelled, never back."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from features.history.rewards import settle_rewards
from features.history.tables import interactions, outbox, resource_usage, rewards
from models.domain.campaign import Caps, PolicyName
from models.domain.channel import DEFAULT_CHANNELS
from models.domain.errors import StateError
from serving.app import create_app
from serving.store.endings import OutboxStatus, suppressed
from serving.store.handover import activate, cancel, cancel_overtaken
from serving.store.outbox import claim, settle

HOLD = {"customer_id": "ada", "campaign_id": "spring", "send": "caller"}


@pytest.fixture
def api(market):
    market.customers("ada", "bob")
    sms = next(channel for channel in DEFAULT_CHANNELS if channel.name == "sms")
    market.channel(replace(sms, capacity_per_day=100))
    market.campaign(policy=PolicyName.GREEDY, budget_minor=1_000.0, caps=Caps(contacts=1))
    service = market.service(start=False)
    with TestClient(create_app(service)) as client:
        market.opened.remove(service)
        yield client


def rows(market, table):
    with market.engine.connect() as conn:
        return conn.execute(select(table)).all()


def facts(market) -> list[tuple[str, str]]:
    return [(row.kind, row.decision_id) for row in rows(market, interactions)]


def test_a_held_message_is_sent_by_nobody_but_counts_against_every_limit(api, market):
    held = api.post("/v1/decisions", json=HOLD).json()
    assert held["action"]["channel"] == "sms"
    (message,) = rows(market, outbox)
    assert message.status == "held"
    market.now += timedelta(days=2)
    with market.engine.begin() as conn:
        assert claim(conn, market.now, 60, 10) == []
    market.now -= timedelta(days=2)
    again = api.post("/v1/decisions", json=HOLD).json()
    assert again["action"] is None
    assert {one["reason"] for one in again["exclusions"]} >= {"frequency_cap"}
    assert {row.resource: row.used for row in rows(market, resource_usage)} == {
        "budget:spring": 1.45,
        "capacity:sms:2026-03-01": 1.0,
    }


def test_activating_marks_it_sent_and_outcomes_follow(api, market):
    decision_id = api.post("/v1/decisions", json=HOLD).json()["decision_id"]
    first = api.post(f"/v1/decisions/{decision_id}/activate", json={"provider_message_id": "SM-1"})
    assert first.status_code == 200
    assert first.json()["state"] == "sent"
    market.now += timedelta(minutes=1)
    assert api.post(f"/v1/decisions/{decision_id}/activate").json() == first.json()
    (message,) = rows(market, outbox)
    assert (message.provider, message.provider_message_id) == ("caller", "SM-1")
    other = api.post(f"/v1/decisions/{decision_id}/activate", json={"provider_message_id": "SM-2"})
    assert (other.status_code, other.json()["type"]) == (409, "/problems/conflict")
    assert "SM-1" in other.json()["detail"]
    assert facts(market) == [("sent", decision_id)]
    with market.engine.begin() as conn:
        settle_rewards(conn, market.now + timedelta(days=30))
    (reward,) = rows(market, rewards)
    assert (reward.decision_id, reward.cost_minor, reward.final) == (decision_id, 1.45, True)


def test_cancelling_gives_everything_back_and_earns_no_reward(api, market):
    decision_id = api.post("/v1/decisions", json=HOLD).json()["decision_id"]
    first = api.post(f"/v1/decisions/{decision_id}/cancel")
    assert (first.status_code, first.json()["state"]) == (200, "cancelled")
    assert api.post(f"/v1/decisions/{decision_id}/cancel").json() == first.json()
    assert {row.used for row in rows(market, resource_usage)} == {0.0}
    with market.engine.begin() as conn:
        settle_rewards(conn, market.now + timedelta(days=30))
    assert rows(market, rewards) == []
    assert api.post("/v1/decisions", json=HOLD).json()["action"]["channel"] == "sms", "the cap is free again"


def test_the_providers_id_may_be_told_later(api, market):
    decision_id = api.post("/v1/decisions", json=HOLD).json()["decision_id"]
    first = api.post(f"/v1/decisions/{decision_id}/activate").json()
    again = api.post(f"/v1/decisions/{decision_id}/activate", json={"provider_message_id": "SM-1"})
    assert again.json() == first
    (message,) = rows(market, outbox)
    assert message.provider_message_id == "SM-1"
    assert facts(market) == [("sent", decision_id)]


@pytest.mark.parametrize(("first", "second"), [("activate", "cancel"), ("cancel", "activate")])
def test_states_only_go_forward(api, first, second):
    decision_id = api.post("/v1/decisions", json=HOLD).json()["decision_id"]
    assert api.post(f"/v1/decisions/{decision_id}/{first}").status_code == 200
    conflict = api.post(f"/v1/decisions/{decision_id}/{second}")
    assert conflict.status_code == 409
    assert conflict.json()["type"] == "/problems/state"


def test_what_is_not_there_and_what_makes_no_contact_is_told_apart(api, market):
    assert api.post(f"/v1/decisions/{uuid4()}/activate").status_code == 404
    market.customers("mute", consent=False)
    silent = api.post("/v1/decisions", json=HOLD | {"customer_id": "mute"}).json()["decision_id"]
    answer = api.post(f"/v1/decisions/{silent}/cancel")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")


def test_a_held_message_that_expires_gives_everything_back(api, market):
    held = api.post("/v1/decisions", json=HOLD).json()
    (message,) = rows(market, outbox)
    market.now = message.expires_at
    late = api.post(f"/v1/decisions/{held['decision_id']}/activate")
    assert late.status_code == 409
    assert "is expired" in late.json()["detail"]
    assert cancel_overtaken(market.engine, market.now) == 1
    assert cancel_overtaken(market.engine, market.now) == 0
    assert rows(market, outbox)[0].status == "cancelled"
    assert facts(market) == [("suppressed", held["decision_id"])]
    assert {row.used for row in rows(market, resource_usage)} == {0.0}


def test_our_own_message_can_be_cancelled_until_a_sender_has_claimed_it(api, market):
    ours = HOLD | {"send": "service"}
    ada = api.post("/v1/decisions", json=ours).json()["decision_id"]
    assert api.post(f"/v1/decisions/{ada}/cancel").json()["state"] == "cancelled"
    bob = api.post("/v1/decisions", json=ours | {"customer_id": "bob"}).json()["decision_id"]
    market.now += timedelta(hours=10)
    with market.engine.begin() as conn:
        (claimed,) = claim(conn, market.now, 60, 10)
    assert claimed.decision_id == bob
    assert api.post(f"/v1/decisions/{bob}/cancel").status_code == 409
    assert api.post(f"/v1/decisions/{bob}/activate").status_code == 409
    with market.engine.begin() as conn:
        assert settle(conn, [suppressed(claimed, market.now, "test")]) == []


def test_of_racing_activations_and_cancellations_one_state_wins_for_good(api, market):
    decision_id = api.post("/v1/decisions", json=HOLD).json()["decision_id"]
    gate = threading.Barrier(8)

    def move(turn: int) -> OutboxStatus | None:
        gate.wait()
        try:
            with market.engine.begin() as conn:
                change = activate if turn % 2 else cancel
                return change(conn, decision_id, market.now).state
        except StateError:
            return None

    with ThreadPoolExecutor(8) as pool:
        reached = {state for state in pool.map(move, range(8)) if state is not None}
    assert len(reached) == 1
    (state,) = reached
    assert rows(market, outbox)[0].status == state
    told = {"sent": ["sent"], "cancelled": ["suppressed"]}[state]
    assert [kind for kind, _ in facts(market)] == told
    used = 0.0 if state == "cancelled" else 1.45
    assert next(row.used for row in rows(market, resource_usage) if row.resource == "budget:spring") == used

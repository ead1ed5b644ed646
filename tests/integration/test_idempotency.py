"""The same key and the same request: one execution, and the same bytes."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, func, select

from features.history.tables import campaigns, decisions, idempotency_keys, outbox
from models.domain.campaign import PolicyName
from serving.app import create_app
from serving.request import DecisionRequest
from serving.store.idempotency import (
    LEASE,
    LIFETIME,
    Execution,
    IdempotencyKey,
    KeptAnswer,
    claim,
    complete,
    forget_expired,
)

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


def n_rows(market, table) -> int:
    with market.engine.connect() as conn:
        return conn.execute(select(func.count()).select_from(table)).scalar_one()


def n_contacts(market) -> int:
    """Decisions to contact somebody: a draw now and then is to leave the customer alone."""
    with market.engine.connect() as conn:
        return conn.execute(select(func.count(decisions.c.channel))).scalar_one()


def post(api, path, body, key, **headers):
    return api.post(path, json=body, headers={"Idempotency-Key": key, **headers})


def test_a_repeated_decision_is_answered_byte_for_byte_and_recorded_once(api, market):
    first = post(api, "/v1/decisions", ASK, "k-1")
    market.now += timedelta(hours=3)
    again = post(api, "/v1/decisions", ASK, "k-1")
    assert first.status_code == again.status_code == 200
    assert again.content == first.content
    assert n_rows(market, decisions) == 1
    assert n_rows(market, outbox) == n_contacts(market)
    assert post(api, "/v1/decisions", ASK, "k-2").json()["decision_id"] != first.json()["decision_id"]


def test_the_answer_survives_a_restart(api, market):
    first = post(api, "/v1/decisions", ASK, "k-1")
    batch = post(api, "/v1/decisions/batch", {"requests": [ASK]}, "k-2")
    other = market.service(start=False)
    with TestClient(create_app(other)) as client:
        market.opened.remove(other)
        assert post(client, "/v1/decisions", ASK, "k-1").content == first.content
        assert post(client, "/v1/decisions/batch", {"requests": [ASK]}, "k-2").content == batch.content


@pytest.mark.parametrize("path", ["/v1/decisions", "/v1/decisions/batch", "/v1/interactions"])
def test_another_body_under_the_same_key_is_a_conflict(api, market, path):
    event = {
        "source": "shop",
        "event_id": "1",
        "customer_id": "ada",
        "kind": "visited",
        "occurred_at": market.now.isoformat(),
    }
    body, other = {
        "/v1/decisions": (ASK, ASK | {"customer_id": "bob"}),
        "/v1/decisions/batch": ({"requests": [ASK]}, {"requests": [ASK, ASK]}),
        "/v1/interactions": (
            {"interactions": [event]},
            {"interactions": [event | {"event_id": "2"}]},
        ),
    }[path]
    assert post(api, path, body, "k").status_code == 200
    conflict = post(api, path, other, "k")
    assert conflict.status_code == 409
    assert conflict.json()["type"] == "/problems/idempotency-key-reused"


def test_the_same_key_of_another_caller_is_another_key(api):
    mine = post(api, "/v1/decisions", ASK, "k", Authorization="Bearer one")
    theirs = post(api, "/v1/decisions", ASK | {"customer_id": "bob"}, "k", Authorization="Bearer two")
    assert (mine.status_code, theirs.status_code) == (200, 200)


def test_concurrent_duplicates_of_a_decision_are_one_decision_with_one_message(api, market):
    gate = threading.Barrier(8)

    def ask(_: int) -> bytes:
        gate.wait()
        return post(api, "/v1/decisions", ASK, "k").content

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(ask, range(8)))
    assert len(answers) == 1
    assert n_rows(market, decisions) == 1
    assert n_rows(market, outbox) == n_contacts(market)


def test_concurrent_duplicates_of_a_batch_are_executed_once(api, market):
    gate = threading.Barrier(6)
    body = {"requests": [ASK, ASK | {"customer_id": "bob"}]}

    def ask(_: int) -> tuple[int, bytes]:
        gate.wait()
        answer = post(api, "/v1/decisions/batch", body, "k")
        if answer.status_code == 409:
            assert answer.json()["type"] == "/problems/request-in-progress"
            assert answer.headers["Retry-After"] == "1"
        return answer.status_code, answer.content

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(6)))
    assert len({content for status, content in answers if status == 200}) == 1
    assert n_rows(market, decisions) == 2


def test_a_replayed_answer_says_so_and_is_the_same(api, market):
    campaign = api.get("/v1/campaigns").json()["campaigns"][0] | {"conversion_value_minor": 1.0}
    first = post(api, "/v1/campaigns", {"campaign": campaign}, "k")
    again = post(api, "/v1/campaigns", {"campaign": campaign}, "k")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert n_rows(market, campaigns) == 2


def test_a_refused_request_frees_its_key(api):
    assert post(api, "/v1/decisions/batch", {"requests": []}, "k").status_code == 422
    assert post(api, "/v1/decisions/batch", {"requests": [ASK]}, "k").status_code == 200
    assert post(api, "/v1/decisions", ASK | {"customer_id": "eve"}, "j").status_code == 404
    assert post(api, "/v1/decisions", ASK, "j").status_code == 200


@BEFORE_THE_DATABASE
@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
@pytest.mark.parametrize("path", ["/v1/decisions", "/v1/decisions/batch"])
def test_a_key_that_is_none_is_refused_by_name(api, key, path):
    body = ASK | {"dry_run": True} if path == "/v1/decisions" else {"requests": [ASK]}
    answer = post(api, path, body, key)
    assert answer.status_code == 422
    assert [one["field"] for one in answer.json()["errors"]] == ["Idempotency-Key"]


def test_a_key_is_free_again_after_a_day(api, market):
    first = post(api, "/v1/decisions", ASK, "k").json()["decision_id"]
    post(api, "/v1/decisions/batch", {"requests": [ASK]}, "b")
    market.now += LIFETIME
    other = ASK | {"customer_id": "bob"}
    assert post(api, "/v1/decisions", other, "k").json()["decision_id"] != first
    assert post(api, "/v1/decisions/batch", {"requests": [other]}, "b").status_code == 200


def test_a_dry_run_takes_no_key(api, market):
    assert post(api, "/v1/decisions", ASK | {"dry_run": True}, "k").status_code == 200
    assert n_rows(market, idempotency_keys) == 0


def test_after_a_crash_the_lease_runs_out_and_the_execution_goes_on_under_its_own_ids(engine, market):
    key = IdempotencyKey.of(str(uuid4()), "", b"POST", b"/v1/decisions/batch", b"{}")
    with engine.begin() as conn:
        first = claim(conn, key, market.now)
    assert isinstance(first, Execution)
    later = market.now + LEASE
    with engine.begin() as conn:
        second = claim(conn, key, later)
    assert isinstance(second, Execution)
    assert second.fencing_token == first.fencing_token + 1
    assert [second.derived_id(i) for i in range(3)] == [first.derived_id(i) for i in range(3)]
    answer = KeptAnswer(200, "application/json", json.dumps({"a": 1}).encode())
    with engine.begin() as conn:
        assert not complete(conn, key, first, answer), "the one that was taken over is too late"
        assert complete(conn, key, second, answer)
        assert claim(conn, key, later) == answer


def test_a_batch_whose_executor_died_before_its_answer_goes_on_under_the_same_ids(api, market):
    dying = True

    @event.listens_for(market.engine, "before_cursor_execute")
    def crash(conn, cursor, statement, parameters, context, executemany):
        if dying and statement.startswith("UPDATE idempotency_keys"):
            raise MemoryError("the process dies here")

    body = {"requests": [ASK, ASK | {"customer_id": "bob"}]}
    with pytest.raises(MemoryError):
        post(api, "/v1/decisions/batch", body, "k")
    assert n_rows(market, decisions) == 2, "they were decided, and nobody was told"
    dying = False
    waiting = post(api, "/v1/decisions/batch", body, "k")
    assert (waiting.status_code, waiting.json()["type"]) == (409, "/problems/request-in-progress")
    market.now += LEASE
    answer = post(api, "/v1/decisions/batch", body, "k")
    assert answer.status_code == 200
    with market.engine.connect() as conn:
        recorded = set(conn.scalars(select(decisions.c.decision_id)))
    assert {one["decision"]["decision_id"] for one in answer.json()["outcomes"]} == recorded
    assert len(recorded) == 2
    assert post(api, "/v1/decisions/batch", body, "k").content == answer.content


def test_expired_keys_are_cleaned_up(api, market):
    market.campaign(policy=PolicyName.GREEDY)
    post(api, "/v1/decisions", ASK, "k")
    assert forget_expired(market.engine, market.now) == 0
    assert forget_expired(market.engine, market.now + LIFETIME) == 1
    assert n_rows(market, idempotency_keys) == 0


def test_the_benchmark_of_a_key_counts_what_it_says(engine):
    from tests.benchmarks.idempotency import measure

    figures = measure(engine, 4)
    assert figures["n"] == 4
    assert figures["difference_ms"] == pytest.approx(figures["with_key_ms"] - figures["without_ms"], abs=2e-3)
    with engine.connect() as conn:
        assert conn.execute(select(func.count()).select_from(decisions)).scalar_one() == 8
        assert conn.execute(select(func.count()).select_from(idempotency_keys)).scalar_one() == 4


def test_two_replicas_that_get_the_same_key_at_once_give_the_same_decision(market):
    market.customers("ada")
    market.campaign()
    replicas = [market.service(), market.service()]
    gate = threading.Barrier(2)

    def ask(replica: int, key: IdempotencyKey) -> str:
        gate.wait()
        request = DecisionRequest(customer_id="ada", campaign_id="spring", key=key)
        return replicas[replica].decider.decide(request, market.now).decision_id

    with ThreadPoolExecutor(2) as pool:
        for number in range(12):
            key = IdempotencyKey.of(f"k-{number}", "", b"body")
            first, second = (pool.submit(ask, replica, key) for replica in range(2))
            assert first.result() == second.result()
    assert n_rows(market, decisions) == 12
    assert n_rows(market, outbox) == n_contacts(market)

"""Batches as streams, and what-if."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from features.history.tables import customers, decisions, interactions, outbox
from models.domain.campaign import Caps, PolicyName
from serving.app import create_app
from serving.routes import ndjson

# What is refused, or differs, before the database is asked.
BEFORE_THE_DATABASE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
ASK = {"customer_id": "ada", "campaign_id": "spring"}
STREAM = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def api(market):
    market.customers("ada", "bob")
    market.campaign(policy=PolicyName.GREEDY, caps=Caps(contacts=None))
    service = market.service(start=False)
    with TestClient(create_app(service)) as client:
        market.opened.remove(service)
        yield client


def n_rows(market, table) -> int:
    with market.engine.connect() as conn:
        return conn.execute(select(func.count()).select_from(table)).scalar_one()


def lines(*requests: object) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in requests)


def stream(api, body: bytes, **headers: str) -> list[dict]:
    answer = api.post("/v1/decisions/batch", content=body, headers=STREAM | headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.content.splitlines()]


def test_every_line_has_its_outcome_in_order(api, market):
    body = lines(ASK, ASK | {"customer_id": "eve"}) + b"\n{oops\n" + lines(ASK | {"colour": "red"}, ASK)[:-1]
    outcomes = stream(api, body)
    assert (
        outcomes[2]["problem"]["errors"][0]["bound"]
        == "must be JSON: key must be a string at line 1 column 2"
    )
    assert [one["decision"] and one["decision"]["customer_id"] for one in outcomes] == [
        "ada", None, None, None, "ada",
    ]  # fmt: skip
    assert [one["problem"] and one["problem"]["status"] for one in outcomes] == [None, 404, 422, 422, None]
    assert outcomes[3]["problem"]["errors"][0]["field"] == "colour"
    assert n_rows(market, decisions) == 2
    assert stream(api, b"") == []


def test_a_stream_with_a_key_that_is_sent_again_finds_what_was_decided(api, market):
    body = lines(*([ASK, ASK | {"customer_id": "bob"}] * 100))
    first = stream(api, body, **{"Idempotency-Key": "k"})
    assert stream(api, body, **{"Idempotency-Key": "k"}) == first
    assert n_rows(market, decisions) == 200
    other = stream(api, lines(ASK | {"customer_id": "bob"}), **{"Idempotency-Key": "k"})
    assert other[0]["problem"]["type"] == "/problems/conflict"
    answer = api.post("/v1/decisions/batch", content=body, headers=STREAM | {"Idempotency-Key": ""})
    assert answer.status_code == 422


def test_a_stream_that_is_too_long_ends_with_a_problem(api, monkeypatch):
    monkeypatch.setattr(ndjson, "MOST_LINES", 130)
    outcomes = stream(api, lines(*([ASK | {"dry_run": True}] * 200)))
    assert [one["problem"] is None for one in outcomes] == [True] * 130 + [False]
    assert outcomes[-1]["problem"]["errors"][0]["field"] == "lines"
    monkeypatch.setattr(ndjson, "LONGEST_LINE", 100)
    (cut,) = stream(api, b"x" * 1_000)
    assert cut["problem"]["errors"][0]["field"] == "line"


@pytest.fixture
def served(market) -> Iterator[str]:
    market.customers("ada")
    market.campaign(policy=PolicyName.GREEDY, caps=Caps(contacts=None))
    service = market.service(start=False)
    server = uvicorn.Server(
        uvicorn.Config(create_app(service), host="127.0.0.1", port=0, log_level="warning")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    market.opened.remove(service)
    while not server.started:
        time.sleep(0.01)
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_outcomes_come_while_the_requests_are_still_being_sent(served):
    """One group, then a pause until its outcomes are there, then the end."""
    host, port = served.split(":")
    group = lines(*([ASK | {"dry_run": True}] * ndjson.LARGEST_GROUP))

    def chunk(block: bytes) -> bytes:
        return f"{len(block):x}\r\n".encode() + block + b"\r\n"

    with socket.create_connection((host, int(port)), timeout=20) as wire:
        wire.sendall(
            f"POST /v1/decisions/batch HTTP/1.1\r\nHost: {served}\r\nContent-Type: application/x-ndjson\r\n"
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
        )
        wire.sendall(chunk(group))
        heard = b""
        while heard.count(b'"problem":null') < ndjson.LARGEST_GROUP:
            block = wire.recv(65536)
            assert block, heard[:300]
            heard += block
        wire.sendall(chunk(lines(ASK)) + b"0\r\n\r\n")
        while block := wire.recv(65536):
            heard += block
    assert heard.count(b'"problem":null') == ndjson.LARGEST_GROUP + 1


@BEFORE_THE_DATABASE
def test_a_caller_that_reads_nothing_before_it_has_sent_everything_is_served(served):
    """httpx sends the whole body first; the outcomes are larger than what the sockets hold."""
    n = 1_500
    one = lines(ASK | {"dry_run": True})
    n_lines = size = 0
    with (
        httpx.Client(timeout=120) as client,
        client.stream(
            "POST", f"http://{served}/v1/decisions/batch", content=(one for _ in range(n)), headers=STREAM
        ) as answer,
    ):
        for block in answer.iter_raw(65536):
            n_lines += block.count(b"\n")
            size += len(block)
    assert n_lines == n
    assert size > 2_000_000


def test_outcomes_that_nobody_reads_wait_on_disk():
    async def fill_and_read() -> tuple[int, int, bytes]:
        spool = ndjson.Spool()
        tracemalloc.start()
        for number in range(4_000):
            spool.write(f"{number:04d}".encode() * 512)  # 8 MB in all
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        spool.end()
        heard = b"".join([block async for block in spool.blocks()])
        spool.close()
        return peak, len(heard), heard[-4:]

    peak, n_bytes, end = asyncio.run(fill_and_read())
    assert (n_bytes, end) == (4_000 * 2_048, b"3999")
    assert peak < 4_000_000


def simulate(api, overrides: dict, status: int = 200, **request: object) -> dict:
    answer = api.post("/v1/decisions/simulate", json={"request": ASK | request, "overrides": overrides})
    assert answer.status_code == status, answer.text
    return answer.json()


def test_what_if_shows_both_decisions_side_by_side_and_records_nothing(api, market):
    before = [n_rows(market, table) for table in (decisions, outbox, interactions, customers)]
    off = simulate(api, {"channels": {"sms": {"enabled": False}}})
    # coats at 18:00, by SMS 0.012 * 1.10 * 3000 - 1.45 = 38.15; by push 0.010 * 1.10 * 3000 = 33.00
    assert (off["base"]["action"]["channel"], off["what_if"]["action"]["channel"]) == ("sms", "push")
    assert off["net_value_change_minor"] == pytest.approx(33.0 - 38.15)
    assert "action" in off["changed"]
    assert {e["reason"] for e in off["what_if"]["exclusions"]} == {"channel_down"}
    assert [n_rows(market, table) for table in (decisions, outbox, interactions, customers)] == before


def test_without_overrides_nothing_changes(api):
    same = simulate(api, {})
    assert (same["changed"], same["net_value_change_minor"]) == ([], 0.0)


@BEFORE_THE_DATABASE
@pytest.mark.parametrize(
    ("overrides", "channel", "offer"),
    [
        ({"channels": {"sms": {"cost_minor": 7.0}}}, "push", "coats"),
        ({"campaigns": {"spring": {"budget_minor": 1.0}}}, "push", "coats"),
        ({"channels": {"sms": {"capacity_per_day": 0}}}, "push", "coats"),
        ({"campaigns": {"spring": {"margin_minor": {"boots": 9000}}}}, "sms", "boots"),
        ({"campaigns": {"spring": {"policy": "cheapest_first"}}}, "push", "coats"),
        ({"campaigns": {"spring": {"contacts_per_campaign": 0}}}, None, None),
        ({"channels": {name: {"cost_minor": 1e6} for name in ("email", "push", "sms")}}, None, None),
        ({"campaigns": {"spring": {"slots": ["09:00:00"]}}}, "sms", "coats"),
    ],
)
def test_prices_limits_margins_and_times_can_be_others(api, overrides, channel, offer):
    action = simulate(api, overrides)["what_if"]["action"]
    assert (action and action["channel"], action and action["offer"]) == (channel, offer)


def test_the_time_can_be_another(api, market):
    later = simulate(api, {"now": "2026-03-10T06:00:00Z"})
    assert later["base"]["action"]["send_at"][:10] == "2026-03-01"
    assert later["what_if"]["action"]["send_at"][:10] == "2026-03-10"
    ended = simulate(api, {"now": "2026-06-01T06:00:00Z"}, status=409)
    assert ended["type"] == "/problems/campaign-expired"


def test_several_campaigns_can_be_simulated_and_one_of_them_made_to_win(api, market):
    market.campaign("winter", policy=PolicyName.GREEDY, caps=Caps(contacts=None))
    campaign = api.get("/v1/campaigns/winter").json()["campaign"]
    api.put("/v1/campaigns/winter", json={"campaign": campaign})  # the service looks for changes at once
    request = {"customer_id": "ada", "campaigns": ["spring", "winter"]}
    body = {"request": request, "overrides": {"campaigns": {"winter": {"margin_minor": {"coats": 9000}}}}}
    answer = api.post("/v1/decisions/simulate", json=body).json()
    assert (answer["base"]["campaign_id"], answer["what_if"]["campaign_id"]) == ("spring", "winter")


@BEFORE_THE_DATABASE
@pytest.mark.parametrize(
    ("overrides", "status", "field"),
    [
        ({"channels": {"pigeon": {"enabled": False}}}, 404, "overrides.channels.pigeon"),
        ({"campaigns": {"winter": {"budget_minor": 1}}}, 422, "overrides.campaigns.winter"),
        (
            {"campaigns": {"spring": {"margin_minor": {"hats": 1}}}},
            404,
            "overrides.campaigns.spring.margin_minor",
        ),
        ({"channels": {"sms": {"cost_minor": -1}}}, 422, "overrides.channels.sms.cost_minor"),
        (
            {"campaigns": {"spring": {"slots": ["18:00", "09:00"]}}},
            422,
            "overrides.campaigns.spring.slots",
        ),
        ({"weather": "fine"}, 422, "overrides.weather"),
    ],
)
def test_a_wrong_override_is_refused_by_name(api, overrides, status, field):
    problem = simulate(api, overrides, status)
    assert problem["errors"][0]["field"] == field


def test_a_decision_that_was_taken_is_the_base_when_its_id_is_given_as_the_seed(api, market):
    market.campaign(policy=PolicyName.UNIFORM, caps=Caps(contacts=None))
    campaign = api.get("/v1/campaigns/spring").json()["campaign"]
    api.put("/v1/campaigns/spring", json={"campaign": campaign})
    for _ in range(3):
        taken = api.post("/v1/decisions", json=ASK).json()
        again = simulate(api, {}, decision_id=taken["decision_id"])
        assert again["base"]["propensity"] == taken["propensity"]
        assert again["base"]["action"] == taken["action"]

"""What keys, limits and figures cost, beside a decision measured in the same run.

Everything runs in this process and on one thread: ASGI calls without a socket, CPU time. The decision is taken by the
whole application over SQLite with a model by rule, which is cheaper than a fitted one, so the shares err upwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from features.history.channels import seed_channels
from features.history.engine import connect, migrate
from models.domain.decision import Decision
from serving.app import create_app
from serving.observability.metrics import Metrics
from serving.observability.requests import ObservedRequests
from serving.request import DecisionRequest
from serving.security.gate import Gate
from serving.security.keys import Scope as KeyScope
from serving.security.keys import create_key
from serving.security.protection import Protection
from serving.security.sessions import Sessions
from serving.service import Service
from tests.integration.conftest import Market

_PEOPLE = 200
_STAGES = ("features", "choose", "transaction")


def _request(path: str, body: bytes, key: str) -> tuple[Scope, bytes]:
    headers = [
        (b"host", b"127.0.0.1:8000"),
        (b"accept", b"*/*"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"user-agent", b"python-httpx/0.28"),
        (b"connection", b"keep-alive"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"authorization", f"Bearer {key}".encode()),
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8_000),
    }
    return scope, body


async def _call(app: ASGIApp, scope: Scope, body: bytes) -> int:
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(dict(scope), receive, send)
    return statuses[0]


async def _nothing(_scope: Scope, _receive: Receive, send: Send) -> None:
    """An application that answers at once."""
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
    )
    await send({"type": "http.response.body", "body": b"{}"})


async def _us_a_request(app: ASGIApp, scope: Scope, body: bytes, n: int) -> float:
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(n):
            await _call(app, scope, body)
        best = min(best, time.process_time() - began)
    return best / n * 1e6


def _us(work: Callable[[], object], n: int) -> float:
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(n):
            work()
        best = min(best, time.process_time() - began)
    return best / n * 1e6


def main(arguments: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="doors", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    n_requests, n_decisions = (500, 40) if options.quick else (5_000, 600)
    now = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)
    with tempfile.TemporaryDirectory() as folder:
        engine = connect(f"sqlite:///{Path(folder) / 'history.db'}")
        migrate(engine)
        with engine.begin() as conn:
            seed_channels(conn, now)
            key = create_key(conn, "bench", [KeyScope.DECIDE], now).text
        market = Market(engine)
        people = [f"c{number}" for number in range(_PEOPLE)]
        market.customers(*people)
        market.campaign()
        service = market.service(protection=Protection(requests_per_second=1e9, burst=10**9))
        figures = asyncio.run(_measure(market, service, key, people, n_requests, n_decisions))
        service.stop()
    sys.stdout.write(json.dumps({"bench": "doors", **figures}) + "\n")
    return 0


async def _measure(
    market: Market, service: Service, key: str, people: list[str], n_requests: int, n_decisions: int
) -> dict[str, float]:
    def ask(person: str) -> tuple[Scope, bytes]:
        body = json.dumps({"customer_id": person, "campaign_id": "spring"}).encode()
        return _request("/v1/decisions", body, key)

    gate = Gate(
        _nothing, service.key_ring, Sessions("a secret of the bench"), service.protection, service.clock
    )
    scope, body = ask(people[0])
    assert await _call(gate, scope, body) == 200
    bare = await _us_a_request(_nothing, scope, body, n_requests)
    gated = await _us_a_request(gate, scope, body, n_requests)
    observed = await _us_a_request(ObservedRequests(gate, Metrics()), scope, body, n_requests)

    app = create_app(service)
    for person in people[:20]:
        assert await _call(app, *ask(person)) == 200
    began, spent = time.perf_counter(), time.process_time()
    for number in range(n_decisions):
        await _call(app, *ask(people[number % _PEOPLE]))
    decision_us = (time.process_time() - spent) / n_decisions * 1e6
    wall_us = (time.perf_counter() - began) / n_decisions * 1e6

    request = DecisionRequest(customer_id=people[0], campaign_id="spring", dry_run=True)
    decision = service.decider.decide(request, market.now)
    assert isinstance(decision, Decision)
    metrics = Metrics()

    def count() -> None:
        for stage in _STAGES:
            with metrics.stage(stage):
                pass
        metrics.decided([decision])

    counted = _us(count, n_requests)
    return {
        "gate_us_per_request": round(gated - bare, 1),
        "figures_us_per_request": round(observed - gated, 1),
        "figures_us_per_decision": round(counted, 1),
        "decision_cpu_us": round(decision_us),
        "decision_wall_us": round(wall_us),
        "figures_share_of_decision": round((observed - gated + counted) / decision_us, 4),
        "gate_share_of_decision": round((gated - bare) / decision_us, 4),
    }

"""SIGTERM while requests are under way: each of them is answered, and what was answered is recorded.

    make chaos NAME=drain [ARGS="--rounds 10 --postgres"]

Features take a while, so that requests are surely under way when the service is told to end: single decisions, a batch,
and a stream that is still being sent. Afterwards nobody is let in, and every answer is in the database once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time as clock
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx
from fastapi import FastAPI
from sqlalchemy import Engine, func, select

from features.history.tables import decisions, outbox
from serving.app import create_app
from tests.benchmarks.bare import serving
from tests.chaos.decide_kill import CAMPAIGN, CUSTOMERS, market
from tests.fresh_database import open_database
from tests.integration.conftest import Market

_DATABASE = "CHAOS_DATABASE"
_FEATURES_SECONDS = 1.0
# Until what was sent has reached the service, and before the first of it is answered.
_UNTIL_UNDER_WAY_SECONDS = 0.4
_SINGLE = 32
_LINES = 64


def main(arguments: list[str]) -> int:
    """End the service again and again; 1 where a request that was under way got no answer."""
    parser = argparse.ArgumentParser(prog="drain", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--postgres", action="store_true")
    chosen = parser.parse_args(arguments)
    with market(chosen.postgres) as made:
        found = drain(made.engine, chosen.rounds)
    sys.stdout.write(json.dumps({"chaos": "drain", **found}) + "\n")
    return int(not found["passed"])


def create() -> FastAPI:
    """The service that is ended: the API over a market whose features are slow."""
    made = Market(open_database(os.environ[_DATABASE]))
    made.features.delay = lambda: clock.sleep(_FEATURES_SECONDS)
    return create_app(made.service(deadline_seconds=30.0, start=False), owns_process=True)


def drain(engine: Engine, n_rounds: int) -> Mapping[str, object]:
    """End the service that often with requests under way.

    Args:
        engine: Of a `decide_kill.market`.
        n_rounds: How often.
    """
    told: Counter[str] = Counter()
    acknowledged: set[str] = set()
    let_in = 0
    longest = 0.0
    for _ in range(n_rounds):
        url = engine.url.render_as_string(hide_password=False)
        with (
            serving("tests.chaos.drain:create", {_DATABASE: url}, "/healthz") as server,
            ThreadPoolExecutor(_SINGLE + 2) as threads,
        ):
            address = f"http://127.0.0.1:{server.port}"
            sent = Barrier(_SINGLE + 3)
            asked = [threads.submit(_one, address, number, told, sent) for number in range(_SINGLE)]
            asked += [threads.submit(ask, address, told, sent) for ask in (_batch, _stream)]
            sent.wait(60)
            clock.sleep(_UNTIL_UNDER_WAY_SECONDS)
            began = clock.perf_counter()
            os.kill(server.pid, signal.SIGTERM)
            clock.sleep(_UNTIL_UNDER_WAY_SECONDS)
            try:
                httpx.get(f"{address}/healthz", timeout=5)
                let_in += 1
            except httpx.TransportError:
                pass
            for one in asked:
                acknowledged.update(one.result(60))
            longest = max(longest, clock.perf_counter() - began)
    with engine.connect() as conn:
        recorded = set(conn.scalars(select(decisions.c.decision_id)))
        contacts = conn.scalar(select(func.count()).where(decisions.c.channel.is_not(None)))
        messages = conn.scalar(select(func.count()).select_from(outbox))
    wanted = n_rounds * (_SINGLE + 2 * _LINES)
    return {
        "passed": (told["ok"], len(acknowledged), let_in) == (wanted, wanted, 0)
        and acknowledged <= recorded
        and contacts == messages,
        "backend": engine.dialect.name,
        "rounds": n_rounds,
        "under_way": wanted,
        "answers": dict(told),
        "lost": len(acknowledged - recorded),
        "torn": abs((contacts or 0) - (messages or 0)),
        "let_in_afterwards": let_in,
        "longest_until_all_were_answered_seconds": round(longest, 2),
    }


def _request(number: int) -> dict[str, object]:
    return {"campaign_id": CAMPAIGN, "customer_id": CUSTOMERS[number % len(CUSTOMERS)]}


def _arriving(body: bytes, sent: Barrier) -> Iterator[bytes]:
    """The body, and word of it once it is on its way."""
    yield body
    sent.wait(60)


def _one(address: str, number: int, told: Counter[str], sent: Barrier) -> list[str]:
    outcome = _ask(f"{address}/v1/decisions", _arriving(json.dumps(_request(number)).encode(), sent), told)
    return [] if outcome is None else _counted([{"decision": json.loads(outcome), "problem": None}], told)


def _batch(address: str, told: Counter[str], sent: Barrier) -> list[str]:
    requests = json.dumps({"requests": [_request(number) for number in range(_LINES)]}).encode()
    outcome = _ask(f"{address}/v1/decisions/batch", _arriving(requests, sent), told)
    return [] if outcome is None else _counted(json.loads(outcome)["outcomes"], told)


def _stream(address: str, told: Counter[str], sent: Barrier) -> list[str]:
    """Half of the lines at once, the others when the service has been told to end."""
    lines = [json.dumps(_request(number)).encode() + b"\n" for number in range(_LINES)]

    def parts() -> Iterator[bytes]:
        yield from _arriving(b"".join(lines[: _LINES // 2]), sent)
        clock.sleep(2 * _UNTIL_UNDER_WAY_SECONDS)
        yield b"".join(lines[_LINES // 2 :])

    outcome = _ask(f"{address}/v1/decisions/batch", parts(), told, "application/x-ndjson")
    return [] if outcome is None else _counted([json.loads(line) for line in outcome.splitlines()], told)


def _ask(
    address: str, body: Iterator[bytes], told: Counter[str], media: str = "application/json"
) -> str | None:
    try:
        answer = httpx.post(address, content=body, headers={"content-type": media}, timeout=60)
    except httpx.TransportError as exc:
        told[type(exc).__name__] += 1
        return None
    if answer.status_code != httpx.codes.OK:
        told[str(answer.status_code)] += 1
        return None
    return answer.text


def _counted(outcomes: list[dict[str, dict[str, str] | None]], told: Counter[str]) -> list[str]:
    made = []
    for one in outcomes:
        decision, problem = one["decision"], one["problem"]
        if decision is None:
            told[(problem or {}).get("type", "nothing")] += 1
        else:
            told["ok"] += 1
            made.append(decision["decision_id"])
    return made

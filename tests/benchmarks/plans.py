"""How fast a plan decides for an audience, in how much memory, and what others who ask meanwhile feel of it.

    make bench NAME=plans [ARGS="--quick --postgres"]

The installation is that of `decide`, with an SMS a day for one customer in a hundred. A plan over everybody is made and started; while it
forecasts and decides, single decisions are asked for one after the other. `minutes_a_million` is how long a million would
take at that pace. `refused` are answers of the others that are not 200.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import httpx
from sqlalchemy import func, select

from features.history.engine import connect, read_only
from features.history.tables import resource_usage
from features.identity.vault import KEY_FILE, ContactVault
from tests.benchmarks.bare import Load, Server, load, serving
from tests.benchmarks.batch import batches
from tests.benchmarks.decide import FACTORY, WARM_SECONDS, decisions, judged
from tests.benchmarks.decide_installation import Installation
from tests.benchmarks.decide_service import CACHE

_ASKED_AT_ONCE = 50
_SHARE_BY_SMS = 0.01


def main(arguments: list[str]) -> int:
    """Measure, print the figures, then one line of JSON; 1 where a bar is missed."""
    return judged(measure, __doc__, arguments)


def measure(made: Installation, wanted: argparse.Namespace) -> dict[str, object]:
    """Every figure of the benchmark."""
    capacity = int(_SHARE_BY_SMS * wanted.customers)
    with serving(FACTORY, made.environment | {CACHE: WARM_SECONDS}, "/healthz") as server:
        load(server.port, batches(0, wanted.customers, wanted.customers, dry_run=True))
        quiet = load(server.port, decisions(0, wanted.one, wanted.customers))
        _call(server, "PATCH", "/v1/channels/sms", {"capacity_per_day": capacity})
        time.sleep(1.5)  # until every part of the service has heard of it
        before = server.rss_mb()
        began = time.perf_counter()
        plan_id = _call(server, "POST", "/v1/plans", {"campaign_id": "spring"})["plan_id"]
        asked: list[Load] = []
        forecast_seconds = memory = 0.0
        while True:
            first = wanted.one + len(asked) * _ASKED_AT_ONCE
            asked.append(load(server.port, decisions(first, _ASKED_AT_ONCE, wanted.customers)))
            plan = _call(server, "GET", f"/v1/plans/{plan_id}")
            memory = max(memory, server.rss_mb())
            if plan["status"] == "forecasting":
                forecast_seconds = time.perf_counter() - began
            elif plan["status"] != "running":
                break
        took = time.perf_counter() - began
    assert plan["status"] == "finished", plan
    per_second = plan["n_decided"] / (took - forecast_seconds)
    engine = connect(made.database_url, ContactVault(made.home / KEY_FILE))
    with read_only(engine).connect() as conn:
        days = resource_usage.c.resource.like("capacity:sms:%")
        most = conn.scalar(select(func.max(resource_usage.c.used)).where(days))
    engine.dispose()
    slowest = sorted(second for one in asked for second in one.seconds)
    return {
        "bench": "plans",
        "backend": "postgresql" if wanted.postgres else "sqlite",
        "members_per_s": round(per_second),
        "forecast_s": round(forecast_seconds, 2),
        "minutes_a_million": round(1_000_000 / per_second / 60, 1),
        "rss_growth_mb": round(memory - before, 1),
        "most_rss_mb": round(memory, 1),
        "refused": sum(n for one in asked for status, n in one.statuses.items() if status != 200),
        "decision_p50_ms_quiet": round(quiet.quantile_ms(0.5), 2),
        "decision_p50_ms": round(slowest[len(slowest) // 2] * 1_000, 2),
        "decision_p99_ms": round(slowest[int(len(slowest) * 0.99)] * 1_000, 1),
        "members": plan["n_decided"],
        "problems": plan["n_problems"],
        "sms": plan["contacts"].get("sms", 0),
        "over_capacity": max(0.0, float(most or 0) - capacity),
        "value_over_forecast": round(plan["net_value_minor"] / plan["forecast"]["net_value_minor"], 4),
        "forecast_gap": round(1 - plan["forecast"]["net_value_minor"] / plan["forecast"]["most_minor"], 6),
    }


def _call(server: Server, method: str, path: str, body: object = None) -> dict[str, Any]:
    answer = httpx.request(method, f"http://127.0.0.1:{server.port}{path}", json=body, timeout=60)
    found: dict[str, Any] = answer.raise_for_status().json()
    return found

"""Models, campaigns and channels change under load: no request fails, and both replicas follow within two seconds.

    make chaos NAME=hot_swap [ARGS="--swaps 20 --sqlite"]

Two API processes share a history and a registry. Callers ask both without pause. Everything is changed through one of
them, over HTTP: another champion, a new version of the campaign, another price. Each time it is measured how long it
takes until decisions of either are taken with all three.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from sqlalchemy import Engine

from features.history.channels import seed_channels
from features.registry import ModelRegistry
from features.workspace import FeatureWorkspace
from tests.chaos._replicas import Asked, asking, replica, wait_for
from tests.fresh_database import database
from tests.integration.conftest import Market
from training.day_one import publish_prior

BAR_SECONDS = 2.0
_CUSTOMERS = tuple(f"c-{number}" for number in range(100))
_PATIENCE_SECONDS = 30.0
# So that changes come at any time of the replicas' own rhythm.
_BETWEEN_SECONDS = 0.37
_MODELS = 3


def main(arguments: list[str]) -> int:
    """Change everything again and again; 1 where a request failed or a replica was late."""
    parser = argparse.ArgumentParser(prog="hot_swap", description=__doc__)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--sqlite", action="store_true", help="instead of PostgreSQL")
    chosen = parser.parse_args(arguments)
    with database(postgres=not chosen.sqlite) as engine:
        found = swap(engine, chosen.swaps)
    sys.stdout.write(json.dumps({"chaos": "hot_swap", **found}) + "\n")
    return int(not found["passed"])


def swap(engine: Engine, n_swaps: int) -> Mapping[str, object]:
    """Change model, campaign and channel that often, under load.

    Args:
        engine: An empty history.
        n_swaps: How often.
    """
    now = datetime.now(UTC)
    with engine.begin() as conn:
        seed_channels(conn, now - timedelta(days=1))
    market = Market(engine, now=now)
    market.customers(*_CUSTOMERS)
    market.campaign()
    asked, took = Asked(), []
    with ExitStack() as stack:
        environment = {}
        if engine.dialect.name == "sqlite":  # its contact keys lie beside the file
            home = Path(engine.url.database or "").parent
            environment["NEXTCHANNEL_CONTACT_KEYS"] = ""
        else:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        FeatureWorkspace(home, engine).define()
        tracking = f"sqlite:///{home}/mlflow.db"
        registry = ModelRegistry(tracking, home / "mlartifacts")
        for number in range(_MODELS):
            publish_prior(engine, registry, "spring", now + timedelta(seconds=number))
        addresses = [
            stack.enter_context(
                replica(
                    environment
                    | {
                        "NEXTCHANNEL_DATABASE": engine.url.render_as_string(hide_password=False),
                        "NEXTCHANNEL_HOME": str(home),
                        "NEXTCHANNEL_MLFLOW": tracking,
                        "NEXTCHANNEL_SEND": "false",
                    }
                )
            )
            for _ in range(2)
        ]
        clients = []
        for address in addresses:
            wait_for(address)
            clients.append(stack.enter_context(httpx.Client(base_url=address, timeout=30)))
        with asking(asked, addresses, lambda n: body(n) | {"dry_run": n % 2 == 0}, 4):
            for number in range(n_swaps):
                time.sleep(_BETWEEN_SECONDS)
                wanted = change(clients[0], number)
                began = time.perf_counter()
                took.append(max(followed_after(client, wanted, began) for client in clients[::-1]))
    failed = {str(status): n for status, n in asked.statuses.items() if status != httpx.codes.OK}
    return {
        "passed": not failed and max(took) <= BAR_SECONDS,
        "backend": engine.dialect.name,
        "swaps": n_swaps,
        "requests": asked.statuses.total(),
        "failed": failed,
        "longest_until_both_agree_seconds": round(max(took), 2),
        "mean_seconds": round(sum(took) / len(took), 2),
        "slowest_answer_seconds": round(asked.slowest_seconds, 2),
    }


def body(number: int) -> dict[str, object]:
    """A request for somebody."""
    return {"campaign_id": "spring", "customer_id": _CUSTOMERS[number % len(_CUSTOMERS)]}


def change(client: httpx.Client, number: int) -> tuple[str, int, float]:
    """Change all three; model, campaign version and price that decisions name from then on."""
    model = client.post(f"/v1/models/{(number + 1) % _MODELS + 1}/promote").raise_for_status().json()
    campaign = client.get("/v1/campaigns/spring").raise_for_status().json()["campaign"]
    campaign["budget_minor"] = 1e9 + number
    stored = client.put("/v1/campaigns/spring", json={"campaign": campaign}).raise_for_status().json()
    price = 1.5 + number / 100
    client.patch("/v1/channels/sms", json={"cost_minor": price, "cost_source": "ours"}).raise_for_status()
    return model["bundle_version"], stored["campaign"]["version"], price


def followed_after(client: httpx.Client, wanted: tuple[str, int, float], began: float) -> float:
    """Seconds from then to a decision that was taken with all three."""
    while (passed := time.perf_counter() - began) < _PATIENCE_SECONDS:
        told = client.post("/v1/decisions", json=body(0)).raise_for_status().json()
        decided = client.get(f"/v1/decisions/{told['decision_id']}").raise_for_status().json()
        price = decided["evidence"]["cost_minor"]["sms"]
        if (told["policy_version"], told["campaign_version"], price) == wanted:
            return passed
    raise TimeoutError(f"{wanted} was not followed within {_PATIENCE_SECONDS} s")

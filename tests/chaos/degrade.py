"""What decisions lean on goes away under load: the store of features, the model, the database.

    make chaos NAME=degrade [ARGS=--quick]

One API process, with a PostgreSQL and a Redis of its own. Redis hangs, is stopped and comes back: decisions go on by rules and say so.
The files of the model are gone: the process starts and decides by rules, and `/readyz` says why. PostgreSQL is
restarted again and again, aborting whatever is under way: callers are told to come again, and nothing acknowledged
is lost or torn.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from sqlalchemy import Engine

from features.history.channels import seed_channels
from features.history.engine import migrate
from features.offline import materialize
from features.registry import ModelRegistry
from features.workspace import FeatureWorkspace
from tests.chaos import decide_kill
from tests.chaos._replicas import Asked, asking, replica, wait_for
from tests.chaos._servers import RedisServer, postgres_cluster, redis_server
from tests.fresh_database import open_database
from tests.integration.conftest import Market
from training.day_one import publish_prior

_KNOWN = tuple(f"known-{number}" for number in range(50))
_PATIENCE_SECONDS = 60.0
_DEADLINE_MS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the process finds what it leans on.

    Attributes:
        restart: Restarts PostgreSQL, aborting what is under way.
        n_strangers: People whom the process has not decided for at the start.
    """

    engine: Engine
    home: Path
    redis: RedisServer
    restart: Callable[[], None]
    n_strangers: int

    @property
    def store(self) -> dict[str, object]:
        """Feast's configuration of the online store."""
        return {"type": "redis", "connection_string": f"127.0.0.1:{self.redis.port}"}

    @property
    def registry(self) -> ModelRegistry:
        """Where the model is."""
        return ModelRegistry(f"sqlite:///{self.home}/mlflow.db", self.home / "mlartifacts")

    @contextmanager
    def served(self) -> Iterator[str]:
        """The process, until the block ends; its address."""
        environment = {
            "NEXTCHANNEL_DATABASE": self.engine.url.render_as_string(hide_password=False),
            "NEXTCHANNEL_ONLINE_STORE": json.dumps(self.store),
            "NEXTCHANNEL_HOME": str(self.home),
            "NEXTCHANNEL_SEND": "false",
            "NEXTCHANNEL_DEADLINE_MS": str(_DEADLINE_MS),
        }
        with replica(environment) as address:
            wait_for(address)
            yield address


def main(arguments: list[str]) -> int:
    """Take everything away, one after the other; 1 where a decision was refused, lost or torn."""
    parser = argparse.ArgumentParser(prog="degrade", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 restarts, 2 seconds of each trouble")
    chosen = parser.parse_args(arguments)
    n_restarts, seconds = (2, 2.0) if chosen.quick else (10, 10.0)
    with place(n_customers=int(seconds * 2_000)) as made:
        found = {
            "features": without_features(made, seconds),
            "model": without_model(made),
            "database": without_database(made, n_restarts),
        }
    passed = all(one["passed"] for one in found.values())
    sys.stdout.write(json.dumps({"chaos": "degrade", "passed": passed, **found}) + "\n")
    return int(not passed)


@contextmanager
def place(n_customers: int) -> Iterator[Place]:
    """People with features, a campaign, a model, and servers of one's own."""
    now = datetime.now(UTC)
    with (
        postgres_cluster() as (url, restart),
        redis_server() as redis,
        tempfile.TemporaryDirectory() as folder,
    ):
        engine = open_database(url)
        migrate(engine)
        with engine.begin() as conn:
            seed_channels(conn, now - timedelta(days=1))
        market = Market(engine, now=now)
        people = (*_KNOWN, *decide_kill.CUSTOMERS, *(_stranger(number) for number in range(n_customers)))
        market.customers(*people)
        market.campaign(decide_kill.CAMPAIGN, budget_minor=1e9)
        made = Place(engine=engine, home=Path(folder), redis=redis, restart=restart, n_strangers=n_customers)
        publish_prior(engine, made.registry, decide_kill.CAMPAIGN, now)
        workspace = FeatureWorkspace(made.home, engine, made.store)
        workspace.define()
        materialize(workspace, now)
        try:
            yield made
        finally:
            engine.dispose()


def _stranger(number: int) -> str:
    """Somebody whom the process has not decided for yet, so that nothing of them is at hand."""
    return f"stranger-{number}"


def _body(customer_id: str) -> dict[str, object]:
    return {"campaign_id": decide_kill.CAMPAIGN, "customer_id": customer_id}


def without_features(where: Place, seconds: float) -> Mapping[str, object]:
    """Redis hangs, then is gone, then is back: every answer is a decision, and says what it did without.

    Args:
        where: Everything.
        seconds: How long each lasts.
    """
    seconds_until_back = 0.0
    phases: dict[str, Asked] = {name: Asked() for name in ("hangs", "stopped", "known", "back")}
    # Nobody twice: who is asked for again may have been read meanwhile, behind an answer that did not wait.
    strangers = itertools.cycle(range(where.n_strangers))

    def stranger(_number: int) -> dict[str, object]:
        return _body(_stranger(next(strangers)))

    with where.served() as address, httpx.Client(base_url=address, timeout=30) as client:
        for one in _KNOWN:
            assert Asked().ask(client, _body(one)) is not None
        where.redis.hang()
        with asking(phases["hangs"], [address], stranger, 2):
            time.sleep(seconds)
        where.redis.stop()
        with asking(phases["stopped"], [address], stranger, 2):
            time.sleep(seconds)
        for one in _KNOWN:
            phases["known"].ask(client, _body(one))
        where.redis.start()
        began = time.monotonic()
        while (seconds_until_back := time.monotonic() - began) < _PATIENCE_SECONDS:
            told = phases["back"].ask(client, stranger(0))
            if told is not None and not told["degraded"]:
                break
            time.sleep(0.05)
    statuses = {name: {str(key): n for key, n in one.statuses.items()} for name, one in phases.items()}
    degraded = {name: {"+".join(key): n for key, n in one.degraded.items()} for name, one in phases.items()}
    refused = sum(n for one in phases.values() for key, n in one.statuses.items() if key != httpx.codes.OK)
    return {
        "passed": not refused
        and degraded["hangs"].keys() == {"features_late"}
        and degraded["stopped"].keys() <= {"features_unavailable", "features_late"}
        and degraded["known"] == {"": len(_KNOWN)}
        and "" in degraded["back"],
        "statuses": statuses,
        "degraded": degraded,
        "seconds_until_features_were_read_again": round(seconds_until_back, 1),
        "slowest_answer_seconds": {name: round(one.slowest_seconds, 2) for name, one in phases.items()},
    }


def without_model(where: Place) -> Mapping[str, object]:
    """The champion's files are gone when the process starts."""
    (files,) = (where.home / "mlartifacts").iterdir()
    shutil.move(files, where.home / files.name)
    asked = Asked()
    with where.served() as address, httpx.Client(base_url=address, timeout=30) as client:
        for one in _KNOWN:
            asked.ask(client, _body(one))
        ready = client.get("/readyz").json()
        # It comes back, and a running process takes it up.
        shutil.move(where.home / files.name, files)
        until = time.monotonic() + _PATIENCE_SECONDS
        back = False
        while not back and time.monotonic() < until:
            told = asked.ask(client, _body(_KNOWN[0]))
            back = told is not None and not told["degraded"]
    degraded = {"+".join(key): n for key, n in asked.degraded.items()}
    return {
        "passed": asked.statuses.keys() == {200} and degraded.get("model_missing", 0) >= len(_KNOWN) and back,
        "statuses": {str(key): n for key, n in asked.statuses.items()},
        "degraded": degraded,
        "ready_says": ready["degraded"],
        "taken_up_again": back,
    }


def without_database(where: Place, n_restarts: int) -> Mapping[str, object]:
    """PostgreSQL is restarted that often while eight callers ask; they ask again under the same id.

    Args:
        where: Everything.
        n_restarts: How often.
    """
    callers, told, resumed = decide_kill.Callers(), Asked(), []
    with where.served() as address:
        port = urlsplit(address).port
        assert port is not None
        with (
            callers.calling(port),
            asking(told, [address], lambda _n: _body(_KNOWN[0]) | {"dry_run": True}, 2),
        ):
            for _ in range(n_restarts):
                time.sleep(1.0)
                where.restart()
                began, before = time.monotonic(), len(callers.acknowledged)
                while len(callers.acknowledged) == before and time.monotonic() - began < _PATIENCE_SECONDS:
                    time.sleep(0.02)
                resumed.append(time.monotonic() - began)
            until = time.monotonic() + _PATIENCE_SECONDS
            while callers.unanswered and time.monotonic() < until:
                time.sleep(0.05)
        ready = httpx.get(f"{address}/readyz").json()["ready"]
    found = decide_kill.inspect(where.engine, callers)
    wrong = [found[key] for key in ("lost", "changed", "torn", "miscounted_minor", "other_statuses")]
    return {
        "passed": not any(wrong)
        and ready
        and told.statuses.keys() <= {200, 503}
        and not told.without_retry_after,
        "restarts": n_restarts,
        "longest_until_decided_after_a_restart_seconds": round(max(resumed), 2),
        "statuses": {str(key): n for key, n in told.statuses.items()},
        "without_retry_after": told.without_retry_after,
        **found,
    }

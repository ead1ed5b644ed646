"""Features online equal the offline frame: random pairs of customer and moment, both stores, every bit.

    make chaos NAME=parity [ARGS=--quick]

Time goes by from moment to moment. At each, facts of the time since arrive out of order, attributes change, some customers are refreshed
and read back from the online store; afterwards a second installation builds the offline frame of the same pairs from
the history and Feast joins it. Both run on SQLite alone, and on PostgreSQL with Redis.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import uuid4

import numpy as np
import polars as pl
from sqlalchemy import Engine, select

from features.compute import POINTS
from features.history.append import (
    CustomerRecord,
    append_consents,
    append_customers,
    append_identities,
    append_interactions,
)
from features.history.engine import connect, migrate
from features.history.tables import customers
from features.offline import build_snapshots, training_frame
from features.online import FeatureReader, FeatureWriter
from features.workspace import FeatureWorkspace
from models.domain.channel import DEFAULT_CHANNELS, IdentityKind
from models.domain.customer import Consent, ConsentStatus, Identity
from models.domain.interaction import Interaction, InteractionKind
from tests.fresh_database import database

START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(days=30)
CHANNELS = [channel for channel in DEFAULT_CHANNELS if channel.name in ("email", "sms", "push")]
ZONES = ("Asia/Taipei", "Europe/Paris", "America/New_York")


def compare(
    engine: Engine,
    folder: Path,
    *,
    n_pairs: int,
    n_customers: int,
    n_facts: int,
    online_store: Mapping[str, object] | None = None,
    seed: int = 5,
) -> dict[str, int]:
    """Number of pairs, and of those in which any feature differs.

    Args:
        engine: An empty history, which is filled.
        folder: For the two installations.
        n_pairs: A multiple of 50: how many customers are read at each moment.
        n_customers: At least 50.
        n_facts: Spread over 200 days before `START` and the days up to `END`.
        online_store: Feast's configuration; None for an SQLite file.
        seed: Of everything that is drawn.
    """
    random = Random(seed)
    people = [f"c-{number}" for number in range(n_customers)]
    _register(engine, people, random)
    serving = FeatureWorkspace(folder / "serving", engine, online_store, f"parity_{uuid4().hex[:12]}")
    serving.define(CHANNELS)
    reader, writer = FeatureReader(serving), FeatureWriter(serving)
    facts = sorted(_facts(people, n_facts, random), key=lambda fact: fact.occurred_at)
    moments = sorted(
        START + timedelta(microseconds=random.randrange(30 * 86_400 * 10**6)) for _ in range(n_pairs // 50)
    )
    online, asked, told = [], [], 0
    for moment in moments:
        upto = told
        while upto < len(facts) and facts[upto].occurred_at < moment:
            upto += 1
        arrived = facts[told:upto]
        random.shuffle(arrived)
        with engine.begin() as conn:
            append_interactions(conn, arrived, moment)
        told = upto
        _change_attributes(engine, people, moment, random)
        some = random.sample(people, 50)
        writer.refresh(some, moment)
        serving.cache.clear()  # what the store holds, not what was just computed
        read = reader.read(some, moment)
        if read.missing.any() or set(read.as_of) != {moment.timestamp()}:
            raise AssertionError(f"rows as of {moment} are not there")
        online.append(read.values)
        asked += [(customer_id, moment) for customer_id in some]
    with engine.begin() as conn:
        append_interactions(conn, facts[told:], END)
    training = FeatureWorkspace(folder / "training", engine)
    training.define(CHANNELS)
    points = pl.DataFrame(asked, schema=POINTS, orient="row")
    if build_snapshots(training, points, END) != points.n_unique():
        raise AssertionError("the offline rows are not all new")
    frame = training_frame(training, points).select(serving.features.names)
    offline = frame.cast(pl.Float64).fill_null(np.nan).to_numpy()
    both = np.concatenate(online)
    same = (both == offline) | (np.isnan(both) & np.isnan(offline))
    if online_store is not None:
        serving.store.teardown()
    return {
        "pairs": len(points),
        "features": same.shape[1],
        "pairs_that_differ": int((~same.all(axis=1)).sum()),
        "distinct_values": int(sum(len(np.unique(column)) for column in offline.T)),
    }


def _change_attributes(engine: Engine, people: Sequence[str], now: datetime, random: Random) -> None:
    """Some customers are said to be others than before."""
    some = random.sample(people, 10)
    with engine.begin() as conn:
        register = {
            row.customer_id: row
            for row in conn.execute(select(customers).where(customers.c.customer_id.in_(some)))
        }
        append_customers(
            conn,
            [
                CustomerRecord(
                    customer_id=name,
                    time_zone=register[name].time_zone,
                    created_at=register[name].created_at,
                    attributes=_attributes(random),
                    told_at=now,
                )
                for name in some
            ],
        )


def _attributes(random: Random) -> dict[str, float | str]:
    return {"age": random.randint(18, 90), "segment": random.choice(["gold", "silver"])}


def _register(engine: Engine, people: Sequence[str], random: Random) -> None:
    def at(earliest: float, latest: float) -> datetime:
        return START + timedelta(days=random.uniform(earliest, latest))

    with engine.begin() as conn:
        append_customers(
            conn,
            [
                CustomerRecord(
                    customer_id=name,
                    time_zone=random.choice(ZONES),
                    created_at=at(-400, 10),
                    attributes=_attributes(random),
                )
                for name in people
            ],
        )
        append_identities(
            conn,
            [
                Identity(
                    customer_id=name,
                    kind=IdentityKind.EMAIL,
                    value=name,
                    linked_at=at(-300, 25),
                    source="test",
                )
                for name in people
            ],
        )
        append_consents(
            conn,
            [
                Consent(
                    customer_id=random.choice(people),
                    channel=random.choice(["email", "sms"]),
                    purpose="marketing",
                    status=random.choice(list(ConsentStatus)),
                    since=at(-100, 30),
                    source="test",
                )
                for _ in range(2 * len(people))
            ],
        )


def _facts(people: Sequence[str], n: int, random: Random) -> list[Interaction]:
    # Refusals also become consents; they are told above, so that the register is complete from the start.
    kinds = [
        kind
        for kind in InteractionKind
        if kind not in (InteractionKind.UNSUBSCRIBED, InteractionKind.COMPLAINED)
    ]
    return [
        Interaction(
            source="random",
            event_id=str(number),
            customer_id=random.choice(people),
            kind=random.choice(kinds),
            occurred_at=START + timedelta(microseconds=random.randrange(-200 * 86_400, 30 * 86_400) * 10**6),
            channel=random.choice(["email", "sms", "push", None]),
            value_minor=random.choice([None, random.uniform(-100, 10_000)]),
            machine_made=random.random() < 0.1,
            attributes={
                "place": random.choice(["web", "shop"]),
                "price": random.choice(["full", "discounted"]),
            },
        )
        for number in range(n)
    ]


def redis_store() -> dict[str, object]:
    """Feast's configuration of the Redis server of the tests."""
    return {
        "type": "redis",
        "connection_string": os.environ.get("NEXTCHANNEL_TEST_REDIS", "127.0.0.1:6379"),
    }


def main(arguments: list[str]) -> int:
    """Compare on both; 1 where any pair differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the pairs")
    asked = parser.parse_args(arguments)
    size = {"n_pairs": 500, "n_customers": 100, "n_facts": 5_000}
    if not asked.quick:
        size = {"n_pairs": 10_000, "n_customers": 1_000, "n_facts": 100_000}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        sqlite = connect(f"sqlite:///{folder}/history.db")
        migrate(sqlite)
        found["sqlite"] = compare(sqlite, Path(folder, "sqlite"), **size)
        sqlite.dispose()
        print("SQLite:", found["sqlite"])  # noqa: T201
        with database(postgres=True) as postgres:
            found["postgresql_redis"] = compare(
                postgres, Path(folder, "postgresql"), online_store=redis_store(), **size
            )
        print("PostgreSQL and Redis:", found["postgresql_redis"])  # noqa: T201
    print(json.dumps({"chaos": "parity", **found}))  # noqa: T201
    return int(any(one["pairs_that_differ"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

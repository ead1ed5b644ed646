"""A long history for benchmarks of features, written straight into the tables of an SQLite file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from sqlalchemy import Engine

from features.history.append import CustomerRecord, append_consents, append_customers, append_identities
from features.history.engine import connect, migrate
from features.history.export import MOMENT
from features.history.tables import interactions
from models.domain.channel import DEFAULT_CHANNELS, Channel, IdentityKind
from models.domain.customer import Consent, ConsentStatus, Identity

END = datetime(2026, 6, 1, tzinfo=UTC)
CHANNELS: Sequence[Channel] = [
    channel for channel in DEFAULT_CHANNELS if channel.name in ("email", "sms", "line", "push")
]
_KINDS = ("sent", "delivered", "opened", "clicked", "visited", "carted", "purchased", "converted")
_SHARES = (0.28, 0.2, 0.12, 0.04, 0.25, 0.04, 0.04, 0.03)
_ZONES = ("Asia/Taipei", "Europe/Paris", "America/New_York", "UTC")
_DAYS = 365
_A_WRITE = 200_000
_INSERT = (
    "INSERT INTO interactions (source, event_id, customer_id, kind, occurred_at, received_at, channel, value_minor,"
    " machine_made, attributes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, '{}')"
)


def customer_ids(n_customers: int) -> list[str]:
    """Of everybody."""
    return [f"c-{number:06d}" for number in range(n_customers)]


def open_history(path: Path) -> Engine:
    """An empty, migrated SQLite history."""
    engine = connect(f"sqlite:///{path}")
    migrate(engine)
    return engine


def fill(engine: Engine, n_customers: int, n_facts: int, seed: int) -> None:
    """Customers with accounts and consents, and facts of a year in no particular order."""
    rng = np.random.default_rng(seed)
    people = customer_ids(n_customers)
    joined = END - timedelta(days=_DAYS + 30)
    with engine.begin() as conn:
        append_customers(
            conn,
            [
                CustomerRecord(
                    customer_id=name,
                    time_zone=_ZONES[i % len(_ZONES)],
                    created_at=joined,
                    attributes={"age": float(18 + i % 60)},
                )
                for i, name in enumerate(people)
            ],
        )
        append_identities(
            conn,
            [
                Identity(
                    customer_id=name, kind=IdentityKind.EMAIL, value=name, linked_at=joined, source="bench"
                )
                for name in people
            ],
        )
        append_consents(
            conn,
            [
                Consent(
                    customer_id=name,
                    channel="email",
                    purpose="marketing",
                    status=ConsentStatus.GRANTED,
                    since=joined,
                    source="bench",
                )
                for name in people
            ],
        )
    end_us = int(END.timestamp()) * 10**6
    # An index is built faster at the end than row by row in no order.
    by_customer = next(index for index in interactions.indexes if index.columns[0].name == "customer_id")
    by_customer.drop(engine)
    names = [channel.name for channel in CHANNELS]
    for start in range(0, n_facts, _A_WRITE):
        n = min(_A_WRITE, n_facts - start)
        kind = rng.choice(_KINDS, n, p=_SHARES)
        on_channel = np.isin(kind, ("sent", "delivered", "opened", "clicked"))
        with_value = np.isin(kind, ("purchased", "converted"))
        columns = (
            ["bench"] * n,
            [f"{number:09d}" for number in range(start, start + n)],
            np.array(people)[rng.integers(0, n_customers, n)].tolist(),
            kind.tolist(),
            (end_us - rng.integers(1, _DAYS * 86_400 * 10**6, n)).tolist(),
            [end_us] * n,
            np.where(on_channel, rng.choice(names, n), None).tolist(),
            np.where(with_value, (rng.random(n) * 10_000).round(2), None).tolist(),
        )
        with engine.begin() as conn:
            conn.exec_driver_sql(_INSERT, list(zip(*columns, strict=True)))
    by_customer.create(engine)


def points(n_customers: int, n_points: int, seed: int) -> pl.DataFrame:
    """Moments of decisions in the last two months: another second for each."""
    rng = np.random.default_rng(seed)
    seconds = rng.choice(60 * 86_400, n_points, replace=False) if n_points <= 60 * 86_400 else None
    ago = rng.integers(0, 60 * 86_400, n_points) if seconds is None else seconds
    people = np.array(customer_ids(n_customers))[rng.integers(0, n_customers, n_points)]
    at = (int(END.timestamp()) - ago) * 10**6
    return pl.DataFrame({"customer_id": people, "event_timestamp": pl.Series(at).cast(MOMENT)})

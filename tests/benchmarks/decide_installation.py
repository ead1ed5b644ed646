"""A whole installation for the benchmarks of the decision: customers, features, a champion, a live campaign.

The response model and the bandit are those of `core`, fitted on features of the installation's own list. Features of
customers are drawn at random, so that every customer takes another way through the trees.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from sqlalchemy import insert

from features.history.append import CustomerRecord, append_consents, append_customers, append_identities
from features.history.campaigns import save_campaign
from features.history.channels import save_channel
from features.history.engine import connect, migrate
from features.history.tables import decisions
from features.identity.vault import KEY_FILE, ContactVault
from features.registry import ModelRegistry
from features.workspace import FeatureWorkspace
from models.bundle import Bundle
from models.domain.campaign import Campaign, Mode, SendWindow
from models.domain.customer import Consent, ConsentStatus, Identity
from tests.benchmarks import core
from tests.benchmarks.decide_service import DATABASE, HOME

PURPOSE = "marketing"
_AT_ONCE = 5_000
_SINCE = timedelta(days=200)


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Where it lies.

    Attributes:
        home: Folder of features and models, and of the history on SQLite.
        database_url: SQLAlchemy address of the history.
        n_customers: Named `c-0` and so on.
    """

    home: Path
    database_url: str
    n_customers: int

    @property
    def environment(self) -> dict[str, str]:
        """What the process that serves is told."""
        return {HOME: str(self.home), DATABASE: self.database_url}


def campaign(now: datetime) -> Campaign:
    """Live: 8 channels by 12 slots, the bandit decides; a budget and caps, neither of which is ever used up."""
    return replace(
        core.CAMPAIGN,
        send_window=SendWindow(starts_at=now - timedelta(days=1), ends_at=now + timedelta(days=30)),
        budget_minor=1e9,
        mode=Mode.LIVE,
    )


def install(home: Path, n_customers: int, seed: int, database_url: str | None = None) -> Installation:
    """Make everything that decisions are taken with."""
    now = datetime.now(UTC)
    made = Installation(
        home=home, database_url=database_url or f"sqlite:///{home / 'history.db'}", n_customers=n_customers
    )
    engine = connect(made.database_url, ContactVault(home / KEY_FILE))
    migrate(engine)
    with engine.begin() as conn:
        for channel in core.CHANNELS.values():
            save_channel(conn, channel, now)
        save_campaign(conn, campaign(now), now)
    draw = random.Random(seed)
    for start in range(0, n_customers, _AT_ONCE):
        people = [core.customer(f"c-{i}", draw) for i in range(start, min(start + _AT_ONCE, n_customers))]
        with engine.begin() as conn:
            _append(conn, people, now)
    workspace = FeatureWorkspace(home, engine)
    names = workspace.define(core.CHANNELS.values()).names
    rng = np.random.default_rng(seed)
    for start in range(0, n_customers, _AT_ONCE):
        ids = [f"c-{i}" for i in range(start, min(start + _AT_ONCE, n_customers))]
        values = rng.normal(size=(len(ids), len(names)))
        values[rng.random(values.shape) < 0.05] = np.nan
        workspace.write_online(
            pl.DataFrame(
                {"customer_id": ids, "event_timestamp": [now] * len(ids)}
                | {name: values[:, column] for column, name in enumerate(names)}
            )
        )
    world = core.fitted_world(seed, names)
    registry = ModelRegistry(f"sqlite:///{home / 'mlflow.db'}", home / "mlartifacts")
    version = registry.publish(
        Bundle(
            feature_names=names,
            offers=("coats",),
            channels=core.CAMPAIGN.channels,
            slots=core.SLOTS,
            created_at=now,
            response=world.response.to_files(),
            bandit=world.bandit.to_files(),
        ),
        params={},
        metrics={},
        report="# benchmark",
    )
    registry.promote(version)
    engine.dispose()
    return made


def _append(conn, people, now: datetime) -> None:  # type: ignore[no-untyped-def]
    since = now - _SINCE
    append_customers(
        conn,
        [CustomerRecord(customer_id=p.customer_id, time_zone=p.time_zone, created_at=since) for p in people],
    )
    append_identities(
        conn,
        [
            Identity(
                customer_id=p.customer_id,
                kind=kind,
                value=f"{kind}:{p.customer_id}",
                linked_at=since,
                source="bench",
            )
            for p in people
            for kind in p.identities
        ],
    )
    append_consents(
        conn,
        [
            Consent(
                customer_id=p.customer_id,
                channel=channel,
                purpose=purpose,
                status=ConsentStatus(status),
                since=since,
                source="bench",
            )
            for p in people
            for (channel, purpose), status in p.consents.items()
        ],
    )
    conn.execute(
        insert(decisions),
        [
            {
                "decision_id": f"{p.customer_id}/{number}",
                "customer_id": p.customer_id,
                "campaign_id": contact.campaign_id,
                "campaign_version": 1,
                "decided_at": now - (core.NOW - contact.contacted_at),
                "arm": "treatment",
                "mode": "live",
                "policy": "bandit",
                "policy_version": "1",
                "offer_id": "coats",
                "channel": contact.channel,
                "slot": 0,
                "send_at": now - (core.NOW - contact.contacted_at),
                "propensity": 1.0,
                "cost_minor": 1.0,
                "degraded": [],
            }
            for p in people
            for number, contact in enumerate(p.contacts)
        ],
    )

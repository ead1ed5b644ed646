"""A small shop with messages in its outbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta

import pytest
from sqlalchemy import Engine, insert, select

from features.history.append import (
    CustomerRecord,
    append_consents,
    append_customers,
    append_identities,
)
from features.history.campaigns import save_campaign
from features.history.channels import seed_channels
from features.history.tables import decisions, interactions, outbox
from models.domain.campaign import Campaign, Content, Offer, QuietHours, SendWindow
from models.domain.channel import DEFAULT_CHANNELS, ContentKind
from models.domain.customer import Consent, ConsentStatus, Identity
from models.domain.experiment import Experiment
from models.domain.message import message_id
from serving.smtp_sink import SmtpSink
from serving.tracking import Signer, TrackedLinks

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SIGNING_KEY = "a secret for tests only"
_CHANNELS = {channel.name: channel for channel in DEFAULT_CHANNELS}


@dataclass
class Shop:
    """Puts customers, decisions and messages into a history.

    Customer n has the address `c<n>@example.com`, the phone number `+1555<n>` and consent to every channel.
    """

    engine: Engine
    links: TrackedLinks

    def add_campaign(self, **changes: object) -> Campaign:
        campaign = Campaign(
            campaign_id="spring",
            send_window=SendWindow(starts_at=NOON - timedelta(days=1), ends_at=NOON + timedelta(days=30)),
            slots=(time(9), time(12)),
            offers=(
                Offer(
                    offer_id="tulips",
                    margin_minor=500.0,
                    content={
                        ContentKind.TEXT: Content(
                            subject="Tulips",
                            body="Ten tulips. See https://shop.example/care for care.",
                            link_url="https://shop.example/tulips?utm=a&b=1",
                        ),
                        ContentKind.HTML: Content(
                            subject="Tulips",
                            body='<p>Ten tulips: <a href="https://shop.example/tulips?a=1&amp;b=2">buy</a></p>',
                        ),
                    },
                ),
            ),
            channels=("email", "sms"),
            experiment=Experiment(experiment_id="spring"),
            conversion_value_minor=1000.0,
        )
        with self.engine.begin() as conn:
            seed_channels(conn, NOON)
            return save_campaign(conn, replace(campaign, **changes), NOON)

    def add_messages(
        self,
        n: int,
        *,
        first: int = 0,
        channel: str = "email",
        content_kind: ContentKind = ContentKind.TEXT,
        send_at: datetime = NOON,
        time_zone: str = "UTC",
        consent: ConsentStatus = ConsentStatus.GRANTED,
    ) -> list[str]:
        """One message each for n customers; their message ids."""
        before = NOON - timedelta(days=10)
        numbers = range(first, first + n)
        kind = _CHANNELS[channel].identity_kind
        address: Callable[[int], str] = (
            (lambda i: f"c{i}@example.com") if channel == "email" else (lambda i: f"+1555{i:04}")
        )
        with self.engine.begin() as conn:
            append_customers(
                conn,
                [
                    CustomerRecord(customer_id=f"c{i}", time_zone=time_zone, created_at=before)
                    for i in numbers
                ],
            )
            append_identities(
                conn,
                [
                    Identity(customer_id=f"c{i}", kind=kind, value=address(i), linked_at=before, source="t")
                    for i in numbers
                ],
            )
            append_consents(conn, [_consent(f"c{i}", channel, consent, before) for i in numbers])
            rows = [_message(f"d{i}", f"c{i}", channel, content_kind, send_at) for i in numbers]
            conn.execute(insert(decisions), [_decision(row) for row in rows])
            conn.execute(insert(outbox), rows)
        return [str(row["message_id"]) for row in rows]

    def withdraw(self, customer_id: str, channel: str, at: datetime) -> None:
        with self.engine.begin() as conn:
            append_consents(conn, [_consent(customer_id, channel, ConsentStatus.WITHDRAWN, at)])

    def row(self, message: str) -> Mapping[str, object]:
        with self.engine.begin() as conn:
            return conn.execute(select(outbox).where(outbox.c.message_id == message)).mappings().one()

    def facts(self, kind: str | None = None) -> list[Mapping[str, object]]:
        query = select(interactions).order_by(interactions.c.interaction_id)
        if kind is not None:
            query = query.where(interactions.c.kind == kind)
        with self.engine.begin() as conn:
            return list(conn.execute(query).mappings().all())


def _consent(customer_id: str, channel: str, status: ConsentStatus, since: datetime) -> Consent:
    return Consent(
        customer_id=customer_id, channel=channel, purpose="marketing", status=status, since=since, source="t"
    )


def _message(
    decision_id: str, customer_id: str, channel: str, content_kind: ContentKind, send_at: datetime
) -> dict[str, object]:
    return {
        "message_id": message_id(decision_id, 0, channel),
        "decision_id": decision_id,
        "customer_id": customer_id,
        "campaign_id": "spring",
        "offer_id": "tulips",
        "channel": channel,
        "content_kind": content_kind,
        "send_at": send_at,
        "expires_at": send_at + timedelta(hours=6),
        "status": "pending",
        "attempts": 0,
        "due_at": send_at,
        "fencing_token": 0,
    }


def _decision(message: Mapping[str, object]) -> dict[str, object]:
    return {
        "decision_id": message["decision_id"],
        "customer_id": message["customer_id"],
        "campaign_id": "spring",
        "campaign_version": 1,
        "decided_at": NOON - timedelta(days=1),
        "arm": "treatment",
        "mode": "live",
        "policy": "uniform",
        "policy_version": "1",
        "offer_id": "tulips",
        "channel": message["channel"],
        "slot": 0,
        "send_at": message["send_at"],
        "expires_at": message["expires_at"],
        "propensity": 0.5,
        "cost_minor": 0.01,
        "degraded": [],
    }


@pytest.fixture
def links() -> TrackedLinks:
    return TrackedLinks("https://news.example", Signer(SIGNING_KEY))


@pytest.fixture
def shop(engine: Engine, links: TrackedLinks) -> Shop:
    """A shop on SQLite and on PostgreSQL, with one campaign."""
    shop = Shop(engine, links)
    shop.add_campaign(quiet_hours=QuietHours(start=time(21), end=time(8)))
    return shop


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with SmtpSink() as sink:
        yield sink

"""A small market for the tests of the service: people, channels, a campaign, features, and a model by rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from features.history.append import CustomerRecord, append_consents, append_customers, append_identities
from features.history.campaigns import save_campaign
from features.history.channels import load_channels, save_channel, seed_channels
from features.registry import ModelVersion
from models.choice import FloatArray, Predictions
from models.domain.action import ActionGrid
from models.domain.campaign import Campaign, Caps, Content, Offer, PolicyName, SendWindow
from models.domain.channel import Channel, ContentKind, IdentityKind
from models.domain.customer import Consent, ConsentStatus, Identity
from models.domain.errors import ConflictError, NotFoundError
from models.domain.experiment import Experiment
from models.policy.bandit import Bandit
from serving.bootstrap import ServiceConfig
from serving.counting import Counting
from serving.customers import Customers
from serving.decide import Decider
from serving.erasure import Eraser
from serving.money import Currency
from serving.observability.metrics import Metrics
from serving.pacing.pacing import Pacing
from serving.plans.runner import Plans
from serving.refresh import FeatureRefresher
from serving.security.key_ring import KeyRing
from serving.security.protection import Protection
from serving.service import Service, utc_now
from serving.snapshot import Model, Snapshots
from serving.store.writer import DecisionWriter

# 14:00 in Taipei, where the customers live.
NOW = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)
CHANNELS = ("email", "push", "sms")
SLOTS = (time(9), time(15), time(18))


@dataclass(frozen=True, slots=True)
class Rows:
    """Features of n customers, as the online store gives them."""

    names: tuple[str, ...]
    values: FloatArray
    missing: np.ndarray
    as_of: datetime
    stale: np.ndarray


@dataclass
class FeatureTable:
    """An online store in memory; `without` have no row, `stale` an old one, and a `failure` is raised."""

    names: tuple[str, ...] = ("age", "visits")
    without: set[str] = field(default_factory=set)
    stale: set[str] = field(default_factory=set)
    failure: Exception | None = None
    delay: Callable[[], None] = lambda: None
    refreshed: list[str] = field(default_factory=list)

    def cached(self, customer_ids: Sequence[str], now: datetime) -> Rows | None:  # noqa: ARG002
        return None

    def read(self, customer_ids: Sequence[str], now: datetime) -> Rows:
        self.delay()
        if self.failure is not None:
            raise self.failure
        missing = np.array([customer_id in self.without for customer_id in customer_ids], dtype=np.bool_)
        values = np.array([[40.0, np.nan] for _ in customer_ids]).reshape(-1, 2)
        values[missing] = np.nan
        stale = np.array([customer_id in self.stale for customer_id in customer_ids], dtype=np.bool_)
        return Rows(self.names, values, missing, now, stale)

    def refresh(self, customer_ids: Sequence[str], now: datetime) -> None:  # noqa: ARG002
        self.refreshed.extend(customer_ids)

    def tidy(self, now: datetime) -> None:
        """Nothing is left over in memory."""

    def close(self) -> None:
        """Nothing is left over in memory."""


class RuleModel:
    """Response by channel: e-mail +0.004, push +0.010, SMS +0.012 over a base of 0.02; evenings are best."""

    feature_names = ("age",)

    def predict(self, features: FloatArray, grid: ActionGrid, channels: Mapping[str, Channel]) -> Predictions:  # noqa: ARG002
        n, (offers, n_channels, slots) = len(features), grid.shape
        lift = np.array([{"email": 0.004, "push": 0.010, "sms": 0.012}[name] for name in grid.channels])
        by_slot = 1.0 + 0.05 * np.arange(slots)
        p_open = np.broadcast_to(0.2 * by_slot, (n, n_channels, slots)).copy()
        uplift = np.broadcast_to(lift[:, None] * by_slot, (n, offers, n_channels, slots))
        return Predictions(
            p_open=p_open,
            p_convert=0.02 + uplift,
            p_convert_no_contact=np.full(n, 0.02),
            attention_minor=np.zeros((n, n_channels)),
        )


class Unlike(FeatureTable):
    """Everybody is as old as their number says."""

    def read(self, customer_ids: Sequence[str], now: datetime) -> Rows:
        rows = super().read(customer_ids, now)
        return replace(rows, values=np.array([[float(one[1:] or 0), np.nan] for one in customer_ids]))


class WorthByAge(RuleModel):
    """SMS brings the old most, e-mail everybody a little, push nothing."""

    def predict(self, features: FloatArray, grid: ActionGrid, channels: Mapping[str, Channel]) -> Predictions:
        plain = super().predict(features, grid, channels)
        lift = np.zeros(plain.p_convert.shape)
        lift[:, :, grid.channels.index("email")] = 0.001
        lift[:, :, grid.channels.index("sms")] = 0.002 + 0.0001 * features[:, 0, None, None]
        return replace(plain, p_convert=0.02 + lift)


@dataclass
class Champion:
    """The model that serves; None before the first promotion."""

    model: Model | None
    version: int = 1
    former: dict[int, Model] = field(default_factory=dict)

    def champion_version(self) -> int | None:
        return None if self.model is None else self.version

    def load(self, alias_or_version: str | int) -> Model:
        model = self.former.get(int(alias_or_version), self.model)
        assert model is not None
        return model

    def versions(self) -> tuple[ModelVersion, ...]:
        known = self.former | ({} if self.model is None else {self.version: self.model})
        return tuple(
            ModelVersion(version=number, aliases=(), bundle_version=m.version, run_id="", created_at=NOW)
            for number, m in known.items()
        )

    def succeed(self, model: Model) -> None:
        """Make another model the champion; the one before stays loadable."""
        if self.model is not None:
            self.former[self.version] = self.model
        self.model, self.version = model, max([self.version, *self.former]) + 1

    def report(self, version: int) -> str:
        if version not in {one.version for one in self.versions()}:
            raise NotFoundError("version", str(version))
        return "# report"

    def promote(self, version: int) -> None:
        known = self.former.get(version)
        if known is not None and self.model is not None:
            self.former[self.version] = self.model
            self.model, self.version = known, version
        elif version != self.version or self.model is None:
            raise NotFoundError("version", str(version))

    def rollback(self) -> int:
        if not self.former:
            raise ConflictError("there is no former champion to roll back to")
        self.promote(max(self.former))
        return self.version


def rule_model(with_bandit: bool = True) -> Model:
    return Model(
        version="rule-1", response=RuleModel(), bandit=Bandit.fresh(CHANNELS, SLOTS) if with_bandit else None
    )


@dataclass
class Market:
    """The market in one database, and services over it."""

    engine: Engine
    features: FeatureTable = field(default_factory=FeatureTable)
    champion: Champion = field(default_factory=lambda: Champion(rule_model()))
    now: datetime = NOW
    opened: list[Service] = field(default_factory=list)

    def campaign(self, campaign_id: str = "spring", **changes: object) -> Campaign:
        """A campaign of two offers on three channels, for everybody; stored."""
        text = {
            ContentKind.TEXT: Content(body="Coats are in.", subject="Coats", link_url="https://shop.test")
        }
        made = Campaign(
            campaign_id=campaign_id,
            send_window=SendWindow(
                starts_at=self.now - timedelta(days=1), ends_at=self.now + timedelta(days=30)
            ),
            slots=SLOTS,
            offers=(
                Offer(offer_id="coats", margin_minor=3000.0, content=text),
                Offer(offer_id="boots", margin_minor=2500.0, content=text),
            ),
            channels=CHANNELS,
            experiment=Experiment(experiment_id=campaign_id),
            conversion_value_minor=3000.0,
            policy=PolicyName.BANDIT,
            caps=Caps(contacts=None),
        )
        with self.engine.begin() as conn:
            return save_campaign(conn, replace(made, **changes), self.now)

    def customers(self, *customer_ids: str, consent: bool = True) -> None:
        """People with an e-mail address, a device and a phone, who agreed to be contacted (or not)."""
        since = NOW - timedelta(days=100)
        with self.engine.begin() as conn:
            append_customers(
                conn,
                [
                    CustomerRecord(customer_id=c, time_zone="Asia/Taipei", created_at=since)
                    for c in customer_ids
                ],
            )
            kinds = (IdentityKind.EMAIL, IdentityKind.DEVICE, IdentityKind.PHONE)
            append_identities(
                conn,
                [
                    Identity(customer_id=c, kind=kind, value=f"{kind}:{c}", linked_at=since, source="test")
                    for c in customer_ids
                    for kind in kinds
                ],
            )
            if consent:
                append_consents(
                    conn,
                    [
                        Consent(
                            customer_id=c,
                            channel=channel,
                            purpose="marketing",
                            status=ConsentStatus.GRANTED,
                            since=since,
                            source="test",
                        )
                        for c in customer_ids
                        for channel in CHANNELS
                    ],
                )

    def channel(self, channel: Channel) -> None:
        """Configure a channel anew."""
        with self.engine.begin() as conn:
            save_channel(conn, channel, self.now + timedelta(seconds=1))

    def service(
        self, deadline_seconds: float = 1.0, start: bool = True, protection: Protection | None = None
    ) -> Service:
        """A service over the market."""
        snapshots = Snapshots(self.engine, self.champion, lambda model: model)
        writer = DecisionWriter(self.engine)
        metrics = Metrics()
        # Its turns are the tests' to take.
        pacing = Pacing(self.engine, snapshots, lambda: self.now)
        decider = Decider(
            self.engine,
            snapshots,
            self.features,
            writer,
            Currency(),
            deadline_seconds,
            metrics=metrics,
            pacing=pacing,
        )
        made = Service(
            title="nextchannel",
            currency=Currency(),
            engine=self.engine,
            snapshots=snapshots,
            decider=decider,
            metrics=metrics,
            writer=writer,
            refresher=FeatureRefresher(self.features, lambda: self.now),
            threads=ThreadPoolExecutor(8),
            tracking_secret="a secret of the tests",
            registry=self.champion,
            customers=Customers(self.engine, self.features, None),
            eraser=Eraser(self.engine, None, lambda: self.now),
            counting=Counting(self.engine, lambda: self.now),
            plans=Plans(self.engine, snapshots, decider, lambda: None, lambda: self.now, utc_now),
            pacing=pacing,
            key_ring=KeyRing(self.engine, lambda: self.now),
            protection=protection or Protection(),
            clock=lambda: self.now,
        )
        if start:
            made.start()
        self.opened.append(made)
        return made

    def close(self) -> None:
        """Stop what was opened."""
        for service in self.opened:
            service.stop()


def limit_sms(market: Market, capacity: int | None) -> None:
    """Most SMS a day; None for no limit."""
    with market.engine.connect() as conn:
        sms = load_channels(conn)["sms"]
    market.channel(replace(sms, capacity_per_day=capacity))


@pytest.fixture
def market(engine: Engine) -> Iterator[Market]:
    """A market with the default channels and nobody in it."""
    with engine.begin() as conn:
        seed_channels(conn, NOW - timedelta(days=1))
    made = Market(engine)
    yield made
    made.close()


@pytest.fixture
def market_on() -> Iterator[Callable[[Engine, datetime], Market]]:
    """A market on a database of the test's own."""
    made: list[Market] = []

    def open_market(engine: Engine, now: datetime) -> Market:
        made.append(Market(engine, now=now))
        return made[-1]

    yield open_market
    for market in made:
        market.close()


@pytest.fixture
def config(tmp_path: Path) -> ServiceConfig:
    """An installation of its own in a folder, with what it needs built in."""
    return ServiceConfig(
        database_url=f"sqlite:///{tmp_path / 'history.db'}",
        data_dir=tmp_path,
        tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        artifact_root=tmp_path / "mlartifacts",
        adapters={"email": "console"},
        deadline_ms=2_000,
    )

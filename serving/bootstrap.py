"""The composition root: the one place where the parts of a service are put together."""

from __future__ import annotations

import importlib
import os
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from features.history.channels import load_channels, seed_channels
from features.history.engine import CHECKPOINT_SECONDS, Checkpoints, connect, migrate
from features.history.members import gather
from features.identity.rotate import check_keys
from features.identity.vault import KEY_FILE, ContactVault
from features.row_cache import MOST_ROWS
from models.domain.errors import NotFoundError, require
from models.domain.party import Party
from serving.admission import Admission
from serving.background import Repeating
from serving.calls import CallQueue
from serving.chat.sender import ChatSender
from serving.counting import Counting
from serving.customers import Customers
from serving.decide import Decider
from serving.dispatch_settings import ChatSettings, DispatchSettings, UnknownPolicy
from serving.dispatcher import Dispatcher
from serving.erasure import UPKEEP_SECONDS, Eraser
from serving.followups.runner import EVERY_SECONDS, FollowUpRunner
from serving.money import Currency
from serving.observability.metrics import Metrics
from serving.occasions.runner import EVERY_SECONDS as OCCASIONS_SECONDS
from serving.occasions.runner import OccasionRunner
from serving.pacing.pacing import Pacing
from serving.plans.runner import Plans
from serving.provider_events import record_provider_events
from serving.refresh import FeatureRefresher
from serving.rehearsal import SETTING, Rehearsal, SteppedClock, require_none_later
from serving.security.key_ring import KeyRing
from serving.security.protection import Protection
from serving.sending import SendingThread
from serving.service import MOST_UNDER_WAY, Service, utc_now
from serving.snapshot import RELOAD_SECONDS, Model, Snapshots
from serving.store.handover import cancel_overtaken
from serving.store.idempotency import forget_expired
from serving.store.rates import Rate
from serving.store.writer import DecisionWriter
from serving.tracking import Signer, TrackedLinks

if TYPE_CHECKING:
    from features.feature_list import FeatureList
    from features.workspace import FeatureWorkspace
    from models.bundle import Bundle
    from serving.channels.contract import ChannelAdapter, DeliveryEvent

# How often held messages that were overtaken give back what they reserved, and keys of yesterday are deleted.
_HELD_SECONDS = 30.0
_CLEANING_SECONDS = 3_600.0
# An answer of the tracking server may take so long: decisions go on with the model that they have, or by rules.
_REGISTRY_SECONDS = 5
_SECRET_FILE = "tracking.secret"  # noqa: S105 - the name of a file


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """Everything that a service is told from outside.

    Attributes:
        database_url: SQLAlchemy address of the history.
        data_dir: Folder of the installation: features, secrets.
        tracking_uri: MLflow address.
        artifact_root: Where a local MLflow keeps model files; None with a tracking server.
        online_store: Feast's configuration of the online store; None for an SQLite file in `data_dir`.
        cached_rows: Rows of features that are kept in memory.
        public_url: Address under which customers reach tracked links.
        tracking_secret: Key that signs tracked links; empty: one is made and kept in `data_dir`.
        contact_keys: Keys of contact points as JSON; empty: they are made and kept in `data_dir`.
        phone_region: ISO 3166 code of phone numbers without country code; empty: none is assumed.
        parties: Whose data a source gives, by source, where it is not our own.
        run_dispatcher: Whether this process also sends.
        adapters: Adapter by channel.
        adapter_settings: Settings, text by name, by adapter.
        unknown_outcome: What to do when a provider without idempotency key does not answer.
        unknown_outcomes: The same for some channels, instead.
        rates: Most messages a second by adapter, over all senders.
        send_concurrency: Most messages that are claimed and not settled; an eighth of them on the wire to one provider.
        paced: Whether what is scarce is shared with those who are still expected to ask.
        deadline_ms: How long a decision waits for features before it does without; a batch may take as long for
            every hundred customers.
        most_under_way: Single decisions under way at the same time; one more gets 429.
        answer_within_ms: How long a caller waits for a decision; then it gets 503.
        n_threads: Requests that wait for the database at the same time.
        protection: How the HTTP side is protected.
        title: Name of the service on its pages.
        currency: How money is written.
        seed: Of the sender's jitter.
        rehearse_from: Where the clock of a rehearsal begins; None for a service by the clock of the machine.
    """

    database_url: str
    data_dir: Path
    tracking_uri: str
    artifact_root: Path | None = None
    online_store: Mapping[str, object] | None = None
    cached_rows: int = MOST_ROWS
    public_url: str = "http://127.0.0.1:8000"
    tracking_secret: str = ""
    contact_keys: str = ""
    phone_region: str = ""
    parties: Mapping[str, Party] = field(default_factory=dict)
    run_dispatcher: bool = True
    adapters: Mapping[str, str] = field(default_factory=dict)
    adapter_settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unknown_outcome: UnknownPolicy = UnknownPolicy.AT_LEAST_ONCE
    unknown_outcomes: Mapping[str, UnknownPolicy] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    send_concurrency: int = 128
    paced: bool = True
    deadline_ms: float = 200.0
    most_under_way: int = MOST_UNDER_WAY
    answer_within_ms: float = 5_000.0
    n_threads: int = 10
    protection: Protection = field(default_factory=Protection)
    title: str = "nextchannel"
    currency: Currency = field(default_factory=Currency)
    seed: int = 0
    rehearse_from: datetime | None = None


def build(config: ServiceConfig) -> Service:
    """Put a service together; `Service.start` sets it going.

    The database is brought up to date and gets the default channels where it has none.
    """
    from features.changes import FOLLOW_SECONDS, ChangeFollower
    from features.online import FeatureReader, FeatureWriter
    from features.registry import ModelRegistry
    from features.workspace import FeatureWorkspace

    # Arithmetic is compiled, or read from its cache, when its module is imported: before anybody asks, not beside requests.
    importlib.import_module("models.response.stored")

    config.data_dir.mkdir(parents=True, exist_ok=True)
    vault = ContactVault(config.data_dir / KEY_FILE, config.contact_keys, config.phone_region)
    engine = connect(config.database_url, vault, serves=True)
    migrate(engine)
    stepped = None if config.rehearse_from is None else _stepped(config, engine, config.rehearse_from)
    clock = utc_now if stepped is None else stepped.now
    with engine.begin() as conn:
        check_keys(conn)
        seed_channels(conn, clock())
    workspace = FeatureWorkspace(
        config.data_dir, engine, config.online_store, most_cached_rows=config.cached_rows
    )
    if not workspace.defined:
        workspace.define()
    adapters = open_adapters(config, engine)
    registry = ModelRegistry(config.tracking_uri, config.artifact_root, _REGISTRY_SECONDS)
    snapshots = Snapshots(engine, registry, open_bundle)
    writer = DecisionWriter(engine)
    eraser = Eraser(engine, workspace, clock)
    metrics = Metrics()
    follower = ChangeFollower(engine, workspace.cache)
    pacing = Pacing(engine, snapshots, clock) if config.paced else None
    decider = Decider(
        engine,
        snapshots,
        FeatureReader(workspace),
        writer,
        config.currency,
        config.deadline_ms / 1000,
        metrics=metrics,
        pacing=pacing,
    )
    follow_ups = FollowUpRunner(engine, decider, clock)
    occasions = OccasionRunner(engine, snapshots, decider, clock, utc_now)
    refresher = FeatureRefresher(FeatureWriter(workspace), clock)

    def feature_list() -> FeatureList | None:
        return workspace.features if workspace.defined else None

    def tidy_held() -> None:
        cancel_overtaken(engine, clock())

    return Service(
        title=config.title,
        currency=config.currency,
        engine=engine,
        snapshots=snapshots,
        decider=decider,
        writer=writer,
        refresher=refresher,
        admission=Admission(config.most_under_way),
        answer_within_seconds=config.answer_within_ms / 1000,
        threads=ThreadPoolExecutor(config.n_threads, thread_name_prefix="requests"),
        tracking_secret=tracking_secret(config),
        public_url=config.public_url,
        registry=registry,
        customers=Customers(engine, FeatureReader(workspace), workspace, config.parties),
        eraser=eraser,
        counting=Counting(engine, clock),
        plans=Plans(engine, snapshots, decider, feature_list, clock, utc_now),
        pacing=pacing,
        key_ring=KeyRing(engine, utc_now),
        protection=config.protection,
        metrics=metrics,
        background=(
            Repeating("snapshot", snapshots.reload_campaigns, RELOAD_SECONDS),
            Repeating("champion", snapshots.follow_champion, RELOAD_SECONDS),
            Repeating("checkpoint", Checkpoints(engine).work, CHECKPOINT_SECONDS),
            Repeating("follow-ups", follow_ups.run_due, EVERY_SECONDS),
            Repeating("occasions", occasions.run_due, OCCASIONS_SECONDS),
            Repeating("held-messages", tidy_held, _HELD_SECONDS),
            Repeating("idempotency-keys", lambda: forget_expired(engine, clock()), _CLEANING_SECONDS),
            Repeating("feature-changes", follower.follow, FOLLOW_SECONDS),
            Repeating("erasures", eraser.resume, UPKEEP_SECONDS),
            Repeating("merges", lambda: gather(engine), UPKEEP_SECONDS),
            *(() if pacing is None else (pacing,)),
        ),
        feature_list=feature_list,
        many_features=FeatureReader(workspace, keeps=False),
        sender=build_sending(config, engine, adapters) if config.run_dispatcher else None,
        adapters=adapters,
        clock=clock,
        rehearsal=None
        if stepped is None
        else _rehearsal(
            stepped,
            workspace,
            (
                refresher.run_once,
                follow_ups.run_due,
                occasions.run_due,
                tidy_held,
                *(() if pacing is None else (pacing.work,)),
            ),
        ),
    )


def _stepped(config: ServiceConfig, engine: Engine, begins_at: datetime) -> SteppedClock:
    """The clock of a rehearsal.

    Raises:
        InvalidInputError: it begins in the future or before the newest decision, or messages would be sent.
    """
    require(
        not config.run_dispatcher, "NEXTCHANNEL_SEND", True, "must be false in a rehearsal: nothing is sent"
    )
    require_none_later(engine, SETTING, begins_at)
    return SteppedClock(begins_at, utc_now)


def _rehearsal(
    clock: SteppedClock, workspace: FeatureWorkspace, due: tuple[Callable[[], object], ...]
) -> Rehearsal:
    """What moves the clock; everybody's features are made anew each night."""
    from features.offline import materialize

    return Rehearsal(clock=clock, due=due, every_day=lambda: materialize(workspace, clock.now()))


def open_bundle(bundle: Bundle) -> Model:
    """Make the files of a bundle usable."""
    from models.policy.bandit import Bandit
    from models.response.stored import read_response

    return Model(
        version=bundle.version,
        response=read_response(bundle.response),
        bandit=Bandit.from_files(dict(bundle.bandit)) if bundle.bandit else None,
    )


def tracking_secret(config: ServiceConfig) -> str:
    """The key that signs tracked links: the configured one, else one that is made once and kept."""
    if config.tracking_secret:
        return config.tracking_secret
    path = config.data_dir / _SECRET_FILE
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
    except FileExistsError:
        pass  # made by an earlier start
    return path.read_text()


def open_adapters(
    config: ServiceConfig, engine: Engine, only: str | None = None
) -> dict[str, ChannelAdapter]:
    """The adapter of every channel, or of one, built and not yet connected.

    Raises:
        NotFoundError: there is no such channel.
        InvalidInputError: an adapter that is configured is not installed, or its settings are wrong.
    """
    from serving.channels.registry import AdapterConfiguration, build_adapters

    with engine.connect() as conn:
        known = load_channels(conn)
    if only is not None and only not in known:
        raise NotFoundError("channel", only)

    def report(channel: str, events: Sequence[DeliveryEvent]) -> None:
        with engine.begin() as conn:
            record_provider_events(conn, load_channels(conn)[channel], events, utc_now())

    return build_adapters(
        known if only is None else [only],
        AdapterConfiguration(
            adapters=config.adapters, settings=config.adapter_settings, public_url=config.public_url
        ),
        tracked_links(config),
        tasks=CallQueue(engine),
        report=report,
    )


def tracked_links(config: ServiceConfig) -> TrackedLinks:
    """Makes the addresses inside messages."""
    return TrackedLinks(config.public_url, Signer(tracking_secret(config)))


def build_dispatcher(
    config: ServiceConfig, engine: Engine, adapters: Mapping[str, ChannelAdapter] | None = None
) -> tuple[Dispatcher, Collection[ChannelAdapter]]:
    """The sender's parts: the dispatcher, and the adapters to close when it has sent its last message."""
    links = tracked_links(config)
    adapters = open_adapters(config, engine) if adapters is None else adapters
    dispatcher = Dispatcher(
        engine,
        adapters,
        links,
        DispatchSettings(
            concurrency=config.send_concurrency,
            concurrency_per_account=max(1, config.send_concurrency // 8),
            unknown_outcome=config.unknown_outcome,
            unknown_outcomes=config.unknown_outcomes,
            rates=_rates(config),
        ),
        Random(config.seed),
    )
    return dispatcher, adapters.values()


def build_sending(
    config: ServiceConfig, engine: Engine, adapters: Mapping[str, ChannelAdapter] | None = None
) -> SendingThread:
    """The thread that sends messages and what is said in chats, by the same adapters and at the same rates."""
    adapters = open_adapters(config, engine) if adapters is None else adapters
    dispatcher, to_close = build_dispatcher(config, engine, adapters)
    settings = ChatSettings(
        unknown_outcome=config.unknown_outcome,
        unknown_outcomes=config.unknown_outcomes,
        rates=_rates(config),
    )
    chats = ChatSender(engine, adapters, settings, Random(config.seed))
    return SendingThread((dispatcher, chats), to_close, utc_now)


def _rates(config: ServiceConfig) -> dict[str, Rate]:
    return {name: Rate(per_second) for name, per_second in config.rates.items()}

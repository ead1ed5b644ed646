"""The parts of a running service, as `bootstrap.build` put them together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TypeVar

from sqlalchemy import Engine

from features.feature_list import FeatureList
from features.history.lifecycle import Lifecycle
from models.domain.decision import Decision
from models.domain.errors import NextchannelError, StoreUnavailableError
from serving.admission import Admission
from serving.background import Repeating
from serving.choosing import Answer
from serving.counting import Counting
from serving.customers import Customers
from serving.decide import Decider
from serving.erasure import Eraser
from serving.explain.catalogue import Language
from serving.explain.languages import CATALOGUES
from serving.lifecycle import LifecycleChannelsReport, build_lifecycle_channels
from serving.money import Currency
from serving.observability.metrics import Metrics
from serving.pacing.pacing import Pacing
from serving.plans.runner import Plans
from serving.profile.segment import Profiler, SegmentProfile
from serving.reading import FeatureSource
from serving.refresh import FeatureRefresher
from serving.rehearsal import Rehearsal
from serving.report import SETTLING_SECONDS, Report, build_report
from serving.request import DecisionRequest
from serving.security.key_ring import KeyRing
from serving.security.protection import Protection
from serving.snapshot import Registry, Snapshots
from serving.store.writer import DecisionWriter

logger = logging.getLogger(__name__)
if TYPE_CHECKING:
    from serving.channels.contract import ChannelAdapter

T = TypeVar("T")

_OPEN = (
    "callers need no key: only this machine is answered; `nextchannel keys create` makes the first key, and from then "
    "on every caller needs one"
)
MOST_UNDER_WAY = 128
MOST_BATCHES = 4


class ModelRegistry(Registry, Protocol):
    """The registry, for people who look after models."""

    def report(self, version: int) -> str:
        """The training report of a version, Markdown."""
        ...

    def promote(self, version: int) -> None:
        """Make a version the champion."""
        ...

    def rollback(self) -> int:
        """Make the champion before the present one champion again; its version."""
        ...


class Sender(Protocol):
    """Whatever sends what was decided, on threads of its own."""

    def start(self) -> None:
        """Begin to send."""
        ...

    def stop(self) -> None:
        """Finish what is under way and end."""
        ...


def utc_now() -> datetime:
    """The clock of a real service."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service, built and not yet started.

    Attributes:
        engine: The history.
        tracking_secret: Key of the tokens in tracked links, and of what browsers are signed in with.
        registry: Where models are published and promoted.
        customers: What is known about people.
        eraser: Erases people.
        counting: Counts on for a report, beside the requests.
        plans: Works plans off, beside the requests.
        pacing: Shadow prices for requests that come by themselves; None where there are none.
        key_ring: The API keys.
        protection: How the HTTP side is protected.
        metrics: Figures of this process.
        threads: Where requests wait for the database, so that the event loop does not.
        background: What else runs beside the requests.
        sender: None where another process sends.
        adapters: By channel; here they read what providers report.
        clock: Gives `now`.
        public_url: Where customers reach this service.
        rehearsal: What moves the clock; None for a service by the clock of the machine.
        admission: Of single decisions.
        batches: Of batches.
        answer_within_seconds: How long a caller waits for a decision before it is told to come again.
        feature_list: The list of features that was defined last; None before the first.
        many_features: The online store for who reads many customers that nobody is about to decide for; None where there is none.
    """

    title: str
    currency: Currency
    engine: Engine
    snapshots: Snapshots
    decider: Decider
    writer: DecisionWriter
    refresher: FeatureRefresher
    threads: ThreadPoolExecutor
    tracking_secret: str
    registry: ModelRegistry
    customers: Customers
    eraser: Eraser
    counting: Counting
    plans: Plans
    pacing: Pacing | None
    key_ring: KeyRing
    protection: Protection = field(default_factory=Protection)
    metrics: Metrics = field(default_factory=Metrics)
    background: tuple[Repeating, ...] = ()
    sender: Sender | None = None
    adapters: Mapping[str, ChannelAdapter] = field(default_factory=dict)
    clock: Callable[[], datetime] = field(default=utc_now)
    public_url: str = "http://127.0.0.1:8000"
    rehearsal: Rehearsal | None = None
    admission: Admission = field(default_factory=lambda: Admission(MOST_UNDER_WAY))
    batches: Admission = field(default_factory=lambda: Admission(MOST_BATCHES))
    answer_within_seconds: float = 5.0

    async def decide(self, request: DecisionRequest) -> Decision:
        """Decide for one customer, without holding up the event loop.

        Raises:
            NotFoundError: the customer, identity or campaign is unknown.
            CampaignExpiredError: the campaign's send window has closed.
            ConflictError: `decision_id` names another customer's or campaign's decision.
            OverloadedError: too many requests are under way.
            StoreUnavailableError: the database cannot be reached or is late; nothing is acknowledged.
        """
        with self.admission:
            submitted = self.decider.submit_from_loop([request], self.clock())
            waiting = asyncio.get_running_loop().call_later(self.answer_within_seconds, self._late, submitted)
            try:
                (answer,) = await submitted
            finally:
                waiting.cancel()
        if isinstance(answer, NextchannelError):
            raise answer
        return answer

    def _late(self, submitted: asyncio.Future[list[Answer]]) -> None:
        """Give up waiting: what was not begun is not begun any more, what was begun may still be recorded."""
        if not submitted.done():
            within = f"the decision was not recorded within {self.answer_within_seconds:g} s"
            submitted.set_exception(StoreUnavailableError(within))

    async def decide_many(self, requests: Sequence[DecisionRequest], told: Callable[[Answer], T]) -> list[T]:
        """Decide for many customers; each has its own decision or its own error.

        Args:
            requests: Whom and what for.
            told: What is kept of an answer. It is called beside the event loop, while the next part is decided.

        Raises:
            OverloadedError: too many batches are under way.
            StoreUnavailableError: the database cannot be reached; nothing is acknowledged.
        """

        def decide() -> list[T]:
            in_parts = self.decider.decide_in_parts(requests, self.clock())
            return [told(answer) for part in in_parts for answer in part]

        with self.batches:
            return await self.in_thread(decide)

    feature_list: Callable[[], FeatureList | None] = field(default=lambda: None)
    many_features: FeatureSource | None = None

    def report(self, campaign_id: str, now: datetime) -> Report:
        """A campaign's report; what it could not wait for is counted in the background.

        Raises:
            NotFoundError: there is no such campaign.
            StoreUnavailableError: the database cannot be reached.
        """
        (made,) = self.reports([campaign_id], now)
        return made

    def reports(self, campaign_ids: Sequence[str], now: datetime) -> list[Report]:
        """The same of several, which wait no longer together than one would."""
        until = monotonic() + SETTLING_SECONDS
        found = []
        for campaign_id in campaign_ids:
            made = build_report(self.engine, campaign_id, now, self.currency.code, until - monotonic())
            if not made.up_to_date:
                self.counting.go_on(campaign_id)
            found.append(made)
        return found

    def segment_profile(
        self, name: str, campaign_id: str | None, language: Language, now: datetime
    ) -> SegmentProfile:
        """A segment in figures and words; what of the campaign it could not wait for is counted in the background.

        Raises:
            NotFoundError: there is no such segment or campaign.
            InvalidInputError: the segment compares a feature that is not there.
            StoreUnavailableError: the database cannot be reached.
        """
        profiler = Profiler(engine=self.engine, source=self.many_features, currency=self.currency)
        made = profiler.profile(name, now, CATALOGUES[language], self.feature_list(), campaign_id)
        if made.campaign is not None and not made.campaign.up_to_date:
            self.counting.go_on(made.campaign.campaign_id)
        return made

    def lifecycle_channels(
        self, campaign_id: str, lifecycle: Lifecycle, now: datetime, within_days: int
    ) -> LifecycleChannelsReport:
        """A campaign by the stage that customers were in; what it could not wait for is counted in the background.

        Raises:
            NotFoundError: there is no such campaign.
            StoreUnavailableError: the database cannot be reached.
        """
        made = build_lifecycle_channels(
            self.engine, lifecycle, campaign_id, now, within_days, self.currency.code
        )
        if not made.up_to_date:
            self.counting.go_on(campaign_id)
        return made

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work without holding up the event loop; its log lines name the request."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, copy_context().run, work)

    def start(self) -> None:
        """Load what decisions need and start every thread."""
        self.key_ring.start()
        if not self.protection.keys_required(self.key_ring.empty):
            logger.warning(_OPEN)
        self.snapshots.reload()
        self.decider.warm(self.clock())
        self.writer.start()
        self.refresher.start()
        for work in (*self.background, self.counting, self.plans):
            work.start()
        if self.sender is not None:
            self.sender.start()

    def stop(self) -> None:
        """Drain: send nothing new, write what was submitted, close the database."""
        if self.sender is not None:
            self.sender.stop()
        for work in (*self.background, self.counting, self.plans):
            work.stop()
        self.key_ring.stop()
        self.refresher.stop()
        self.writer.stop()
        self.decider.close()
        self.threads.shutdown()
        self.engine.dispose()

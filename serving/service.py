"""The parts of a running service, as `bootstrap.build` put them together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

from sqlalchemy import Engine

from models.domain.decision import Decision
from models.domain.errors import NextchannelError, StoreUnavailableError
from serving.admission import Admission
from serving.background import Repeating
from serving.decide import Answer, Decider, DecisionRequest
from serving.money import Currency
from serving.refresh import FeatureRefresher
from serving.snapshot import Snapshots
from serving.store.writer import DecisionWriter

if TYPE_CHECKING:
    from serving.channels.contract import ChannelAdapter

T = TypeVar("T")

MOST_UNDER_WAY = 128
MOST_BATCHES = 4


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
        tracking_secret: Key of the tokens in tracked links.
        threads: Where requests wait for the database, so that the event loop does not.
        background: What runs beside the requests.
        sender: None where another process sends.
        adapters: By channel; here they read what providers report.
        clock: Gives `now`.
        admission: Of single decisions.
        batches: Of batches.
        answer_within_seconds: How long a caller waits for a decision before it is told to come again.
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
    background: tuple[Repeating, ...] = ()
    sender: Sender | None = None
    adapters: Mapping[str, ChannelAdapter] = field(default_factory=dict)
    clock: Callable[[], datetime] = field(default=utc_now)
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
        with self.admission.admitted():
            submitted = self.decider.submit([request], self.clock())
            try:
                async with asyncio.timeout(self.answer_within_seconds):
                    (answer,) = await asyncio.wrap_future(submitted)
            except TimeoutError:
                # Leaving the wait has cancelled what was not begun; what was begun may still be recorded.
                raise StoreUnavailableError(
                    f"the decision was not recorded within {self.answer_within_seconds:g} s"
                ) from None
        if isinstance(answer, NextchannelError):
            raise answer
        return answer

    async def decide_many(self, requests: Sequence[DecisionRequest]) -> list[Answer]:
        """Decide for many customers; each has its own decision or its own error.

        Raises:
            OverloadedError: too many batches are under way.
            StoreUnavailableError: the database cannot be reached; nothing is acknowledged.
        """
        with self.batches.admitted():
            return await self.in_thread(lambda: self.decider.decide_many(requests, self.clock()))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work without holding up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, work)

    def start(self) -> None:
        """Load what decisions need and start every thread."""
        self.snapshots.reload()
        self.decider.warm(self.clock())
        self.writer.start()
        self.refresher.start()
        for work in self.background:
            work.start()
        if self.sender is not None:
            self.sender.start()

    def stop(self) -> None:
        """Drain: send nothing new, write what was submitted, close the database."""
        if self.sender is not None:
            self.sender.stop()
        for work in self.background:
            work.stop()
        self.refresher.stop()
        self.writer.stop()
        self.decider.close()
        self.threads.shutdown()
        self.engine.dispose()

"""The parts of a running service, as `bootstrap.build` put them together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from sqlalchemy import Engine

from serving.background import Repeating
from serving.customers import Customers
from serving.decide import Decider
from serving.erasure import Eraser
from serving.money import Currency
from serving.refresh import FeatureRefresher
from serving.snapshot import Snapshots
from serving.store.writer import DecisionWriter

T = TypeVar("T")


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
        customers: What is known about people.
        eraser: Erases people.
        threads: Where requests wait for the database, so that the event loop does not.
        background: What runs beside the requests.
        sender: None where another process sends.
        clock: Gives `now`.
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
    customers: Customers
    eraser: Eraser
    background: tuple[Repeating, ...] = ()
    sender: Sender | None = None
    clock: Callable[[], datetime] = field(default=utc_now)

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

"""Writes how messages ended: whatever ends within a short time shares one transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from models.domain.campaign import Campaign
from serving.followups.conversation import begin
from serving.store.availability import lost
from serving.store.charge import charge
from serving.store.endings import Ending, OutboxStatus, settled_message
from serving.store.outbox import settle

_log = logging.getLogger(__name__)
_DATABASE_PAUSE_SECONDS = 0.5
# By so much later may a message be marked as sent, unless so many others have ended meanwhile: half of what a
# transaction of one takes is the same for all of them.
_GATHER_SECONDS = 0.05
_GROUP = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """An ending, and what its conversation and its costs depend on.

    Attributes:
        campaign: In the version that was decided for; None where it is gone.
        reports_delivery: Whether the channel's silence about delivery means that there was none.
        cost_minor: What it has cost, where the provider charges by the part; None where it costs what was expected.
    """

    ending: Ending
    campaign: Campaign | None
    reports_delivery: bool
    cost_minor: float | None


class Settling:
    """Writes the endings of one sender, in groups.

    Args:
        engine: The history.
        any_under_way: Whether more endings are to come: otherwise none is waited for.
    """

    def __init__(self, engine: Engine, any_under_way: Callable[[], bool]) -> None:
        self._engine = engine
        self._any_under_way = any_under_way
        self._waiting: list[tuple[Settlement, asyncio.Future[bool]]] = []
        self._enough = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    async def write_all(self, settlements: Sequence[Settlement], give_up_seconds: float) -> list[bool]:
        """Settle messages in one transaction, as `write` does each."""
        if len(settlements) == 1:
            return [await self.write(settlements[0], give_up_seconds)]
        # They start to wait together, so the same group takes them.
        return await asyncio.gather(*(self.write(each, give_up_seconds) for each in settlements))

    async def write(self, settlement: Settlement, give_up_seconds: float) -> bool:
        """Settle a message, and try again while the database is away.

        Args:
            settlement: How it ended.
            give_up_seconds: Until its lease expires: then others may claim it, and its ending counts no more.

        Returns:
            Whether it is settled. It is not where the claim was stale, or the database away for too long.
        """
        message_id = settlement.ending.claimed.message_id
        gives_up_at = asyncio.get_running_loop().time() + give_up_seconds
        while True:
            try:
                holds = await self._with_others(settlement)
            except SQLAlchemyError as exc:
                if not lost(exc):
                    raise
                if asyncio.get_running_loop().time() >= gives_up_at:
                    _log.exception("message %s: its ending is lost", message_id)
                    return False
                await asyncio.sleep(_DATABASE_PAUSE_SECONDS)
                continue
            if not holds:
                _log.warning("message %s: claimed by another sender", message_id)
            return holds

    async def _with_others(self, settlement: Settlement) -> bool:
        """Settle in one transaction with whatever else ends meanwhile; False where the claim was stale."""
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((settlement, written))
        if self._writer is None or self._writer.done():
            self._enough = asyncio.Event()  # belongs to an event loop
            self._writer = asyncio.create_task(self._write_waiting())
        if len(self._waiting) >= _GROUP or not self._any_under_way():
            self._enough.set()
        return await written

    async def _write_waiting(self) -> None:
        while self._waiting:
            with suppress(TimeoutError):
                async with asyncio.timeout(_GATHER_SECONDS):
                    await self._enough.wait()
            self._enough.clear()
            group, self._waiting = self._waiting, []
            try:
                stale = await asyncio.to_thread(self._settle, [settlement for settlement, _ in group])
            except Exception as exc:  # each of the waiting raises it
                for _, written in group:
                    if not written.done():  # whoever waited may have been cancelled
                        written.set_exception(exc)
            else:
                for settlement, written in group:
                    if not written.done():
                        written.set_result(settlement.ending not in stale)

    def _settle(self, settlements: Sequence[Settlement]) -> list[Ending]:
        campaigns = {each.ending.claimed.decision_id: each.campaign for each in settlements}
        reporting = {each.ending.claimed.channel for each in settlements if each.reports_delivery}
        costs = {each.ending.claimed.decision_id: each.cost_minor for each in settlements}

        def follow(moved: Sequence[Ending]) -> None:
            begin(
                conn,
                [
                    (settled_message(ending), campaign)
                    for ending in moved
                    if ending.status in (OutboxStatus.SENT, OutboxStatus.FAILED)
                    and (campaign := campaigns[ending.claimed.decision_id]) is not None
                ],
                reporting,
            )
            ids = [ending.claimed.decision_id for ending in moved]
            charge(conn, {one: cost for one in ids if (cost := costs[one]) is not None})

        with self._engine.begin() as conn:
            return settle(conn, [each.ending for each in settlements], follow)

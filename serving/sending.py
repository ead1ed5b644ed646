"""Run the senders beside the API: a thread with an event loop of its own, so that neither waits for the other."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol

from serving.channels.contract import ChannelAdapter

logger = logging.getLogger(__name__)

_PAUSE_AFTER_FAILURE_SECONDS = 1.0


class Sends(Protocol):
    """Whatever claims and sends."""

    async def run(self, stop: asyncio.Event, clock: Callable[[], datetime]) -> object:
        """Send until `stop` is set, then finish what is under way."""
        ...


class SendingThread:
    """Sends until it is stopped; a sender that fails is logged and started again.

    Args:
        senders: Work beside each other in one event loop, which is the adapters'.
        adapters: What they send by; closed at the end.
        clock: Gives the present.
    """

    def __init__(
        self, senders: Sequence[Sends], adapters: Iterable[ChannelAdapter], clock: Callable[[], datetime]
    ) -> None:
        self._senders = tuple(senders)
        self._adapters = list({id(adapter): adapter for adapter in adapters}.values())
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to send."""
        self._ready.clear()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._send()), name="dispatcher", daemon=True
        )
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Finish what is in flight, then end."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None

    async def _send(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await asyncio.gather(*(self._keep_sending(sender, self._stop) for sender in self._senders))
        for adapter in self._adapters:
            await adapter.aclose()

    async def _keep_sending(self, sender: Sends, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await sender.run(stop, self._clock)
            except Exception:  # what is to be sent stays in its table; sending goes on
                logger.exception("%s failed", type(sender).__name__)
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_SECONDS)

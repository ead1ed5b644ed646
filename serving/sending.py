"""Run the dispatcher beside the API: a thread with an event loop of its own, so that neither waits for the other."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from datetime import datetime

from serving.channels.contract import ChannelAdapter
from serving.dispatcher import Dispatcher

logger = logging.getLogger(__name__)

_PAUSE_AFTER_FAILURE_SECONDS = 1.0


class SendingThread:
    """Sends until it is stopped; a dispatcher that fails is logged and started again.

    Args:
        dispatcher: Claims and sends.
        adapters: What it sends by; closed at the end.
        clock: Gives the present.
    """

    def __init__(
        self, dispatcher: Dispatcher, adapters: Iterable[ChannelAdapter], clock: Callable[[], datetime]
    ) -> None:
        self._dispatcher = dispatcher
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
        while not self._stop.is_set():
            try:
                await self._dispatcher.run(self._stop, self._clock)
            except Exception:  # messages stay in the outbox; sending goes on
                logger.exception("the dispatcher failed")
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_SECONDS)
        for adapter in self._adapters:
            await adapter.aclose()

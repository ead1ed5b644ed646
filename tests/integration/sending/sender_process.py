"""A dispatcher in a process of its own: `python sender_process.py DATABASE SMTP_PORT LEASE_SECONDS`.

Its clock stands at noon of the tests' day when it starts, plus `CLOCK_OFFSET_SECONDS`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from random import Random

from features.history.engine import connect
from features.identity.vault import ContactVault
from serving.channels.registry import AdapterConfiguration, build_adapters
from serving.dispatch_settings import DispatchSettings
from serving.dispatcher import Dispatcher
from serving.tracking import Signer, TrackedLinks

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


async def main(database: str, port: str, lease: float) -> None:
    links = TrackedLinks("https://news.example", Signer("a secret for tests only"))
    settings = {"host": "127.0.0.1", "port": port, "sender": "offers@shop.example"}
    adapters = build_adapters(["email"], AdapterConfiguration(settings={"email": settings}), links)
    # An SQLite file has its keys beside it.
    vault = None if database.startswith("sqlite") else ContactVault(text=os.environ["CONTACT_KEYS"])
    dispatcher = Dispatcher(
        connect(database, vault),
        adapters,
        links,
        DispatchSettings(lease_seconds=lease, send_timeout_seconds=lease * 0.9, poll_seconds=0.05),
        Random(1),
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    started, offset = time.monotonic(), float(os.environ["CLOCK_OFFSET_SECONDS"])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    report = await dispatcher.run(stop, lambda: NOON + timedelta(seconds=offset + time.monotonic() - started))
    await adapters["email"].aclose()
    sys.stdout.write(f"sent {report.sent}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))

"""Databases for the programs that break sending, and senders in processes of their own."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from uuid import uuid4

from sqlalchemy import Engine, NullPool, create_engine, func, make_url, select, text

from features.history.engine import migrate, read_only
from features.history.tables import outbox
from serving.backoff import Backoff
from serving.dispatch_settings import DispatchSettings, UnknownPolicy
from serving.dispatcher import Dispatcher
from serving.store.endings import OutboxStatus
from serving.tracking import Signer, TrackedLinks
from tests.chaos.sending_provider import ProviderAdapter
from tests.fresh_database import open_database
from tests.integration.sending.conftest import NOON, SIGNING_KEY, Shop

SERVER = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
_STARTED_AT = time.time()
_PRELOADED = ["tests.chaos.sending_shop", "psycopg", "psycopg_binary"]


def now() -> datetime:
    """Noon of the tests' day, and as much later as the program runs; the same in every process."""
    return NOON + timedelta(seconds=time.time() - float(os.environ["CHAOS_STARTED_AT"]))


def report(figures: Mapping[str, object]) -> int:
    """Print the last line; 0 where the program passed."""
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0 if figures["passed"] else 1


@contextmanager
def shop_on(database: str) -> Iterator[Shop]:
    """A shop with one campaign in an empty database: `sqlite`, `postgresql`, or the address of a server."""
    os.environ.setdefault("CHAOS_STARTED_AT", str(_STARTED_AT))
    with _database(database) as url:
        engine = open_database(url)
        migrate(engine)
        shop = Shop(engine, TrackedLinks("https://news.example", Signer(SIGNING_KEY)))
        shop.add_campaign()
        try:
            yield shop
        finally:
            engine.dispose()


@contextmanager
def _database(database: str) -> Iterator[str]:
    if database == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{Path(folder) / 'history.db'}"
        return
    server = os.environ.get("NEXTCHANNEL_TEST_POSTGRES", SERVER) if database == "postgresql" else database
    name = f"nextchannel_chaos_{uuid4().hex[:12]}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with admin.connect() as conn:
        conn.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as conn:
            conn.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def by_status(engine: Engine) -> dict[str, int]:
    """Messages by status."""
    with engine.connect() as conn:
        return {
            row.status: row.n
            for row in conn.execute(
                select(outbox.c.status, func.count().label("n")).group_by(outbox.c.status)
            )
        }


def unsettled(engine: Engine) -> int:
    """Messages that are pending or claimed."""
    open_ones = outbox.c.status.in_([OutboxStatus.PENDING, OutboxStatus.CLAIMED])
    with read_only(engine).connect() as conn:
        return conn.execute(select(func.count()).where(open_ones)).scalar_one()


def start_sender(
    engine: Engine, port: int, *, keyed: bool, policy: UnknownPolicy, lease_seconds: float = 3.0
) -> BaseProcess:
    """A sender in a process of its own; it stops on SIGTERM."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    process = context.Process(
        target=_send,
        args=(engine.url.render_as_string(hide_password=False), port, keyed, policy, lease_seconds),
        daemon=True,
    )
    process.start()
    return process


def _send(url: str, port: int, keyed: bool, policy: UnknownPolicy, lease_seconds: float) -> None:
    logging.disable(logging.WARNING)
    settings = DispatchSettings(
        lease_seconds=lease_seconds,
        send_timeout_seconds=lease_seconds * 0.6,
        poll_seconds=0.05,
        max_attempts=50,
        unknown_outcome=policy,
        backoff=Backoff(base_seconds=0.05, cap_seconds=0.5),
    )
    adapter = ProviderAdapter(port, keyed)
    links = TrackedLinks("https://news.example", Signer(SIGNING_KEY))

    async def work() -> None:
        dispatcher = Dispatcher(open_database(url), {"email": adapter}, links, settings, Random(os.getpid()))
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await dispatcher.run(stop, now)

    asyncio.run(work())


def drained(engine: Engine, seconds: float) -> bool:
    """Wait until everything is settled; False where it takes longer."""
    ends_at = time.monotonic() + seconds
    while unsettled(engine):
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.1)
    return True


def moment(seconds: float) -> datetime:
    """So many seconds after noon, for programs whose clock is simulated."""
    return NOON + timedelta(seconds=seconds)

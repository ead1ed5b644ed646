"""Messages a second to a mail server on loopback, against a bare loop over the same connections.

    make bench NAME=send ARGS="--messages 2000"

The server runs in a process of its own and takes both alike. The bare loop sends ready bytes by `aiosmtplib` over as
many pooled connections as the adapter has, the bytes of one of the adapter's mails; the dispatcher claims, judges,
renders, sends and settles each message in an SQLite database. The two take turns, and the median of each counts.
`claim_us` is the time of `claim` a message, in claims of 16, on each database.

The server announces PIPELINING, as Postfix and most others do, and the adapter makes use of it, which `aiosmtplib` does
not; `--one-command-at-a-time` measures against a server that does not take it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from random import Random
from statistics import median

import aiosmtplib

from serving.channels.registry import AdapterConfiguration, build_adapters
from serving.dispatch_settings import DispatchSettings
from serving.dispatcher import Dispatcher
from serving.smtp_sink import SmtpSink
from serving.store.outbox import claim
from tests.benchmarks.bars import exit_code
from tests.chaos.sending_shop import shop_on, unsettled
from tests.integration.sending.conftest import NOON, Shop

_CONNECTIONS = 4
_A_CLAIM = 16


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="send", description=__doc__)
    parser.add_argument("--messages", type=int, default=2_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--one-command-at-a-time", action="store_true")
    asked = parser.parse_args(arguments)
    pipelining = not asked.one_command_at_a_time
    figures = measure(asked.messages, asked.turns, asked.databases.split(","), pipelining=pipelining)
    sys.stdout.write(json.dumps(figures) + "\n")
    return exit_code(figures)


def measure(
    n_messages: int, n_turns: int, databases: list[str], *, pipelining: bool = True
) -> dict[str, object]:
    """Median of the turns of each."""
    raw, ours = [], []
    content = _one_mail()
    with _server(pipelining=pipelining) as port:
        for _ in range(n_turns):
            raw.append(n_messages / asyncio.run(_bare_loop(port, n_messages, content)))
            with shop_on("sqlite") as shop:
                shop.add_messages(n_messages)
                ours.append(n_messages / asyncio.run(_dispatch(shop, port)))
    claim_us = {}
    for database in databases:
        with shop_on(database) as shop:
            shop.add_messages(n_messages)
            claim_us[database] = round(_claim_seconds(shop) / n_messages * 1e6, 1)
    over_raw = median(ours) / median(raw)
    return {
        "bench": "send",
        "messages": n_messages,
        "pipelining": pipelining,
        "messages_per_s": round(median(ours), 1),
        "raw_messages_per_s": round(median(raw), 1),
        "messages_per_s_over_raw": round(over_raw, 3),
        "claim_us": claim_us,
        "turns": [[round(a, 1), round(b, 1)] for a, b in zip(ours, raw, strict=True)],
    }


async def _dispatch(shop: Shop, port: int) -> float:
    """Seconds until the outbox is empty."""
    settings = {
        "host": "127.0.0.1",
        "port": str(port),
        "sender": "offers@shop.example",
        "connections": str(_CONNECTIONS),
    }
    adapters = build_adapters(["email"], AdapterConfiguration(settings={"email": settings}), shop.links)
    dispatcher = Dispatcher(shop.engine, adapters, shop.links, DispatchSettings(poll_seconds=0.01), Random(1))
    stop = asyncio.Event()
    begun = time.perf_counter()
    running = asyncio.create_task(dispatcher.run(stop, lambda: NOON))
    while await asyncio.to_thread(unsettled, shop.engine):
        await asyncio.sleep(0.02)
    seconds = time.perf_counter() - begun
    stop.set()
    await running
    await adapters["email"].aclose()
    return seconds


def _one_mail() -> bytes:
    """What the adapter writes for one message."""
    with SmtpSink() as sink, shop_on("sqlite") as shop:
        shop.add_messages(1)
        asyncio.run(_dispatch(shop, sink.port))
        return sink.received[0].content


async def _bare_loop(port: int, n_messages: int, content: bytes) -> float:
    """Seconds for as many mails, ready made."""
    numbers = iter(range(n_messages))
    clients = [aiosmtplib.SMTP(hostname="127.0.0.1", port=port) for _ in range(_CONNECTIONS)]
    for client in clients:
        await client.connect()

    async def work(client: aiosmtplib.SMTP) -> None:
        for number in numbers:
            await client.sendmail("offers@shop.example", [f"c{number}@example.com"], content)

    begun = time.perf_counter()
    await asyncio.gather(*(work(client) for client in clients))
    seconds = time.perf_counter() - begun
    for client in clients:
        await client.quit()
    return seconds


def _claim_seconds(shop: Shop) -> float:
    seconds, claimed = 0.0, [True]
    while claimed:
        begun = time.perf_counter()
        with shop.engine.begin() as conn:
            claimed = claim(conn, NOON, 600, _A_CLAIM, ["email"])  # type: ignore[assignment]
        seconds += time.perf_counter() - begun
    return seconds


@contextmanager
def _server(*, pipelining: bool = True) -> Iterator[int]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, pipelining), daemon=True)
    process.start()
    yield ours.recv()
    ours.send("stop")
    process.join(10)


def _serve(pipe: Connection, pipelining: bool) -> None:
    with SmtpSink(pipelining=pipelining) as sink:
        pipe.send(sink.port)
        pipe.recv()

"""What every speed is measured against: a bare FastAPI endpoint, and how to measure an endpoint.

The endpoint takes and gives pydantic models, answers about 0.8 KB, and runs as one uvicorn worker (uvloop, httptools)
in a process of its own. A load is sent from the calling process over plain sockets, so that the client costs little.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import uvloop
from fastapi import FastAPI
from pydantic import BaseModel

ROOT = Path(__file__).parents[2]


class BareIn(BaseModel):
    """As small as a request for a decision."""

    campaign_id: str
    customer_id: str


class BareOther(BaseModel):
    """One of several alike."""

    action: str
    send_at: datetime
    propensity: float
    value_minor: float


class BareOut(BaseModel):
    """About 0.8 KB of JSON."""

    decision_id: str
    customer_id: str
    decided_at: datetime
    action: str
    propensity: float
    others: list[BareOther]
    explanation: str


def create() -> FastAPI:
    """The bare application: `uvicorn --factory tests.benchmarks.bare:create`."""
    app = FastAPI()

    @app.post("/bare")
    async def answer(asked: BareIn) -> BareOut:
        now = datetime.now(UTC)
        others = [
            BareOther(
                action=f"coats by channel {i}", send_at=now, propensity=0.125, value_minor=1.0 / (i + 3)
            )
            for i in range(5)
        ]
        return BareOut(
            decision_id="01a2019c-ff02-74e0-82f9-fc1c4292b790",
            customer_id=asked.customer_id,
            decided_at=now,
            action="coats by email",
            propensity=0.93,
            others=others,
            explanation="Send coats by e-mail: it is expected to earn the most of 97 candidates.",
        )

    return app


@dataclass(frozen=True, kw_only=True)
class Server:
    """A process that serves.

    Attributes:
        port: On the loopback address.
        pid: For its memory.
    """

    port: int
    pid: int

    def rss_mb(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


@contextlib.contextmanager
def serving(
    factory: str, environment: Mapping[str, str] | None = None, alive: str = "/docs"
) -> Iterator[Server]:
    """Run an application factory under uvicorn until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        factory,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    command += ["--loop", "uvloop", "--http", "httptools", "--workers", "1", "--log-level", "warning"]
    command += ["--no-access-log"]
    started = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment or {})
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}{alive}", started)
        yield Server(port=port, pid=started.pid)
    finally:
        started.terminate()
        started.wait(60)


def _wait_for(address: str, process: subprocess.Popen[bytes], seconds: float = 600.0) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        try:
            urllib.request.urlopen(address, timeout=5).close()  # noqa: S310 - a loopback address
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(f"{address} does not answer within {seconds} s")


def request(path: str, body: bytes) -> bytes:
    """A whole HTTP request."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


@dataclass(kw_only=True)
class Load:
    """What a load met with.

    Attributes:
        seconds: Of every answer, in the order in which they came.
        statuses: How many answers by HTTP status.
        took: From the first request to the last answer.
    """

    seconds: np.ndarray
    statuses: dict[int, int]
    took: float

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.took

    def quantile_ms(self, share: float) -> float:
        """Latency below which that share of the answers lies."""
        return float(np.quantile(self.seconds, share)) * 1_000


def load(port: int, requests: Sequence[bytes], n_connections: int = 1) -> Load:
    """Send every request, each connection the next one as soon as it has its answer."""
    return uvloop.run(_load(port, requests, n_connections))


def load_all(parts: Sequence[tuple[int, Sequence[bytes]]], n_connections: int) -> list[Load]:
    """The same for several ports at the same time, each with so many connections."""

    async def together() -> list[Load]:
        return await asyncio.gather(*(_load(port, requests, n_connections) for port, requests in parts))

    return uvloop.run(together())


async def _load(port: int, requests: Sequence[bytes], n_connections: int) -> Load:
    loop = asyncio.get_running_loop()
    seconds: list[float] = []
    statuses: dict[int, int] = {}
    left = iter(requests)
    done = [loop.create_future() for _ in range(n_connections)]
    connections = [
        (
            await loop.create_connection(
                lambda end=end: _Client(left, seconds, statuses, end), "127.0.0.1", port
            )
        )[0]
        for end in done
    ]
    before = time.perf_counter()
    for transport in connections:
        transport.get_protocol().send_next()
    await asyncio.gather(*done)
    took = time.perf_counter() - before
    for transport in connections:
        transport.close()
    return Load(seconds=np.array(seconds), statuses=statuses, took=took)


class _Client(asyncio.Protocol):
    """One connection: sends, waits for the whole answer, sends the next."""

    def __init__(
        self, left: Iterator[bytes], seconds: list[float], statuses: dict[int, int], end: asyncio.Future[None]
    ) -> None:
        self._left = left
        self._seconds = seconds
        self._statuses = statuses
        self._end = end
        self._read = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send_next(self) -> None:
        following = next(self._left, None)
        if following is None:
            self._end.set_result(None)
            return
        self._read = b""
        self._sent_at = time.perf_counter()
        self._transport.write(following)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, separator, body = self._read.partition(b"\r\n\r\n")
        if not separator:
            return
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        if len(body) < length:
            return
        self._seconds.append(time.perf_counter() - self._sent_at)
        status = int(head[9:12])
        self._statuses[status] = self._statuses.get(status, 0) + 1
        self.send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._end.done():
            self._end.set_exception(exc or ConnectionError("the server closed the connection"))


def bare_requests(n: int) -> list[bytes]:
    """Requests for the bare endpoint."""
    return [request("/bare", b'{"campaign_id":"spring","customer_id":"c-%d"}' % i) for i in range(n)]

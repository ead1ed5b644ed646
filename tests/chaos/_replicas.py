"""Processes that serve the API as an installation configures it, and callers who ask them all the while."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.chaos._servers import free_port
from tests.fresh_database import CONTACT_KEYS

ROOT = Path(__file__).parents[2]
_START_SECONDS = 600.0


@contextmanager
def replica(environment: Mapping[str, str]) -> Iterator[str]:
    """An API process of its own until the block ends; its address, which does not answer yet."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "nextchannel.service:create"]
    command += ["--port", str(port), "--log-level", "warning"]
    started = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "NEXTCHANNEL_CONTACT_KEYS": CONTACT_KEYS}
        | dict(environment),
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        started.terminate()
        started.wait(60)


def wait_for(address: str) -> None:
    """Until the replica answers; its libraries take ten seconds of CPU to load."""
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        try:
            httpx.get(f"{address}/healthz", timeout=5).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(f"{address} does not answer within {_START_SECONDS} s")


@dataclass
class Asked:
    """What callers were told.

    Attributes:
        statuses: Answers by status; `lost` where there was none.
        degraded: Decisions by what they did without.
        without_retry_after: Refusals to come again that did not say when.
        slowest_seconds: Of all answers.
    """

    statuses: Counter[int | str] = field(default_factory=Counter)
    degraded: Counter[tuple[str, ...]] = field(default_factory=Counter)
    without_retry_after: int = 0
    slowest_seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, client: httpx.Client, body: Mapping[str, object]) -> dict[str, Any] | None:
        """Ask for one decision; it, or None."""
        began = time.perf_counter()
        try:
            answer = client.post("/v1/decisions", json=body)
        except httpx.TransportError:
            with self._lock:
                self.statuses["lost"] += 1
            return None
        took = time.perf_counter() - began
        told: dict[str, Any] | None = answer.json() if answer.status_code == httpx.codes.OK else None
        with self._lock:
            self.statuses[answer.status_code] += 1
            self.slowest_seconds = max(self.slowest_seconds, took)
            if told is not None:
                self.degraded[tuple(told["degraded"])] += 1
            if answer.status_code in (429, 503) and "retry-after" not in answer.headers:
                self.without_retry_after += 1
        return told


@contextmanager
def asking(
    asked: Asked, addresses: list[str], body: Callable[[int], Mapping[str, object]], n: int
) -> Iterator[None]:
    """Ask from n threads until the block ends, thread by thread another address.

    Args:
        asked: What they are told.
        addresses: Of replicas.
        body: The request number so-and-so.
        n: Threads.
    """
    ended = threading.Event()
    number = iter(range(10**9))

    def call(address: str) -> None:
        with httpx.Client(base_url=address, timeout=30) as client:
            while not ended.is_set():
                asked.ask(client, body(next(number)))

    threads = [threading.Thread(target=call, args=(addresses[one % len(addresses)],)) for one in range(n)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()

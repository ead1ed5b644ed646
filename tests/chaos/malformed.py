"""Mutated requests over every route against a real server: no 5xx, no hang, no growth of memory.

A request is made from a good one (the examples of the OpenAPI description) and then spoilt: values, structure, bytes,
path, query, headers, method, or the HTTP framing itself. Before it counts, requests of the same kind are sent until memory
stands still: caches are full then. The last line is one JSON object; `rss_growth_pct` is the growth over the second half of
the requests (`_memory.growth_pct`), which must be at most 1.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

import httpx

from tests.chaos._live import LiveService
from tests.chaos._memory import MemoryWatch, growth_pct
from tests.chaos._spoilt import seeds, spoil

_TIMEOUT_SECONDS = 10.0
# It is made when it is asked for the first time.
_DESCRIPTION_SECONDS = 60.0
_WARM_UP_ROUND = 10_000
_MOST_WARM_UP_ROUNDS = 12
# Far from the seeds of the requests that count.
_WARM_UP_SEED = 1_000_000
# Memory stands still when a round has added no more than this, per cent.
_STILL_PCT = 0.2
_MOST_GROWTH_PCT = 1.0
# So few that the cache is full long before the first request counts.
_CACHED_ROWS = 500
# What was freed goes back: by itself the C library keeps it, for each of up to eight times as many arenas as there are cores, and
# more the larger a piece it once gave out. That is no growth of the program, and as much as the bar.
_ALLOCATOR = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TRIM_THRESHOLD_": "131072",
}
_SHOWN = 20
_SERVER_ERROR = 500


@dataclass
class Tally:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    closed: int = 0
    hung: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def note(self, request: bytes, status: int | None) -> None:
        """Count an answer; None where the server closed without one."""
        if status is None:
            self.closed += 1
            return
        self.statuses[status] += 1
        if status >= _SERVER_ERROR:
            self.failed.append(f"{status} {request[:600]!r}")

    def add(self, other: Tally) -> None:
        """Count what another one counted."""
        self.statuses += other.statuses
        self.closed += other.closed
        self.hung += other.hung
        self.failed += other.failed

    @property
    def n(self) -> int:
        """How many requests that were."""
        return sum(self.statuses.values()) + self.closed + len(self.hung)


class Connection:
    """A raw HTTP/1.1 client that sends whatever bytes it is given."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._left = b""

    def send(self, request: bytes, *, last: bool) -> int | None:
        """The status of the answer; None where the server closed without one.

        Args:
            request: All of its bytes.
            last: Nothing comes after it, and the server may close.

        Raises:
            TimeoutError: there was no answer in time.
        """
        for attempt in range(2):
            fresh = self._socket is None
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=_TIMEOUT_SECONDS)
                self._left = b""
            try:
                self._socket.sendall(request)
                if last:
                    self._socket.shutdown(socket.SHUT_WR)
                status = self._read_answer()
            except (BrokenPipeError, ConnectionResetError, OSError) as exc:
                self.close()
                if isinstance(exc, TimeoutError):
                    raise
                if fresh or attempt:
                    return None
                continue
            if status is None and not fresh:  # the server had closed a connection that was idle
                self.close()
                continue
            if last or status is None:
                self.close()
            return status
        return None

    def close(self) -> None:
        """Start anew with the next request."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _read_answer(self) -> int | None:
        head = self._until(b"\r\n\r\n")
        if head is None:
            return None
        status = int(head.split(b" ", 2)[1])
        if status == httpx.codes.CONTINUE:
            return self._read_answer()
        lines = head.lower().split(b"\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), None
        )
        if length is not None:
            self._exactly(length)
        elif b"transfer-encoding: chunked" in lines:
            while (size := self._until(b"\r\n")) is not None:
                if not self._exactly(int(size, 16) + 2) or int(size, 16) == 0:
                    break
        if b"connection: close" in lines:
            self.close()
        return status

    def _until(self, mark: bytes) -> bytes | None:
        while mark not in self._left:
            if not self._more():
                return None
        head, _, self._left = self._left.partition(mark)
        return head

    def _exactly(self, n: int) -> bool:
        while len(self._left) < n:
            if not self._more():
                return False
        self._left = self._left[n:]
        return True

    def _more(self) -> bool:
        assert self._socket is not None
        part = self._socket.recv(65_536)
        self._left += part
        return bool(part)


class Target(Protocol):
    """What is attacked."""

    address: str
    port: int
    key: str


def attack(
    service: Target,
    n: int,
    seed: int,
    tally: Tally,
    *,
    done: Callable[[], None] = lambda: None,
    until: float = float("inf"),
) -> None:
    """Send n spoilt requests, one after the other, or as many as there is time for (`until`, monotonic seconds).

    `done` is called after each.
    """
    rng = Random(seed)
    described = httpx.get(f"{service.address}/openapi.json", timeout=_DESCRIPTION_SECONDS).json()
    good = seeds(described)
    connection = Connection(service.port)
    for _ in range(n):
        if time.monotonic() > until:
            break
        request, last = spoil(rng.choice(good), rng, service.key)
        try:
            tally.note(request, connection.send(request, last=last))
        except TimeoutError:
            tally.hung.append(repr(request[:300]))
        done()
    connection.close()


def attack_by_many(
    service: Target,
    n: int,
    seed: int,
    n_connections: int,
    done: Callable[[], None] = lambda: None,
    until: float = float("inf"),
) -> Tally:
    """The same over several connections at a time, each with its share."""
    tallies = [Tally() for _ in range(n_connections)]
    running: list[Future[None]] = []
    with ThreadPoolExecutor(n_connections) as threads:
        for number, tally in enumerate(tallies):
            share = n // n_connections + (number < n % n_connections)
            running.append(
                threads.submit(attack, service, share, seed + number, tally, done=done, until=until)
            )
    for one in running:
        one.result()
    whole = Tally()
    for tally in tallies:
        whole.add(tally)
    return whole


def warm_up(service: LiveService, seed: int, n_connections: int) -> Tally:
    """Send requests, a round after the other, until memory stands still; what came back."""
    whole = Tally()
    for number in range(_MOST_WARM_UP_ROUNDS):
        before = service.rss_mb
        first = _WARM_UP_SEED + 100 * (_MOST_WARM_UP_ROUNDS * seed + number)
        whole.add(attack_by_many(service, _WARM_UP_ROUND, first, n_connections))
        grown = 100 * (service.rss_mb / before - 1)
        sys.stdout.write(f"warming up: {whole.n:,} requests, {service.rss_mb:.1f} MiB ({grown:+.2f} %)\n")
        sys.stdout.flush()
        if grown <= _STILL_PCT:
            break
    return whole


def main(arguments: list[str]) -> int:
    """Run it; 0 where nothing failed and memory did not grow."""
    parser = argparse.ArgumentParser(prog="malformed", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="stop then, and tell how far it came"
    )
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="2,000 requests: too few to tell of memory")
    options = parser.parse_args(arguments)
    n = 2_000 if options.quick else options.requests
    with tempfile.TemporaryDirectory() as folder:
        service = LiveService(Path(folder), environment=_ALLOCATOR, cached_rows=str(_CACHED_ROWS))
        with service:
            warm = Tally() if options.quick else warm_up(service, options.seed, options.connections)
            watch = MemoryWatch(lambda: service.rss_mb)
            before, began = service.rss_mb, time.monotonic()
            until = began + 60.0 * options.minutes
            tally = attack_by_many(service, n, 100 * options.seed, options.connections, watch, until)
            seconds = time.monotonic() - began
            after = service.rss_mb
            alive = service.running and httpx.get(f"{service.address}/healthz").status_code == httpx.codes.OK
        told = service.log.read_text(errors="replace")
    grown = growth_pct(watch.readings)
    warm.add(tally)
    _show("failed", warm.failed)
    _show("no answer", warm.hung)
    if warm.failed:
        sys.stdout.write(told[-6_000:] + "\n")
    figures = {
        "chaos": "malformed",
        "requests": tally.n,
        "statuses": {str(status): count for status, count in sorted(tally.statuses.items())},
        "closed_without_answer": tally.closed,
        "server_errors": len(warm.failed),
        "hung": len(warm.hung),
        "alive": alive,
        "warm_up_requests": warm.n - tally.n,
        "rss_before_mb": round(before, 1),
        "rss_after_mb": round(after, 1),
        "rss_growth_pct": None if grown is None else round(grown, 2),
        "requests_per_s": round(tally.n / seconds),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    still = grown is None or grown <= _MOST_GROWTH_PCT
    return 0 if alive and still and not warm.failed and not warm.hung else 1


def _show(what: str, found: Sequence[str]) -> None:
    for one in found[:_SHOWN]:
        sys.stdout.write(f"{what}: {one}\n")

"""Mutated requests over every route against a real server: no 5xx, no hang, no growth of memory.

A request is made from a good one (the examples of the OpenAPI description) and then spoilt: values, structure, bytes,
path, query, headers, method, or the HTTP framing itself. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

import httpx

from serving.security.rules import RULES
from tests.chaos._live import CAMPAIGN, CUSTOMERS, LiveService

_TIMEOUT_SECONDS = 10.0
_WARM_UP = 2_000
_SHOWN = 20
_SERVER_ERROR = 500

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, -1e308, 2**31, 2**63, 2**64, 10**400, "", " ", "0", "null",
    "\x00", "\ud800", "\u202e", "é" * 200, "x" * 129, "x" * 10_000, "2026-03-01", "2026-03-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "NaN", "' OR 1=1 --", "{{7*7}}", "../../etc/passwd",
    "<script>alert(1)</script>", "email", "sms", "01a2019c-ff02-74e0-82f9-fc1c4292b790", CAMPAIGN, CUSTOMERS[0],
    [], {}, [[]], [None], {"": None}, {"a": {"b": {"c": []}}}, list(range(50)), ["x"] * 200,
)  # fmt: skip
_RAW = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999999",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\x00",
    b"//x",
    b'{"a":1,"a":2}',
)
_SEGMENTS = (
    "..", ".", "%2e%2e", "%00", "%ff", "%F0%9F%92%A9", "x" * 3_000, "''", "-1", "0", "null", " ", "%20", "*", "a:b",
    "01a2019c-ff02-74e0-82f9-fc1c4292b790", CAMPAIGN, CUSTOMERS[0], "%c0%af", "a%2fb", "{x}", "\\", "🙂",
)  # fmt: skip
_HEADERS = (
    "Content-Type: text/plain", "Content-Type: application/json; charset=utf-16", "Content-Type: multipart/form-data",
    "Content-Type: application/x-ndjson", "Content-Encoding: gzip", "Accept: */*;q=zz", "Accept-Language: \x7f",
    "X-Request-ID: \xff\xfe", "X-Request-ID: " + "x" * 500, "Cookie: nextchannel_session=a.b.c",
    "Cookie: ;;;=;=", "Origin: null", "Range: bytes=0-1,5-2", "If-Modified-Since: never", "Idempotency-Key: ",
    "Idempotency-Key: " + "k" * 300, "Expect: 100-continue", "X: " + "y" * 20_000, "User-Agent: ", "Host: evil.test",
    "Authorization: Bearer", "Authorization: Basic Og==", "Traceparent: 00-zz", "Content-Length: 5",
)  # fmt: skip
# What is spoilt, as often as it stands here.
_WITHOUT_BODY = ("path", "path", "header", "header", "method", "body", "framing")
_WITH_BODY = (*_WITHOUT_BODY, *("document",) * 12, *("bytes",) * 5)


@dataclass(frozen=True, slots=True)
class Seed:
    """A good request; `body` is JSON or None."""

    method: str
    path: str
    body: Any = None


@dataclass
class Tally:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    closed: int = 0
    hung: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


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


def seeds(described: dict[str, Any]) -> list[Seed]:
    """One or more good requests for every route of the table."""
    found: list[Seed] = []
    for rule in RULES:
        operation = described["paths"].get(rule.path, {}).get(rule.method.lower(), {})
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        bodies = [one["value"] for one in content.get("examples", {}).values()]
        if "requestBody" in operation and not bodies:
            bodies = [_of_schema(content.get("schema", {}), described, 0)]
        found += [Seed(rule.method, rule.path, body) for body in bodies or [None]]
    return found


def _of_schema(schema: dict[str, Any], described: dict[str, Any], depth: int) -> Any:
    """Any document of about the right shape."""
    if depth > 6:  # schemas may hold themselves
        return None
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _of_schema(described["components"]["schemas"][name], described, depth + 1)
    if "anyOf" in schema:
        return _of_schema(schema["anyOf"][0], described, depth + 1)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {
                name: _of_schema(inner, described, depth + 1)
                for name, inner in schema.get("properties", {}).items()
            }
        case "array":
            return [_of_schema(schema.get("items", {}), described, depth + 1)]
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case _:
            return "2026-12-01T00:00:00Z" if schema.get("format") == "date-time" else "spring"


def spoil(seed: Seed, rng: Random, key: str) -> tuple[bytes, bool]:
    """A request with something wrong; whether the connection is of no use afterwards."""
    path = re.sub(r"\{[^}]*\}", lambda _found: rng.choice(_SEGMENTS), seed.path)
    method = seed.method
    body = b"" if seed.body is None else json.dumps(seed.body).encode()
    extra: list[str] = []
    last = False
    for _ in range(rng.choice((1, 1, 2, 3))):
        match rng.choice(_WITHOUT_BODY if seed.body is None else _WITH_BODY):
            case "document":
                body = json.dumps(_altered(seed.body, rng)).encode()
            case "bytes":
                body = _noisy(body, rng)
            case "path":
                path += rng.choice(
                    ("?", "/", "//", "?a=b", "&", "#", ";x", "%", "?language=xx", "?campaign=%00")
                )
                path += rng.choice(_SEGMENTS)
            case "header":
                extra.append(rng.choice(_HEADERS))
            case "method":
                method = rng.choice(
                    ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "get", "BREW")
                )
            case "body":
                body = rng.choice((b"", b"[" * 500, b"{}", b"[]", b"null", b'"', b"1", *_RAW))
            case _:
                return _broken_http(method, path, body, rng), True
    if method == "HEAD":
        last = True
    given = {line.split(":")[0].lower() for line in extra}
    lines = [f"{method} {path} HTTP/1.1"]
    if "host" not in given:
        lines.append("Host: 127.0.0.1")
    if "authorization" not in given and rng.random() > 0.05:
        lines.append(f"Authorization: Bearer {key}")
    if "content-type" not in given and body:
        lines.append("Content-Type: application/json")
    if "content-length" in given or "expect" in given:
        last = True
    if "content-length" not in given and (body or method == "POST"):
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([*lines, *extra]).encode("utf-8", errors="surrogateescape")
    return head + b"\r\n\r\n" + body, last


def _broken_http(method: str, path: str, body: bytes, rng: Random) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n".encode()
    return rng.choice(
        (
            head + b"Content-Length: 99999\r\n\r\n" + body,
            head + b"Content-Length: -1\r\n\r\n" + body,
            head + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + body,
            head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body,
            head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + body,
            head[: rng.randrange(1, len(head))],
            head.replace(b"HTTP/1.1", rng.choice((b"HTTP/9.9", b"", b"HTTP/1.0"))) + b"\r\n",
            head.replace(b"\r\n", b"\n") + b"\n",
            _noisy(head, rng) + b"\r\n" + body,
            bytes(rng.randrange(256) for _ in range(rng.randrange(1, 200))),
        )
    )


def _altered(document: Any, rng: Random) -> Any:
    """The document with one value, name or list spoilt."""
    made = copy.deepcopy(document)
    holders = [made] if isinstance(made, dict | list) else []
    for holder in holders:
        inner = holder.values() if isinstance(holder, dict) else holder
        holders += [one for one in inner if isinstance(one, dict | list)]
    holders = [one for one in holders if one]
    if not holders:
        return rng.choice(_VALUES)
    holder = rng.choice(holders)
    at: Any = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
    match rng.randrange(5):
        case 0:
            del holder[at]
        case 1 if isinstance(holder, dict):
            holder[rng.choice(("", "x", "\ud800", "__class__", "é" * 100))] = holder[at]
        case 2 if isinstance(holder, list):
            holder += [holder[at]] * rng.choice((1, 5, 2_000))
        case _:
            holder[at] = rng.choice(_VALUES)
    return made


def _noisy(text: bytes, rng: Random) -> bytes:
    made = bytearray(text)
    for _ in range(rng.choice((1, 1, 3, 10))):
        at = rng.randrange(len(made)) if made else 0
        match rng.randrange(4):
            case 0:
                made[at : at + 1] = bytes((rng.randrange(256),))
            case 1:
                del made[at : at + rng.randrange(1, 9)]
            case 2:
                made[at:at] = rng.choice(_RAW)
            case _:
                made[at:at] = made[at : at + 20]
    return bytes(made)


class Target(Protocol):
    """What is attacked."""

    address: str
    port: int
    key: str

    @property
    def rss_mb(self) -> float:
        """Memory, MiB."""
        ...


def attack(
    service: Target, n: int, seed: int, tally: Tally, *, every: int = 10_000, until: float = float("inf")
) -> None:
    """Send n spoilt requests, one after the other, or as many as there is time for (`until`, monotonic seconds)."""
    rng = Random(seed)
    described = httpx.get(f"{service.address}/openapi.json").json()
    good = seeds(described)
    connection = Connection(service.port)
    for number in range(n):
        if time.monotonic() > until:
            break
        request, last = spoil(rng.choice(good), rng, service.key)
        try:
            status = connection.send(request, last=last)
        except TimeoutError:
            tally.hung.append(repr(request[:300]))
            continue
        if status is None:
            tally.closed += 1
            continue
        tally.statuses[status] += 1
        if status >= _SERVER_ERROR:
            tally.failed.append(f"{status} {request[:600]!r}")
        if (number + 1) % every == 0:
            sys.stdout.write(f"{number + 1:,} requests, {service.rss_mb:.0f} MiB\n")
            sys.stdout.flush()
    connection.close()


def attack_by_many(service: Target, n: int, seed: int, n_connections: int, until: float) -> Tally:
    """The same over several connections at a time, each with its share."""
    tallies = [Tally() for _ in range(n_connections)]
    running: list[Future[None]] = []
    with ThreadPoolExecutor(n_connections) as threads:
        for number, tally in enumerate(tallies):
            share = n // n_connections + (number < n % n_connections)
            running.append(
                threads.submit(attack, service, share, seed + number, tally, every=2_500, until=until)
            )
    for one in running:
        one.result()
    whole = Tally()
    for tally in tallies:
        whole.statuses += tally.statuses
        whole.closed += tally.closed
        whole.hung += tally.hung
        whole.failed += tally.failed
    return whole


def main(arguments: list[str]) -> int:
    """Run it; 0 where nothing failed."""
    parser = argparse.ArgumentParser(prog="malformed", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="stop then, and tell how far it came"
    )
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="2,000 requests")
    options = parser.parse_args(arguments)
    n = 2_000 if options.quick else options.requests
    warm = Tally()
    with tempfile.TemporaryDirectory() as folder, LiveService(Path(folder)) as service:
        attack(service, min(_WARM_UP, n), options.seed + 1, warm)
        before = service.rss_mb
        began = time.monotonic()
        until = began + 60.0 * options.minutes
        tally = attack_by_many(service, n, 100 * options.seed, options.connections, until)
        seconds = time.monotonic() - began
        after = service.rss_mb
        alive = service.running and httpx.get(f"{service.address}/healthz").status_code == httpx.codes.OK
        told = service.log.read_text(errors="replace")
    failed = [*warm.failed, *tally.failed]
    hung = [*warm.hung, *tally.hung]
    _show("failed", failed)
    _show("no answer", hung)
    if failed:
        sys.stdout.write(told[-6_000:] + "\n")
    done = sum(tally.statuses.values()) + tally.closed + len(tally.hung)
    figures = {
        "chaos": "malformed",
        "requests": done,
        "statuses": {str(status): count for status, count in sorted(tally.statuses.items())},
        "closed_without_answer": tally.closed,
        "server_errors": len(failed),
        "hung": len(hung),
        "alive": alive,
        "rss_before_mb": round(before, 1),
        "rss_after_mb": round(after, 1),
        "requests_per_s": round(done / seconds),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0 if alive and not failed and not hung else 1


def _show(what: str, found: Sequence[str]) -> None:
    for one in found[:_SHOWN]:
        sys.stdout.write(f"{what}: {one}\n")

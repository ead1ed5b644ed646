"""Good requests of every route, and what makes spoilt ones of them."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from random import Random
from typing import Any

from serving.security.rules import RULES
from tests.chaos._live import CAMPAIGN, CUSTOMERS

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

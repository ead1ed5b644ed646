"""The gate: every request passes it before anything else looks at it.

In this order: size of the head (431), method (405), key (401), scope (403), rate (429), content type (415), size of the body (413),
time that the body takes (408), depth of JSON (422). A plain ASGI middleware: Starlette's `BaseHTTPMiddleware` would
cost more than all that it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.body import BODY, again
from serving.problems import PROBLEM, FieldError, Problem
from serving.security.buckets import Allowance, Buckets
from serving.security.json_depth import DEEPEST, within_depth
from serving.security.key_ring import KeyRing
from serving.security.keys import ApiKey
from serving.security.protection import Protection, is_local_name
from serving.security.rules import JSON, NDJSON, Rule, RuleTable
from serving.security.sessions import Sessions, cookie_of, from_own_page

# Keys of the ASGI scope.
RULE = "nextchannel.rule"
CALLER = "nextchannel.caller"
SCOPES = "nextchannel.scopes"

MOST_HEADERS = 100
MOST_HEADER_BYTES = 16 * 1024
BODY_SECONDS = 30.0
# Of NDJSON, which is read line by line and never lies in memory as a whole.
STREAM_FACTOR = 16
PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip")
_SAFE = ("GET", "HEAD")
_BEARER = b"bearer "
_YEAR_SECONDS = 365 * 24 * 3600

Headers = Mapping[bytes, bytes]
Pairs = list[tuple[bytes, bytes]]


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """The request goes no further.

    Args:
        status: Of the answer.
        kind: End of the problem's `type`.
        title: The same for every such problem.
        detail: What is wrong with this one.
        headers: Of the answer.
        errors: Which field is wrong.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        headers: Pairs | None = None,
        errors: list[FieldError] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.headers = headers or []
        self.errors = errors or []


class Gate:
    """The middleware.

    Args:
        app: What lies behind it.
        ring: The keys.
        sessions: Of browsers.
        protection: What the operator decided.
        clock: Gives `now`, aware.
    """

    def __init__(
        self,
        app: ASGIApp,
        ring: KeyRing,
        sessions: Sessions,
        protection: Protection,
        clock: Callable[[], datetime],
    ) -> None:
        self._app = app
        self._ring = ring
        self._sessions = sessions
        self._protection = protection
        self._clock = clock
        self._rules = RuleTable()
        self._buckets = Buckets(protection.requests_per_second, protection.burst)
        self._always: Pairs = [(b"x-content-type-options", b"nosniff")]
        if protection.https:
            self._always.append((b"strict-transport-security", b"max-age=%d" % _YEAR_SECONDS))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it."""
        if scope["type"] != "http":
            # There are no websockets; the lifespan is nobody's request.
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        rule = scope[RULE] = self._rules.find(scope["method"], scope["path"])
        added = self._always
        try:
            headers = dict(scope["headers"])
            _check_head(scope, headers)
            # Before the router: it would take a path such as /v1/decisions/batch for a decision's id.
            if allowed := self._rules.others(rule, scope["path"]):
                raise _other_methods(allowed)
            allowance = self._admit(scope, rule, headers)
            if allowance is not None:
                added = [*added, *_rate_headers(allowance)]
                if not allowance.granted:
                    raise _too_many(allowance)
            receive = await self._body(scope, rule, headers, receive)
        except Refusal as refusal:
            await _answer(refusal, scope, added, send)
            return

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _completed(message["headers"], added)}
            await send(message)

        await self._app(scope, receive, send_more)

    def _admit(self, scope: Scope, rule: Rule, headers: Headers) -> Allowance | None:
        """Check key and scope, and take a token of the key's bucket."""
        if rule.scope is None or self._open_to(scope, headers):
            return None
        key = self._present(scope, headers)
        if key is None:
            raise self._unknown(scope, rule, headers)
        if not key.allows(rule.scope):
            raise Refusal(
                403,
                "forbidden",
                "The key is not good for this",
                f"The key {key.name} lacks the scope {rule.scope}.",
            )
        scope[CALLER], scope[SCOPES] = key.name, key.scopes
        return self._buckets.take(key.key_id)

    def _open_to(self, scope: Scope, headers: Headers) -> bool:
        """Whether this request needs no key: nobody but this machine can have sent it."""
        if self._protection.keys_required(self._ring.empty):
            return False
        server = scope.get("server")
        reached_locally = server is None or is_local_name(server[0])
        return (
            reached_locally
            and is_local_name(headers.get(b"host", b"localhost").decode("latin-1"))
            and headers.keys().isdisjoint(_FORWARDED)
        )

    def _present(self, scope: Scope, headers: Headers) -> ApiKey | None:
        """The live key that the request carries: as a bearer token, or by a browser's session."""
        authorization = headers.get(b"authorization")
        if authorization is not None:
            if authorization[: len(_BEARER)].lower() != _BEARER:
                return None
            return self._ring.find(authorization[len(_BEARER) :].strip().decode("latin-1"))
        cookie = headers.get(b"cookie")
        session = None if cookie is None else cookie_of(cookie)
        # A page of somebody else's can make a browser send the cookie, but not say that it is ours.
        if session is None or not (scope["method"] in _SAFE or from_own_page(headers)):
            return None
        key_id = self._sessions.read(session, self._clock())
        return None if key_id is None else self._ring.by_id(key_id)

    def _unknown(self, scope: Scope, rule: Rule, headers: Headers) -> Refusal:
        """How to tell somebody without a usable key."""
        detail = "Send Authorization: Bearer and a live key; nextchannel keys create makes one."
        if rule.page and b"authorization" not in headers:
            asked = scope["path"] + (
                f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
            )
            return Refusal(
                303,
                "unauthenticated",
                "A key is needed",
                detail,
                [(b"location", f"/sign-in?next={quote(asked, safe='')}".encode())],
            )
        return Refusal(
            401,
            "unauthenticated",
            "A key is needed",
            detail,
            [(b"www-authenticate", b'Bearer realm="nextchannel"')],
        )

    async def _body(self, scope: Scope, rule: Rule, headers: Headers, receive: Receive) -> Receive:
        """Take the body in, but no more of it than is allowed; a stream is counted as it is read."""
        length = headers.get(b"content-length")
        if length in (None, b"0") and b"transfer-encoding" not in headers:
            return receive
        most = self._protection.most_body_bytes
        media = headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower().decode("latin-1")
        if (
            rule.media
            and media not in rule.media
            and not (rule.media[0] == JSON[0] and media.endswith("+json"))
        ):
            raise Refusal(
                415,
                "unsupported-media-type",
                "The body is of a type that is not read here",
                f"Content-Type == {media!r}, must be one of {', '.join(rule.media)}",
            )
        if media == NDJSON:
            most *= STREAM_FACTOR
        if length is not None and (not length.isdigit() or int(length) > most):
            raise _too_large(most)
        if media == NDJSON:
            return _counted(receive, most)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read(receive, most)
        except TimeoutError:
            raise Refusal(
                408,
                "request-timeout",
                "The body did not arrive",
                f"It must be there within {BODY_SECONDS:.0f} s.",
                [(b"connection", b"close")],
            ) from None
        if body is None:
            raise Refusal(
                400,
                "bad-request",
                "Bad Request",
                "The body ended before its stated length.",
                [(b"connection", b"close")],
            )
        if (media == JSON[0] or media.endswith("+json")) and not within_depth(body):
            bound = f"must be JSON, nested at most {DEEPEST} deep"
            raise Refusal(
                422,
                "invalid-request",
                "The request is not valid",
                f"body: {bound}",
                errors=[FieldError(field="body", value="", bound=bound)],
            )
        scope[BODY] = body
        return again(body, receive)


def _check_head(scope: Scope, headers: Headers) -> None:
    size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    for name, value in scope["headers"]:
        size += len(name) + len(value)
    if len(scope["headers"]) > MOST_HEADERS or size > MOST_HEADER_BYTES:
        raise Refusal(
            431,
            "headers-too-large",
            "The head of the request is too large",
            f"At most {MOST_HEADERS} headers, and {MOST_HEADER_BYTES} bytes with the address.",
        )
    if b"content-length" in headers and b"transfer-encoding" in headers:
        raise Refusal(
            400,
            "bad-request",
            "Bad Request",
            "Give Content-Length or Transfer-Encoding, not both.",
            [(b"connection", b"close")],
        )


def _other_methods(allowed: tuple[str, ...]) -> Refusal:
    return Refusal(
        405,
        "method-not-allowed",
        "Method Not Allowed",
        f"Methods of this address: {', '.join(allowed)}.",
        [(b"allow", ", ".join(allowed).encode())],
    )


def _too_large(most: int) -> Refusal:
    return Refusal(
        413,
        "payload-too-large",
        "The body is too large",
        f"At most {most} bytes; split what you send.",
        [(b"connection", b"close")],
    )


def _too_many(allowance: Allowance) -> Refusal:
    return Refusal(
        429,
        "rate-limited",
        "Too many requests",
        f"This key may make {allowance.limit} requests at once on this replica; wait {allowance.reset_seconds} s.",
        [(b"retry-after", str(allowance.reset_seconds).encode())],
    )


def _rate_headers(allowance: Allowance) -> Pairs:
    return [
        (b"ratelimit-limit", str(allowance.limit).encode()),
        (b"ratelimit-remaining", str(allowance.remaining).encode()),
        (b"ratelimit-reset", str(allowance.reset_seconds).encode()),
    ]


async def _read(receive: Receive, most: int) -> bytes | None:
    """The whole body; None where the caller has gone."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _counted(receive: Receive, most: int) -> Receive:
    """The same body, part by part, with an end to it."""
    size = 0

    async def count() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            raise HTTPException(413, f"At most {most} bytes; split what you send.")
        return message

    return count


def _completed(headers: Pairs, added: Pairs) -> Pairs:
    """With what every answer carries, and a page without a policy of its own the strictest."""
    present = dict(headers)
    extra = [pair for pair in added if pair[0] not in present]
    if (
        present.get(b"content-type", b"").startswith(b"text/html")
        and b"content-security-policy" not in present
    ):
        extra.append((b"content-security-policy", PAGE_POLICY.encode()))
    return [*headers, *extra]


async def _answer(refusal: Refusal, scope: Scope, added: Pairs, send: Send) -> None:
    """Send a refusal as a problem document."""
    scope[PROBLEM] = refusal.kind
    problem = Problem(
        type=f"/problems/{refusal.kind}",
        title=refusal.title,
        status=refusal.status,
        detail=refusal.detail,
        instance=scope["path"].encode(errors="replace").decode(),
        errors=refusal.errors,
    )
    body = b"" if scope["method"] == "HEAD" else problem.model_dump_json().encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        *refusal.headers,
        *added,
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""`Idempotency-Key` for every POST of the API: the same key and request give the same answer, byte for byte.

`POST /v1/decisions` does without this: its key is written in the decision's own transaction.
"""

from __future__ import annotations

import re
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.domain.errors import NextchannelError
from serving.body import BODY
from serving.problems import problem_of, respond
from serving.service import Service
from serving.store.availability import reaching_the_store
from serving.store.idempotency import Execution, IdempotencyKey, KeptAnswer, claim, complete, give_up

HEADER: Final = "idempotency-key"
REPLAYED: Final = b"idempotency-replayed"
# Where a route finds the right to execute that its request has.
SCOPE_EXECUTION: Final = "nextchannel.execution"
# Routes that see to it themselves, or create nothing.
_ON_THEIR_OWN = frozenset({"/v1/decisions", "/v1/decisions/simulate"})
_AUDIENCE = re.compile(r"/v1/segments/[^/]+/decisions")
_STREAMED = "application/x-ndjson"


class IdempotencyMiddleware:
    """Executes a request with an idempotency key once, and gives its answer again.

    Only successes are kept. A request that is refused (4xx) has created nothing, so its key is free again; after
    a failure (5xx) the key stays with its request, which may be asked again.

    Args:
        app: What executes.
        service: Where keys are kept.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        streamed = headers.get("content-type", "").partition(";")[0].strip().lower() == _STREAMED
        path = scope["path"]
        alone = path in _ON_THEIR_OWN or streamed or _AUDIENCE.fullmatch(path)
        if HEADER not in headers or alone:
            await self._app(scope, receive, send)
            return
        try:
            await self._once(scope, headers, receive, send)
        except NextchannelError as error:
            await respond(problem_of(error, scope["path"]))(scope, receive, send)

    async def _once(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        body = scope.get(BODY, b"")
        where = scope["path"].encode() + b"?" + scope.get("query_string", b"")
        key = IdempotencyKey.of(headers[HEADER], headers.get("authorization", ""), b"POST", where, body)
        right = await self._service.in_thread(lambda: self._claim(key))
        if isinstance(right, KeptAnswer):
            await _answer(send, right, replayed=True)
            return
        heard: list[Message] = []

        async def hear(message: Message) -> None:
            heard.append(message)

        try:
            await self._app({**scope, SCOPE_EXECUTION: right}, receive, hear)
        except BaseException:
            await self._service.in_thread(lambda: self._give_up(key, right, forget=False))
            raise
        status: int = heard[0]["status"]
        if 200 <= status < 300:
            told = Headers(raw=heard[0]["headers"])
            kept = KeptAnswer(
                status,
                told.get("content-type", "application/json"),
                b"".join(message.get("body", b"") for message in heard[1:]),
            )
            await self._service.in_thread(lambda: self._complete(key, right, kept))
        else:
            await self._service.in_thread(lambda: self._give_up(key, right, forget=status < 500))
        for message in heard:
            await send(message)

    def _claim(self, key: IdempotencyKey) -> Execution | KeptAnswer:
        with reaching_the_store(), self._service.engine.begin() as conn:
            return claim(conn, key, self._service.clock())

    def _complete(self, key: IdempotencyKey, right: Execution, kept: KeptAnswer) -> None:
        with reaching_the_store(), self._service.engine.begin() as conn:
            complete(conn, key, right, kept)

    def _give_up(self, key: IdempotencyKey, right: Execution, *, forget: bool) -> None:
        with reaching_the_store(), self._service.engine.begin() as conn:
            give_up(conn, key, right, forget=forget, now=self._service.clock())


async def _answer(send: Send, kept: KeptAnswer, *, replayed: bool) -> None:
    headers = [
        (b"content-type", kept.content_type.encode("latin-1")),
        (b"content-length", str(len(kept.body)).encode()),
    ]
    if replayed:
        headers.append((REPLAYED, b"true"))
    await send({"type": "http.response.start", "status": kept.status, "headers": headers})
    await send({"type": "http.response.body", "body": kept.body})

"""The short way to the endpoint that is called most."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from models.domain.errors import NextchannelError
from serving.body import BODY
from serving.problems import refused

_JSON = b"application/json"

Answer = Callable[[Request, Any, str | None], Awaitable[bytes]]


class DirectEndpoint:
    """Takes POST requests of one path past the router, straight to what answers them; a plain ASGI middleware.

    What FastAPI does for any endpoint (finding it among all, dependencies and their clean-up, JSON to objects to the
    model) costs more than a whole decision may; a body of one model needs none of it. What is not that, FastAPI reads,
    refuses and answers as ever; so the two cannot differ in what they refuse, and a test holds them together in what
    they accept.

    Args:
        app: What lies behind it.
        path: Of the endpoint.
        model: Of the body, which the gate has read.
        answer: Takes the request, its body as `model`, and its idempotency key; gives JSON.
    """

    def __init__(self, app: ASGIApp, path: str, model: type[BaseModel], answer: Answer) -> None:
        self._app = app
        self._path = path
        self._model = model
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or let it through."""
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        headers = dict(reversed(scope["headers"]))  # of one that is repeated the first counts
        asked, body = None, scope.get(BODY)
        if body is not None and headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == _JSON:
            try:
                asked = self._model.model_validate_json(body)
            except ValidationError:  # whatever is wrong with it, one place says so
                asked = None
        if asked is None:
            await self._app(scope, receive, send)
            return
        request, key = Request(scope, receive), headers.get(b"idempotency-key")
        try:
            told = await self._answer(request, asked, None if key is None else key.decode("latin-1"))
        except NextchannelError as error:
            await refused(request, error)(scope, receive, send)
            return
        length = str(len(told)).encode()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", _JSON), (b"content-length", length)],
            }
        )
        await send({"type": "http.response.body", "body": told})

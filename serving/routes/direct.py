"""The short way to the endpoint that is called most."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from models.domain.errors import NextchannelError
from serving.body import again, whole
from serving.problems import refused

_JSON = "application/json"

Endpoint = Callable[[Request, Any, str | None], Awaitable[Response]]


class DirectEndpoint:
    """Takes POST requests of one path past the router, straight to their endpoint; a plain ASGI middleware.

    What FastAPI does for any endpoint (finding it among all, dependencies and their clean-up, JSON to objects to the
    model) costs more than a whole decision may; a body of one model needs none of it. What is not that, FastAPI reads,
    refuses and answers as ever; so the two cannot differ in what they refuse, and a test holds them together in what
    they accept.

    Args:
        app: What lies behind it.
        path: Of the endpoint.
        model: Of the body.
        endpoint: Takes the request, its body as `model`, and its idempotency key.
    """

    def __init__(self, app: ASGIApp, path: str, model: type[BaseModel], endpoint: Endpoint) -> None:
        self._app = app
        self._path = path
        self._model = model
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or let it through."""
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body = await whole(receive)
        if body is None:
            return  # the caller hung up
        receive = again(body, receive)
        request = Request(scope, receive)
        headers = request.headers
        asked = None
        if headers.get("content-type", "").partition(";")[0].strip().lower() == _JSON:
            with suppress(ValidationError):  # whatever is wrong with it, one place says so
                asked = self._model.model_validate_json(body)
        if asked is None:
            await self._app(scope, receive, send)
            return
        try:
            response = await self._endpoint(request, asked, headers.get("idempotency-key"))
        except NextchannelError as error:
            response = refused(request, error)
        await response(scope, receive, send)

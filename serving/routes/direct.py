"""A route that takes the short way to its endpoint, for the one that is called most."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope, Send

from serving.body import again

_JSON = "application/json"

Endpoint = Callable[[Request, Any, str | None], Awaitable[Response]]


def direct_route(model: type[BaseModel]) -> type[APIRoute]:
    """A route whose endpoint takes the request, its body as `model`, and its idempotency key.

    What FastAPI does for any endpoint (dependencies, their clean-up, JSON to objects to the model) costs more than a
    whole decision may; a body of one model needs none of it. What is not that, FastAPI reads, refuses and answers as
    ever; so the two cannot differ in what they refuse, and a test holds them together in what they accept.

    Args:
        model: Of the body.
    """

    class DirectRoute(APIRoute):
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            body = await request.body()
            asked = None
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if scope["method"] == "POST" and kind == _JSON:
                with suppress(ValidationError):  # whatever is wrong with it, one place says so
                    asked = model.model_validate_json(body)
            if asked is None:
                await super().handle(scope, again(body, receive), send)
                return
            endpoint = cast("Endpoint", self.endpoint)
            response = await endpoint(request, asked, request.headers.get("idempotency-key"))
            await response(scope, receive, send)

    return DirectRoute

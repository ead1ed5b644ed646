"""Around every request: its id, its time, its line in the log."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.observability import context
from serving.observability.metrics import Metrics
from serving.problems import PROBLEM
from serving.security.gate import CALLER, RULE
from serving.security.rules import UNLISTED

logger = logging.getLogger("nextchannel.requests")

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class ObservedRequests:
    """The outermost middleware, plain ASGI.

    Args:
        app: What lies behind it.
        metrics: Where time and outcome are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request pass, and note how it went."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = context.begin(_given_id(scope))
        status = 500
        began = time.perf_counter()

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {
                    **message,
                    "headers": [*message["headers"], (b"x-request-id", request.request_id.encode())],
                }
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except Exception:
            scope[PROBLEM] = "internal"
            raise
        finally:
            self._note(scope, request, status, time.perf_counter() - began)

    def _note(self, scope: Scope, request: context.RequestContext, status: int, seconds: float) -> None:
        rule = scope.get(RULE)
        route = UNLISTED if rule is None else rule.path
        method = scope["method"] if scope["method"] in _METHODS else UNLISTED
        self._metrics.answered(method, route, status, seconds, scope.get(PROBLEM))
        if logger.isEnabledFor(logging.INFO):
            logger.info(
                "%s %s %d",
                method,
                route,
                status,
                extra={
                    "request_id": request.request_id,
                    "decision_id": request.decision_id,
                    "caller": scope.get(CALLER),
                    "duration_ms": round(seconds * 1000, 3),
                },
            )


def _given_id(scope: Scope) -> bytes | None:
    """The caller's own id of the request."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given: bytes = value
            return given
    return None

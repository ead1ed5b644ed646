"""Traces by OpenTelemetry: one span a request, joined to the caller's trace; off unless a collector is named.

The libraries are loaded here and nowhere else, so that a service without traces pays nothing for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.domain.errors import InvalidInputError
from serving.observability import context
from serving.security.gate import RULE

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
    from opentelemetry.trace import SpanKind, StatusCode, Tracer
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as exc:
    raise InvalidInputError(
        "NEXTCHANNEL_OTLP_ENDPOINT",
        "(given)",
        "needs the extra `telemetry`: pip install 'nextchannel[telemetry]'",
    ) from exc

_SENT = ("traceparent", "tracestate")
_SERVER_ERROR = 500


def trace_requests(app: FastAPI, endpoint: str) -> None:
    """Send a span for every request to a collector.

    Args:
        app: Not yet started.
        endpoint: OTLP over HTTP, for example `http://127.0.0.1:4318/v1/traces`.
    """
    trace_to(app, OTLPSpanExporter(endpoint=endpoint))


def trace_to(app: FastAPI, exporter: SpanExporter) -> Callable[[], bool]:
    """The same to any exporter; what is returned sends what is still held back."""
    provider = TracerProvider(resource=Resource.create({"service.name": "nextchannel"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    app.add_middleware(_TracedRequests, tracer=provider.get_tracer("nextchannel"))
    return provider.force_flush


class _TracedRequests:
    """A middleware around all others, plain ASGI."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parent = self._propagator.extract(_carrier(scope["headers"]))
        method = scope["method"]
        with self._tracer.start_as_current_span(method, context=parent, kind=SpanKind.SERVER) as span:

            async def send_marked(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    span.set_attribute("http.response.status_code", status)
                    if status >= _SERVER_ERROR:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, send_marked)
            finally:
                rule = scope.get(RULE)
                if rule is not None:
                    span.update_name(f"{method} {rule.path}")
                    span.set_attribute("http.route", rule.path)
                span.set_attribute("http.request.method", method)
                request = context.current()
                if request is not None:
                    span.set_attribute("nextchannel.request_id", request.request_id)
                    if request.decision_id is not None:
                        span.set_attribute("nextchannel.decision_id", request.decision_id)


def _carrier(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    named = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    return {name: named[name] for name in _SENT if name in named}

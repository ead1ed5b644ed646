"""`/metrics`: the figures of this process, in Prometheus' text format."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from serving.observability.gauges import read_gauges
from serving.service import Service


def metrics_routes(service: Service) -> APIRouter:
    """The endpoint that a scraper asks."""
    router = APIRouter(include_in_schema=False)
    service.metrics.watch(lambda: read_gauges(service))

    @router.get("/metrics")
    async def metrics() -> Response:
        text = await service.in_thread(lambda: generate_latest(service.metrics.registry))
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return router

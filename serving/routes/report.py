"""`/v1/report`: the dashboard's figures as JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from serving.report import Report, build_report
from serving.routes.examples import PROBLEMS
from serving.routes.fields import Name
from serving.service import Service


def report_routes(service: Service) -> APIRouter:
    """The endpoint of the report."""
    router = APIRouter(prefix="/v1/report", tags=["report"], responses=PROBLEMS)

    @router.get("")
    async def report(campaign_id: Annotated[Name, Query()]) -> Report:
        """Funnel of every channel, arms with intervals, latest decisions."""
        now = service.clock()
        return await service.in_thread(
            lambda: build_report(service.engine, campaign_id, now, service.currency.code)
        )

    return router

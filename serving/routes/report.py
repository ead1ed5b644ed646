"""`/v1/report` and `/v1/experiments/{id}/report`: the dashboard's figures as JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel

from models.domain.errors import NotFoundError
from serving.report import Report
from serving.routes.examples import PROBLEMS
from serving.routes.fields import Name
from serving.service import Service


class ExperimentReportOut(BaseModel):
    """Every campaign whose customers are split by one experiment: they are the same in each."""

    experiment_id: str
    reports: list[Report]


def report_routes(service: Service) -> APIRouter:
    """The endpoints of the report."""
    router = APIRouter(prefix="/v1", tags=["report"], responses=PROBLEMS)

    @router.get("/report")
    async def report(campaign_id: Annotated[Name, Query()]) -> Report:
        """Funnel of every channel, arms with intervals, latest decisions."""
        now = service.clock()
        return await service.in_thread(lambda: service.report(campaign_id, now))

    @router.get("/experiments/{experiment_id}/report")
    async def experiment(
        experiment_id: Annotated[Name, Path(description="As a campaign's `experiment` names it.")],
    ) -> ExperimentReportOut:
        """Arms with intervals of every campaign of an experiment, in order of their ids."""
        now = service.clock()
        named = sorted(
            campaign.campaign_id
            for campaign in service.snapshots.current.campaigns.values()
            if campaign.experiment.experiment_id == experiment_id
        )
        if not named:
            raise NotFoundError("experiment_id", experiment_id)
        reports = await service.in_thread(lambda: service.reports(named, now))
        return ExperimentReportOut(experiment_id=experiment_id, reports=reports)

    return router

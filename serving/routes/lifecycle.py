"""`/v1/lifecycle`: where customers stand, how they move on, and which contact works for customers in which stage."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from features.history.lifecycle import LAPSED_AFTER_DAYS, Lifecycle, PurchaseKind
from serving.lifecycle import (
    LifecycleChannelsReport,
    LifecycleReport,
    build_lifecycle,
)
from serving.routes.examples import PROBLEMS
from serving.routes.fields import Moment, Name
from serving.service import Service

MOST_DAYS = 3_650
USUAL_DAYS = 365

Days = Annotated[int, Query(ge=1, le=MOST_DAYS)]
WithinDays = Annotated[
    Days,
    Query(
        description="Steps that were entered, and decisions that were taken, within so many days before count."
    ),
]


def lifecycle_of(
    purchase: Annotated[
        PurchaseKind, Query(description="Which facts are purchases.")
    ] = PurchaseKind.PURCHASED,
    lapsed_after_days: Annotated[
        Days, Query(description="Who did anything once and nothing for so many days has lapsed.")
    ] = LAPSED_AFTER_DAYS,
) -> Lifecycle:
    """What makes a stage, by the query of a request."""
    return Lifecycle(purchase=purchase, lapsed_after_days=lapsed_after_days)


AskedLifecycle = Annotated[Lifecycle, Depends(lifecycle_of)]


def lifecycle_routes(service: Service) -> APIRouter:
    """The endpoints of the lifecycle."""
    router = APIRouter(prefix="/v1/lifecycle", tags=["lifecycle"], responses=PROBLEMS)

    @router.get("")
    async def lifecycle(
        asked: AskedLifecycle,
        as_of: Annotated[Moment | None, Query(description="Only facts before it count; default now.")] = None,
        within_days: WithinDays = USUAL_DAYS,
    ) -> LifecycleReport:
        """How many customers are in each stage, how many of those who entered one reach the next, and how soon."""
        moment = as_of or service.clock()
        return await service.in_thread(lambda: build_lifecycle(service.engine, asked, moment, within_days))

    @router.get("/channels")
    async def channels(
        campaign_id: Annotated[Name, Query()], asked: AskedLifecycle, within_days: WithinDays = USUAL_DAYS
    ) -> LifecycleChannelsReport:
        """A campaign by the stage that customers were in: the funnel of every channel, and the arms with intervals.

        The rates by channel compare customers for whom that channel was chosen; what contact caused is the difference of the arms alone.
        """
        now = service.clock()
        return await service.in_thread(
            lambda: service.lifecycle_channels(campaign_id, asked, now, within_days)
        )

    return router

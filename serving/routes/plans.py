"""`/v1/plans`: decide for an audience in the background, with a forecast before and progress meanwhile."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from features.segments.language import SegmentName
from serving.idempotency import SCOPE_EXECUTION
from serving.plans.desk import PlanDesk
from serving.plans.plan import Plan, PlanStatus
from serving.routes.examples import PLANS, PROBLEMS
from serving.routes.fields import Name
from serving.routes.paging import USUAL_PAGE, Cursor, Limit, from_cursor, page_of, to_cursor
from serving.service import Service
from serving.store.idempotency import Execution


class PlanIn(BaseModel):
    """What to decide, and for whom."""

    model_config = ConfigDict(extra="forbid")

    campaign_id: Name
    segment: SegmentName | None = Field(default=None, description="Whose members; null for every customer.")
    start: StrictBool = Field(
        default=True, description="Begin as soon as the forecast is there; false waits for `start`."
    )


class ForecastOut(BaseModel):
    """What the plan is expected to do: the model's word, from a random part of the audience."""

    model_config = ConfigDict(from_attributes=True)

    as_of: datetime
    n_members: int
    n_sampled: int = Field(description="Members that were looked at.")
    contacts: dict[str, float] = Field(description="Expected messages by channel.")
    cost_minor: float = Field(description="What they cost.")
    net_value_minor: float | None = Field(
        description="Expected beyond leaving everybody alone, cost and attention taken off; null without predictions."
    )
    most_minor: float | None = Field(
        description="No other allocation of what is left of budgets and capacities is expected to be worth more."
    )
    shadow_prices: dict[str, float] = Field(
        description="What one message takes of what is scarce, beside its cost, minor units; absent where nothing is."
    )


class PlanOut(BaseModel):
    """A plan as far as it is."""

    model_config = ConfigDict(from_attributes=True)

    plan_id: str
    campaign_id: str
    segment: str | None
    status: PlanStatus
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    forecast: ForecastOut | None = Field(description="Null until it is there.")
    shadow_prices: dict[str, float] = Field(description="As they are now.")
    n_members: int | None = Field(description="Size of the audience; null until it was worked out.")
    n_decided: int = Field(description="Members whose turn has been, problems included.")
    contacts: dict[str, int] = Field(description="Messages that were decided on, by channel.")
    cost_minor: float = Field(description="Of the contacts.")
    net_value_minor: float | None = Field(
        description="Expected of the contacts, cost and attention taken off; null without predictions."
    )
    n_problems: int = Field(description="Members who could not be decided for.")
    problem: str | None = Field(description="What was said of the last of them, or why the plan failed.")


class PlansOut(BaseModel):
    """Plans, the newest first."""

    plans: list[PlanOut]
    next_cursor: str | None = Field(description="For the next page; null on the last.")


_PlanId = Annotated[UUID, Path(description="Of the plan.")]


def plan_routes(service: Service) -> APIRouter:
    """The endpoints of plans."""
    router = APIRouter(prefix="/v1/plans", tags=["plans"], responses=PROBLEMS)

    desk = PlanDesk.of(service)

    async def move(plan_id: UUID, to: PlanStatus) -> PlanOut:
        return PlanOut.model_validate(await service.in_thread(lambda: desk.move(plan_id, to)))

    @router.post("", status_code=202, openapi_extra=PLANS)
    async def make(request: Request, posted: PlanIn) -> PlanOut:
        """Decide for everybody in a segment, or for every customer, in the background.

        First a random part of the audience is looked at without recording anything: `forecast` says what to expect, and
        what one message takes of budgets and capacities that do not suffice for all. Then every member is decided for
        at these shadow prices, which are worked out anew as it goes on. Up to 1,000,000 members.
        """
        right: Execution | None = request.scope.get(SCOPE_EXECUTION)
        plan_id = None if right is None else right.derived_id(0)

        def add() -> Plan:
            return desk.make(posted.campaign_id, posted.segment, starts=posted.start, plan_id=plan_id)

        return PlanOut.model_validate(await service.in_thread(add))

    @router.get("")
    async def everyone(limit: Limit = USUAL_PAGE, cursor: Cursor = None) -> PlansOut:
        """Every plan, the newest first."""
        before = None if cursor is None else str(from_cursor(cursor, str)[0])
        found = await service.in_thread(lambda: desk.newest(before, limit + 1))
        page, following = page_of(found, limit, lambda plan: to_cursor(plan.plan_id))
        return PlansOut(plans=[PlanOut.model_validate(one) for one in page], next_cursor=following)

    @router.get("/{plan_id}")
    async def one(plan_id: _PlanId) -> PlanOut:
        """One plan, with its forecast and how far it is."""
        return PlanOut.model_validate(await service.in_thread(lambda: desk.find(plan_id)))

    @router.post("/{plan_id}/start")
    async def start(plan_id: _PlanId) -> PlanOut:
        """Begin, or go on after a pause or a failure. Who belongs to the audience is worked out anew; nobody is decided for twice."""
        return await move(plan_id, PlanStatus.RUNNING)

    @router.post("/{plan_id}/pause")
    async def pause(plan_id: _PlanId) -> PlanOut:
        """Decide for nobody more until it is started again; up to 128 who are being decided for still are."""
        return await move(plan_id, PlanStatus.PAUSED)

    @router.post("/{plan_id}/cancel")
    async def cancel(plan_id: _PlanId) -> PlanOut:
        """End it for good. What was decided stays decided: single messages are stopped by `/v1/decisions/{decision_id}/cancel`."""
        return await move(plan_id, PlanStatus.CANCELLED)

    return router

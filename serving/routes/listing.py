"""`GET /v1/decisions`: what was decided, the newest first."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from features.history.listing import DecisionFilter, Place, list_decisions
from models.domain.campaign import Mode
from models.domain.errors import require
from models.domain.experiment import Arm
from serving.routes.examples import LISTED, PROBLEMS
from serving.routes.fields import Moment, Name, ShortName
from serving.routes.paging import USUAL_PAGE, Cursor, Limit, from_cursor, page_of, to_cursor
from serving.service import Service
from serving.store.availability import reaching_the_store
from serving.store.endings import OutboxStatus


class ListedDecisionOut(BaseModel):
    """A decision in short; `GET /v1/decisions/{id}` has all of it."""

    model_config = ConfigDict(from_attributes=True)

    decision_id: str
    customer_id: str
    campaign_id: str
    campaign_version: int
    decided_at: datetime
    offer_id: str | None = Field(description="Null with channel and slot: no contact.")
    channel: str | None
    slot: int | None
    send_at: datetime | None
    expires_at: datetime | None
    propensity: float
    cost_minor: float
    net_value_minor: float | None
    arm: Arm
    mode: Mode
    policy: str
    policy_version: str
    degraded: list[str]
    parent_id: str | None
    message_status: OutboxStatus | None = Field(description="State of its message; null without one.")


class ListedDecisionsOut(BaseModel):
    """Decisions, the newest first."""

    decisions: list[ListedDecisionOut]
    next_cursor: str | None = Field(description="For the next page; null on the last.")


def listing_routes(service: Service) -> APIRouter:
    """The endpoint that lists decisions."""
    router = APIRouter(prefix="/v1/decisions", tags=["decisions"], responses=PROBLEMS)

    @router.get("", openapi_extra=LISTED)
    async def listed(
        customer_id: Annotated[Name | None, Query()] = None,
        campaign_id: Annotated[Name | None, Query()] = None,
        channel: Annotated[ShortName | None, Query()] = None,
        arm: Arm | None = None,
        mode: Mode | None = None,
        policy: Annotated[ShortName | None, Query()] = None,
        action: Annotated[
            Literal["contact", "no_contact"] | None, Query(description="Only those that chose it.")
        ] = None,
        since: Annotated[Moment | None, Query(description="Decided then or later.")] = None,
        until: Annotated[Moment | None, Query(description="Decided before then.")] = None,
        message_status: Annotated[
            OutboxStatus | None,
            Query(description="State of its message; `held` are those that their caller sends."),
        ] = None,
        limit: Limit = USUAL_PAGE,
        cursor: Cursor = None,
    ) -> ListedDecisionsOut:
        """Decisions that fit every filter, the newest first."""
        require(
            since is None or until is None or since < until,
            "until",
            "" if until is None else until.isoformat(),
            "must be after `since`",
        )
        wanted = DecisionFilter(
            customer_id=customer_id,
            campaign_id=campaign_id,
            channel=channel,
            arm=arm,
            mode=mode,
            policy=policy,
            contact=None if action is None else action == "contact",
            since=since,
            until=until,
            message_status=message_status,
        )
        after = None
        if cursor is not None:
            micros, last = from_cursor(cursor, int, str)
            after = Place(int(micros), str(last))

        def read() -> list[ListedDecisionOut]:
            with reaching_the_store(), service.engine.connect() as conn:
                rows = list_decisions(conn, wanted, after, limit + 1)
            return [ListedDecisionOut.model_validate(row) for row in rows]

        def cursor_of(one: ListedDecisionOut) -> str:
            place = Place.of(one.decided_at, one.decision_id)
            return to_cursor(place.micros, place.decision_id)

        page, following = page_of(await service.in_thread(read), limit, cursor_of)
        return ListedDecisionsOut(decisions=page, next_cursor=following)

    return router

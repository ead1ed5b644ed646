"""`/v1/clock`: the clock of a rehearsal."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from models.domain.errors import NotFoundError
from serving.rehearsal import SETTING, Rehearsal
from serving.routes.examples import PROBLEMS
from serving.routes.fields import Moment
from serving.service import Service


class ClockIn(BaseModel):
    """Where to move the clock."""

    model_config = ConfigDict(extra="forbid")

    now: Moment = Field(description="Not before where it stands, and not after the clock of the machine.")


class ClockOut(BaseModel):
    """Where the clock stands."""

    now: datetime


def clock_routes(service: Service) -> APIRouter:
    """The endpoints of a rehearsal's clock; of any other service there is no such thing."""
    router = APIRouter(prefix="/v1/clock", tags=["rehearsal"], responses=PROBLEMS)

    def rehearsal() -> Rehearsal:
        if service.rehearsal is None:
            raise NotFoundError(SETTING, "(not set: this service runs by the clock of the machine)")
        return service.rehearsal

    @router.get("")
    async def stands() -> ClockOut:
        """Where the clock of a rehearsal stands."""
        return ClockOut(now=rehearsal().clock.now())

    @router.put("")
    async def move(posted: ClockIn) -> ClockOut:
        """Move the clock of a rehearsal on, once features, follow-ups and expiries are done where it stands.

        To move it to where it stands finishes what is due, and no more.
        """
        moved = rehearsal()
        return ClockOut(now=await service.in_thread(lambda: moved.move(posted.now)))

    return router

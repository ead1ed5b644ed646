"""`/v1/occasions`: rules by which a campaign is decided for customers without being asked."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from features.history.campaigns import load_campaign
from features.history.engine import read_only
from features.segments.language import SegmentName
from models.domain.errors import InvalidInputsError
from serving.occasions.book import tally
from serving.occasions.occasion import Occasion
from serving.occasions.preview import LONGEST_PREVIEW_DAYS, Preview, preview
from serving.occasions.standing import OccasionStanding, standing
from serving.occasions.store import Stored, delete_occasion, list_occasions, load_occasion, save_occasion
from serving.routes.examples import OCCASIONS, PROBLEMS
from serving.routes.fields import unstorable_in
from serving.routes.paging import USUAL_PAGE, Cursor, Limit, from_cursor, page_of, to_cursor
from serving.service import Service
from serving.store.availability import reaching_the_store

_Named = Annotated[SegmentName, Path(description="Name of the occasion.")]


class OccasionIn(BaseModel):
    """When the campaign is decided."""

    model_config = ConfigDict(extra="forbid")

    occasion: Occasion


class OccasionOut(BaseModel):
    """An occasion as it is stored."""

    name: str
    version: int
    created_at: datetime
    occasion: Occasion
    passed_at: datetime | None = Field(
        description="When the last complete look at who is due began; null before the first one of this version."
    )

    @classmethod
    def of(cls, stored: Stored) -> OccasionOut:
        """From the domain."""
        return cls(
            name=stored.name,
            version=stored.version,
            created_at=stored.created_at,
            occasion=stored.occasion,
            passed_at=stored.passed_at,
        )


class WorkingOccasionOut(OccasionOut):
    """An occasion, and what it did under its name, in every version."""

    standing: OccasionStanding = Field(description="Only an active one decides.")
    n_decided: int = Field(description="Decisions, those for no contact included.")
    n_contacted: int = Field(description="Decisions to contact.")
    n_dropped: dict[str, int] = Field(description="Occurrences that could not be decided, by reason.")


class OccasionsOut(BaseModel):
    """Occasions in order of name."""

    occasions: list[OccasionOut]
    next_cursor: str | None = Field(description="For the next page; null on the last.")


class DayOut(BaseModel):
    """One day of UTC."""

    day: date
    n_due: int


class OccasionPreviewOut(BaseModel):
    """Who will be due, as far as it is known; nothing was decided."""

    as_of: datetime
    standing: OccasionStanding
    n_at_once: int = Field(
        description="Due already and not decided: decided by the next look, or when the campaign opens."
    )
    days: list[DayOut] = Field(description="From the present on.")
    n_dates: int = Field(description="Customers whose attribute is a date; 0 where facts are looked for.")
    n_no_date: int = Field(description="Customers whose attribute is something else; 0 likewise.")
    example: str | None = Field(description="One of those values, at most 80 characters.")

    @classmethod
    def of(cls, made: Preview) -> OccasionPreviewOut:
        """From the domain."""
        return cls(
            as_of=made.as_of,
            standing=made.standing,
            n_at_once=made.n_at_once,
            days=[DayOut(day=day, n_due=n) for day, n in sorted(made.by_day.items())],
            n_dates=made.n_dates,
            n_no_date=made.n_no_date,
            example=made.example,
        )


def occasion_routes(service: Service) -> APIRouter:
    """The endpoints of occasions."""
    router = APIRouter(prefix="/v1/occasions", tags=["occasions"], responses=PROBLEMS)

    def shown(conn: Connection, stored: Stored, now: datetime) -> WorkingOccasionOut:
        done = tally(conn, stored.name)
        campaign = load_campaign(conn, stored.occasion.campaign_id)
        return WorkingOccasionOut(
            **dict(OccasionOut.of(stored)),
            standing=standing(campaign, now),
            n_decided=done.n_decided,
            n_contacted=done.n_contacted,
            n_dropped=done.n_dropped,
        )

    @router.get("")
    async def everyone(limit: Limit = USUAL_PAGE, cursor: Cursor = None) -> OccasionsOut:
        """Every occasion, in order of name."""
        after = "" if cursor is None else str(from_cursor(cursor, str)[0])

        def read() -> list[Stored]:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                return list_occasions(conn, after, limit + 1)

        page, following = page_of(await service.in_thread(read), limit, lambda stored: to_cursor(stored.name))
        return OccasionsOut(occasions=[OccasionOut.of(stored) for stored in page], next_cursor=following)

    @router.get("/{name}")
    async def one(name: _Named) -> WorkingOccasionOut:
        """An occasion, whether it works, and what it did."""
        now = service.clock()

        def read() -> WorkingOccasionOut:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                return shown(conn, load_occasion(conn, name), now)

        return await service.in_thread(read)

    @router.put("/{name}", openapi_extra=OCCASIONS)
    async def put(name: _Named, posted: OccasionIn) -> WorkingOccasionOut:
        """Store an occasion; a changed one becomes a new version. Who was decided for before is not decided for again."""
        if found := unstorable_in(posted.occasion, "occasion."):
            raise InvalidInputsError(found)
        now = service.clock()

        def write() -> WorkingOccasionOut:
            with reaching_the_store(), service.engine.begin() as conn:
                return shown(conn, save_occasion(conn, name, posted.occasion, now), now)

        return await service.in_thread(write)

    @router.delete("/{name}", status_code=204)
    async def delete(name: _Named) -> Response:
        """Decide for nobody more by it; what was decided stays decided."""
        now = service.clock()

        def write() -> Response:
            with reaching_the_store(), service.engine.begin() as conn:
                delete_occasion(conn, name, now)
            return Response(status_code=204)

        return await service.in_thread(write)

    @router.get("/{name}/preview")
    async def look_ahead(
        name: _Named,
        days: Annotated[int, Query(ge=1, le=LONGEST_PREVIEW_DAYS, description="How far to look.")] = 14,
    ) -> OccasionPreviewOut:
        """How many will be due on each of the coming days, and whose attribute is no date; nobody is decided for."""
        now = service.clock()
        return OccasionPreviewOut.of(
            await service.in_thread(lambda: preview(service.engine, name, now, days))
        )

    return router

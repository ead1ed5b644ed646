"""`/v1/identities`: which contact points belong to one person."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from features.identity.link import ConflictReason, Link
from models.domain.channel import IdentityKind
from models.domain.customer import zone
from serving.routes.examples import PROBLEMS
from serving.routes.fields import Moment, Name, ShortName, TimeZone
from serving.routes.schemas import IdentityIn
from serving.service import Service

LARGEST_LINK = 20
LARGEST_PAGE = 200
_OF_DOMAIN = ConfigDict(from_attributes=True)


class LinkIn(BaseModel):
    """Contact points of one person."""

    model_config = ConfigDict(extra="forbid")

    identities: Annotated[list[IdentityIn], Field(min_length=1, max_length=LARGEST_LINK)]
    customer_id: Name | None = Field(
        default=None, description="Whose, where known; otherwise whoever has one of them, or somebody new."
    )
    linked_at: Moment | None = Field(default=None, description="When it was learned; default: now.")
    source: ShortName = Field(description="Your system.")
    time_zone: TimeZone = Field(default="UTC", description="Of a customer who is new; IANA name.")


class LinkedOut(BaseModel):
    """What the link did."""

    model_config = _OF_DOMAIN

    customer_id: str = Field(description="The person; it may differ from the id that was given.")
    created: bool
    n_linked: int = Field(description="Contact points that are new.")
    merged: list[str] = Field(description="Ids that became this person.")
    conflicts: list[int] = Field(description="Open conflicts that it met: nothing was merged for these.")


class ConflictOut(BaseModel):
    """Two customers who share a contact point and are not merged."""

    model_config = _OF_DOMAIN

    conflict_id: int
    kind: IdentityKind
    contact_point: str = Field(description="Masked.")
    customer_id: str = Field(description="Who claims it.")
    holder_id: str = Field(description="Who has it.")
    reason: ConflictReason
    source: str
    found_at: datetime


class ConflictsOut(BaseModel):
    """A page of open conflicts, oldest first."""

    conflicts: list[ConflictOut]
    next_after: int | None = Field(description="Give it as `after` for the next page; null at the end.")


def identity_routes(service: Service) -> APIRouter:
    """The endpoints of identities."""
    router = APIRouter(prefix="/v1", tags=["identities"], responses=PROBLEMS)

    @router.post("/identities:link")
    async def link(posted: LinkIn) -> LinkedOut:
        """Say that these contact points belong to one person.

        Two customers who share a personal contact point become one. A shared device merges nobody: it is listed
        as a conflict.
        """
        zone(posted.time_zone)
        now = service.clock()
        asked = Link(
            contact_points=tuple((one.kind, one.value) for one in posted.identities),
            customer_id=posted.customer_id,
            linked_at=posted.linked_at or now,
            source=posted.source,
            time_zone=posted.time_zone,
        )
        done = await service.in_thread(lambda: service.customers.link(asked, f"api:{posted.source}"))
        service.refresher.request([done.customer_id])
        return LinkedOut.model_validate(done)

    @router.get("/identities/conflicts")
    async def conflicts(
        after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 50,
    ) -> ConflictsOut:
        """Conflicts that a person has to settle: `nextchannel identity merge` or `dismiss`."""
        found = await service.in_thread(lambda: service.customers.conflicts(after, limit + 1))
        page = [ConflictOut.model_validate(one) for one in found[:limit]]
        return ConflictsOut(conflicts=page, next_after=page[-1].conflict_id if len(found) > limit else None)

    return router

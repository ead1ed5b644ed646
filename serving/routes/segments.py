"""`/v1/segments` and `/v1/tags`: who belongs together, by stacked conditions."""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema
from pydantic_core.core_schema import no_info_wrap_validator_function

from features.history.engine import read_only
from features.segments.everybody import check_features, members
from features.segments.language import (
    Condition,
    Description,
    Segment,
    SegmentName,
    feature_names,
    parse_segment,
)
from features.segments.one import is_member
from features.segments.store import TagStatement, append_tags, list_segments, load_segment, save_segment
from serving.explain.catalogue import Language
from serving.profile.segment import SegmentProfile
from serving.routes.examples import PROBLEMS, SEGMENTS
from serving.routes.fields import Moment, Name, ShortName
from serving.routes.interactions import AppendedOut
from serving.service import Service
from serving.store.availability import reaching_the_store

MOST_TAGS = 10_000
LONGEST_PAGE = 10_000

_Named = Annotated[SegmentName, Path(description="Name of the segment.")]
# Described as a condition, and given as it came: `parse_segment` has bounds and words of its own for what is none.
_AsGiven = Annotated[
    Any,
    GetPydanticSchema(
        lambda _source, handler: no_info_wrap_validator_function(
            lambda given, _parse: given, handler(Condition)
        )
    ),
]


class SegmentIn(BaseModel):
    """Who belongs to a segment; its name stands in the address."""

    model_config = ConfigDict(extra="forbid")

    description: Description = ""
    condition: _AsGiven = Field(description="See docs/how-to/segments.md.")


class SegmentOut(BaseModel):
    """A segment as it is stored."""

    name: str
    version: int
    description: str
    condition: dict[str, Any]


class SegmentsOut(BaseModel):
    """The latest version of every segment."""

    segments: list[SegmentOut]


class SizeOut(BaseModel):
    """How many belong to a segment."""

    n_members: int
    as_of: datetime


class MembersOut(BaseModel):
    """A page of members, in order of their ids; `next` is the `after` of the next page, null on the last."""

    customer_ids: list[str]
    next: str | None
    as_of: datetime


class MemberOut(BaseModel):
    """Whether one customer belongs to a segment."""

    customer_id: str
    member: bool
    as_of: datetime


class TagIn(BaseModel):
    """A tag put on a customer, or taken off."""

    model_config = ConfigDict(extra="forbid")

    customer_id: Name
    tag: ShortName
    source: ShortName = Field(description="Who says so.")
    since: Moment | None = Field(default=None, description="From when on; default now.")
    present: bool = Field(default=True, description="False to take it off.")


class TagsIn(BaseModel):
    """Tags to put on or take off."""

    model_config = ConfigDict(extra="forbid")

    tags: Annotated[list[TagIn], Field(min_length=1, max_length=MOST_TAGS)]


def segment_routes(service: Service) -> APIRouter:
    """The endpoints of segments and tags."""
    router = APIRouter(prefix="/v1", tags=["segments"], responses=PROBLEMS)

    @router.put("/segments/{name}", openapi_extra=SEGMENTS)
    async def put(name: _Named, posted: SegmentIn) -> SegmentOut:
        """Store a segment; a changed one becomes a new version."""
        given = {"name": name, "description": posted.description, "condition": posted.condition}
        segment = parse_segment(given)

        def write() -> Segment:
            if feature_names(segment.condition):
                check_features(segment, service.feature_list())
            with reaching_the_store(), service.engine.begin() as conn:
                return save_segment(conn, segment, service.clock())

        return _out(await service.in_thread(write))

    @router.get("/segments")
    async def everyone() -> SegmentsOut:
        """The latest version of every segment."""

        def read() -> list[Segment]:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                return list_segments(conn)

        return SegmentsOut(segments=[_out(segment) for segment in await service.in_thread(read)])

    @router.get("/segments/{name}")
    async def one(name: _Named) -> SegmentOut:
        """A segment."""

        def read() -> Segment:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                return load_segment(conn, name)

        return _out(await service.in_thread(read))

    def found(name: str, now: datetime) -> list[str]:
        with reaching_the_store(), read_only(service.engine).connect() as conn:
            return members(conn, load_segment(conn, name), now, service.feature_list())

    @router.get("/segments/{name}/size")
    async def size(name: _Named) -> SizeOut:
        """How many belong to it now."""
        now = service.clock()
        return SizeOut(n_members=len(await service.in_thread(lambda: found(name, now))), as_of=now)

    @router.get("/segments/{name}/profile")
    async def profile(
        name: _Named,
        campaign_id: Annotated[
            Name | None, Query(description="What it did with the members is worked out too.")
        ] = None,
        language: Annotated[Language, Query(description="Of the sentences.")] = Language.ENGLISH,
    ) -> SegmentProfile:
        """What sets its members apart, on which channels they can be reached, and what a campaign did with them."""
        now = service.clock()
        return await service.in_thread(lambda: service.segment_profile(name, campaign_id, language, now))

    @router.get("/segments/{name}/members")
    async def page(
        name: _Named,
        after: Annotated[str, Query(max_length=128)] = "",
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = 1_000,
    ) -> MembersOut:
        """Its members, page by page; each page is as of its own moment."""
        now = service.clock()
        ids = await service.in_thread(lambda: found(name, now))
        first = bisect_right(ids, after)
        chosen = ids[first : first + limit]
        more = first + limit < len(ids)
        return MembersOut(customer_ids=chosen, next=chosen[-1] if more else None, as_of=now)

    @router.get("/segments/{name}/members/{customer_id}")
    async def member(name: _Named, customer_id: Annotated[Name, Path()]) -> MemberOut:
        """Whether one customer belongs to it now."""
        now = service.clock()

        def read() -> bool:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                return is_member(conn, load_segment(conn, name), customer_id, now, service.feature_list())

        return MemberOut(customer_id=customer_id, member=await service.in_thread(read), as_of=now)

    @router.post("/tags")
    async def tag(posted: TagsIn) -> AppendedOut:
        """Put tags on customers or take them off; the same statement again changes nothing."""
        now = service.clock()
        statements = [
            TagStatement(
                customer_id=each.customer_id,
                tag=each.tag,
                since=each.since or now,
                source=each.source,
                present=each.present,
            )
            for each in posted.tags
        ]

        def write() -> AppendedOut:
            with reaching_the_store(), service.engine.begin() as conn:
                appended = append_tags(conn, statements)
            return AppendedOut(n_new=appended.n_new, n_repeated=appended.n_repeated)

        return await service.in_thread(write)

    return router


def _out(segment: Segment) -> SegmentOut:
    document = segment.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return SegmentOut(
        name=segment.name,
        version=segment.version,
        description=segment.description,
        condition=document["condition"],
    )

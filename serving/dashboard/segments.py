"""The pages of segments: every segment, and one of them in words and figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import StringConstraints

from features.history.engine import read_only
from features.segments.language import SegmentName
from features.segments.store import list_segments
from models.domain.interaction import LONGEST_ID
from serving.dashboard.answers import PageAnswers
from serving.dashboard.charts import DrawnInterval, Forest, Interval, forest
from serving.dashboard.pages import differences_of
from serving.explain.catalogue import Language
from serving.explain.languages import CATALOGUES
from serving.profile.campaign import CampaignProfile
from serving.profile.traits import Trait, Traits
from serving.service import Service
from serving.store.availability import reaching_the_store

# Of a form: its empty choice is no campaign.
_Campaign = Annotated[str, StringConstraints(max_length=LONGEST_ID, pattern=r"^[^\x00-\x1f\x7f]*$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraitLine:
    """A trait in words, beside its place on the axis that all of them share.

    Attributes:
        drawn: None where the difference is infinite.
    """

    trait: Trait
    drawn: DrawnInterval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraitPlot:
    """The traits, and the axis that they share; none where there is nothing to draw."""

    lines: tuple[TraitLine, ...]
    axis: Forest | None

    @classmethod
    def of(cls, found: Traits | None) -> TraitPlot:
        """Lay out the plot."""
        told = () if found is None else found.told
        intervals = [
            Interval(label=one.feature, value=one.standardised, low=one.low, high=one.high)
            for one in told
            if one.standardised is not None and one.low is not None and one.high is not None
        ]
        axis = forest(intervals, include_zero=True)
        drawn = {} if axis is None else {row.label: row for row in axis.rows}
        return cls(lines=tuple(TraitLine(trait=one, drawn=drawn.get(one.feature)) for one in told), axis=axis)


def segment_pages(service: Service) -> APIRouter:
    """The pages below `/segments`."""
    router = APIRouter(include_in_schema=False)
    answers = PageAnswers(service, languages=list(CATALOGUES.values()))

    @router.get("/segments")
    async def segments() -> Response:
        def make() -> Response:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                return answers.page("segments.html", segments=list_segments(conn))

        return await answers.made("/segments", make)

    @router.get("/segments/{name}")
    async def one(
        name: Annotated[SegmentName, Path()],
        campaign: Annotated[_Campaign, Query()] = "",
        language: Annotated[Language, Query()] = Language.ENGLISH,
    ) -> Response:
        now = service.clock()

        def make() -> Response:
            profile = service.segment_profile(name, campaign or None, language, now)
            return answers.page(
                "segment.html",
                profile=profile,
                campaigns=sorted(service.snapshots.current.campaigns),
                plot=TraitPlot.of(profile.traits),
                differences=_differences(profile.campaign),
            )

        return await answers.made(f"/segments/{name}", make)

    return router


def _differences(found: CampaignProfile | None) -> Forest | None:
    """Differences between arms; None where there are none to show."""
    intervals = differences_of(() if found is None else found.differences or ())
    return forest(intervals, include_zero=True)

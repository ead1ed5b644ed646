"""The page of the lifecycle: who is where, how they move on, and which contact works for customers in which stage."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from features.history.lifecycle import LifecycleStage, LifecycleStep, PurchaseKind
from serving.dashboard.answers import PageAnswers
from serving.dashboard.charts import Forest, Interval, Point, Steps, forest, steps
from serving.dashboard.pages import interval_of
from serving.lifecycle import (
    LAST_DAY,
    LifecycleChannelsReport,
    LifecycleReport,
    StepReport,
    build_lifecycle,
)
from serving.routes.fields import Name
from serving.routes.lifecycle import USUAL_DAYS, AskedLifecycle, WithinDays
from serving.service import Service

STAGE_WORDS: Mapping[LifecycleStage, str] = MappingProxyType(
    {
        LifecycleStage.VISITOR: "visitor",
        LifecycleStage.REGISTERED: "registered",
        LifecycleStage.FIRST_PURCHASE: "first purchase",
        LifecycleStage.REPEAT: "repeat",
        LifecycleStage.LAPSED: "lapsed",
    }
)
STEP_WORDS: Mapping[LifecycleStep, str] = MappingProxyType(
    {
        LifecycleStep.REGISTRATION: "First visit to registration",
        LifecycleStep.FIRST_PURCHASE: "Registration to first purchase",
        LifecycleStep.SECOND_PURCHASE: "First purchase to second",
    }
)

# The interval of fewer messages covers most of the scale.
FEWEST_PLOTTED = 30


def lifecycle_pages(service: Service) -> APIRouter:
    """The page at `/lifecycle`."""
    router = APIRouter(include_in_schema=False)
    answers = PageAnswers(
        service,
        stage_words=STAGE_WORDS,
        step_words=STEP_WORDS,
        last_day=LAST_DAY,
        fewest_plotted=FEWEST_PLOTTED,
    )

    @router.get("/lifecycle")
    async def page(
        asked: AskedLifecycle,
        within_days: WithinDays = USUAL_DAYS,
        campaign: Annotated[Name | None, Query()] = None,
    ) -> Response:
        now = service.clock()

        def make() -> Response:
            whole = build_lifecycle(service.engine, asked, now, within_days)
            by_channel = (
                None if campaign is None else service.lifecycle_channels(campaign, asked, now, within_days)
            )
            return answers.page(
                "lifecycle.html",
                whole=whole,
                curves=_curves(whole),
                by_channel=by_channel,
                rates=None if by_channel is None else _rates_plot(by_channel),
                uplift=None if by_channel is None else _uplift_plot(by_channel),
                campaigns=sorted(service.snapshots.current.campaigns),
                purchases=list(PurchaseKind),
            )

        return await answers.made("/lifecycle", make)

    return router


def _curves(whole: LifecycleReport) -> list[tuple[StepReport, Steps | None]]:
    """Every step with its curve, all on one scale; None where nothing of it is known."""
    points = [
        [
            Point(day=one.day, value=one.share.value, low=one.share.low, high=one.share.high)
            for one in step.curve
            if one.share is not None
        ]
        for step in whole.steps
    ]
    top = max((one.high for each in points for one in each), default=1.0)
    return [
        (step, steps(each, LAST_DAY, top) if each else None)
        for step, each in zip(whole.steps, points, strict=True)
    ]


def _rates_plot(found: LifecycleChannelsReport) -> Forest | None:
    """Converted messages by stage and channel, without those whose interval would make all others dots."""
    intervals = [
        Interval(
            label=f"{STAGE_WORDS[row.stage]}: {row.figures.channel}",
            value=row.rates.converted.value,
            low=row.rates.converted.low,
            high=row.rates.converted.high,
        )
        for row in found.channels
        if row.figures.planned >= FEWEST_PLOTTED
    ]
    return forest(intervals, include_zero=True)


def _uplift_plot(found: LifecycleChannelsReport) -> Forest | None:
    """Treatment - holdout by stage, of those that anything can be said about."""
    intervals = [
        interval_of(STAGE_WORDS[one.stage], one.against_holdout.difference)
        for one in found.arms
        if one.against_holdout is not None
    ]
    return forest(intervals, include_zero=True)

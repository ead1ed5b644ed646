"""Where customers stand in their lifecycle, how they move on, and which contact works for whom: for the page and for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import Engine

from features.history.campaigns import load_campaign
from features.history.engine import read_only
from features.history.lifecycle import (
    Lifecycle,
    LifecycleStage,
    LifecycleStep,
    Moved,
    stage_arms,
    stage_funnel,
    standing,
)
from features.history.report import ArmSums, FunnelRow
from features.history.rewards import settle_in_parts
from features.history.unsettled import count_waiting
from models.domain.experiment import Arm, Experiment
from models.evaluation.experiment import SampleRatio
from models.evaluation.share import Share, wilson
from models.evaluation.time_to_event import moved_on
from serving.arms import CONFIDENCE, FEWEST_TO_JUDGE, ArmReport
from serving.compared import DifferenceReport, compare
from serving.report import SETTLING_SECONDS, count_known
from serving.store.availability import reaching_the_store

LAST_DAY = 90
"""The last day of the curves."""
NAMED_DAYS = (30, LAST_DAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCount:
    """How many customers are in a stage now."""

    stage: LifecycleStage
    n_customers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareByDay:
    """Of those who entered a step, the share that had reached the next stage by the end of a day.

    Attributes:
        day: Days of 24 hours since the customer entered.
        n_at_risk: Who was watched on that day and had not moved on before.
        share: With an interval; None where nobody was watched for so long.
    """

    day: int
    n_at_risk: int
    share: Share | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One step of the lifecycle.

    Attributes:
        n_entered: Customers who entered it within the days that were asked for.
        median_days: By when half of them have moved on; None where that is not known, or they do not.
        within: On the 30th and 90th day.
        curve: On every day up to the 90th for which it is known.
    """

    step: LifecycleStep
    n_entered: int
    median_days: int | None
    within: tuple[ShareByDay, ...]
    curve: tuple[ShareByDay, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleReport:
    """Everybody at one moment.

    Attributes:
        as_of: Only facts before it count.
        within_days: Steps that were entered within so many days before are followed.
        confidence: Of the intervals.
    """

    as_of: datetime
    lifecycle: Lifecycle
    within_days: int
    confidence: float
    stages: tuple[StageCount, ...]
    steps: tuple[StepReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRates:
    """Shares of the messages that were planned, each message for itself; None where the channel cannot report it."""

    delivered: Share | None
    opened: Share | None
    clicked: Share | None
    converted: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class StageChannelReport:
    """Messages on one channel to customers in one stage at the decision.

    Attributes:
        figures: As in the funnel of the report.
        rates: What they make. They compare customers for whom the channel was chosen, not what channels cause.
    """

    stage: LifecycleStage
    figures: FunnelRow
    rates: ChannelRates


@dataclass(frozen=True, slots=True, kw_only=True)
class StageArmsReport:
    """The arms among customers who were in one stage before their first decision in the campaign.

    Attributes:
        differences: What contact caused there, as in the report.
        sample_ratio: Whether the arms have the sizes that were planned; where they do not, do not read the differences.
        verdict: What may be said of treatment and holdout.
    """

    stage: LifecycleStage
    arms: tuple[ArmReport, ...]
    differences: tuple[DifferenceReport, ...]
    sample_ratio: SampleRatio
    verdict: str

    @property
    def against_holdout(self) -> DifferenceReport | None:
        """Treatment - holdout, where there are enough customers to say anything, in arms of the sizes that were planned."""
        pair = {Arm.TREATMENT, Arm.HOLDOUT}
        enough = all(one.n_customers >= FEWEST_TO_JUDGE for one in self.arms if one.arm in pair)
        readable = enough and self.sample_ratio.sound
        return (
            next((one for one in self.differences if {one.arm, one.other} == pair), None)
            if readable
            else None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleChannelsReport:
    """A campaign by stage.

    Attributes:
        simulated: Customers and outcomes of the campaign come from a simulator.
        within_days: Decisions of so many days before `as_of` are told, and customers whose first decision was in them.
        up_to_date: Whether all that is known is counted.
        n_waiting: Customers about whom something new is not counted yet, as far as that is known.
        channels: In order of stage and channel; what no message was planned for is left out.
        arms: In order of stage; what nobody was in is left out.
    """

    campaign_id: str
    simulated: bool
    as_of: datetime
    lifecycle: Lifecycle
    within_days: int
    currency: str
    confidence: float
    up_to_date: bool
    n_waiting: int
    channels: tuple[StageChannelReport, ...]
    arms: tuple[StageArmsReport, ...]


def build_lifecycle(
    engine: Engine, lifecycle: Lifecycle, as_of: datetime, within_days: int
) -> LifecycleReport:
    """Who is where at a moment, and how soon those who entered a step before it moved on.

    Args:
        engine: Of the history.
        lifecycle: What makes a stage.
        as_of: Aware.
        within_days: >= 1.

    Raises:
        StoreUnavailableError: the database cannot be reached.
    """
    with reaching_the_store(), read_only(engine).connect() as conn:
        found = standing(conn, lifecycle, as_of, within_days)
    return LifecycleReport(
        as_of=as_of,
        lifecycle=lifecycle,
        within_days=within_days,
        confidence=CONFIDENCE,
        stages=tuple(StageCount(stage=stage, n_customers=n) for stage, n in found.stages.items()),
        steps=tuple(_step(step, rows) for step, rows in found.steps.items()),
    )


def build_lifecycle_channels(
    engine: Engine, lifecycle: Lifecycle, campaign_id: str, now: datetime, within_days: int, currency: str
) -> LifecycleChannelsReport:
    """Settle the campaign's rewards for a while, as the report does, then tell what came of it by stage.

    Raises:
        NotFoundError: there is no such campaign.
        StoreUnavailableError: the database cannot be reached.
    """
    since = now - timedelta(days=within_days)
    with reaching_the_store():
        with read_only(engine).connect() as conn:
            campaign = load_campaign(conn, campaign_id)
        up_to_date = settle_in_parts(engine, now, campaign_id, seconds=SETTLING_SECONDS)
        with read_only(engine).connect() as conn:
            rows = stage_funnel(conn, lifecycle, campaign_id, since)
            sums = stage_arms(conn, lifecycle, campaign_id, since)
            n_waiting = count_waiting(conn, campaign_id)
            n_known = count_known(conn)
    return LifecycleChannelsReport(
        campaign_id=campaign_id,
        simulated=campaign.simulated,
        as_of=now,
        lifecycle=lifecycle,
        within_days=within_days,
        currency=currency,
        confidence=CONFIDENCE,
        up_to_date=up_to_date,
        n_waiting=n_waiting,
        channels=tuple(
            StageChannelReport(stage=row.stage, figures=row.funnel, rates=_rates(row.funnel)) for row in rows
        ),
        arms=tuple(
            _arms(stage, sums[stage], campaign.experiment, n_known)
            for stage in LifecycleStage
            if stage in sums
        ),
    )


def _step(step: LifecycleStep, rows: Sequence[Moved]) -> StepReport:
    found = moved_on(
        np.array([row.day for row in rows], dtype=np.int64),
        np.array([row.moved for row in rows], dtype=np.bool_),
        np.array([row.n for row in rows], dtype=np.int64),
        CONFIDENCE,
    )
    by_day = [
        ShareByDay(day=day, n_at_risk=found.at_risk(day), share=found.by(day))
        for day in range(1, LAST_DAY + 1)
    ]
    return StepReport(
        step=step,
        n_entered=found.n,
        median_days=found.median(),
        within=tuple(by_day[day - 1] for day in NAMED_DAYS),
        curve=tuple(one for one in by_day if one.share is not None),
    )


def _rates(row: FunnelRow) -> ChannelRates:
    def rate(count: int) -> Share:
        return wilson(count / row.planned, row.planned, CONFIDENCE)

    return ChannelRates(
        delivered=None if row.delivered is None else rate(row.delivered),
        opened=None if row.opened is None else rate(row.opened),
        clicked=None if row.clicked is None else rate(row.clicked),
        converted=rate(row.converted),
    )


def _arms(
    stage: LifecycleStage, sums: Mapping[Arm, ArmSums], experiment: Experiment, n_expected: int
) -> StageArmsReport:
    found = compare(sums, experiment, n_expected)
    assert found.sample_ratio is not None  # somebody is in it
    return StageArmsReport(
        stage=stage,
        arms=found.arms,
        differences=found.differences,
        sample_ratio=found.sample_ratio,
        verdict=found.verdict,
    )

"""Where customers stand in their lifecycle, how they move on, and what came of messages by where their customers stood.

A purchase is a fact `purchased`, or a fact `converted` where that is asked for; several at one moment are one. Facts that machines
made count nowhere. Rows of people who were merged carry the person's id, so they count as one; the facts of people who were erased
stay under a nameless id, so that what happened then stays what it was, and nobody counts them as customers now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    CTE,
    Boolean,
    ColumnElement,
    CompoundSelect,
    Connection,
    FromClause,
    Select,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    union_all,
)

from features.history.channels import load_channels
from features.history.moments import earlier, whole_days
from features.history.outcomes import channel_sums, contacts
from features.history.report import ARM_SUMS, ArmSums, FunnelRow, funnel_row
from features.history.tables import UtcMoment, customers, decisions, interactions, outcomes
from models.domain.experiment import Arm
from models.domain.interaction import InteractionKind as Kind

LAPSED_AFTER_DAYS = 365
"""As long as the feature `lifecycle_stage` calls a customer lost after."""
_VISITS = (Kind.CARTED, Kind.VIEWED, Kind.VISITED)
# What customers do themselves. What becomes of a message is none of it, nor what is left undone, nor a call, which may be ours.
_OWN = (
    *_VISITS,
    Kind.CLICKED,
    Kind.COMPLAINED,
    Kind.CONVERTED,
    Kind.FOLLOWED,
    Kind.ISSUE_RAISED,
    Kind.OPENED,
    Kind.PURCHASED,
    Kind.REGISTERED,
    Kind.REPLIED,
    Kind.UNFOLLOWED,
    Kind.UNSUBSCRIBED,
)


class LifecycleStage(StrEnum):
    """Where a customer stands at a moment, by the facts that happened before it. The first that fits from below."""

    VISITOR = "visitor"
    """Known; neither registered nor purchased."""
    REGISTERED = "registered"
    """Registered, never purchased."""
    FIRST_PURCHASE = "first_purchase"
    """Purchased once, registered or not."""
    REPEAT = "repeat"
    """Purchased at two moments or more."""
    LAPSED = "lapsed"
    """Did something once, and nothing within the last `lapsed_after_days` days. Who never did anything is a visitor."""


class LifecycleStep(StrEnum):
    """From one stage to the next. Who reached the next before the first never entered the step."""

    REGISTRATION = "registration"
    """From the first `visited`, `viewed` or `carted` to the first `registered`."""
    FIRST_PURCHASE = "first_purchase"
    """From the first `registered` to the first purchase."""
    SECOND_PURCHASE = "second_purchase"
    """From the first purchase to the second."""


class PurchaseKind(StrEnum):
    """Which facts are purchases."""

    PURCHASED = "purchased"
    CONVERTED = "converted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """What makes a stage.

    Attributes:
        purchase: Which facts are purchases.
        lapsed_after_days: Without any fact by the customer, >= 1.
    """

    purchase: PurchaseKind = PurchaseKind.PURCHASED
    lapsed_after_days: int = LAPSED_AFTER_DAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Customers who entered a step, as whole days after it.

    Attributes:
        day: The day of the next stage counted from 1, or the last whole day that is known, >= 0.
        moved: Whether they reached the next stage on that day.
        n: Customers, >= 1.
    """

    day: int
    moved: bool
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where everybody stands at a moment, and how they came there.

    Attributes:
        stages: Customers by stage.
        steps: Who entered a step, by step.
    """

    stages: Mapping[LifecycleStage, int]
    steps: Mapping[LifecycleStep, tuple[Moved, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFunnelRow:
    """What became of the messages on one channel to customers who were in one stage when they were decided on."""

    stage: LifecycleStage
    funnel: FunnelRow


def standing(conn: Connection, lifecycle: Lifecycle, as_of: datetime, within_days: int) -> Standing:
    """Everybody's stage, and the steps that were entered within so many days before.

    Args:
        conn: Only read.
        lifecycle: What makes a stage.
        as_of: Aware; only facts before it count.
        within_days: >= 1.
    """
    moment = literal(as_of, UtcMoment)
    acts = (
        select(interactions.c.customer_id, moment.label("moment"), *_acts(lifecycle))
        .where(_counts(moment))
        .group_by(interactions.c.customer_id)
        .cte("acts")
    )
    stage = _stage(conn, lifecycle, acts)
    now = (
        select(
            literal(_NOW).label("part"),
            stage.label("name"),
            literal(0).label("day"),
            literal(False, Boolean).label("moved"),
            func.count().label("n"),
        )
        .select_from(customers.outerjoin(acts, acts.c.customer_id == customers.c.customer_id))
        .where(or_(customers.c.created_at < as_of, acts.c.acted_at.is_not(None)))
        .group_by(stage)
    )
    again = _second_purchases(lifecycle, acts)
    since = as_of - timedelta(days=within_days)
    steps = (
        _moved(conn, *step, since)
        for step in (
            (LifecycleStep.REGISTRATION, acts, "visited_at", "registered_at"),
            (LifecycleStep.FIRST_PURCHASE, acts, "registered_at", "purchased_at"),
            (LifecycleStep.SECOND_PURCHASE, again, "purchased_at", "next_at"),
        )
    )
    # One statement, so that facts are read once for all of it.
    stages = dict.fromkeys(LifecycleStage, 0)
    entered: dict[LifecycleStep, list[Moved]] = {step: [] for step in LifecycleStep}
    statement: CompoundSelect[Any] = union_all(now, *steps)
    for row in conn.execute(statement):
        if row.part == _NOW:
            stages[LifecycleStage(row.name)] = row.n
        else:
            entered[LifecycleStep(row.part)].append(Moved(day=row.day, moved=bool(row.moved), n=row.n))
    return Standing(stages=stages, steps={step: tuple(moved) for step, moved in entered.items()})


def stage_funnel(
    conn: Connection, lifecycle: Lifecycle, campaign_id: str, since: datetime
) -> list[StageFunnelRow]:
    """The funnel of a campaign since a moment by the stage that customers were in at each decision, and by channel, in this order.

    As of `features.history.report.funnel`, which adds up the same figures whatever the stage: as far as customers are settled.
    """
    of_those = and_(decisions.c.campaign_id == campaign_id, decisions.c.decided_at >= since)
    staged = _staged(conn, lifecycle, contacts(of_those))
    rows = conn.execute(channel_sums(staged, "stage", "channel")).all()
    channels = load_channels(conn)
    found = [
        StageFunnelRow(stage=LifecycleStage(row.stage), funnel=funnel_row(row, channels)) for row in rows
    ]
    order = list(LifecycleStage)
    return sorted(found, key=lambda row: (order.index(row.stage), row.funnel.channel))


def stage_arms(
    conn: Connection, lifecycle: Lifecycle, campaign_id: str, since: datetime
) -> dict[LifecycleStage, dict[Arm, ArmSums]]:
    """Sums over the customers of each arm, by the stage that they were in before their first decision in the campaign.

    As of `features.history.report.customer_sums`, for those who came in since a moment. Of whom it is not kept when that was (they
    were settled by an older version) is left out. A stage or arm that nobody is in is left out.
    """
    kept = outcomes.c
    of_those = and_(kept.campaign_id == campaign_id, kept.first_decided_at >= since)
    entered = select(kept.arm, kept.customer_id, kept.first_decided_at.label("moment")).where(of_those)
    staged = _staged(conn, lifecycle, entered.cte("entered"))
    same = and_(kept.arm == staged.c.arm, kept.customer_id == staged.c.customer_id)
    query = (
        select(staged.c.stage, kept.arm, *ARM_SUMS)
        .select_from(staged.join(outcomes, and_(kept.campaign_id == campaign_id, same)))
        .group_by(staged.c.stage, kept.arm)
    )
    found: dict[LifecycleStage, dict[Arm, ArmSums]] = {}
    for row in conn.execute(query):
        values = row._asdict()
        in_stage, arm = LifecycleStage(values.pop("stage")), Arm(values.pop("arm"))
        found.setdefault(in_stage, {})[arm] = ArmSums(arm=arm, **values)
    return found


_NOW = "now"


def _counts(moment: ColumnElement[datetime]) -> ColumnElement[bool]:
    """SQL condition on a row of `interactions`: the customer did it before a moment."""
    did = interactions.c
    return and_(did.occurred_at < moment, did.kind.in_(_OWN), ~did.machine_made)


def _acts(lifecycle: Lifecycle) -> tuple[ColumnElement[datetime], ...]:
    """When a customer did what makes a stage, over those rows of `interactions`."""
    kind, at = interactions.c.kind, interactions.c.occurred_at
    purchase = kind == lifecycle.purchase.value
    return (
        func.min(at).filter(kind.in_(_VISITS)).label("visited_at"),
        func.min(at).filter(kind == Kind.REGISTERED).label("registered_at"),
        func.min(at).filter(purchase).label("purchased_at"),
        func.max(at).filter(purchase).label("last_purchased_at"),
        func.max(at).label("acted_at"),
    )


def _staged(conn: Connection, lifecycle: Lifecycle, points: CTE) -> CTE:
    """Rows with a `customer_id` and a `moment`, and the customer's `stage` at that moment."""
    theirs = and_(interactions.c.customer_id == points.c.customer_id, _counts(points.c.moment))
    acts = (
        select(*points.c, *_acts(lifecycle))
        .select_from(points.outerjoin(interactions, theirs))
        .group_by(*points.c)
        .subquery("acts")
    )
    stage = _stage(conn, lifecycle, acts).label("stage")
    return select(*(acts.c[str(each.key)] for each in points.c), stage).cte("staged")


def _stage(conn: Connection, lifecycle: Lifecycle, acts: FromClause) -> ColumnElement[str]:
    """SQL expression on a row of `_acts` with its `moment`: the `LifecycleStage`."""
    still_active = earlier(conn, acts.c.moment, timedelta(days=lifecycle.lapsed_after_days))
    return case(
        (acts.c.acted_at < still_active, LifecycleStage.LAPSED.value),
        (acts.c.last_purchased_at > acts.c.purchased_at, LifecycleStage.REPEAT.value),
        (acts.c.purchased_at.is_not(None), LifecycleStage.FIRST_PURCHASE.value),
        (acts.c.registered_at.is_not(None), LifecycleStage.REGISTERED.value),
        else_=LifecycleStage.VISITOR.value,
    )


def _second_purchases(lifecycle: Lifecycle, acts: CTE) -> CTE:
    """First purchases, and when the customer purchased again; null where that was not before the moment."""
    bought = interactions.alias("bought")
    second = (
        select(func.min(bought.c.occurred_at))
        .where(
            bought.c.customer_id == acts.c.customer_id,
            bought.c.kind == lifecycle.purchase.value,
            ~bought.c.machine_made,
            bought.c.occurred_at > acts.c.purchased_at,
            bought.c.occurred_at < acts.c.moment,
        )
        .scalar_subquery()
    )
    next_at = case((acts.c.last_purchased_at > acts.c.purchased_at, second)).label("next_at")
    # Looked up once a customer, not wherever the column is used.
    return select(acts.c.moment, acts.c.purchased_at, next_at).cte("again").prefix_with("MATERIALIZED")


def _moved(
    conn: Connection, step: LifecycleStep, acts: CTE, start_name: str, next_name: str, since: datetime
) -> Select[Any]:
    """Rows of `Moved` of one step.

    A day counts only where all of it is known: in the day that is under way who moved on is seen already, and who will is not.
    """
    start, next_at = acts.c[start_name], acts.c[next_name]
    days = (
        select(
            whole_days(conn, start, acts.c.moment).label("known"),
            (whole_days(conn, start, next_at) + 1).label("next"),
        )
        .where(start >= since, or_(next_at.is_(None), next_at >= start))
        .subquery()
    )
    moved = and_(days.c.next.is_not(None), days.c.next <= days.c.known)
    day = case((moved, days.c.next), else_=days.c.known)
    return select(
        literal(step.value), literal(""), day.label("day"), moved.label("moved"), func.count()
    ).group_by(day, moved)

"""Plans as rows: made, moved from state to state, worked on by one process at a time."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, insert, or_, select, update

from features.history.tables import plans
from models.domain.errors import ConflictError, NotFoundError
from serving.plans.plan import FORECASTS, WORKED_ON, Plan, PlanStatus

HELD_FOR = timedelta(seconds=15)
"""A process that has not said for so long that it holds a plan is taken to be dead."""

# From which states a plan gets into these.
_BEFORE = {
    PlanStatus.RUNNING: (
        PlanStatus.FORECASTING, PlanStatus.READY, PlanStatus.PAUSED, PlanStatus.FAILED,
    ),
    PlanStatus.PAUSED: (PlanStatus.RUNNING,),
    PlanStatus.CANCELLED: (
        PlanStatus.FORECASTING, PlanStatus.READY, PlanStatus.RUNNING, PlanStatus.PAUSED, PlanStatus.FAILED,
    ),
}  # fmt: skip
_WORKED_ON = plans.c.status.in_(sorted(state.value for state in WORKED_ON))
_PLAIN = tuple(each.name for each in fields(Plan) if each.name not in ("status", "forecast", "shadow_prices"))


def add_plan(conn: Connection, plan: Plan) -> Plan:
    """Store a plan that nobody has worked on yet; one that was stored under its id before stays as it is."""
    if conn.scalar(select(plans.c.plan_id).where(plans.c.plan_id == plan.plan_id)) is not None:
        return load_plan(conn, plan.plan_id)
    conn.execute(
        insert(plans).values(
            plan_id=plan.plan_id,
            campaign_id=plan.campaign_id,
            segment=plan.segment,
            starts=plan.starts,
            status=plan.status.value,
            created_at=plan.created_at,
        )
    )
    return plan


def load_plan(conn: Connection, plan_id: str) -> Plan:
    """The plan of that id.

    Raises:
        NotFoundError: there is none.
    """
    row = conn.execute(select(plans).where(plans.c.plan_id == plan_id)).one_or_none()
    if row is None:
        raise NotFoundError("plan_id", plan_id)
    return _plan(row)


def page_of_plans(conn: Connection, before: str | None, limit: int) -> list[Plan]:
    """Plans, the newest first.

    Args:
        conn: Only read.
        before: Id of the last plan of the page before; None from the newest.
        limit: At most this many.

    Raises:
        NotFoundError: there is no plan of that id.
    """
    query = select(plans).order_by(plans.c.created_at.desc(), plans.c.plan_id.desc()).limit(limit)
    if before is not None:
        last = load_plan(conn, before)
        as_old = and_(plans.c.created_at == last.created_at, plans.c.plan_id < last.plan_id)
        query = query.where(or_(plans.c.created_at < last.created_at, as_old))
    return [_plan(row) for row in conn.execute(query)]


def move_plan(conn: Connection, plan_id: str, to: PlanStatus, now: datetime) -> Plan:
    """Start, pause or cancel a plan; one that is in that state already stays as it is.

    A plan whose forecast is not there yet starts as soon as it is; one that failed before begins with that again.

    Raises:
        NotFoundError: there is none of that id.
        ConflictError: it has ended, or is not that far.
    """
    plan = load_plan(conn, plan_id)
    if plan.status is to:
        return plan
    if to is PlanStatus.RUNNING:
        looked_at = and_(plans.c.plan_id == plan_id, plans.c.status == PlanStatus.FORECASTING.value)
        if conn.execute(update(plans).where(looked_at).values(starts=True)).rowcount:
            return load_plan(conn, plan_id)
    changes: dict[str, Any] = {"status": to.value, "ended_at": now if to is PlanStatus.CANCELLED else None}
    if to is PlanStatus.RUNNING:
        changes["started_at"] = plan.started_at or now
        if plan.status is PlanStatus.FAILED:
            changes["problem"] = None
        if plan.forecast is None:
            changes |= {"status": PlanStatus.FORECASTING.value, "starts": True}
    moved = conn.execute(
        update(plans)
        .where(plans.c.plan_id == plan_id, plans.c.status.in_([state.value for state in _BEFORE[to]]))
        .values(changes)
    )
    if not moved.rowcount:
        raise ConflictError(f"plan {plan_id} is {load_plan(conn, plan_id).status}, so it cannot be {to}")
    return load_plan(conn, plan_id)


def can_move(plan: Plan, to: PlanStatus) -> bool:
    """Whether a plan gets from the state that it is in to running, paused or cancelled."""
    starts_anyway = plan.status is PlanStatus.FORECASTING and plan.starts and to is PlanStatus.RUNNING
    return plan.status in _BEFORE[to] and not starts_anyway


def any_to_work_on(conn: Connection) -> bool:
    """Whether there is a plan that somebody has to work on; only read."""
    return conn.scalar(select(plans.c.plan_id).where(_WORKED_ON).limit(1)) is not None


def hold_one(conn: Connection, holder: str, now: datetime) -> Plan | None:
    """The oldest plan that is to be worked on and that no other process holds; it is this one's from now on.

    Args:
        conn: Its transaction is committed by the caller.
        holder: Names this process.
        now: By the machine's clock.
    """
    free = or_(plans.c.holder == holder, plans.c.held_until.is_(None), plans.c.held_until < now)
    oldest = (
        select(plans.c.plan_id)
        .where(_WORKED_ON, free)
        .order_by(plans.c.created_at, plans.c.plan_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    found = conn.scalar(oldest)
    if found is None:
        return None
    conn.execute(
        update(plans).where(plans.c.plan_id == found).values(holder=holder, held_until=now + HELD_FOR)
    )
    return load_plan(conn, found)


def keep_progress(conn: Connection, plan: Plan, holder: str, now: datetime) -> Plan | None:
    """Write what a turn did, and hold the plan on.

    Args:
        conn: Its transaction is committed by the caller.
        plan: As far as it is; its status is not written.
        holder: Names this process.
        now: By the machine's clock.

    Returns:
        The plan as it is now; None where it was paused or cancelled meanwhile, or another process holds it. What was
        done is written unless another process holds it.
    """
    mine = and_(plans.c.plan_id == plan.plan_id, plans.c.holder == holder)
    kept = conn.execute(update(plans).where(mine).values(_progress(plan) | {"held_until": now + HELD_FOR}))
    found = load_plan(conn, plan.plan_id)
    return found if kept.rowcount and found.status in WORKED_ON else None


def hold_on(conn: Connection, plan_id: str, holder: str, now: datetime) -> bool:
    """Say that this process still holds the plan; whether it does, and may go on."""
    kept = conn.execute(
        update(plans)
        .where(plans.c.plan_id == plan_id, plans.c.holder == holder, _WORKED_ON)
        .values(held_until=now + HELD_FOR)
    )
    return bool(kept.rowcount)


def leave_in(
    conn: Connection, plan_id: str, holder: str, status: PlanStatus, ended_at: datetime | None = None
) -> None:
    """Move a plan that this process holds on, unless somebody has paused or cancelled it meanwhile."""
    conn.execute(
        update(plans)
        .where(plans.c.plan_id == plan_id, plans.c.holder == holder, _WORKED_ON)
        .values(status=status.value, ended_at=ended_at)
    )


def let_go(conn: Connection, plan_id: str, holder: str) -> None:
    """Hold the plan no longer."""
    conn.execute(
        update(plans)
        .where(plans.c.plan_id == plan_id, plans.c.holder == holder)
        .values(holder=None, held_until=None)
    )


def _progress(plan: Plan) -> dict[str, Any]:
    return {
        "started_at": plan.started_at,
        "forecast": None if plan.forecast is None else FORECASTS.dump_python(plan.forecast, mode="json"),
        "shadow_prices": dict(plan.shadow_prices),
        "n_members": plan.n_members,
        "n_decided": plan.n_decided,
        "contacts": dict(plan.contacts),
        "n_problems": plan.n_problems,
        "problem": plan.problem,
        "cost_minor": plan.cost_minor,
        "net_value_minor": plan.net_value_minor,
        "reached": plan.reached,
    }


def _plan(row: Row[Any]) -> Plan:
    said = row._asdict()
    forecast = said["forecast"]
    return Plan(
        **{name: said[name] for name in _PLAIN},
        status=PlanStatus(said["status"]),
        forecast=None if forecast is None else FORECASTS.validate_python(forecast),
        shadow_prices=said["shadow_prices"] or {},
    )

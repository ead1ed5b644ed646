"""Calls that people make: a queue, who holds which task, and what came of it.

    open --take--> held by an agent for a while --end--> ended with an outcome
      ^                      |
      +---- its time ends ---+

Whoever holds a task alone may end it. What came of it becomes facts of the customer in the same transaction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, Row, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from features.history.append import append_interactions
from features.history.channels import load_channels
from features.history.query import load_recipients
from features.history.tables import agent_tasks, interactions
from models.domain.errors import ConflictError, NotFoundError, require
from models.domain.interaction import Interaction, InteractionKind
from serving.channels.contract import AgentTask
from serving.receipts import advance
from serving.routes.fields import NO_CONTROLS

SOURCE = "call"
HOLD_TIME = timedelta(minutes=30)
_LONGEST_NOTE = 2_000
_LONGEST_NAME = 64
_MOST_SHOWN = 100
_MOST_HISTORY = 50


class CallOutcome(StrEnum):
    """What came of a call."""

    NO_ANSWER = "no_answer"
    WRONG_NUMBER = "wrong_number"
    VOICEMAIL = "voicemail"
    INTERESTED = "interested"
    BOUGHT = "bought"
    DECLINED = "declined"
    DO_NOT_CALL = "do_not_call"


_SPOKEN = (InteractionKind.DELIVERED, InteractionKind.OPENED, InteractionKind.REPLIED)
# Facts by outcome. A call that reached nobody earns no reward, not a zero.
FACTS: Mapping[CallOutcome, tuple[InteractionKind, ...]] = {
    CallOutcome.NO_ANSWER: (InteractionKind.CALLED, InteractionKind.FAILED),
    CallOutcome.WRONG_NUMBER: (InteractionKind.CALLED, InteractionKind.FAILED),
    CallOutcome.VOICEMAIL: (InteractionKind.CALLED, InteractionKind.DELIVERED),
    CallOutcome.INTERESTED: (InteractionKind.CALLED, *_SPOKEN),
    CallOutcome.BOUGHT: (InteractionKind.CALLED, *_SPOKEN, InteractionKind.CONVERTED),
    CallOutcome.DECLINED: (InteractionKind.CALLED, *_SPOKEN),
    CallOutcome.DO_NOT_CALL: (InteractionKind.CALLED, *_SPOKEN, InteractionKind.UNSUBSCRIBED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTask:
    """A task as an agent sees it.

    Attributes:
        contact: Phone number, read when it is shown; None where the customer has none any more.
        held_by: The agent who holds it now; None where nobody does.
        history: The customer's latest facts, newest first.
    """

    task: AgentTask
    contact: str | None
    held_by: str | None
    outcome: CallOutcome | None
    history: Sequence[Row[Any]] = ()


class CallQueue:
    """The queue of one installation; implements `serving.channels.contract.AgentTasks`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, task: AgentTask) -> bool:
        """Put a task into the queue; False where it is there already."""
        insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        with self._engine.begin() as conn:
            added = conn.execute(
                insert(agent_tasks)
                .values(**asdict(task))
                .on_conflict_do_nothing()
                .returning(agent_tasks.c.task_id)
            ).all()
        return bool(added)


def open_tasks(conn: Connection, now: datetime) -> list[CallTask]:
    """Tasks that can be worked on, the one that ends first at the top; at most 100."""
    rows = conn.execute(
        select(agent_tasks)
        .where(agent_tasks.c.outcome.is_(None), agent_tasks.c.due_at <= now, agent_tasks.c.expires_at > now)
        .order_by(agent_tasks.c.expires_at, agent_tasks.c.task_id)
        .limit(_MOST_SHOWN)
    ).all()
    return [_shown(conn, row, now) for row in rows]


def find_task(conn: Connection, task_id: str, now: datetime) -> CallTask:
    """One task with the customer's history.

    Raises:
        NotFoundError: there is none.
    """
    row = conn.execute(select(agent_tasks).where(agent_tasks.c.task_id == task_id)).one_or_none()
    if row is None:
        raise NotFoundError("task_id", task_id)
    history = conn.execute(
        select(interactions)
        .where(interactions.c.customer_id == row.customer_id)
        .order_by(interactions.c.occurred_at.desc(), interactions.c.interaction_id.desc())
        .limit(_MOST_HISTORY)
    ).all()
    return _shown(conn, row, now, history)


def take_task(conn: Connection, task_id: str, agent: str, now: datetime) -> None:
    """Hold a task for half an hour, so that nobody else calls the same customer.

    Raises:
        ConflictError: somebody else holds it, it has ended, or its time is over.
    """
    require_agent(agent)
    taken = conn.execute(
        update(agent_tasks)
        .where(
            agent_tasks.c.task_id == task_id,
            agent_tasks.c.outcome.is_(None),
            agent_tasks.c.due_at <= now,
            agent_tasks.c.expires_at > now,
            or_(
                agent_tasks.c.taken_until.is_(None),
                agent_tasks.c.taken_until <= now,
                agent_tasks.c.taken_by == agent,
            ),
        )
        .values(taken_by=agent, taken_until=now + HOLD_TIME)
        .returning(agent_tasks.c.task_id)
    ).all()
    if not taken:
        task = find_task(conn, task_id, now)
        why = "has ended" if task.outcome else f"is held by {task.held_by}" if task.held_by else "is not due"
        raise ConflictError(f"task {task_id} {why}")


def end_task(
    conn: Connection,
    task_id: str,
    agent: str,
    outcome: CallOutcome,
    now: datetime,
    *,
    note: str = "",
    value_minor: float | None = None,
) -> None:
    """Write what came of a call that the agent holds.

    Args:
        conn: In the caller's transaction.
        task_id: Of the task.
        agent: Who holds it.
        outcome: What came of it.
        now: Aware.
        note: For people, at most 2,000 characters.
        value_minor: Of the purchase; only with `bought`, where None stands for the campaign's value.

    Raises:
        ConflictError: the agent does not hold it.
        InvalidInputError: a value without a purchase, or a note that is too long.
    """
    require_agent(agent)
    require(len(note) <= _LONGEST_NOTE, "note", f"{len(note)} characters", f"must have <= {_LONGEST_NOTE}")
    require(
        value_minor is None or outcome is CallOutcome.BOUGHT,
        "value_minor",
        value_minor,
        "must only be given with the outcome bought",
    )
    row = conn.execute(
        update(agent_tasks)
        .where(
            agent_tasks.c.task_id == task_id,
            agent_tasks.c.outcome.is_(None),
            agent_tasks.c.taken_by == agent,
            agent_tasks.c.taken_until > now,
        )
        .values(outcome=outcome, note=note, ended_at=now, ended_by=agent)
        .returning(agent_tasks)
    ).one_or_none()
    if row is None:
        find_task(conn, task_id, now)
        raise ConflictError(f"task {task_id} is not held by {agent}")
    attributes = {"outcome": str(outcome), "agent": agent} | ({"note": note} if note else {})
    facts = [
        Interaction(
            source=SOURCE,
            event_id=f"{task_id}/{kind}",
            customer_id=row.customer_id,
            kind=kind,
            occurred_at=now,
            channel=row.channel,
            campaign_id=row.campaign_id,
            offer_id=row.offer_id,
            decision_id=row.decision_id,
            value_minor=value_minor if kind is InteractionKind.CONVERTED else None,
            attributes=attributes,
        )
        for kind in FACTS[outcome]
    ]
    append_interactions(conn, facts, now)
    advance(conn, facts, now)


def require_agent(agent: str) -> None:
    """Refuse what is no name of an agent.

    Raises:
        InvalidInputError: it is empty, too long or holds control characters.
    """
    require(
        len(agent) <= _LONGEST_NAME and re.fullmatch(NO_CONTROLS, agent) is not None,
        "agent",
        agent,
        f"must be a name of 1 to {_LONGEST_NAME} characters, none of them a control character",
    )


def _shown(conn: Connection, row: Row[Any], now: datetime, history: Sequence[Row[Any]] = ()) -> CallTask:
    channel = load_channels(conn).get(row.channel)
    recipients = load_recipients(conn, [row.customer_id], now)
    unseal = None if channel is None else recipients.get((row.customer_id, channel.identity_kind))
    held = row.taken_until is not None and row.taken_until > now and row.outcome is None
    return CallTask(
        task=AgentTask(**{name: getattr(row, name) for name in AgentTask.__dataclass_fields__}),
        contact=None if unseal is None else unseal(),
        held_by=row.taken_by if held else None,
        outcome=CallOutcome(row.outcome) if row.outcome else None,
        history=history,
    )

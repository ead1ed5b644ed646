"""What asked for a decision: which occurrence of which occasion."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, select

from features.history.suppression import is_tombstone
from features.history.tables import interactions, occurrences
from models.domain.interaction import InteractionKind
from serving.occasions.occasion import AfterFact, OnDate, Referral
from serving.occasions.store import occasion_as_of


class CauseKind(StrEnum):
    """What an occurrence was."""

    ANNIVERSARY = "anniversary"
    DATE = "date"
    FACT = "fact"
    REFERRAL = "referral"
    FORGOTTEN = "forgotten"
    """The person was erased: which occurrence it was is not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """An occurrence of an occasion, which a decision was taken for.

    Attributes:
        name: Of the occasion.
        occurrence: Year of an anniversary, the date itself, or the number of a fact in the history: that which set it off,
            or the friend's registration. None where it is forgotten.
        due_at: When it was due; None likewise.
        attribute: Of the customer that held the date.
        days: How long after the date, before it where below zero.
        fact: What the customer did.
        fact_at: When they did, or when the friend bought or converted for the first time.
        seconds: How long after the fact.
        friend_id: The friend; None also where that person was erased since.
    """

    name: str
    kind: CauseKind
    occurrence: str | None = None
    due_at: datetime | None = None
    attribute: str | None = None
    days: int | None = None
    fact: InteractionKind | None = None
    fact_at: datetime | None = None
    seconds: int | None = None
    friend_id: str | None = None


def load_cause(conn: Connection, decision_id: str) -> Cause | None:
    """What asked for a decision; None where no occasion did, or has not written it down yet.

    The rule is that of the version which held when the look began.
    """
    row = conn.execute(select(occurrences).where(occurrences.c.decision_id == decision_id)).one_or_none()
    if row is None:
        return None
    rule = None if row.due_at is None else occasion_as_of(conn, row.name, row.settled_at)
    if rule is not None and rule.date is not None:
        return _of_date(row, rule.date)
    if rule is not None and rule.after is not None:
        return _of_fact(row, rule.after)
    # Clocks of several processes differ: a rule that was changed just then may not be the one that asked.
    if rule is not None and rule.referral is not None and row.occurrence.isdecimal():
        return _of_referral(conn, row, rule.referral)
    return Cause(name=row.name, kind=CauseKind.FORGOTTEN)


def _of_date(row: Row[Any], rule: OnDate) -> Cause:
    return Cause(
        name=row.name,
        kind=CauseKind.ANNIVERSARY if rule.every_year else CauseKind.DATE,
        occurrence=row.occurrence,
        due_at=row.due_at,
        attribute=rule.attribute,
        days=rule.days,
    )


def _of_fact(row: Row[Any], rule: AfterFact) -> Cause:
    return Cause(
        name=row.name,
        kind=CauseKind.FACT,
        occurrence=row.occurrence,
        due_at=row.due_at,
        fact=rule.fact.kind,
        fact_at=row.due_at - timedelta(seconds=rule.seconds),
        seconds=rule.seconds,
    )


def _of_referral(conn: Connection, row: Row[Any], rule: Referral) -> Cause:
    registration = interactions.c.interaction_id == int(row.occurrence)
    friend = conn.scalar(select(interactions.c.customer_id).where(registration))
    return Cause(
        name=row.name,
        kind=CauseKind.REFERRAL,
        occurrence=row.occurrence,
        due_at=row.due_at,
        fact_at=row.due_at - timedelta(seconds=rule.seconds),
        seconds=rule.seconds,
        friend_id=None if friend is None or is_tombstone(friend) else friend,
    )

"""What became of occurrences: one row each, written after the decision. The caller owns the transaction.

Between a decision and its row a process may die. The next look finds the occurrence due again, asks with the same decision
id, and is given the decision that is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, func, select

from features.history.among import among
from features.history.insert import insert_new
from features.history.suppression import is_tombstone
from features.history.tables import decisions, occurrences
from models.domain.decision import Decision
from models.domain.errors import CampaignExpiredError, NotFoundError, StoreUnavailableError
from serving.choosing import Answer
from serving.occasions.occasion import Due, occurrence_id
from serving.problems import problem_of


class OccurrenceStatus(StrEnum):
    """What became of one."""

    DECIDED = "decided"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What an occasion did, under its name, whatever its version.

    Attributes:
        n_decided: Decisions, those for no contact included.
        n_contacted: Decisions to contact.
        n_dropped: Occurrences that could not be decided, by reason.
    """

    n_decided: int = 0
    n_contacted: int = 0
    n_dropped: dict[str, int] = field(default_factory=dict)


def settled_before(conn: Connection, name: str, found: Sequence[Due]) -> set[tuple[str, str]]:
    """Customer and occurrence of those that an occasion has settled already, for the customers of a page."""
    if not found:
        return set()
    rows = conn.execute(
        select(occurrences.c.customer_id, occurrences.c.occurrence).where(
            occurrences.c.name == name,
            among(conn, occurrences.c.customer_id, {each.customer_id for each in found}),
        )
    )
    return {(row.customer_id, row.occurrence) for row in rows}


def settle(conn: Connection, name: str, answered: Sequence[tuple[Due, Answer]], now: datetime) -> None:
    """Write what became of occurrences; one that is written already stays as it is.

    What may still be decided is left out: the database was busy, or the campaign has just closed. So is a customer who
    is gone.
    """
    final = [
        (due, answer)
        for due, answer in answered
        if not isinstance(answer, StoreUnavailableError | CampaignExpiredError | NotFoundError)
    ]
    made = [answer.decision_id for _, answer in final if isinstance(answer, Decision)]
    # Whose they are by now: people may have been merged or erased since.
    named = conn.execute(
        select(decisions.c.decision_id, decisions.c.customer_id).where(
            among(conn, decisions.c.decision_id, made)
        )
    )
    owners = {row.decision_id: row.customer_id for row in named}
    rows = []
    for due, answer in final:
        decision_id = occurrence_id(name, due.customer_id, due.occurrence)
        decided = isinstance(answer, Decision)
        owner = owners.get(decision_id, due.customer_id)
        erased = is_tombstone(owner)
        rows.append(
            {
                "decision_id": decision_id,
                "name": name,
                "customer_id": owner,
                "recorded_as": "" if erased or owner == due.customer_id else due.customer_id,
                "occurrence": "" if erased else due.occurrence,
                "due_at": None if erased else due.due_at,
                "settled_at": now,
                "status": (OccurrenceStatus.DECIDED if decided else OccurrenceStatus.DROPPED).value,
                "contacted": isinstance(answer, Decision) and answer.action is not None,
                # Its title alone: the words of an error may name the customer.
                "reason": None if isinstance(answer, Decision) else problem_of(answer, "").title,
            }
        )
    insert_new(conn, occurrences, rows)


def tally(conn: Connection, name: str) -> Tally:
    """What an occasion did so far."""
    counted = conn.execute(
        select(occurrences.c.status, occurrences.c.contacted, occurrences.c.reason, func.count().label("n"))
        .where(occurrences.c.name == name)
        .group_by(occurrences.c.status, occurrences.c.contacted, occurrences.c.reason)
    ).all()
    decided = [row for row in counted if row.status == OccurrenceStatus.DECIDED]
    return Tally(
        n_decided=sum(row.n for row in decided),
        n_contacted=sum(row.n for row in decided if row.contacted),
        n_dropped={row.reason: row.n for row in counted if row.status == OccurrenceStatus.DROPPED},
    )

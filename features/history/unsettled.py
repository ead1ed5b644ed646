"""Whose rewards and outcomes have to be worked out anew: a queue by campaign.

Whoever changes what is known already notes it here: a merge, an erasure, a cancelled decision, decisions that are imported,
another version of a campaign. What comes in the ordinary course - decisions, facts, windows that close - is found by
`features.history.marks`, and its recorders need not tell.

A customer stands in the queue until they were settled, through crashes; twice is no harm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import accumulate, chain, islice
from typing import Any

from sqlalchemy import CompoundSelect, Connection, Select, delete, func, insert, select, union

from features.history.among import among
from features.history.outcomes import of_customers
from features.history.tables import channel_outcomes, decisions, outcomes, unsettled


@dataclass(frozen=True, slots=True)
class Part:
    """Some customers of one campaign who are to be settled.

    Attributes:
        note_ids: What is to be struck out afterwards.
    """

    campaign_id: str
    customer_ids: tuple[str, ...]
    note_ids: tuple[int, ...]


def note(conn: Connection, customer_ids: Collection[str] = (), decision_ids: Collection[str] = ()) -> None:
    """Something about these customers, or these decisions, is not as it was.

    Args:
        conn: In the caller's transaction.
        customer_ids: To settle in every campaign that decided for them.
        decision_ids: Whose customers are to be settled in the decision's campaign.
    """
    asked = select(decisions.c.campaign_id, decisions.c.customer_id)
    _note(
        conn,
        union(
            asked.where(among(conn, decisions.c.customer_id, customer_ids)),
            asked.where(among(conn, decisions.c.decision_id, decision_ids)),
        ),
    )


def settle_anew(conn: Connection, customer_ids: Collection[str]) -> None:
    """These customers' rows belong to others now, or others' to them: what they came to counts no more until it was settled."""
    for table in (outcomes, channel_outcomes, unsettled):
        conn.execute(delete(table).where(among(conn, table.c.customer_id, customer_ids)))
    note(conn, customer_ids)


def note_campaign(conn: Connection, campaign_id: str) -> None:
    """What a campaign's outcomes are worth has changed: settle everybody anew who is settled."""
    _note(
        conn,
        select(outcomes.c.campaign_id, outcomes.c.customer_id).where(outcomes.c.campaign_id == campaign_id),
    )


def note_pairs(conn: Connection, pairs: Iterable[tuple[str, str]]) -> None:
    """Note customers by campaign and id."""
    notes = [
        {"campaign_id": campaign_id, "customer_id": customer_id} for campaign_id, customer_id in sorted(pairs)
    ]
    if notes:
        conn.execute(insert(unsettled), notes)


def next_part(conn: Connection, campaign_id: str | None, size: int, most_decisions: int) -> Part | None:
    """The next customers to settle, in order of their ids; None where nobody is left.

    Args:
        conn: Only read.
        campaign_id: Of this campaign; None for whichever comes first.
        size: Notes at most.
        most_decisions: Of all of them together in the campaign; one customer may have more.
    """
    first = select(unsettled.c.campaign_id).order_by(unsettled.c.campaign_id).limit(1)
    campaign_id = campaign_id or conn.scalar(first)
    rows = conn.execute(
        select(unsettled.c.note_id, unsettled.c.customer_id)
        .where(unsettled.c.campaign_id == campaign_id)
        .order_by(unsettled.c.customer_id)
        .limit(size)
    ).all()
    if campaign_id is None or not rows:
        return None
    noted: dict[str, list[int]] = {}
    for row in rows:
        noted.setdefault(row.customer_id, []).append(row.note_id)
    decided = (
        select(decisions.c.customer_id, func.count().label("n"))
        .where(of_customers(conn, campaign_id, list(noted)))
        .group_by(decisions.c.customer_id)
    )
    n_decisions = {row.customer_id: row.n for row in conn.execute(decided)}
    upto = accumulate(n_decisions.get(customer_id, 0) for customer_id in noted)
    n_chosen = max(1, sum(so_far <= most_decisions for so_far in upto))
    chosen = dict(islice(noted.items(), n_chosen))
    return Part(campaign_id, tuple(chosen), tuple(chain.from_iterable(chosen.values())))


def strike_out(conn: Connection, part: Part) -> None:
    """They are settled; who was noted again meanwhile stays in the queue."""
    conn.execute(delete(unsettled).where(unsettled.c.note_id.in_(part.note_ids)))


def count_waiting(conn: Connection, campaign_id: str) -> int:
    """Customers of a campaign who wait to be settled."""
    asked = select(func.count(unsettled.c.customer_id.distinct())).where(
        unsettled.c.campaign_id == campaign_id
    )
    return conn.scalar(asked) or 0


def _note(conn: Connection, which: Select[Any] | CompoundSelect[Any]) -> None:
    conn.execute(insert(unsettled).from_select(["campaign_id", "customer_id"], which))

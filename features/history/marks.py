"""Find whose rewards and outcomes may have changed, by marks: it costs as much as there is that is new.

Up to the marks every decision and every fact was noted in `unsettled`, or settled.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    Tuple,
    and_,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
    union,
    update,
)

from features.history.campaigns import list_campaigns
from features.history.insert import insert_new
from features.history.reached import reached
from features.history.tables import (
    UtcMoment,
    decisions,
    interactions,
    outcomes,
    rewards,
    settlement_marks,
    unsettled,
)
from features.history.transactions import Transactions
from features.history.unsettled import note_pairs
from models.domain.interaction import NOT_REACHED
from models.domain.interaction import InteractionKind as Kind

# A row may be committed a little after the moment that it carries; a decision is answered within seconds or not recorded.
_FACT_DELAY = timedelta(minutes=5)
_DECISION_DELAY = timedelta(minutes=1)
# A fact may be dated by a clock that is ahead; one that is dated later than this is wrong, and not waited for.
_AHEAD = timedelta(days=1)
_AT_ONCE = 5_000
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_MARKS = settlement_marks.c
# The outcome of a decision's customer.
_OUTCOME = and_(
    outcomes.c.campaign_id == decisions.c.campaign_id, outcomes.c.customer_id == decisions.c.customer_id
)
# The customer of a decision stands in the queue already. Nobody is taken out of it while this module looks.
_NOTED = and_(
    unsettled.c.campaign_id == decisions.c.campaign_id, unsettled.c.customer_id == decisions.c.customer_id
)
_WAITING = exists().where(_NOTED)
# Whose decisions are not settled and do not wait for it. Most are: for them nothing but these joins is looked at.
_UNSEEN = (
    select(decisions.c.campaign_id, decisions.c.customer_id)
    .outerjoin(outcomes, _OUTCOME)
    .outerjoin(rewards, rewards.c.decision_id == decisions.c.decision_id)
    .outerjoin(unsettled, _NOTED)
    .where(
        or_(outcomes.c.customer_id.is_(None), and_(rewards.c.decision_id.is_(None), reached())),
        unsettled.c.note_id.is_(None),
    )
)
_DECIDED = tuple_(decisions.c.decided_at, decisions.c.decision_id)
# What may change an outcome, beside what the campaigns count as conversions.
_TOLD = NOT_REACHED | {Kind.SENT, Kind.DELIVERED, Kind.OPENED, Kind.CLICKED}


def note_changes(transactions: Transactions, as_of: datetime) -> Iterator[None]:
    """Note whoever has a new decision, fact, or closed window since the last time, in all campaigns, part by part.

    Whoever ends it between two parts finds the rest the next time.

    Args:
        transactions: Each writes 5,000 notes at most.
        as_of: Aware; later rows are left for a later time.
    """
    with transactions.reading() as conn:
        marks = conn.execute(select(settlement_marks)).one_or_none()
    if marks is None:
        with transactions.writing() as conn:
            insert_new(
                conn,
                settlement_marks,
                [{"mark": 0, "decided_at": _BEGINNING, "decision_id": "", "interaction_id": 0}],
            )
    yield from _note_decided(transactions, as_of)
    yield from _note_told(transactions, as_of)
    yield from _note_closed(transactions, as_of)


def newest_fact(conn: Connection) -> int:
    """Number of the newest fact that can be seen; 0 where there is none."""
    return conn.scalar(select(func.max(interactions.c.interaction_id))) or 0


def _note_decided(transactions: Transactions, as_of: datetime) -> Iterator[None]:
    """Decisions that have no reward yet, and customers who have no outcome.

    Those of the last minute are not passed for good: they stay behind the mark, and are looked at again each time.
    """
    with transactions.reading() as conn:
        after = conn.execute(select(_MARKS.decided_at, _MARKS.decision_id)).one()
    for until, for_good in ((as_of - _DECISION_DELAY, True), (as_of, False)):
        while True:
            with transactions.reading() as conn:
                upto = _end_of_part(conn, after, until)
                if upto is None:
                    break
                part = and_(_key(*after) < _DECIDED, _key(*upto) >= _DECIDED)
                pairs = {(row.campaign_id, row.customer_id) for row in conn.execute(_UNSEEN.where(part))}
            if pairs or for_good:
                with transactions.writing() as conn:
                    note_pairs(conn, pairs)
                    if for_good:
                        conn.execute(update(settlement_marks).values(upto._asdict()))
                yield
            after = upto


def _end_of_part(conn: Connection, after: Row[datetime, str], until: datetime) -> Row[datetime, str] | None:
    """The last of the next few thousand decisions; None where there is none."""
    at, named = decisions.c.decided_at, decisions.c.decision_id
    left = select(at, named).where(_key(*after) < _DECIDED, at <= until).limit(1)
    return (
        conn.execute(left.order_by(at, named).offset(_AT_ONCE - 1)).one_or_none()
        or conn.execute(left.order_by(at.desc(), named.desc())).one_or_none()
    )


def _note_told(transactions: Transactions, as_of: datetime) -> Iterator[None]:
    """Facts that may change a reward or an outcome.

    Those that were received a while ago are noted once and passed for good. Newer ones may still be overtaken by others with
    a smaller number: they stay behind the mark, and are noted unless their customer was settled with them.
    """
    number = interactions.c.interaction_id
    with transactions.reading() as conn:
        mark = conn.execute(select(_MARKS.interaction_id)).scalar_one()
        # SQLite gives numbers in the order in which rows are committed.
        received_by = as_of - _FACT_DELAY if conn.dialect.name == "postgresql" else as_of
        unsure = select(func.min(number)).where(
            number > mark,
            or_(
                interactions.c.received_at > received_by,
                and_(interactions.c.occurred_at > as_of, interactions.c.occurred_at <= as_of + _AHEAD),
            ),
        )
        behind = select(func.max(number)).where(
            number > mark, number < func.coalesce(unsure.scalar_subquery(), number + 1)
        )
        sure = conn.scalar(behind) or mark
        kinds = sorted(_TOLD | {campaign.conversion_kind for campaign in list_campaigns(conn)})
    told = select(
        interactions.c.interaction_id, interactions.c.customer_id, interactions.c.decision_id
    ).where(interactions.c.kind.in_(kinds))
    while mark < sure:
        some = select(number).where(number > mark, number <= sure).order_by(number).offset(_AT_ONCE)
        with transactions.reading() as conn:
            upto = conn.scalar(some.limit(1)) or sure
            pairs = _whose(conn, told.where(number > mark, number <= upto))
        with transactions.writing() as conn:
            note_pairs(conn, pairs)
            conn.execute(update(settlement_marks).values(interaction_id=upto))
        mark = upto
        yield
    with transactions.reading() as conn:
        pairs = _whose(conn, told.where(number > sure), unseen=True)
    for start in range(0, len(pairs), _AT_ONCE):
        with transactions.writing() as conn:
            note_pairs(conn, pairs[start : start + _AT_ONCE])
        yield


def _whose(conn: Connection, facts: Select[Any], *, unseen: bool = False) -> list[tuple[str, str]]:
    """Campaign and customer of the decisions that the facts name, or whose customers they are about, unless they wait already.

    Args:
        conn: Only read.
        facts: Number, customer and decision.
        unseen: Only facts that are newer than the customer's outcome.
    """
    told = facts.subquery()
    by = [
        select(decisions.c.campaign_id, decisions.c.customer_id)
        .join(told, told.c[name] == decisions.c[name])
        .outerjoin(outcomes, _OUTCOME)
        .where(told.c.interaction_id > func.coalesce(outcomes.c.interaction_id, 0) if unseen else true())
        .where(~_WAITING)
        for name in ("customer_id", "decision_id")
    ]
    return [(row.campaign_id, row.customer_id) for row in conn.execute(union(*by))]


def _note_closed(transactions: Transactions, as_of: datetime) -> Iterator[None]:
    """Rewards whose window has closed."""
    query = (
        select(rewards.c.closes_at, rewards.c.decision_id, decisions.c.campaign_id, decisions.c.customer_id)
        .join(decisions, rewards.c.decision_id == decisions.c.decision_id)
        .where(
            # Those that were stored before this was kept are settled with their customers' first outcome.
            rewards.c.closes_at <= as_of,
            rewards.c.final.is_(False),
            ~_WAITING,
        )
        .order_by(rewards.c.closes_at, rewards.c.decision_id)
        .limit(_AT_ONCE)
    )
    after: tuple[datetime, str] = _BEGINNING, ""
    while True:
        key = tuple_(rewards.c.closes_at, rewards.c.decision_id)
        with transactions.reading() as conn:
            rows = conn.execute(query.where(key > _key(*after))).all()
        if not rows:
            return
        after = rows[-1].closes_at, rows[-1].decision_id
        with transactions.writing() as conn:
            note_pairs(conn, {(row.campaign_id, row.customer_id) for row in rows})
        yield


def _key(moment: datetime, decision_id: str) -> Tuple:
    return tuple_(literal(moment, UtcMoment()), literal(decision_id))

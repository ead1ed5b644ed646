"""To whom an incentive was given: one voucher a decision, whose code never changes.

It is given when a message is made for sending, in the transaction of the claim, so that every attempt says the same; or when the
caller who sends asks for it. Both hold the message's row of the outbox. The caller owns the transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from features.history.among import among
from features.history.insert import insert_new
from features.history.suppression import TOMBSTONE, is_tombstone
from features.history.tables import incentives, outbox, points_entries, vouchers
from models.domain.errors import ConflictError, NotFoundError
from serving.incentives.codes import make_code, shown_form
from serving.incentives.incentive import CodeSource
from serving.incentives.store import Stored, current_incentives, take_codes

GIVEN, REDEEMED = "given", "redeemed"
"""Reasons of entries of points."""

# A generated code meets one that is there once in 10^16 times the number of codes.
_MOST_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Voucher:
    """What was given with a decision.

    Attributes:
        version: Of the incentive, whose terms hold.
        shared: Whether others have the same code.
    """

    decision_id: str
    customer_id: str
    recorded_as: str
    campaign_id: str
    offer_id: str
    version: int
    code: str
    shared: bool
    given_at: datetime


_OF_MESSAGE = ("decision_id", "customer_id", "recorded_as", "campaign_id", "offer_id")
_COLUMNS = [vouchers.c[each.name] for each in fields(Voucher)]


def give(
    conn: Connection, campaign_ids: Collection[str], decision_ids: Collection[str], now: datetime
) -> dict[str, Voucher]:
    """The vouchers of some decisions whose messages are held by the transaction; what is not given yet is given now.

    Args:
        conn: In the caller's transaction.
        campaign_ids: Of the decisions.
        decision_ids: Those of offers that give nothing are left out of the answer.
        now: Aware.
    """
    # Most campaigns give nothing, and this is on the way of every message.
    gives = select(incentives.c.version).where(incentives.c.campaign_id.in_(sorted(set(campaign_ids))))
    if conn.execute(gives.limit(1)).first() is None:
        return {}
    known = _by_decision(conn, decision_ids)
    now_given = current_incentives(conn, campaign_ids)
    for _ in range(_MOST_ATTEMPTS):
        wanting: defaultdict[tuple[str, str], list[Row[Any]]] = defaultdict(list)
        for row in conn.execute(
            select(*(outbox.c[name] for name in _OF_MESSAGE))
            .where(among(conn, outbox.c.decision_id, set(decision_ids) - known.keys()))
            .order_by(outbox.c.decision_id)
        ):
            if (row.campaign_id, row.offer_id) in now_given:
                wanting[row.campaign_id, row.offer_id].append(row)
        if not wanting:
            break
        for offer, rows in wanting.items():
            _give(conn, now_given[offer], rows, now)
        known = _by_decision(conn, decision_ids)
    return known


def give_to_caller(conn: Connection, decision_id: str, now: datetime) -> Voucher:
    """The voucher of a decision whose message its caller sends.

    Raises:
        NotFoundError: there is no message of such a decision.
        ConflictError: its offer gives nothing.
    """
    held = (
        select(outbox.c.campaign_id, outbox.c.offer_id)
        .where(outbox.c.decision_id == decision_id)
        .with_for_update()
    )
    messages = conn.execute(held).all()
    if not messages:
        raise NotFoundError("decision_id", decision_id)
    given = give(conn, [message.campaign_id for message in messages], [decision_id], now)
    if decision_id not in given:
        raise ConflictError(f"the offer {messages[0].offer_id} of {messages[0].campaign_id} gives nothing")
    return given[decision_id]


def find_voucher(conn: Connection, decision_id: str) -> Voucher:
    """What was given with a decision.

    Raises:
        NotFoundError: nothing was, or the customer was erased.
    """
    found = _by_decision(conn, [decision_id]).get(decision_id)
    if found is None or is_tombstone(found.customer_id):
        raise NotFoundError("decision_id", decision_id)
    return found


def find_by_code(conn: Connection, code: str) -> tuple[Voucher, ...]:
    """Whoever has a code: one voucher; two stand for any number of those who share it.

    Raises:
        NotFoundError: nobody has, or only who was erased.
    """
    forms = {code.strip(), shown_form(code) or ""}
    known = vouchers.c.code.in_(sorted(forms)) & ~vouchers.c.customer_id.startswith(TOMBSTONE)
    rows = conn.execute(select(*_COLUMNS).where(known).limit(2)).all()
    if not rows:
        raise NotFoundError("code", code)
    return tuple(Voucher(**row._asdict()) for row in rows)


def the_one_with(conn: Connection, code: str) -> Voucher:
    """The voucher of a code that only one decision has.

    Raises:
        NotFoundError: nobody has it.
        ConflictError: it is for everybody, so that it does not say who redeems.
    """
    found = find_by_code(conn, code)
    if found[0].shared:
        raise ConflictError("the code is for everybody: give decision_id beside it, to say who redeems it")
    return found[0]


def _by_decision(conn: Connection, decision_ids: Collection[str]) -> dict[str, Voucher]:
    rows = conn.execute(select(*_COLUMNS).where(among(conn, vouchers.c.decision_id, decision_ids)))
    return {row.decision_id: Voucher(**row._asdict()) for row in rows}


def _give(conn: Connection, stored: Stored, rows: Sequence[Row[Any]], now: datetime) -> None:
    coupon, points = stored.incentive.coupon, stored.incentive.points
    decision_ids = [row.decision_id for row in rows]
    codes: dict[str, tuple[str, bool]] = {}
    if coupon is not None and coupon.codes is CodeSource.LIST:
        taken = take_codes(conn, stored.campaign_id, stored.offer_id, decision_ids)
        codes = {decision_id: (code, False) for decision_id, code in taken.items()}
    for_everybody = None if coupon is None else coupon.code or coupon.fallback
    for decision_id in decision_ids:
        if decision_id not in codes:
            codes[decision_id] = (for_everybody, True) if for_everybody else (make_code(), False)
    insert_new(
        conn,
        vouchers,
        [
            {
                **{name: getattr(row, name) for name in _OF_MESSAGE},
                "version": stored.version,
                "code": codes[row.decision_id][0],
                "shared": codes[row.decision_id][1],
                "given_at": now,
            }
            for row in rows
        ],
    )
    if points is not None:
        insert_new(
            conn,
            points_entries,
            [
                {
                    "decision_id": row.decision_id,
                    "reason": GIVEN,
                    "customer_id": row.customer_id,
                    "recorded_as": row.recorded_as,
                    "points": points.points,
                    "at": now,
                    "lapses_at": stored.incentive.lapses_at(now),
                }
                for row in rows
            ],
        )

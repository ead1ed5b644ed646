"""Redeeming what was given: once, within its terms, and as a conversion of the decision that gave it.

Whoever redeems holds the offer's row of `redemption_counts` until the end of the transaction, so that limits and stocks are
exact whoever else redeems. What follows - the fact, the ledger, the answers - is written in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, or_, select, update

from features.history.append import append_interactions
from features.history.campaigns import load_campaign
from features.history.insert import insert_new
from features.history.sales import ORDER_ID, REDEMPTION
from features.history.tables import decisions, points_entries, redemption_counts, redemptions, survey_answers
from models.domain.errors import ConflictError
from models.domain.interaction import DISCOUNTED, PRICE, Interaction, Place
from serving.incentives.incentive import Incentive, IncentiveKind
from serving.incentives.lottery import draw
from serving.incentives.standing import NotRedeemableError, VoucherStanding, Whereabouts, standing_of
from serving.incentives.store import ALL, Stored, hold, load_incentive
from serving.incentives.survey import Answer, checked_answers
from serving.incentives.vouchers import REDEEMED, Voucher
from serving.receipts import advance


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a till, a shop system or the customer's own page reports.

    Attributes:
        source: The system; with `event_id` it makes the report unique.
        occurred_at: Aware.
        place: None where that is not known.
        value_minor: Of the purchase, minor units; None for the margin of the offer.
        order_id: Of the sale, by which other reports of it are known.
        answers: To a survey.
    """

    source: str
    event_id: str
    occurred_at: datetime
    place: Place | None = None
    whereabouts: Whereabouts = field(default_factory=Whereabouts)
    value_minor: float | None = None
    order_id: str | None = None
    answers: Mapping[str, Answer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Redemption:
    """What was redeemed.

    Attributes:
        points: That were redeemed; 0 for other kinds.
        prize: That was won; None for none, or for other kinds.
        cost_minor: Of it, its prize included, minor units.
        repeated: Whether it was known before.
    """

    decision_id: str
    campaign_id: str
    offer_id: str
    kind: IncentiveKind
    occurred_at: datetime
    points: int
    prize: str | None
    cost_minor: float
    repeated: bool


def redeem(conn: Connection, voucher: Voucher, asked: Asked, now: datetime) -> Redemption:
    """Redeem a voucher; the same report again changes nothing and gets the same answer.

    Args:
        conn: In the caller's transaction, which an error must roll back.
        voucher: What was given.
        asked: Who reports it, and what.
        now: Aware.

    Raises:
        NotRedeemableError: its terms do not allow it, or it was redeemed before.
        ConflictError: the report was made before, of another voucher.
        InvalidInputError: an answer is none of those that may be given.
    """
    hold(conn, voucher.campaign_id, voucher.offer_id)
    stored = load_incentive(conn, voucher.campaign_id, voucher.offer_id, voucher.version)
    known = _known(conn, voucher, asked)
    if known is not None:
        return _redemption(known, stored, repeated=True)
    incentive = stored.incentive
    # Who knows the secret knows the tickets that win: none is taken that is said to have been in time.
    at = asked.occurred_at if incentive.lottery is None else max(asked.occurred_at, now)
    standing = standing_of(conn, voucher, incentive, at, asked.whereabouts)
    if standing is not VoucherStanding.VALID:
        raise NotRedeemableError(standing)
    answers = {} if incentive.survey is None else checked_answers(incentive.survey, asked.answers)
    near = None if incentive.points is None else asked.whereabouts.near(incentive.points)
    drawn, prize, cost_minor = _draw(conn, stored, voucher)
    row = {
        "decision_id": voucher.decision_id,
        "source": asked.source,
        "event_id": asked.event_id,
        **_customer(voucher),
        "campaign_id": voucher.campaign_id,
        "offer_id": voucher.offer_id,
        "occurred_at": asked.occurred_at,
        "received_at": now,
        "shop_id": asked.whereabouts.shop_id if near is None else near.shop_id,
        "distance_metres": None if near is None else near.rounded_metres,
        "value_minor": asked.value_minor,
        "order_id": asked.order_id,
        "cost_minor": cost_minor,
        "drawn": drawn,
        "prize": prize,
    }
    if not insert_new(conn, redemptions, [row]):  # the same report, at this moment, of another offer
        raise ConflictError(f"{asked.source} has reported {asked.event_id} of another decision")
    for counted in {ALL, prize or ALL}:
        _count(conn, voucher, counted, cost_minor if counted == ALL else 0.0)
    _enter(conn, stored, voucher, now)
    _keep(conn, voucher, answers, now)
    _tell(conn, voucher, asked, incentive, now)
    return _redemption(_known(conn, voucher, asked), stored, repeated=False)


def _known(conn: Connection, voucher: Voucher, asked: Asked) -> Row[Any] | None:
    """The redemption that was reported so; that of the decision by another report is not."""
    this = (redemptions.c.source == asked.source) & (redemptions.c.event_id == asked.event_id)
    found = conn.execute(
        select(redemptions).where(or_(this, redemptions.c.decision_id == voucher.decision_id))
    ).all()
    reported = [row for row in found if (row.source, row.event_id) == (asked.source, asked.event_id)]
    if not reported:
        return None
    if reported[0].decision_id != voucher.decision_id:
        raise ConflictError(f"{asked.source} has reported {asked.event_id} of another decision")
    return reported[0]


def _draw(conn: Connection, stored: Stored, voucher: Voucher) -> tuple[str | None, str | None, float]:
    """What the ticket draws, what of it is still there, and what the redemption costs."""
    incentive = stored.incentive
    if incentive.lottery is None or stored.secret is None:
        return None, None, incentive.cost_minor
    drawn = draw(stored.secret, voucher.decision_id, incentive.lottery.prizes)
    for prize in incentive.lottery.prizes:
        if prize.prize_id == drawn:
            given = conn.scalar(select(redemption_counts.c.n).where(*_counted(voucher, drawn)))
            if given is not None and given < prize.number:
                return drawn, drawn, incentive.cost_minor + prize.cost_minor
    return drawn, None, incentive.cost_minor


def _counted(voucher: Voucher, prize_id: str) -> tuple[Any, ...]:
    return (
        redemption_counts.c.campaign_id == voucher.campaign_id,
        redemption_counts.c.offer_id == voucher.offer_id,
        redemption_counts.c.prize_id == prize_id,
    )


def _count(conn: Connection, voucher: Voucher, prize_id: str, cost_minor: float) -> None:
    counts = redemption_counts.c
    conn.execute(
        update(redemption_counts)
        .where(*_counted(voucher, prize_id))
        .values(n=counts.n + 1, cost_minor=counts.cost_minor + cost_minor)
    )


def _enter(conn: Connection, stored: Stored, voucher: Voucher, now: datetime) -> None:
    if stored.incentive.points is not None:
        conn.execute(
            insert(points_entries).values(
                decision_id=voucher.decision_id,
                reason=REDEEMED,
                **_customer(voucher),
                points=-stored.incentive.points.points,
                at=now,
                lapses_at=stored.incentive.lapses_at(voucher.given_at),
            )
        )


def _keep(conn: Connection, voucher: Voucher, answers: Mapping[str, Answer], now: datetime) -> None:
    insert_new(
        conn,
        survey_answers,
        [
            {
                "decision_id": voucher.decision_id,
                "question_id": question_id,
                **_customer(voucher),
                "campaign_id": voucher.campaign_id,
                "offer_id": voucher.offer_id,
                "answer": {"value": answer},
                "answered_at": now,
            }
            for question_id, answer in answers.items()
        ],
    )


def _tell(conn: Connection, voucher: Voucher, asked: Asked, incentive: Incentive, now: datetime) -> None:
    """The conversion, for the campaign in the version that decided: at a discount where a coupon costs something."""
    attributes = {"incentive": str(incentive.kind)}
    if asked.order_id:
        attributes[ORDER_ID] = asked.order_id
    if incentive.coupon is not None and incentive.cost_minor:
        attributes[PRICE] = DISCOUNTED
    version = conn.scalar(
        select(decisions.c.campaign_version).where(decisions.c.decision_id == voucher.decision_id)
    )
    campaign = load_campaign(conn, voucher.campaign_id, version)
    fact = Interaction(
        source=REDEMPTION,
        event_id=voucher.decision_id,
        customer_id=voucher.customer_id,
        kind=campaign.conversion_kind,
        occurred_at=asked.occurred_at,
        campaign_id=voucher.campaign_id,
        offer_id=voucher.offer_id,
        decision_id=voucher.decision_id,
        value_minor=asked.value_minor,
        place=asked.place,
        attributes=attributes,
    )
    append_interactions(conn, [fact], now)
    advance(conn, [fact], now)


def _customer(voucher: Voucher) -> dict[str, str]:
    return {"customer_id": voucher.customer_id, "recorded_as": voucher.recorded_as}


def _redemption(row: Row[Any] | None, stored: Stored, *, repeated: bool) -> Redemption:
    assert row is not None, "it was written in this transaction"
    points = stored.incentive.points
    return Redemption(
        decision_id=row.decision_id,
        campaign_id=row.campaign_id,
        offer_id=row.offer_id,
        kind=stored.incentive.kind,
        occurred_at=row.occurred_at,
        points=0 if points is None else points.points,
        prize=row.prize,
        cost_minor=row.cost_minor,
        repeated=repeated,
    )

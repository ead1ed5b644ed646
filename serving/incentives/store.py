"""Incentives beside the campaigns, in versions, and the codes that a shop system made.

Whoever was given a voucher keeps the terms of the version that held then. The caller owns the transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, and_, func, insert, select, update

from features.history.campaigns import load_campaign
from features.history.insert import insert_new
from features.history.tables import coupon_codes, incentives, redemption_counts
from models.domain.campaign import Offer
from models.domain.errors import ConflictError, InvalidInputError, NotFoundError, require
from serving.incentives.incentive import (
    LONGEST_IN_BARS,
    TOO_LONG_FOR_BARS,
    CodePicture,
    CodeSource,
    Coupon,
    Incentive,
)
from serving.incentives.lottery import make_secret

ALL = ""
"""In `redemption_counts`, the row that counts every redemption, and that whoever redeems holds until the end."""

_ADAPTER = TypeAdapter(Incentive)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An incentive as it is stored.

    Attributes:
        secret: Of its draw; None where there is none.
    """

    campaign_id: str
    offer_id: str
    version: int
    incentive: Incentive
    secret: str | None
    created_at: datetime


def find_offer(conn: Connection, campaign_id: str, offer_id: str) -> Offer:
    """The offer, as the campaign has it now.

    Raises:
        NotFoundError: there is no such campaign, or none of its offers has the id.
    """
    for offer in load_campaign(conn, campaign_id).offers:
        if offer.offer_id == offer_id:
            return offer
    raise NotFoundError("offer_id", offer_id)


def save_incentive(
    conn: Connection, campaign_id: str, offer_id: str, incentive: Incentive, now: datetime
) -> Stored:
    """Store what an offer gives from now on; what is there already stays as it is.

    Raises:
        NotFoundError: there is no such offer.
        InvalidInputError: codes of its list are too long for the picture.
        ConflictError: the offer has a draw whose secret is published; another draw is another offer.
    """
    find_offer(conn, campaign_id, offer_id)
    prizes = () if incentive.lottery is None else incentive.lottery.prizes
    counted = [
        {"campaign_id": campaign_id, "offer_id": offer_id, "prize_id": prize_id, "n": 0, "cost_minor": 0.0}
        for prize_id in (ALL, *(prize.prize_id for prize in prizes))
    ]
    insert_new(conn, redemption_counts, counted)
    hold(conn, campaign_id, offer_id)  # one version after the other
    latest = _latest_row(conn, campaign_id, offer_id)
    if latest is not None and latest.document is not None:
        stored = _stored(latest)
        if stored.incentive == incentive:
            return stored
    _refuse_second_draw(conn, campaign_id, offer_id)
    _refuse_long_codes(conn, campaign_id, offer_id, incentive.coupon)
    row = conn.execute(
        insert(incentives)
        .values(
            campaign_id=campaign_id,
            offer_id=offer_id,
            version=1 if latest is None else latest.version + 1,
            document=_ADAPTER.dump_python(incentive, mode="json"),
            secret=make_secret() if prizes else None,
            created_at=now,
        )
        .returning(incentives)
    ).one()
    return _stored(row)


def withdraw_incentive(conn: Connection, campaign_id: str, offer_id: str, now: datetime) -> None:
    """Nobody is given anything from now on; what was given stays good.

    Raises:
        NotFoundError: the offer gives nothing.
    """
    hold(conn, campaign_id, offer_id)
    latest = load_incentive(conn, campaign_id, offer_id)
    conn.execute(
        insert(incentives).values(
            campaign_id=campaign_id, offer_id=offer_id, version=latest.version + 1, created_at=now
        )
    )


def load_incentive(conn: Connection, campaign_id: str, offer_id: str, version: int | None = None) -> Stored:
    """What an offer gives now, or gave in that version.

    Raises:
        NotFoundError: nothing.
    """
    row = _latest_row(conn, campaign_id, offer_id, version)
    if row is None or row.document is None:
        raise NotFoundError("offer_id", offer_id)
    return _stored(row)


def current_incentives(
    conn: Connection, campaign_ids: Collection[str], *, withdrawn_too: bool = False
) -> dict[tuple[str, str], Stored]:
    """What the offers of some campaigns give now, by campaign and offer.

    Args:
        conn: Only read.
        campaign_ids: Which.
        withdrawn_too: Also what they gave last, where they give nothing now.
    """
    given = incentives.c.document.is_not(None)
    newest = (
        select(
            incentives.c.campaign_id, incentives.c.offer_id, func.max(incentives.c.version).label("version")
        )
        .where(incentives.c.campaign_id.in_(sorted(campaign_ids)), *([given] if withdrawn_too else ()))
        .group_by(incentives.c.campaign_id, incentives.c.offer_id)
        .subquery("newest")
    )
    same = and_(*(incentives.c[name] == newest.c[name] for name in ("campaign_id", "offer_id", "version")))
    rows = conn.execute(select(incentives).join(newest, same).where(given).order_by(incentives.c.offer_id))
    return {(row.campaign_id, row.offer_id): _stored(row) for row in rows}


def hold(conn: Connection, campaign_id: str, offer_id: str) -> None:
    """Let nobody else redeem, or change, what the offer gives until the transaction ends."""
    conn.execute(
        select(redemption_counts.c.n)
        .where(
            redemption_counts.c.campaign_id == campaign_id,
            redemption_counts.c.offer_id == offer_id,
            redemption_counts.c.prize_id == ALL,
        )
        .with_for_update()
    ).all()


def add_codes(conn: Connection, campaign_id: str, offer_id: str, codes: Sequence[str]) -> int:
    """Add codes of a shop system to the list; how many were new.

    Raises:
        NotFoundError: the offer gives nothing.
        ConflictError: its codes do not come from a list.
        InvalidInputError: one is too long for the picture.
    """
    coupon = load_incentive(conn, campaign_id, offer_id).incentive.coupon
    if coupon is None or coupon.codes is not CodeSource.LIST:
        raise ConflictError(f"offer {offer_id} gives no codes of a list")
    for number, code in enumerate(codes):
        require(coupon.drawable(code), f"codes.{number}", code, TOO_LONG_FOR_BARS)
    return insert_new(
        conn,
        coupon_codes,
        [{"code": code, "campaign_id": campaign_id, "offer_id": offer_id} for code in dict.fromkeys(codes)],
    )


def take_codes(
    conn: Connection, campaign_id: str, offer_id: str, decision_ids: Sequence[str]
) -> dict[str, str]:
    """Codes of the list for decisions, each given once; fewer where there are not enough."""
    free = conn.scalars(
        select(coupon_codes.c.code)
        .where(
            coupon_codes.c.campaign_id == campaign_id,
            coupon_codes.c.offer_id == offer_id,
            coupon_codes.c.decision_id.is_(None),
        )
        .order_by(coupon_codes.c.code)
        .limit(len(decision_ids))
        .with_for_update(skip_locked=True)
    ).all()
    taken = dict(zip(decision_ids, free, strict=False))
    for decision_id, code in taken.items():
        conn.execute(update(coupon_codes).where(coupon_codes.c.code == code).values(decision_id=decision_id))
    return taken


def _latest_row(
    conn: Connection, campaign_id: str, offer_id: str, version: int | None = None
) -> Row[Any] | None:
    query = select(incentives).where(
        incentives.c.campaign_id == campaign_id, incentives.c.offer_id == offer_id
    )
    if version is not None:
        query = query.where(incentives.c.version == version)
    return conn.execute(query.order_by(incentives.c.version.desc()).limit(1)).one_or_none()


def _refuse_second_draw(conn: Connection, campaign_id: str, offer_id: str) -> None:
    drawn = select(incentives.c.version).where(
        incentives.c.campaign_id == campaign_id,
        incentives.c.offer_id == offer_id,
        incentives.c.secret.is_not(None),
    )
    if conn.execute(drawn.limit(1)).first() is not None:
        raise ConflictError(
            f"offer {offer_id} has a draw whose digest is published; another draw needs another offer"
        )


def _refuse_long_codes(conn: Connection, campaign_id: str, offer_id: str, coupon: Coupon | None) -> None:
    """Codes that were added before the picture was chosen, and that nobody has yet."""
    if coupon is None or coupon.codes is not CodeSource.LIST or coupon.picture is not CodePicture.CODE_128:
        return
    long = select(coupon_codes.c.code).where(
        coupon_codes.c.campaign_id == campaign_id,
        coupon_codes.c.offer_id == offer_id,
        coupon_codes.c.decision_id.is_(None),
        func.length(coupon_codes.c.code) > LONGEST_IN_BARS,
    )
    code = conn.scalar(long.order_by(coupon_codes.c.code).limit(1))
    if code is not None:
        raise InvalidInputError(
            "incentive.coupon.picture",
            coupon.picture,
            f"must not be code_128: the code {code} of the list is longer than {LONGEST_IN_BARS} characters",
        )


def _stored(row: Row[Any]) -> Stored:
    return Stored(
        campaign_id=row.campaign_id,
        offer_id=row.offer_id,
        version=row.version,
        incentive=_ADAPTER.validate_python(row.document),
        secret=row.secret,
        created_at=row.created_at,
    )

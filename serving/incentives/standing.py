"""Whether something can be redeemed, here and now, and if not, why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, func, select

from features.history.tables import redemption_counts, redemptions
from models.domain.errors import ConflictError
from serving.incentives.distance import Near, Position, nearest
from serving.incentives.incentive import Incentive, Points
from serving.incentives.store import ALL
from serving.incentives.vouchers import Voucher


class VoucherStanding(StrEnum):
    """What a till is told of a code."""

    VALID = "valid"
    USED = "used"
    TOO_EARLY = "too_early"
    EXPIRED = "expired"
    TOO_FAR = "too_far"
    LIMIT_REACHED = "limit_reached"


class NotRedeemableError(ConflictError):
    """It cannot be redeemed here and now; nothing was changed.

    Args:
        standing: Why.
    """

    def __init__(self, standing: VoucherStanding) -> None:
        self.standing = standing
        super().__init__(f"it cannot be redeemed: {standing}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Where somebody wants to redeem.

    Attributes:
        shop_id: As a till says it, which is believed.
        position: As a browser or till says it; only the distance to a shop is kept of it.
    """

    shop_id: str | None = None
    position: Position | None = None

    def near(self, points: Points) -> Near | None:
        """The shop of the incentive; None where it has none, or where nobody says where they are."""
        if self.shop_id in {shop.shop_id for shop in points.shops}:
            return Near(str(self.shop_id), 0.0)
        if self.position is None or not points.shops:
            return None
        return nearest(points.shops, self.position)


def standing_of(
    conn: Connection, voucher: Voucher, incentive: Incentive, at: datetime, whereabouts: Whereabouts
) -> VoucherStanding:
    """Whether a voucher can be redeemed.

    Args:
        conn: Exact where the transaction holds the offer (`store.hold`).
        voucher: What was given.
        incentive: In the voucher's version.
        at: When it is, or was, redeemed, aware.
        whereabouts: Where.
    """
    if _n_redeemed(conn, {"decision_id": voucher.decision_id}):
        return VoucherStanding.USED
    if (standing := in_time(incentive, voucher.given_at, at)) is not VoucherStanding.VALID:
        return standing
    points = incentive.points
    if points is not None and points.shops:
        near = whereabouts.near(points)
        if near is None or near.metres > points.within_metres:
            return VoucherStanding.TOO_FAR
    offer = {"campaign_id": voucher.campaign_id, "offer_id": voucher.offer_id}
    if incentive.most_per_customer is not None:
        mine = _n_redeemed(conn, {**offer, "customer_id": voucher.customer_id})
        if mine >= incentive.most_per_customer:
            return VoucherStanding.LIMIT_REACHED
    return VoucherStanding.LIMIT_REACHED if exhausted(conn, voucher, incentive) else VoucherStanding.VALID


def in_time(incentive: Incentive, given_at: datetime, at: datetime) -> VoucherStanding:
    """By the clock alone: too early, expired or valid."""
    lapses_at = incentive.lapses_at(given_at)
    if lapses_at is not None and at >= lapses_at:
        return VoucherStanding.EXPIRED
    return VoucherStanding.TOO_EARLY if at < incentive.opens_at(given_at) else VoucherStanding.VALID


def exhausted(conn: Connection, voucher: Voucher, incentive: Incentive) -> bool:
    """Whether the offer was redeemed as often as it may be in all."""
    if incentive.most is None:
        return False
    counted = select(redemption_counts.c.n).where(
        redemption_counts.c.campaign_id == voucher.campaign_id,
        redemption_counts.c.offer_id == voucher.offer_id,
        redemption_counts.c.prize_id == ALL,
    )
    return (conn.scalar(counted) or 0) >= incentive.most


def _n_redeemed(conn: Connection, of: Mapping[str, str]) -> int:
    query = select(func.count()).select_from(redemptions)
    return conn.scalar(query.where(*(redemptions.c[name] == value for name, value in of.items()))) or 0

"""What offers gave a person, and the points that they hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, or_, select

from features.history.tables import points_entries, redemptions, vouchers

_MOST_SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class VoucherShown:
    """What one decision gave.

    Attributes:
        redeemed_at: None where it was not.
        prize: That was won; None for none, or for what is no draw.
    """

    decision_id: str
    campaign_id: str
    offer_id: str
    code: str
    given_at: datetime
    redeemed_at: datetime | None
    prize: str | None


def load_vouchers(conn: Connection, customer_id: str) -> list[VoucherShown]:
    """The latest fifty that a person was given, newest first."""
    rows = conn.execute(
        select(
            vouchers.c.decision_id,
            vouchers.c.campaign_id,
            vouchers.c.offer_id,
            vouchers.c.code,
            vouchers.c.given_at,
            redemptions.c.occurred_at.label("redeemed_at"),
            redemptions.c.prize,
        )
        .outerjoin_from(vouchers, redemptions, redemptions.c.decision_id == vouchers.c.decision_id)
        .where(vouchers.c.customer_id == customer_id)
        .order_by(vouchers.c.given_at.desc(), vouchers.c.decision_id)
        .limit(_MOST_SHOWN)
    )
    return [VoucherShown(**row._asdict()) for row in rows]


def points_balance(conn: Connection, customer_id: str, now: datetime) -> int:
    """Points that a person was given and has not redeemed, without those that have lapsed."""
    entries = points_entries.c
    return int(
        conn.scalar(
            select(func.coalesce(func.sum(entries.points), 0)).where(
                entries.customer_id == customer_id, or_(entries.lapses_at.is_(None), entries.lapses_at > now)
            )
        )
        or 0
    )

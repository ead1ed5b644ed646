"""What a campaign's offers gave, what of it was redeemed, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, or_, select

from features.history.tables import coupon_codes, points_entries, redemption_counts, vouchers
from models.domain.campaign import Campaign
from serving.incentives.incentive import CodeSource, IncentiveKind
from serving.incentives.store import ALL, Stored, current_incentives

# A list is running out with so many codes left, or with that share of all of them.
_FEW_CODES = 100
_FEW_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PrizesLeft:
    """Of one prize."""

    prize_id: str
    number: int
    n_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IncentiveReport:
    """What one offer gave.

    Attributes:
        n_given: Decisions that gave it: whose message was made, or whose caller asked for it.
        n_redeemed: Of these, redeemed.
        share: Redeemed of given; None before the first.
        cost_minor: Of what was redeemed, prizes included, minor units.
        expected_cost_minor: Of one redemption, minor units.
        margin_minor: Of a conversion under the offer, net of that, minor units; None where the campaign has it no more.
        points_outstanding: Given, neither redeemed nor lapsed; None for other kinds.
        prizes: Of a draw, in its order.
        n_codes_left: Codes of the list that nobody has; None for other codes.
        running_out: Whether a tenth of the list, or a hundred codes, or less is left.
    """

    offer_id: str
    kind: IncentiveKind
    n_given: int
    n_redeemed: int
    share: float | None
    cost_minor: float
    expected_cost_minor: float
    margin_minor: float | None
    points_outstanding: int | None
    prizes: tuple[PrizesLeft, ...]
    n_codes_left: int | None
    running_out: bool


def report_incentives(conn: Connection, campaign: Campaign, now: datetime) -> tuple[IncentiveReport, ...]:
    """Every offer of the campaign that gives something, or gave; in order of their ids."""
    stored = current_incentives(conn, [campaign.campaign_id], withdrawn_too=True)
    margins = {offer.offer_id: offer.margin_minor for offer in campaign.offers}
    return tuple(_report(conn, one, margins.get(one.offer_id), now) for one in stored.values())


def count_codes(conn: Connection, campaign_id: str, offer_id: str) -> tuple[int, int]:
    """Codes of the list that nobody has, and all of them."""
    of_offer = (coupon_codes.c.campaign_id == campaign_id, coupon_codes.c.offer_id == offer_id)
    row = conn.execute(
        select(func.count().filter(coupon_codes.c.decision_id.is_(None)), func.count()).where(*of_offer)
    ).one()
    return row[0], row[1]


def _report(conn: Connection, stored: Stored, margin_minor: float | None, now: datetime) -> IncentiveReport:
    incentive = stored.incentive
    of_offer = (vouchers.c.campaign_id == stored.campaign_id, vouchers.c.offer_id == stored.offer_id)
    n_given = conn.scalar(select(func.count()).select_from(vouchers).where(*of_offer)) or 0
    counts = {
        row.prize_id: row
        for row in conn.execute(
            select(redemption_counts).where(
                redemption_counts.c.campaign_id == stored.campaign_id,
                redemption_counts.c.offer_id == stored.offer_id,
            )
        )
    }
    n_redeemed = counts[ALL].n
    outstanding = None
    if incentive.points is not None:
        entries = points_entries.c
        outstanding = int(
            conn.scalar(
                select(func.coalesce(func.sum(entries.points), 0))
                .join_from(points_entries, vouchers, vouchers.c.decision_id == entries.decision_id)
                .where(*of_offer, or_(entries.lapses_at.is_(None), entries.lapses_at > now))
            )
            or 0
        )
    n_left, n_codes = None, 0
    if incentive.coupon is not None and incentive.coupon.codes is CodeSource.LIST:
        n_left, n_codes = count_codes(conn, stored.campaign_id, stored.offer_id)
    return IncentiveReport(
        offer_id=stored.offer_id,
        kind=incentive.kind,
        n_given=n_given,
        n_redeemed=n_redeemed,
        share=n_redeemed / n_given if n_given else None,
        cost_minor=counts[ALL].cost_minor,
        expected_cost_minor=incentive.expected_cost_minor,
        margin_minor=margin_minor,
        points_outstanding=outstanding,
        prizes=tuple(
            PrizesLeft(
                prize_id=prize.prize_id,
                number=prize.number,
                n_left=prize.number - counts[prize.prize_id].n,
            )
            for prize in (() if incentive.lottery is None else incentive.lottery.prizes)
        ),
        n_codes_left=n_left,
        running_out=n_left is not None and n_left <= max(_FEW_CODES, _FEW_SHARE * n_codes),
    )

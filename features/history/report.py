"""What became of decisions: the funnel of each channel, and the outcome of each arm."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, and_, case, func, select

from features.history.campaigns import load_campaign
from features.history.channels import load_channels
from features.history.moments import earlier
from features.history.reached import reached
from features.history.tables import decisions, interactions, rewards
from models.domain.experiment import Arm
from models.domain.interaction import InteractionKind as Kind

PRE_PERIOD = timedelta(days=90)
"""How far back what customers did before they came into an experiment is compared with what they did in it."""
_CLICKED = frozenset({Kind.CLICKED})
_OPENED = _CLICKED | {Kind.OPENED}
_DELIVERED = _OPENED | {Kind.DELIVERED}
_SENT = _DELIVERED | {Kind.SENT, Kind.BOUNCED}


@dataclass(frozen=True, slots=True, kw_only=True)
class FunnelRow:
    """What became of the decisions for one channel.

    Attributes:
        channel: Name.
        planned: Decisions to contact on this channel.
        sent: Of these, messages handed to the provider.
        delivered: Messages known to have arrived; None where the channel cannot report it.
        opened: Messages opened by a person, or clicked; None where the channel cannot report opens.
        clicked: Messages whose link a person followed; None where the channel cannot report it.
        converted: Decisions with a conversion in their attribution window.
        cost_minor: Of the contacts that were not refused, minor units.
        net_value_minor: Value attributed less cost, minor units. It counts customers who would have bought
            anyway; what contact *caused* is the difference between arms.
    """

    channel: str
    planned: int
    sent: int
    delivered: int | None
    opened: int | None
    clicked: int | None
    converted: int
    cost_minor: float
    net_value_minor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmOutcome:
    """What one customer of a campaign was worth, whatever reached them (intention to treat).

    Attributes:
        value_minor: Value of every conversion since the first decision, minor units.
        before_minor: Value of the conversions of the same kind in the `PRE_PERIOD` before it, for whatever reason.
        cost_minor: Cost of the contacts, minor units.
        contacted: Whether any contact was made or planned.
    """

    arm: Arm
    customer_id: str
    value_minor: float
    before_minor: float
    cost_minor: float
    converted: bool
    contacted: bool


def funnel(conn: Connection, campaign_id: str | None = None) -> list[FunnelRow]:
    """One row a channel that any decision chose, in order of name."""
    seen = (
        select(
            interactions.c.decision_id,
            *(
                func.max(case((_any_of(kinds), 1), else_=0)).label(name)
                for name, kinds in (
                    ("sent", _SENT),
                    ("delivered", _DELIVERED),
                    ("opened", _OPENED),
                    ("clicked", _CLICKED),
                )
            ),
        )
        .where(interactions.c.decision_id.is_not(None), ~interactions.c.machine_made)
        .group_by(interactions.c.decision_id)
        .subquery()
    )
    cost = case((reached(), decisions.c.cost_minor), else_=0.0)
    query = (
        select(
            decisions.c.channel,
            func.count().label("planned"),
            *(func.coalesce(func.sum(seen.c[name]), 0).label(name) for name in ("sent", "delivered", "opened", "clicked")),
            func.coalesce(func.sum(case((rewards.c.converted, 1), else_=0)), 0).label("converted"),
            func.sum(cost).label("cost_minor"),
            func.coalesce(func.sum(rewards.c.value_minor), 0.0).label("value_minor"),
        )
        .select_from(decisions)
        .outerjoin(seen, seen.c.decision_id == decisions.c.decision_id)
        .outerjoin(rewards, rewards.c.decision_id == decisions.c.decision_id)
        .where(decisions.c.channel.is_not(None))
        .group_by(decisions.c.channel)
        .order_by(decisions.c.channel)
    )  # fmt: skip
    if campaign_id is not None:
        query = query.where(decisions.c.campaign_id == campaign_id)
    channels = load_channels(conn)

    def known(count: int, channel: str, kind: Kind) -> int | None:
        # A click implies that the message arrived, but those who did not click are unknown, not zero.
        return count if channel in channels and channels[channel].reports(kind) else None

    return [
        FunnelRow(
            channel=row.channel,
            planned=row.planned,
            sent=row.sent,
            delivered=known(row.delivered, row.channel, Kind.DELIVERED),
            opened=known(row.opened, row.channel, Kind.OPENED),
            clicked=known(row.clicked, row.channel, Kind.CLICKED),
            converted=row.converted,
            cost_minor=row.cost_minor,
            net_value_minor=row.value_minor - row.cost_minor,
        )
        for row in conn.execute(query)
    ]


def arm_outcomes(conn: Connection, campaign_id: str) -> list[ArmOutcome]:
    """One row for every customer that the campaign decided for, in order of customer.

    Conversions count from the customer's first decision until the attribution window after the end of the
    campaign's send window: the same for all arms, whoever was contacted, however often, and whether or not
    it arrived.

    Raises:
        NotFoundError: there is no such campaign.
    """
    campaign = load_campaign(conn, campaign_id)
    ends_at = campaign.send_window.closes_at + timedelta(seconds=campaign.attribution_window_seconds)
    people = (
        select(
            decisions.c.customer_id,
            func.min(decisions.c.arm).label("arm"),
            func.sum(case((_contact(), decisions.c.cost_minor), else_=0.0)).label("cost_minor"),
            func.max(case((_contact(), 1), else_=0)).label("contacted"),
        )
        .where(decisions.c.campaign_id == campaign_id)
        .group_by(decisions.c.customer_id)
        .order_by(decisions.c.customer_id)
    )
    entered = (
        select(decisions.c.customer_id, func.min(decisions.c.decided_at).label("entered_at"))
        .where(decisions.c.campaign_id == campaign_id)
        .group_by(decisions.c.customer_id)
        .subquery()
    )
    answered = decisions.alias("answered")
    margin = case(
        *((answered.c.offer_id == offer.offer_id, offer.margin_minor) for offer in campaign.offers),
        else_=campaign.conversion_value_minor,
    )
    converted = (
        select(entered.c.customer_id)
        .join(interactions, interactions.c.customer_id == entered.c.customer_id)
        .where(interactions.c.kind == campaign.conversion_kind, ~interactions.c.machine_made)
        .group_by(entered.c.customer_id)
    )
    since = (
        converted.add_columns(
            func.sum(func.coalesce(interactions.c.value_minor, margin)).label("value_minor")
        )
        .outerjoin(answered, answered.c.decision_id == interactions.c.decision_id)
        .where(
            interactions.c.occurred_at >= entered.c.entered_at,
            interactions.c.occurred_at < ends_at,
            # A conversion that names neither a decision nor a campaign may concern any campaign.
            func.coalesce(answered.c.campaign_id, interactions.c.campaign_id, campaign_id) == campaign_id,
        )
    )
    before = converted.add_columns(
        func.sum(func.coalesce(interactions.c.value_minor, campaign.conversion_value_minor)).label(
            "value_minor"
        )
    ).where(
        interactions.c.occurred_at < entered.c.entered_at,
        interactions.c.occurred_at >= earlier(conn, entered.c.entered_at, PRE_PERIOD),
    )
    value_of = {row.customer_id: row.value_minor for row in conn.execute(since)}
    before_of = {row.customer_id: row.value_minor for row in conn.execute(before)}
    return [
        ArmOutcome(
            arm=Arm(row.arm),
            customer_id=row.customer_id,
            value_minor=value_of.get(row.customer_id, 0.0),
            before_minor=before_of.get(row.customer_id, 0.0),
            cost_minor=row.cost_minor,
            converted=row.customer_id in value_of,
            contacted=bool(row.contacted),
        )
        for row in conn.execute(people)
    ]


def _any_of(kinds: Collection[Kind]) -> ColumnElement[bool]:
    return interactions.c.kind.in_(sorted(kinds))


def _contact() -> ColumnElement[bool]:
    return and_(decisions.c.channel.is_not(None), reached())

"""What a campaign came to, added up from the outcomes of its customers: the funnel of each channel, and the arms."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, case, func, select

from features.history.among import among
from features.history.channels import load_channels
from features.history.tables import channel_outcomes, outcomes
from models.domain.channel import Channel
from models.domain.experiment import Arm
from models.domain.interaction import InteractionKind as Kind


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
class ArmSums:
    """Sums over the customers of one arm of a campaign, whatever reached them (intention to treat).

    y is the net value of a customer: conversions since the first decision less the cost of the contacts, minor units. x is the value
    of the conversions of the same kind in the `PRE_PERIOD` before it. c is 1 where the customer converted.

    Attributes:
        n_contacted: Customers to whom any contact was made or planned.
        n_converted: Sum of c.
        cost_minor: Of the contacts.
        net_value_minor: Sum of y.
        net_value_squares: Sum of y squared.
        before_minor: Sum of x.
        before_squares: Sum of x squared.
        before_by_value: Sum of x times y.
        before_by_converted: Sum of x times c.
    """

    arm: Arm
    n_customers: int
    n_decisions: int
    n_contacted: int
    n_converted: int
    cost_minor: float
    net_value_minor: float
    net_value_squares: float
    before_minor: float
    before_squares: float
    before_by_value: float
    before_by_converted: float

    @classmethod
    def none(cls, arm: Arm) -> ArmSums:
        """Of an arm that nobody is in."""
        return cls(arm=arm, **{field.name: 0 for field in fields(cls) if field.name != "arm"})

    def __add__(self, other: ArmSums) -> ArmSums:
        """Of both, who are different customers of the same arm."""
        names = (field.name for field in fields(self) if field.name != "arm")
        return ArmSums(arm=self.arm, **{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerSums:
    """Sums over the customers of a campaign.

    Attributes:
        arms: Those that anybody is in, in order of name.
        first_choices: Treatment and holdout by the channel that the optimiser chose first, empty for no contact. Of those who came in since what it would have done for the holdout is known; empty before that. An arm that
            nobody is in is left out.
    """

    arms: dict[Arm, ArmSums]
    first_choices: dict[str, dict[Arm, ArmSums]]


_KEPT = outcomes.c
_WORTH = _KEPT.value_minor - _KEPT.cost_minor
# Most customers did nothing before: a condition costs SQLite less than adding a zero, and there are 100,000 of them.
_DID_BEFORE = _KEPT.before_minor != 0.0


def _sum_where(condition: ColumnElement[bool], figure: ColumnElement[float]) -> ColumnElement[float]:
    return func.coalesce(func.sum(figure).filter(condition), 0.0)


ARM_SUMS = (
    func.count().label("n_customers"),
    func.sum(_KEPT.n_decisions).label("n_decisions"),
    func.count().filter(_KEPT.contacted).label("n_contacted"),
    func.count().filter(_KEPT.converted).label("n_converted"),
    func.sum(_KEPT.cost_minor).label("cost_minor"),
    func.sum(_WORTH).label("net_value_minor"),
    func.sum(_WORTH * _WORTH).label("net_value_squares"),
    _sum_where(_DID_BEFORE, _KEPT.before_minor).label("before_minor"),
    _sum_where(_DID_BEFORE, _KEPT.before_minor * _KEPT.before_minor).label("before_squares"),
    _sum_where(_DID_BEFORE, _KEPT.before_minor * _WORTH).label("before_by_value"),
    _sum_where(_KEPT.converted, _KEPT.before_minor).label("before_by_converted"),
)
"""The sums of `ArmSums` over rows of `outcomes`."""
_COUNTED = ("planned", "sent", "delivered", "opened", "clicked", "converted", "cost_minor", "value_minor")


def funnel(
    conn: Connection, campaign_id: str | None = None, customer_ids: Collection[str] | None = None
) -> list[FunnelRow]:
    """One row a channel that any decision chose, in order of name, as far as customers are settled.

    Args:
        conn: Only read.
        campaign_id: Only this campaign; None for all.
        customer_ids: Only these customers, however many; None for all.
    """
    query = (
        select(
            channel_outcomes.c.channel, *(func.sum(channel_outcomes.c[name]).label(name) for name in _COUNTED)
        )
        .group_by(channel_outcomes.c.channel)
        .order_by(channel_outcomes.c.channel)
    )
    if campaign_id is not None:
        query = query.where(channel_outcomes.c.campaign_id == campaign_id)
    if customer_ids is not None:
        query = query.where(among(conn, channel_outcomes.c.customer_id, customer_ids))
    channels = load_channels(conn)
    return [funnel_row(row, channels) for row in conn.execute(query)]


def funnel_row(row: Row[Any], channels: Mapping[str, Channel]) -> FunnelRow:
    """The sums of one channel (`features.history.outcomes.channel_sums`), None where the channel cannot report the step."""

    def known(count: int, kind: Kind) -> int | None:
        # A click implies that the message arrived, but those who did not click are unknown, not zero.
        return count if row.channel in channels and channels[row.channel].reports(kind) else None

    return FunnelRow(
        channel=row.channel,
        planned=row.planned,
        sent=row.sent,
        delivered=known(row.delivered, Kind.DELIVERED),
        opened=known(row.opened, Kind.OPENED),
        clicked=known(row.clicked, Kind.CLICKED),
        converted=row.converted,
        cost_minor=row.cost_minor,
        net_value_minor=row.value_minor - row.cost_minor,
    )


def customer_sums(
    conn: Connection, campaign_id: str, customer_ids: Collection[str] | None = None
) -> CustomerSums:
    """What the customers came to, as far as they are settled: each is read once, also where first choices are compared.

    Args:
        conn: Only read.
        campaign_id: Of which campaign.
        customer_ids: Only these customers, however many; None for all.
    """
    counted = _KEPT.campaign_id == campaign_id
    if customer_ids is not None:
        counted &= among(conn, _KEPT.customer_id, customer_ids)
    since = conn.scalar(
        select(func.min(_KEPT.first_decided_at)).where(
            _KEPT.campaign_id == campaign_id, _KEPT.arm == Arm.HOLDOUT, _KEPT.first_choice.is_not(None)
        )
    )
    # By arm alone the rows lie in order; by choice as well SQLite has to sort them.
    by = [_KEPT.arm] if since is None else [_KEPT.arm, _compared_choice(since)]
    arms: dict[Arm, ArmSums] = {}
    first_choices: dict[str, dict[Arm, ArmSums]] = {}
    for row in conn.execute(select(*by, *ARM_SUMS).where(counted).group_by(*by).order_by(*by)):
        values = row._asdict()
        arm, choice = Arm(values.pop("arm")), values.pop("compared_choice", None)
        sums = ArmSums(arm=arm, **values)
        arms[arm] = arms[arm] + sums if arm in arms else sums
        if choice is not None:
            first_choices.setdefault(choice, {})[arm] = sums
    return CustomerSums(arms=arms, first_choices=first_choices)


def _compared_choice(since: datetime) -> ColumnElement[str | None]:
    """SQL expression on a row of `outcomes`: the first choice; null for those who are not compared by it."""
    compared = and_(_KEPT.arm.in_([Arm.HOLDOUT, Arm.TREATMENT]), _KEPT.first_decided_at >= since)
    return case((compared, _KEPT.first_choice)).label("compared_choice")

"""At which hours of their own day customers answer what they are sent."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from features.history.among import among
from features.history.channels import load_channels
from features.history.moments import local_part, teach_local_time
from features.history.tables import customers, decisions, rewards
from models.domain.interaction import InteractionKind


@dataclass(frozen=True, slots=True, kw_only=True)
class HourSums:
    """Messages that went out at one hour.

    Attributes:
        hour: Of the customer's own day by their present time zone, 0 to 23.
        n_messages: That reached somebody, on channels that report opens.
        n_opened: Of these, opened by a person, or clicked.
    """

    hour: int
    n_messages: int
    n_opened: int


def opened_by_hour(
    conn: Connection, campaign_id: str, customer_ids: Collection[str], now: datetime
) -> list[HourSums]:
    """One row an hour at which anything went out, in order, as far as rewards are settled.

    Args:
        conn: Only read.
        campaign_id: Of which campaign.
        customer_ids: Only these customers, however many.
        now: Aware; what is to be sent later is left out.
    """
    teach_local_time(conn)
    # Of another channel only what was opened is known.
    telling = [
        name for name, channel in load_channels(conn).items() if channel.reports(InteractionKind.OPENED)
    ]
    hour = local_part(conn, "hour", decisions.c.send_at, customers.c.time_zone).label("hour")
    query = (
        select(
            hour, func.count().label("n_messages"), func.count().filter(rewards.c.opened).label("n_opened")
        )
        .select_from(decisions)
        .join(rewards, rewards.c.decision_id == decisions.c.decision_id)
        .join(customers, customers.c.customer_id == decisions.c.customer_id)
        .where(
            decisions.c.campaign_id == campaign_id,
            among(conn, decisions.c.customer_id, customer_ids),
            decisions.c.channel.in_(telling),
            decisions.c.send_at <= now,
        )
        .group_by(hour)
        .order_by(hour)
    )
    return [
        HourSums(hour=int(row.hour), n_messages=row.n_messages, n_opened=row.n_opened)
        for row in conn.execute(query)
    ]

"""On which channels customers can be contacted: an account and the permission, for many at once.

What `models.domain.eligibility.unreachable` says of one customer, which this is held against; whether a provider's window is
open at the moment is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import polars as pl
from sqlalchemy import Connection, select

from features.history.among import among
from features.history.export import frame
from features.history.tables import consents, identities
from models.choice import BoolArray
from models.domain.channel import Channel
from models.domain.customer import EVERY_CHANNEL, ConsentStatus
from models.domain.eligibility import REFUSALS


def reachable(
    conn: Connection, channels: Iterable[Channel], purpose: str, customer_ids: Sequence[str], now: datetime
) -> dict[str, BoolArray]:
    """Whether each customer can be contacted, by name of the channel, shape (n,) each.

    Args:
        conn: Only read.
        channels: Which.
        purpose: What consent must cover.
        customer_ids: n customers; a few ten thousand, since what all of them have and said is held at once.
        now: Aware; accounts and permissions as they stand then.
    """
    channels = list(channels)
    # Not by kind as well: SQLite would look for everybody who has such an account.
    accounts = frame(
        conn,
        select(identities.c.customer_id, identities.c.kind).where(
            among(conn, identities.c.customer_id, customer_ids),
            identities.c.linked_at <= now,
        ),
    )
    said = frame(
        conn,
        select(
            consents.c.customer_id,
            consents.c.channel,
            consents.c.status,
            consents.c.since,
            consents.c.consent_id,
        ).where(
            among(conn, consents.c.customer_id, customer_ids),
            consents.c.purpose == purpose,
            consents.c.channel.in_([EVERY_CHANNEL, *(channel.name for channel in channels)]),
            consents.c.since <= now,
        ),
    )
    latest = said.sort("since", "consent_id").unique(["customer_id", "channel"], keep="last")
    people = pl.Series("customer_id", customer_ids, dtype=pl.String)

    def among_people(rows: pl.DataFrame) -> BoolArray:
        return people.is_in(rows["customer_id"].implode()).to_numpy()

    def saying(channel: str, statuses: Iterable[ConsentStatus]) -> BoolArray:
        of_channel, of_status = pl.col("channel") == channel, pl.col("status").is_in(list(statuses))
        return among_people(latest.filter(of_channel & of_status))

    open_to_us = ~saying(EVERY_CHANNEL, REFUSALS)
    return {
        channel.name: open_to_us
        & among_people(accounts.filter(pl.col("kind") == channel.identity_kind))
        & (
            saying(channel.name, [ConsentStatus.GRANTED])
            if channel.needs_consent
            else ~saying(channel.name, REFUSALS)
        )
        for channel in channels
    }

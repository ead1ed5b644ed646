"""The facts that are checked, and those that they are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl
from sqlalchemy import ColumnElement, Connection, select

from features.history.channels import load_channels
from features.history.export import frame
from features.history.tables import customers, interactions

MOST_ROWS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What is checked.

    Attributes:
        rows: The facts; of more than `MOST_ROWS` those that were stored last.
        reference: What they are compared with; may be empty.
        channels: Names of the configured channels.
        known: Customers of the facts who are in the register.
        words: Which facts these are, for people.
    """

    rows: pl.DataFrame
    reference: pl.DataFrame
    channels: frozenset[str]
    known: frozenset[str]
    words: str


def of_days(
    conn: Connection, as_of: datetime, days: float, reference_days: float, source: str | None = None
) -> Window:
    """What happened in the last days, against the days before them.

    Args:
        conn: Only read.
        as_of: Aware; the end of the window.
        days: Length of the window, > 0.
        reference_days: Length of the reference before it, > 0.
        source: Only facts of this source.
    """
    starts_at = as_of - timedelta(days=days)
    happened = interactions.c.occurred_at
    now = [happened >= starts_at, happened < as_of]
    before = [happened >= starts_at - timedelta(days=reference_days), happened < starts_at]
    words = f"{days:g} days before {as_of:%Y-%m-%d %H:%M} UTC against the {reference_days:g} days before them"
    return _load(conn, now, before, source, words)


def of_import(conn: Connection, received_at: datetime) -> Window:
    """What one import brought in, against all that was there before."""
    arrived = interactions.c.received_at
    words = f"the facts received at {received_at:%Y-%m-%d %H:%M:%S} UTC against the earlier ones"
    return _load(conn, [arrived == received_at], [arrived < received_at], None, words)


def _load(
    conn: Connection,
    now: list[ColumnElement[bool]],
    before: list[ColumnElement[bool]],
    source: str | None,
    words: str,
) -> Window:
    if source is not None:
        now, before = ([*each, interactions.c.source == source] for each in (now, before))
        words = f"{words}, source {source}"
    rows, reference = (_newest(conn, conditions) for conditions in (now, before))
    people = frame(conn, select(customers.c.customer_id))
    known = rows.select("customer_id").unique().join(people, on="customer_id", how="semi")
    return Window(
        rows=rows,
        reference=reference,
        channels=frozenset(load_channels(conn)),
        known=frozenset(known["customer_id"]),
        words=words,
    )


def _newest(conn: Connection, conditions: list[ColumnElement[bool]]) -> pl.DataFrame:
    return frame(
        conn,
        select(
            interactions.c.source,
            interactions.c.customer_id,
            interactions.c.kind,
            interactions.c.occurred_at,
            interactions.c.received_at,
            interactions.c.channel,
            interactions.c.place,
            interactions.c.campaign_id,
            interactions.c.decision_id,
            interactions.c.value_minor,
            interactions.c.attributes,
        )
        .where(*conditions)
        .order_by(interactions.c.interaction_id.desc())
        .limit(MOST_ROWS),
    )

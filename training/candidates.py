"""Which actions were candidates when a logged decision was made.

A decision of this service says so in its evidence. One that came from elsewhere does not: its candidates are then the
channels on which the customer had a contact point and the permission at that moment, at slots outside the quiet hours.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from features.history.evidence import actions_of
from features.history.export import frame
from features.history.tables import consents, identities
from models.choice import BoolArray
from models.domain.action import ActionGrid
from models.domain.campaign import Campaign
from models.domain.channel import Channel
from models.domain.customer import ConsentStatus


def candidates(
    conn: Connection,
    log: pl.DataFrame,
    versions: Mapping[int, Campaign],
    present: Campaign,
    channels: Mapping[str, Channel],
    grid: ActionGrid,
) -> BoolArray:
    """What each decision could have been, as far as the present campaign still has it.

    Args:
        conn: Only read.
        log: One row a decision: `customer_id`, `decided_at`, `campaign_version`, `evidence` (packed or null), `older_evidence` (JSON text
            or null).
        versions: The campaign as it was, by version.
        present: The campaign as it is.
        channels: By name.
        grid: Axes of the answer; holds those of every version.

    Returns:
        Shape (n, A); no contact always is one.
    """
    still = np.zeros(grid.n_actions, dtype=np.bool_)
    still[_translation(present.grid, grid)] = True
    of_version = {version: _translation(then.grid, grid) for version, then in versions.items()}
    mask = np.zeros((len(log), grid.n_actions), dtype=np.bool_)
    silent = []
    logged = zip(log["campaign_version"], log["evidence"], log["older_evidence"], strict=True)
    for row, (version, packed, older) in enumerate(logged):
        named = _older_actions(older) if packed is None else actions_of(packed)
        if named:
            mask[row, of_version[version][list(named)]] = True
        else:
            silent.append(row)
    if silent:
        reachable = _reachable(conn, log[silent], present, channels, grid)
        quiet = np.array([present.quiet_at(slot) for slot in grid.slots])
        contacts = reachable[:, None, :, None] & ~quiet
        shape = (len(silent), *grid.shape)
        mask[silent, :-1] = np.broadcast_to(contacts, shape).reshape(len(silent), -1)
    mask &= still
    mask[:, grid.no_contact] = True
    return mask


def _older_actions(text: str | None) -> set[int]:
    evidence = orjson.loads(text) if text else {}
    named = {*(evidence.get("distribution") or ()), *(evidence.get("net_value_minor") or ())}
    return {int(index) for index in named}


def _reachable(
    conn: Connection, log: pl.DataFrame, campaign: Campaign, channels: Mapping[str, Channel], grid: ActionGrid
) -> BoolArray:
    """Whether the customer had a contact point and the permission on each channel by then, shape (n, C)."""
    accounts = frame(conn, select(identities.c.customer_id, identities.c.kind, identities.c.linked_at))
    said = frame(
        conn,
        select(consents.c.customer_id, consents.c.channel, consents.c.status, consents.c.since)
        .where(consents.c.purpose == campaign.purpose)
        .order_by(consents.c.since, consents.c.consent_id),
    )
    moments = log.select("customer_id", "decided_at").with_row_index("row").sort("decided_at")
    answer = np.zeros((len(log), len(grid.channels)), dtype=np.bool_)
    for column, name in enumerate(grid.channels):
        channel = channels[name]
        first = (
            accounts.filter(pl.col("kind") == channel.identity_kind.value)
            .group_by("customer_id")
            .agg(pl.col("linked_at").min())
        )
        latest = moments.join_asof(
            said.filter(pl.col("channel") == name),
            left_on="decided_at",
            right_on="since",
            by="customer_id",
            strategy="backward",
            check_sortedness=False,
        )
        allowed = pl.col("status") == ConsentStatus.GRANTED.value
        may = latest.join(first, on="customer_id", how="left").select(
            "row",
            (pl.col("linked_at") <= pl.col("decided_at")).fill_null(False)
            & allowed.fill_null(not channel.needs_consent),
        )
        answer[may["row"].to_numpy(), column] = may.to_series(1).to_numpy()
    return answer


def _translation(source: ActionGrid, target: ActionGrid) -> NDArray[np.intp]:
    """Index in `target` of every action of `source`, which it holds all of."""
    offers, channels, slots = (
        np.array([there.index(name) for name in here], dtype=np.intp)
        for here, there in (
            (source.offers, target.offers),
            (source.channels, target.channels),
            (source.slots, target.slots),
        )
    )
    _, n_channels, n_slots = target.shape
    contacts = (offers[:, None, None] * n_channels + channels[:, None]) * n_slots + slots
    return np.append(contacts.ravel(), target.no_contact)

"""Which actions are candidates, for many simulated customers at once: the market's state, judged by the domain's rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from models.candidates import Candidates, Standing, judge, never_replied
from models.choice import BoolArray
from models.domain.campaign import Campaign
from models.domain.channel import Channel
from models.domain.errors import require
from models.domain.slots import next_send_times
from training.simulator.state import REMEMBERED_CONTACTS, State

Rows = NDArray[np.int64]


def send_times(campaign: Campaign, zones: Sequence[str], now: datetime) -> NDArray[np.float64]:
    """Send time of every slot by time zone, seconds since 1970, shape (Z, S)."""
    return np.array([[m.timestamp() for m in next_send_times(campaign.slots, name, now)] for name in zones])


def market_candidates(
    campaign: Campaign,
    channels: Mapping[str, Channel],
    state: State,
    rows: Rows,
    *,
    columns: NDArray[np.int64],
    reachable: BoolArray,
    zone_of: NDArray[np.int8],
    zones: Sequence[str],
    now: datetime,
) -> Candidates:
    """The verdicts on some customers.

    Args:
        campaign: The only campaign of the market: every remembered contact is one of its own.
        channels: By name.
        state: Permission and contacts.
        rows: Customers.
        columns: Column in `state` and `reachable` of every channel of the campaign, shape (C,).
        reachable: Whether customers have the channel's account, for all customers.
        zone_of: Index into `zones`, for all customers.
        zones: IANA names.
        now: Aware.

    Raises:
        CampaignExpiredError: the send window has closed.
        InvalidInputError: a cap is larger than the contacts that the simulator remembers.
    """
    caps = campaign.caps
    for cap in (caps.contacts, caps.contacts_per_channel, *caps.contacts_on.values()):
        require(
            cap is None or cap <= REMEMBERED_CONTACTS,
            "caps",
            cap,
            f"must be <= {REMEMBERED_CONTACTS} in a simulated market",
        )
    recent = state.contact_at[rows] > now.timestamp() - caps.window_seconds
    of_channel = state.contact_channel[rows][:, None, :] == columns[:, None]
    standing = Standing(
        zones=tuple(zones),
        zone=zone_of[rows].astype(np.intp),
        has_identity=reachable[rows][:, columns],
        consent=state.consent[rows][:, columns].astype(np.intp),
        refuses=np.zeros(len(rows), dtype=np.bool_),
        contacts=recent.sum(axis=1),
        contacts_on=(of_channel & recent[:, None, :]).sum(axis=2),
        contacts_of_campaign=state.n_contacts[rows].astype(np.int64),
        replied_at=never_replied(len(rows), len(columns)),
    )
    return judge(campaign, channels, standing, now)

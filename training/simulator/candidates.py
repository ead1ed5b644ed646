"""Which actions are candidates, for many simulated customers at once.

The same rules as `models.domain.eligibility.eligible`, in arrays; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from models.domain.campaign import Campaign, content_for
from models.domain.channel import Channel
from models.domain.customer import zone
from models.domain.errors import CampaignExpiredError, require
from models.domain.slots import next_send_times
from training.simulator.state import GRANTED, NEVER_ASKED, REMEMBERED_CONTACTS, State

Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]


def send_times(campaign: Campaign, zones: Sequence[str], now: datetime) -> NDArray[np.float64]:
    """Send time of every slot by time zone, seconds since 1970, shape (Z, S)."""
    return np.array([[m.timestamp() for m in next_send_times(campaign.slots, name, now)] for name in zones])


def slot_mask(campaign: Campaign, zones: Sequence[str], now: datetime) -> Bools:
    """Slots inside the send window and outside quiet hours, by time zone, shape (Z, S)."""
    window = campaign.send_window
    return np.array(
        [
            [
                window.starts_at <= moment < window.ends_at
                and not campaign.quiet_hours.cover(moment.astimezone(zone(name)).time())
                for moment in next_send_times(campaign.slots, name, now)
            ]
            for name in zones
        ]
    )


def candidate_mask(
    campaign: Campaign,
    channels: Mapping[str, Channel],
    state: State,
    rows: Rows,
    *,
    columns: NDArray[np.int64],
    reachable: Bools,
    zone_of: NDArray[np.int8],
    zones: Sequence[str],
    now: datetime,
) -> Bools:
    """Candidates, shape (n, A) in the order of the campaign's grid; no contact always is one.

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
    if now >= campaign.send_window.ends_at:
        raise CampaignExpiredError("campaign_id", campaign.campaign_id, "must have an open send window")
    grid = campaign.grid
    n = len(rows)
    allowed = np.array(
        [
            campaign.pinned_channel in (None, name)
            and channels[name].touch in campaign.touch_levels
            and channels[name].cost_minor is not None
            for name in grid.channels
        ]
    )
    needs_consent = np.array([channels[name].needs_consent for name in grid.channels])
    status = state.consent[rows][:, columns]
    permitted = (status == GRANTED) | ((status == NEVER_ASKED) & ~needs_consent)
    channel = (
        allowed & reachable[rows][:, columns] & permitted & _below_caps(campaign, state, rows, columns, now)
    )
    carried = np.array(
        [[content_for(o, channels[c]) is not None for c in grid.channels] for o in campaign.offers]
    )
    slots = slot_mask(campaign, zones, now)[zone_of[rows]]
    mask = np.ones((n, grid.n_actions), dtype=np.bool_)
    contacts = channel[:, None, :, None] & carried[None, :, :, None] & slots[:, None, None, :]
    mask[:, :-1] = contacts.reshape(n, grid.n_actions - 1)
    return mask


def _below_caps(
    campaign: Campaign, state: State, rows: Rows, columns: NDArray[np.int64], now: datetime
) -> Bools:
    """Whether another contact keeps within the caps, shape (n, C)."""
    caps = campaign.caps
    for cap in (caps.contacts, caps.contacts_per_channel):
        require(
            cap is None or cap <= REMEMBERED_CONTACTS,
            "caps",
            cap,
            f"must be <= {REMEMBERED_CONTACTS} in a simulated market",
        )
    recent = state.contact_at[rows] > now.timestamp() - caps.window_seconds
    below = np.ones((len(rows), len(columns)), dtype=np.bool_)
    if caps.contacts is not None:
        below &= (recent.sum(axis=1) < caps.contacts)[:, None]
    if caps.contacts_per_channel is not None:
        of_channel = state.contact_channel[rows][:, None, :] == columns[:, None]
        below &= (of_channel & recent[:, None, :]).sum(axis=2) < caps.contacts_per_channel
    if caps.contacts_per_campaign is not None:
        below &= (state.n_contacts[rows] < caps.contacts_per_campaign)[:, None]
    return below

"""Which actions are candidates, for many customers at once.

The same rules as `models.domain.eligibility.eligible`, in arrays; a law test holds the two together. What
depends on the campaign alone is judged once, what depends on the time zone once a zone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import overload

import numpy as np
from numpy.typing import NDArray

from models.choice import BoolArray, FloatArray
from models.domain.action import ActionGrid, ReasonCode
from models.domain.campaign import Campaign
from models.domain.channel import Channel
from models.domain.customer import EVERY_CHANNEL, ConsentStatus, Customer
from models.domain.eligibility import (
    NO_LIMITS,
    REFUSALS,
    Eligibility,
    Limits,
    outline_of,
    require_open,
)

Codes = NDArray[np.int8]
Counts = NDArray[np.int64]
Micros = NDArray[np.int64]

_MICROS = 1_000_000
# Before every moment that a provider window can reach back to.
_NEVER = -(2**62)

# Reasons as small numbers; 0 is none.
REASONS: tuple[ReasonCode | None, ...] = (None, *ReasonCode)
_CODE = {reason: np.int8(code) for code, reason in enumerate(REASONS)}

# Consents as small numbers; 0 is never asked.
_CONSENTS: tuple[ConsentStatus | None, ...] = (None, *ConsentStatus)
CONSENT_CODE = {status: code for code, status in enumerate(_CONSENTS)}


def _consent_reason(status: ConsentStatus | None, needs_consent: bool) -> ReasonCode | None:
    if status in REFUSALS:
        return REFUSALS[status]
    return ReasonCode.NO_CONSENT if needs_consent and status is not ConsentStatus.GRANTED else None


# By whether the channel needs consent, then by consent.
_REASON_OF_CONSENT = np.array(
    [[_CODE[_consent_reason(status, needs)] for status in _CONSENTS] for needs in (False, True)]
)


def never_replied(n_customers: int, n_channels: int) -> Micros:
    """`Standing.replied_at` of people who have never written."""
    return np.full((n_customers, n_channels), _NEVER, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What eligibility needs to know about n people, as arrays over the C channels of a campaign.

    Attributes:
        zones: IANA names.
        zone: Index into `zones`, shape (n,).
        has_identity: Whether they have the account that the channel needs, shape (n, C).
        consent: Of `CONSENT_CODE`, shape (n, C).
        refuses: Whether they refuse every channel for the campaign's purpose, shape (n,).
        contacts: Contacts that count against the rolling caps, shape (n,).
        contacts_on: The same by channel, shape (n, C).
        contacts_of_campaign: Contacts by this campaign, shape (n,).
        replied_at: Their last message, microseconds since 1970, shape (n, C).
    """

    zones: tuple[str, ...]
    zone: NDArray[np.intp]
    has_identity: BoolArray
    consent: NDArray[np.intp]
    refuses: BoolArray
    contacts: Counts
    contacts_on: Counts
    contacts_of_campaign: Counts
    replied_at: Micros

    @classmethod
    def of(
        cls, campaign: Campaign, channels: Mapping[str, Channel], customers: Sequence[Customer], now: datetime
    ) -> Standing:
        """Lay out what is known about people."""
        names = campaign.channels
        n, width = len(customers), len(names)
        zones = tuple(dict.fromkeys(person.time_zone for person in customers))
        zone_of = {name: z for z, name in enumerate(zones)}
        kinds = [channels[name].identity_kind for name in names]
        keys = [(name, campaign.purpose) for name in names]
        refusal = EVERY_CHANNEL, campaign.purpose
        column_of = {name: c for c, name in enumerate(names)}
        counted = campaign.caps.message_classes
        since = now - timedelta(seconds=campaign.caps.window_seconds)
        contacts = np.zeros(n, dtype=np.int64)
        contacts_on = np.zeros((n, width), dtype=np.int64)
        of_campaign = np.zeros(n, dtype=np.int64)
        replied_at = never_replied(n, width)
        for row, person in enumerate(customers):
            of_campaign[row] = person.earlier_contacts.get(campaign.campaign_id, 0)
            for contact in person.contacts:
                of_campaign[row] += contact.campaign_id == campaign.campaign_id
                if contact.contacted_at > since and contact.message_class in counted:
                    contacts[row] += 1
                    if contact.channel in column_of:
                        contacts_on[row, column_of[contact.channel]] += 1
            for name, moment in person.replied_at.items():
                if name in column_of:
                    replied_at[row, column_of[name]] = round(moment.timestamp() * _MICROS)
        return cls(
            zones=zones,
            zone=np.array([zone_of[person.time_zone] for person in customers], dtype=np.intp),
            has_identity=np.array(
                [[kind in person.identities for kind in kinds] for person in customers], dtype=np.bool_
            ).reshape(n, width),
            consent=np.array(
                [[CONSENT_CODE[person.consents.get(key)] for key in keys] for person in customers],
                dtype=np.intp,
            ).reshape(n, width),
            refuses=np.array(
                [person.consents.get(refusal) in REFUSALS for person in customers], dtype=np.bool_
            ),
            contacts=contacts,
            contacts_on=contacts_on,
            contacts_of_campaign=of_campaign,
            replied_at=replied_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates(Sequence[Eligibility]):
    """The verdicts on n customers; item i is what `eligible` says of customer i.

    Reasons are small numbers, 0 for none. Shapes: n customers, O offers, C channels, S slots, Z time zones, W
    channels that have a provider window.

    Attributes:
        grid: Axes.
        channel: Reason by channel, shape (n, C).
        offer_channel: Reason by offer and channel, shape (O, C).
        slot_of_zone: Reason by slot, shape (Z, S).
        moments_of_zone: Send times, Z by S, aware UTC.
        zone: Time zone of every customer, shape (n,).
        only_in_window: Whether the channel takes no content of the offer outside its window, shape (O, C).
        windowed: Which channels have such a window, shape (W,).
        window_closed: Whether it is closed at the slot, shape (n, W, S).
    """

    grid: ActionGrid
    channel: Codes
    offer_channel: Codes
    slot_of_zone: Codes
    moments_of_zone: tuple[tuple[datetime, ...], ...]
    zone: NDArray[np.intp]
    only_in_window: BoolArray
    windowed: NDArray[np.intp]
    window_closed: BoolArray

    def __len__(self) -> int:
        return len(self.zone)

    @overload
    def __getitem__(self, index: int) -> Eligibility: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Eligibility, ...]: ...
    def __getitem__(self, index: int | slice) -> Eligibility | tuple[Eligibility, ...]:
        if isinstance(index, slice):
            return tuple(self[row] for row in range(*index.indices(len(self))))
        zone = int(self.zone[index])
        closed = np.zeros((len(self.grid.channels), len(self.grid.slots)), dtype=np.bool_)
        closed[self.windowed] = self.window_closed[index]
        return Eligibility(
            channel=_reasons(self.channel[index]),
            slot=_reasons(self.slot_of_zone[zone]),
            offer_channel=tuple(map(_reasons, self.offer_channel)),
            only_in_window=tuple(map(tuple, self.only_in_window.tolist())),
            window_closed=tuple(map(tuple, closed.tolist())),
            send_at=self.moments_of_zone[zone],
        )

    @property
    def mask(self) -> BoolArray:
        """Candidates, shape (n, A); no contact always is one."""
        n, shape = len(self), self.grid.shape
        contacts = (
            (self.channel == 0)[:, None, :, None]
            & (self.offer_channel == 0)[:, :, None]
            & (self.slot_of_zone == 0)[self.zone][:, None, None, :]
        )
        if len(self.windowed):
            only = self.only_in_window[:, self.windowed]
            contacts[:, :, self.windowed] &= ~(only[:, :, None] & self.window_closed[:, None])
        mask = np.ones((n, self.grid.n_actions), dtype=np.bool_)
        mask[:, :-1] = contacts.reshape(n, math.prod(shape))
        return mask

    @property
    def send_at(self) -> FloatArray:
        """Send time of every slot, seconds since 1970, shape (n, S)."""
        return _moments_table(self.moments_of_zone).reshape(-1, len(self.grid.slots))[self.zone]


def mask_of(grid: ActionGrid, verdicts: Sequence[Eligibility]) -> BoolArray:
    """Candidates by verdicts taken one by one, shape (n, A); for one customer the faster way."""
    mask = np.ones((len(verdicts), grid.n_actions), dtype=np.bool_)
    for row, verdict in enumerate(verdicts):
        channel = np.array([reason is None for reason in verdict.channel])
        contacts = (channel & _allowed(verdict.offer_channel))[:, :, None] & _allowed((verdict.slot,))
        for c, closed in enumerate(verdict.window_closed):
            if verdict.channel[c] is None and any(closed):
                only = np.array([in_window[c] for in_window in verdict.only_in_window])
                contacts[:, c] &= ~(only[:, None] & np.array(closed))
        mask[row, :-1] = contacts.ravel()
    return mask


def seconds_of(moments: tuple[datetime, ...]) -> FloatArray:
    """Moments in seconds since 1970, shape (S,); not to be written to."""
    seconds: FloatArray = _moments_table((moments,))[0]
    return seconds


def candidates(
    campaign: Campaign,
    channels: Mapping[str, Channel],
    customers: Sequence[Customer],
    now: datetime,
    limits: Limits = NO_LIMITS,
) -> Candidates:
    """Judge every action of the campaign for many customers.

    Args:
        campaign: The campaign that asks.
        channels: Every channel that the campaign names, by name.
        customers: What is known of n people.
        now: Aware.
        limits: What is left of budgets and capacities.

    Raises:
        CampaignExpiredError: the send window has closed.
        KeyError: the campaign names a channel that is not configured.
    """
    return judge(campaign, channels, Standing.of(campaign, channels, customers, now), now, limits)


def judge(
    campaign: Campaign,
    channels: Mapping[str, Channel],
    standing: Standing,
    now: datetime,
    limits: Limits = NO_LIMITS,
) -> Candidates:
    """The same, of customers who are known as arrays.

    Raises:
        CampaignExpiredError: the send window has closed.
        KeyError: the campaign names a channel that is not configured.
    """
    require_open(campaign, now)
    grid = campaign.grid
    named = [channels[name] for name in grid.channels]
    outline = outline_of(campaign, named)
    zones = [outline.slots_in(name, now, limits) for name in standing.zones]
    moments = tuple(zone.send_at for zone in zones)
    windowed = np.flatnonzero([channel.provider_window_seconds is not None for channel in named])
    window = np.array([named[c].provider_window_seconds for c in windowed], dtype=np.int64) * _MICROS
    closes_at = standing.replied_at[:, windowed] + window
    sent_at = np.rint(_moments_table(moments).reshape(-1, len(grid.slots)) * _MICROS).astype(np.int64)
    return Candidates(
        grid=grid,
        channel=_channel_codes(campaign, named, standing, now, limits, windowed, closes_at),
        offer_channel=np.array([[_CODE[reason] for reason in row] for row in outline.offers_under(limits)]),
        slot_of_zone=np.array(
            [[_CODE[reason] for reason in zone.reasons] for zone in zones], dtype=np.int8
        ).reshape(len(moments), len(grid.slots)),
        moments_of_zone=moments,
        zone=standing.zone,
        only_in_window=np.array(outline.only_in_window),
        windowed=windowed,
        window_closed=sent_at[standing.zone][:, None, :] >= closes_at[:, :, None],
    )


def _channel_codes(
    campaign: Campaign,
    named: Sequence[Channel],
    standing: Standing,
    now: datetime,
    limits: Limits,
    windowed: NDArray[np.intp],
    closes_at: Micros,
) -> Codes:
    """Reason by channel, shape (n, C); of several the first that `eligible` would meet."""
    codes = _cap_codes(campaign, standing)
    spent = np.array([_CODE[_spent_reason(channel, limits)] for channel in named])
    codes = np.where(spent, spent, codes)
    if len(windowed):
        closed = np.zeros(codes.shape, dtype=np.bool_)
        closed[:, windowed] = round(now.timestamp() * _MICROS) >= closes_at
        closed &= np.array([not channel.kinds_outside_window for channel in named])
        codes[closed] = _CODE[ReasonCode.PROVIDER_WINDOW]
    needs = np.array([channel.needs_consent for channel in named], dtype=np.intp)
    permission = _REASON_OF_CONSENT[needs, standing.consent]
    codes = np.where(permission, permission, codes)
    codes[~standing.has_identity] = _CODE[ReasonCode.NO_IDENTITY]
    codes[standing.refuses] = _CODE[ReasonCode.REFUSED]
    barred = np.array([_CODE[reason] for reason in outline_of(campaign, named).barred_under(limits)])
    return np.where(barred, barred, codes)


def _spent_reason(channel: Channel, limits: Limits) -> ReasonCode | None:
    """What of it has run out."""
    if limits.budget_left_minor is not None and limits.budget_left_minor < (channel.cost_minor or 0.0):
        return ReasonCode.BUDGET_EXHAUSTED
    return ReasonCode.CAPACITY_EXHAUSTED if limits.capacity_left.get(channel.name, 1) < 1 else None


def _cap_codes(campaign: Campaign, standing: Standing) -> Codes:
    """Reason by channel as far as caps give one, shape (n, C)."""
    caps = campaign.caps
    codes = np.zeros(standing.contacts_on.shape, dtype=np.int8)
    if caps.contacts_per_campaign is not None:
        codes[standing.contacts_of_campaign >= caps.contacts_per_campaign] = _CODE[ReasonCode.CAMPAIGN_CAP]
    if campaign.message_class in caps.message_classes:
        most = np.array(
            [math.inf if (cap := caps.on_channel(name)) is None else cap for name in campaign.channels]
        )
        codes[standing.contacts_on >= most] = _CODE[ReasonCode.FREQUENCY_CAP]
        if caps.contacts is not None:
            codes[standing.contacts >= caps.contacts] = _CODE[ReasonCode.FREQUENCY_CAP]
    return codes


def _reasons(codes: Codes) -> tuple[ReasonCode | None, ...]:
    return tuple(REASONS[code] for code in codes.tolist())


# What the verdicts on many customers have in common is the same tuple again and again.
@lru_cache(maxsize=1024)
def _allowed(reasons: tuple[tuple[ReasonCode | None, ...], ...]) -> BoolArray:
    return np.array([[reason is None for reason in row] for row in reasons])


@lru_cache(maxsize=256)
def _moments_table(moments: tuple[tuple[datetime, ...], ...]) -> FloatArray:
    return np.array([[moment.timestamp() for moment in row] for row in moments])

"""Which actions are candidates, and why the others are not.

Rules depend on the channel, on the slot, or on the pair of offer and channel, so they are judged once
per axis; an action is a candidate where none of its three axes is excluded. One rule needs all three: content
that a provider takes only for a while after the customer's last message.

`models.candidates` says the same in arrays, for many customers; this is what it is held against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from models.domain.action import Exclusion, ReasonCode
from models.domain.campaign import Campaign, Caps, Offer
from models.domain.channel import Channel, ContentKind
from models.domain.customer import EVERY_CHANNEL, ConsentStatus, Customer, zone
from models.domain.errors import CampaignExpiredError
from models.domain.slots import next_send_times

REFUSALS = {
    ConsentStatus.WITHDRAWN: ReasonCode.NO_CONSENT,
    ConsentStatus.UNSUBSCRIBED: ReasonCode.UNSUBSCRIBED,
    ConsentStatus.COMPLAINED: ReasonCode.COMPLAINED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is left of shared resources, as of now.

    Attributes:
        budget_left_minor: Of the campaign; None for no limit.
        capacity_left: Messages left today by channel; absent for no limit.
        channels_down: Channels that are failing, beside those that are switched off.
        channels_used: Channels that the conversation has used, and does not use again.
        offers: The only offers asked for; None for all.
        at_once: Whether what goes out goes out now, where the hour is not quiet and the send window is open.
        exploration_left_minor: What exploring may still cost today, minor units; None for no limit.
    """

    budget_left_minor: float | None = None
    capacity_left: Mapping[str, int] = field(default_factory=dict)
    channels_down: frozenset[str] = frozenset()
    channels_used: frozenset[str] = frozenset()
    offers: frozenset[str] | None = None
    at_once: bool = False
    exploration_left_minor: float | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Eligibility:
    """The verdict for one customer, axis by axis; None means that the axis excludes nothing.

    Attributes:
        channel: Reason by channel, shape (n_channels,).
        slot: Reason by slot, shape (n_slots,).
        offer_channel: Reason by offer and channel, shape (n_offers, n_channels).
        only_in_window: Whether the channel takes no content of the offer outside its provider window, shape
            (n_offers, n_channels).
        window_closed: Whether that window is closed at the slot, shape (n_channels, n_slots).
        send_at: Send time by slot, aware UTC, shape (n_slots,).
    """

    channel: tuple[ReasonCode | None, ...]
    slot: tuple[ReasonCode | None, ...]
    offer_channel: tuple[tuple[ReasonCode | None, ...], ...]
    only_in_window: tuple[tuple[bool, ...], ...]
    window_closed: tuple[tuple[bool, ...], ...]
    send_at: tuple[datetime, ...]

    def reason(self, offer: int, channel: int, slot: int) -> ReasonCode | None:
        """Why that action is not a candidate, or None where it is one."""
        late = self.only_in_window[offer][channel] and self.window_closed[channel][slot]
        return (
            self.channel[channel]
            or self.offer_channel[offer][channel]
            or self.slot[slot]
            or (ReasonCode.PROVIDER_WINDOW if late else None)
        )

    def exclusions(self, campaign: Campaign) -> tuple[Exclusion, ...]:
        """Every reason once, at the widest axis that it covers."""
        grid = campaign.grid
        found = [
            Exclusion(reason=reason, channel=grid.channels[c])
            for c, reason in enumerate(self.channel)
            if reason
        ]
        found += [Exclusion(reason=reason, slot=s) for s, reason in enumerate(self.slot) if reason]
        found += [
            Exclusion(reason=reason, offer=grid.offers[o], channel=grid.channels[c])
            for o, row in enumerate(self.offer_channel)
            for c, reason in enumerate(row)
            if reason and not self.channel[c]
        ]
        found += [
            Exclusion(
                reason=ReasonCode.PROVIDER_WINDOW, offer=grid.offers[o], channel=grid.channels[c], slot=slot
            )
            for c, closed in enumerate(self.window_closed)
            if any(closed) and not self.channel[c]
            for o, only in enumerate(self.only_in_window)
            if only[c] and not self.offer_channel[o][c]
            for slot in ([None] if all(closed) else [s for s, late in enumerate(closed) if late])
        ]
        return tuple(found)


def eligible(
    campaign: Campaign,
    channels: Mapping[str, Channel],
    customer: Customer,
    now: datetime,
    limits: Limits = NO_LIMITS,
) -> Eligibility:
    """Judge every action of the campaign for one customer.

    Args:
        campaign: The campaign that asks.
        channels: Every channel that the campaign names, by name.
        customer: What is known of the person.
        now: Aware.
        limits: What is left of budgets and capacities.

    Raises:
        CampaignExpiredError: the send window has closed.
        KeyError: the campaign names a channel that is not configured.
    """
    require_open(campaign, now)
    named = [channels[name] for name in campaign.channels]
    outline = outline_of(campaign, named)
    capped = _Capped.of(campaign, customer, now)
    slots = outline.slots_in(customer.time_zone, now, limits)
    return Eligibility(
        channel=tuple(
            [
                barred or _channel_reason(campaign, channel, customer, now, limits, capped)
                for channel, barred in zip(named, outline.barred_under(limits), strict=True)
            ]
        ),
        slot=slots.reasons,
        offer_channel=outline.offers_under(limits),
        only_in_window=outline.only_in_window,
        window_closed=tuple(
            [
                _window_closed(channel, customer, slots.send_at)
                if channel.provider_window_seconds is not None
                else outline.never_closed
                for channel in named
            ]
        ),
        send_at=slots.send_at,
    )


@dataclass(frozen=True, slots=True)
class ZoneSlots:
    """When a campaign's slots fall in a time zone, and why nothing goes out then.

    Attributes:
        as_of: From this moment on,
        until: and up to this one, every slot's next moment is the same.
    """

    as_of: datetime
    until: datetime
    send_at: tuple[datetime, ...]
    reasons: tuple[ReasonCode | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """What the verdicts on all customers of a campaign have in common; see `Eligibility` for the tables.

    Attributes:
        named: The campaign's channels.
        barred: Why the campaign uses a channel for nobody, as far as neither limits nor failures say so.
    """

    campaign: Campaign
    named: tuple[Channel, ...]
    barred: tuple[ReasonCode | None, ...]
    offer_channel: tuple[tuple[ReasonCode | None, ...], ...]
    only_in_window: tuple[tuple[bool, ...], ...]
    _zones: dict[str, ZoneSlots] = field(default_factory=dict)

    @property
    def never_closed(self) -> tuple[bool, ...]:
        """`Eligibility.window_closed` of a channel without a provider window."""
        return (False,) * len(self.campaign.slots)

    def barred_under(self, limits: Limits) -> tuple[ReasonCode | None, ...]:
        """Why the campaign uses a channel for nobody now."""
        if not limits.channels_down and not limits.channels_used:
            return self.barred
        return tuple(
            reason
            or (ReasonCode.CHANNEL_DOWN if channel.name in limits.channels_down else None)
            or (ReasonCode.CHANNEL_USED if channel.name in limits.channels_used else None)
            for channel, reason in zip(self.named, self.barred, strict=True)
        )

    def offers_under(self, limits: Limits) -> tuple[tuple[ReasonCode | None, ...], ...]:
        """Why an offer does not go out on a channel, where only some offers are asked for."""
        if limits.offers is None:
            return self.offer_channel
        return tuple(
            reasons if offer.offer_id in limits.offers else (ReasonCode.OFFER_NOT_ASKED,) * len(reasons)
            for offer, reasons in zip(self.campaign.offers, self.offer_channel, strict=True)
        )

    def slots_in(self, time_zone: str, now: datetime, limits: Limits = NO_LIMITS) -> ZoneSlots:
        """The slots of a time zone; worked out again only when one of them has passed.

        At once stands for the slot that struck last: it goes out now, and no other does.
        """
        slots = self._usual_slots_in(time_zone, now)
        if not limits.at_once or slot_reasons(self.campaign, time_zone, (now,)) != (None,):
            return slots
        current = slots.send_at.index(max(slots.send_at))
        return ZoneSlots(
            now,
            now,
            tuple(now if slot == current else moment for slot, moment in enumerate(slots.send_at)),
            tuple(None if slot == current else ReasonCode.NOT_AT_ONCE for slot in range(len(slots.send_at))),
        )

    def _usual_slots_in(self, time_zone: str, now: datetime) -> ZoneSlots:
        known = self._zones.get(time_zone)
        if known is None or not known.as_of <= now <= known.until:
            send_at = next_send_times(self.campaign.slots, time_zone, now)
            reasons = slot_reasons(self.campaign, time_zone, send_at)
            known = self._zones[time_zone] = ZoneSlots(now, min(send_at), send_at, reasons)
        return known


_OUTLINES: dict[int, Outline] = {}
_OUTLINES_KEPT = 64


def outline_of(campaign: Campaign, named: Sequence[Channel]) -> Outline:
    """The campaign's outline on these channels; the last ones are remembered."""
    known = _OUTLINES.get(id(campaign))
    if known is not None and known.campaign is campaign and known.named == tuple(named):
        return known
    made = Outline(
        campaign,
        tuple(named),
        tuple(_barred_reason(campaign, channel) for channel in named),
        tuple(tuple(content_reason(offer, channel) for channel in named) for offer in campaign.offers),
        tuple(tuple(only_in_window(offer, channel) for channel in named) for offer in campaign.offers),
    )
    if len(_OUTLINES) >= _OUTLINES_KEPT:
        _OUTLINES.clear()
    _OUTLINES[id(campaign)] = made
    return made


def require_open(campaign: Campaign, now: datetime) -> None:
    """Raise `CampaignExpiredError` where the send window has closed for everybody."""
    closes_at = campaign.send_window.closes_at
    if now >= closes_at:
        raise CampaignExpiredError(
            "campaign_id",
            campaign.campaign_id,
            f"must name a campaign whose send window is open; it closed at {closes_at.isoformat()}",
        )


def unreachable(
    channel: Channel, purpose: str, customer: Customer, now: datetime, kind: ContentKind | None = None
) -> ReasonCode | None:
    """Why the person cannot or must not be contacted on the channel for that purpose; None where they may be.

    Judged when deciding, and again when sending.

    Args:
        channel: Where.
        purpose: What consent must cover.
        customer: Whom.
        now: Aware.
        kind: The content kind, once it is known; until then, it is enough that the provider takes some kind.
    """
    if customer.consents.get((EVERY_CHANNEL, purpose)) in REFUSALS:
        return ReasonCode.REFUSED
    if channel.identity_kind not in customer.identities:
        return ReasonCode.NO_IDENTITY
    status = customer.consents.get((channel.name, purpose))
    if status in REFUSALS:
        return REFUSALS[status]
    if channel.needs_consent and status is not ConsentStatus.GRANTED:
        return ReasonCode.NO_CONSENT
    takes_some = kind in channel.kinds_outside_window if kind else bool(channel.kinds_outside_window)
    if not takes_some and not in_provider_window(channel, customer, now):
        return ReasonCode.PROVIDER_WINDOW
    return None


def in_provider_window(channel: Channel, customer: Customer, moment: datetime) -> bool:
    """Whether the provider then takes every content kind; always true of a channel without such a window."""
    if channel.provider_window_seconds is None:
        return True
    replied_at = customer.replied_at.get(channel.name)
    return replied_at is not None and moment - replied_at < timedelta(seconds=channel.provider_window_seconds)


def _window_closed(channel: Channel, customer: Customer, moments: tuple[datetime, ...]) -> tuple[bool, ...]:
    if channel.provider_window_seconds is None:
        return (False,) * len(moments)
    replied_at = customer.replied_at.get(channel.name)
    if replied_at is None:
        return (True,) * len(moments)
    closes_at = replied_at + timedelta(seconds=channel.provider_window_seconds)
    return tuple(moment >= closes_at for moment in moments)


def content_reason(offer: Offer, channel: Channel) -> ReasonCode | None:
    """Why the channel takes no content of the offer, even inside its provider window; None where it takes some."""
    carried = [kind for kind in offer.content if kind in channel.content_kinds]
    if not carried:
        return ReasonCode.CONTENT_KIND_UNSUPPORTED
    if not any(channel.fits(kind, offer.content[kind].body) for kind in carried):
        return ReasonCode.CONTENT_TOO_LONG
    return None


def only_in_window(offer: Offer, channel: Channel) -> bool:
    """Whether the channel has a provider window, outside which no content of the offer goes out."""
    return channel.provider_window_seconds is not None and not any(
        channel.takes(kind, content.body, in_window=False) for kind, content in offer.content.items()
    )


def slot_reasons(
    campaign: Campaign, time_zone: str, send_at: tuple[datetime, ...]
) -> tuple[ReasonCode | None, ...]:
    """Why nothing goes out at a slot to customers of a time zone, one a slot."""
    starts_at, ends_at = campaign.send_window.bounds(time_zone)
    local = zone(time_zone)
    return tuple(
        ReasonCode.OUTSIDE_SEND_WINDOW
        if not starts_at <= moment < ends_at
        else ReasonCode.QUIET_HOURS
        if campaign.quiet_at(moment.astimezone(local).time())
        else None
        for moment in send_at
    )


def _barred_reason(campaign: Campaign, channel: Channel) -> ReasonCode | None:
    if campaign.pinned_channel not in (None, channel.name):
        return ReasonCode.CHANNEL_PINNED
    if channel.touch not in campaign.touch_levels:
        return ReasonCode.TOUCH_LEVEL
    if channel.cost_minor is None:
        return ReasonCode.COST_UNKNOWN
    return None if channel.enabled else ReasonCode.CHANNEL_DOWN


def _channel_reason(
    campaign: Campaign,
    channel: Channel,
    customer: Customer,
    now: datetime,
    limits: Limits,
    capped: _Capped,
) -> ReasonCode | None:
    """Why a channel that the campaign uses is not used for this customer."""
    if reason := unreachable(channel, campaign.purpose, customer, now):
        return reason
    if limits.budget_left_minor is not None and limits.budget_left_minor < (channel.cost_minor or 0.0):
        return ReasonCode.BUDGET_EXHAUSTED
    if limits.capacity_left.get(channel.name, 1) < 1:
        return ReasonCode.CAPACITY_EXHAUSTED
    return capped.reason(channel.name)


@dataclass(frozen=True, slots=True)
class _Capped:
    """One customer's contacts against a campaign's caps.

    Attributes:
        recent: Channels of the contacts that count against the rolling caps; None where these do not bind.
        n_of_campaign: Contacts by this campaign.
    """

    caps: Caps
    recent: Sequence[str] | None
    n_of_campaign: int

    @classmethod
    def of(cls, campaign: Campaign, customer: Customer, now: datetime) -> _Capped:
        caps = campaign.caps
        since = now - timedelta(seconds=caps.window_seconds)
        recent = [
            contact.channel
            for contact in customer.contacts
            if contact.contacted_at > since and contact.message_class in caps.message_classes
        ]
        return cls(
            caps,
            recent if campaign.message_class in caps.message_classes else None,
            sum(contact.campaign_id == campaign.campaign_id for contact in customer.contacts)
            + customer.earlier_contacts.get(campaign.campaign_id, 0),
        )

    def reason(self, channel: str) -> ReasonCode | None:
        caps = self.caps
        if self.recent is not None:
            most = caps.on_channel(channel)
            if caps.contacts is not None and len(self.recent) >= caps.contacts:
                return ReasonCode.FREQUENCY_CAP
            if most is not None and self.recent.count(channel) >= most:
                return ReasonCode.FREQUENCY_CAP
        if caps.contacts_per_campaign is not None and self.n_of_campaign >= caps.contacts_per_campaign:
            return ReasonCode.CAMPAIGN_CAP
        return None

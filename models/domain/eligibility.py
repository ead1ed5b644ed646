"""Which actions are candidates, and why the others are not.

Rules depend on the channel, on the slot, or on the pair of offer and channel, so they are judged once
per axis; an action is a candidate where none of its three axes is excluded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from models.domain.action import Exclusion, ReasonCode
from models.domain.campaign import Campaign, content_for
from models.domain.channel import Channel
from models.domain.customer import ConsentStatus, Customer, zone
from models.domain.errors import CampaignExpiredError
from models.domain.slots import next_send_times

_REFUSALS = {
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
        channels_down: Channels that are switched off or failing.
    """

    budget_left_minor: float | None = None
    capacity_left: Mapping[str, int] = field(default_factory=dict)
    channels_down: frozenset[str] = frozenset()


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Eligibility:
    """The verdict for one customer, axis by axis; None means that the axis excludes nothing.

    Attributes:
        channel: Reason by channel, shape (n_channels,).
        slot: Reason by slot, shape (n_slots,).
        offer_channel: Reason by offer and channel, shape (n_offers, n_channels).
        send_at: Send time by slot, aware UTC, shape (n_slots,).
    """

    channel: tuple[ReasonCode | None, ...]
    slot: tuple[ReasonCode | None, ...]
    offer_channel: tuple[tuple[ReasonCode | None, ...], ...]
    send_at: tuple[datetime, ...]

    def reason(self, offer: int, channel: int, slot: int) -> ReasonCode | None:
        """Why that action is not a candidate, or None where it is one."""
        return self.channel[channel] or self.offer_channel[offer][channel] or self.slot[slot]

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
    window = campaign.send_window
    if now >= window.ends_at:
        raise CampaignExpiredError(
            "campaign_id",
            campaign.campaign_id,
            f"must name a campaign whose send window is open; it closed at {window.ends_at.isoformat()}",
        )
    send_at = next_send_times(campaign.slots, customer.time_zone, now)
    return Eligibility(
        channel=tuple(
            _channel_reason(campaign, channels[name], customer, now, limits) for name in campaign.channels
        ),
        slot=tuple(_slot_reason(campaign, customer, moment) for moment in send_at),
        offer_channel=tuple(
            tuple(
                None if content_for(offer, channels[name]) else ReasonCode.CONTENT_KIND_UNSUPPORTED
                for name in campaign.channels
            )
            for offer in campaign.offers
        ),
        send_at=send_at,
    )


def unreachable(channel: Channel, purpose: str, customer: Customer, now: datetime) -> ReasonCode | None:
    """Why the person cannot or must not be contacted on the channel for that purpose; None where they may be.

    Judged when deciding, and again when sending.
    """
    if channel.identity_kind not in customer.identities:
        return ReasonCode.NO_IDENTITY
    status = customer.consents.get((channel.name, purpose))
    if status in _REFUSALS:
        return _REFUSALS[status]
    if channel.needs_consent and status is not ConsentStatus.GRANTED:
        return ReasonCode.NO_CONSENT
    if channel.provider_window_seconds is not None:
        replied_at = customer.replied_at.get(channel.name)
        window = timedelta(seconds=channel.provider_window_seconds)
        if replied_at is None or now - replied_at >= window:
            return ReasonCode.PROVIDER_WINDOW
    return None


def _channel_reason(
    campaign: Campaign, channel: Channel, customer: Customer, now: datetime, limits: Limits
) -> ReasonCode | None:
    if campaign.pinned_channel not in (None, channel.name):
        return ReasonCode.CHANNEL_PINNED
    if channel.touch not in campaign.touch_levels:
        return ReasonCode.TOUCH_LEVEL
    if channel.cost_minor is None:
        return ReasonCode.COST_UNKNOWN
    if channel.name in limits.channels_down:
        return ReasonCode.CHANNEL_DOWN
    if reason := unreachable(channel, campaign.purpose, customer, now):
        return reason
    if limits.budget_left_minor is not None and limits.budget_left_minor < channel.cost_minor:
        return ReasonCode.BUDGET_EXHAUSTED
    if limits.capacity_left.get(channel.name, 1) < 1:
        return ReasonCode.CAPACITY_EXHAUSTED
    return _cap_reason(campaign, channel, customer, now)


def _cap_reason(campaign: Campaign, channel: Channel, customer: Customer, now: datetime) -> ReasonCode | None:
    caps = campaign.caps
    since = now - timedelta(seconds=caps.window_seconds)
    recent = [contact for contact in customer.contacts if contact.contacted_at > since]
    if caps.contacts is not None and len(recent) >= caps.contacts:
        return ReasonCode.FREQUENCY_CAP
    if (
        caps.contacts_per_channel is not None
        and sum(contact.channel == channel.name for contact in recent) >= caps.contacts_per_channel
    ):
        return ReasonCode.FREQUENCY_CAP
    if (
        caps.contacts_per_campaign is not None
        and sum(contact.campaign_id == campaign.campaign_id for contact in customer.contacts)
        >= caps.contacts_per_campaign
    ):
        return ReasonCode.CAMPAIGN_CAP
    return None


def _slot_reason(campaign: Campaign, customer: Customer, send_at: datetime) -> ReasonCode | None:
    window = campaign.send_window
    if not window.starts_at <= send_at < window.ends_at:
        return ReasonCode.OUTSIDE_SEND_WINDOW
    if campaign.quiet_hours.cover(send_at.astimezone(zone(customer.time_zone)).time()):
        return ReasonCode.QUIET_HOURS
    return None

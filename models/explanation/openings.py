"""Which excluded channels could be opened for a customer, and by what.

A channel counts as openable only where nothing else stands behind the reason: the customer is judged again with
the reason gone. Reasons that are the customer's own refusal after trying (unsubscribed, complained) are respected
and never offered as something to undo; caps and quiet hours protect the customer likewise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from models.domain.action import ReasonCode
from models.domain.campaign import Campaign
from models.domain.channel import Channel
from models.domain.customer import ConsentStatus, Customer
from models.domain.eligibility import NO_LIMITS, Eligibility, eligible

# What is scarce or broken today may be there tomorrow: without it, the rest of the rules is asked.
_PASSING = frozenset({ReasonCode.CHANNEL_DOWN, ReasonCode.CAPACITY_EXHAUSTED, ReasonCode.BUDGET_EXHAUSTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A channel that would be open if some reasons were gone.

    Attributes:
        channel: Its name.
        without: The reasons, in the order in which they were met.
    """

    channel: str
    without: tuple[ReasonCode, ...]


def find_openings(
    campaign: Campaign,
    channels: Mapping[str, Channel],
    customer: Customer,
    now: datetime,
    excluded: Mapping[str, ReasonCode],
) -> tuple[Opening, ...]:
    """Every excluded channel that an account, a consent, a reply, capacity or another campaign setting would open.

    Args:
        campaign: The campaign that asked.
        channels: Every channel of the campaign, by name.
        customer: As of `now`.
        now: When it was decided.
        excluded: Reason by name of the channel.
    """
    found = []
    for name, reason in excluded.items():
        without = _without(campaign, channels, customer, now, name, reason)
        if without:
            found.append(Opening(channel=name, without=without))
    return tuple(found)


def _without(
    campaign: Campaign,
    channels: Mapping[str, Channel],
    customer: Customer,
    now: datetime,
    name: str,
    reason: ReasonCode | None,
) -> tuple[ReasonCode, ...]:
    """The reasons to take away until the channel is open; empty where one of them must stay."""
    place = campaign.channels.index(name)
    channel = channels[name]
    gone: list[ReasonCode] = []
    while reason is not None:
        if reason in gone:
            return ()
        if reason is ReasonCode.NO_IDENTITY:
            customer = replace(customer, identities={*customer.identities, channel.identity_kind})
        elif reason is ReasonCode.NO_CONSENT:
            consents = customer.consents | {(name, campaign.purpose): ConsentStatus.GRANTED}
            customer = replace(customer, consents=consents)
        elif reason is ReasonCode.PROVIDER_WINDOW:
            customer = replace(customer, replied_at=customer.replied_at | {name: now})
        elif reason is ReasonCode.CHANNEL_PINNED:
            campaign = replace(campaign, pinned_channel=name)
        elif reason is ReasonCode.TOUCH_LEVEL:
            campaign = replace(campaign, touch_levels=campaign.touch_levels | {channel.touch})
        elif reason not in _PASSING:
            return ()
        gone.append(reason)
        reason = _in_the_way(eligible(campaign, channels, customer, now, NO_LIMITS), place)
    return tuple(gone)


def _in_the_way(verdict: Eligibility, place: int) -> ReasonCode | None:
    """What still keeps every action of the channel closed; None where one is open."""
    if verdict.channel[place]:
        return verdict.channel[place]
    reasons = [
        verdict.reason(offer, place, slot)
        for offer in range(len(verdict.offer_channel))
        for slot in range(len(verdict.slot))
    ]
    if None in reasons:
        return None
    # A reply of the customer can open the window; content and the hour stay what they are.
    return ReasonCode.PROVIDER_WINDOW if ReasonCode.PROVIDER_WINDOW in reasons else reasons[0]

"""Whether a campaign or a channel makes sense as a whole, beyond the bounds of its single values.

An error is what can never work or is almost certainly a slip; a warning is what works but may surprise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from models.domain.action import REASON_WORDS
from models.domain.campaign import LEARNED, Campaign, Mode
from models.domain.channel import Channel
from models.domain.customer import MessageClass
from models.domain.eligibility import content_reason
from models.domain.errors import InvalidInputError
from models.domain.interaction import KNOWN_TIME

# Of the columns that hold names.
LONGEST_NAME = 128
# A price this many times off the list price is no discount.
_FAR_OFF = 30.0
# A price that comes this near to the list price once it is read in major units was given in major units.
_NEAR = 3.0
# The same beside an amount of the installation's own: a price that is stored, the value of a conversion.
_NEAR_OWN = 1.5


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong or remarkable.

    Attributes:
        field: Path of the value, for example `offers.0.margin_minor`.
        value: The value as it was given.
        bound: What would be right.
    """

    field: str
    value: object
    bound: str
    severity: Severity = Severity.ERROR

    def as_error(self, prefix: str = "") -> InvalidInputError:
        """The same as an exception, its field below `prefix`."""
        return InvalidInputError(f"{prefix}{self.field}", self.value, self.bound)


def check_campaign(
    campaign: Campaign, channels: Mapping[str, Channel], now: datetime, *, minor_per_major: int = 100
) -> tuple[Finding, ...]:
    """Everything that is wrong with a campaign, or remarkable.

    Args:
        campaign: To be stored; single values may break their bounds (see `errors.collecting`).
        channels: Every configured channel, by name.
        now: Aware.
        minor_per_major: Minor units in a major one, for example 100 cents in a dollar.
    """
    known = [channels[name] for name in campaign.channels if name in channels]
    return (
        *_names(campaign),
        *_window(campaign, now),
        *(
            Finding(
                field=f"channels.{index}",
                value=name,
                bound=f"must be one of {', '.join(channels)}",
            )
            for index, name in enumerate(campaign.channels)
            if name not in channels
        ),
        *_content(campaign, known),
        *_margins(campaign, known, minor_per_major),
        *_costs(campaign, known),
        *_reach(campaign, known),
    )


def check_channel(
    channel: Channel,
    campaigns: Iterable[Campaign],
    *,
    list_price_minor: float | None = None,
    present_minor: float | None = None,
    minor_per_major: int = 100,
) -> tuple[Finding, ...]:
    """Everything that is remarkable about a channel's price.

    Args:
        channel: To be stored.
        campaigns: Those that may use it.
        list_price_minor: What a message costs on the public list; None where none is known.
        present_minor: What it costs as the channel is stored now; None where it has no price yet.
        minor_per_major: Minor units in a major one, for example 100 cents in a dollar.
    """
    cost = channel.cost_minor
    if cost is None:
        return (
            Finding(
                field="cost_minor",
                value=None,
                bound="should be set: until then no decision uses the channel",
                severity=Severity.WARNING,
            ),
        )
    found = []
    if present_minor is not None and _in_major_units(cost, present_minor, minor_per_major):
        found.append(
            Finding(
                field="cost_minor",
                value=cost,
                bound=(
                    f"must be in minor units: in major units it is {cost * minor_per_major:g}, near its present "
                    f"price {present_minor:g}; say `confirm_cost` if it is meant"
                ),
            )
        )
    elif list_price_minor and cost > 0:
        off = max(cost / list_price_minor, list_price_minor / cost)
        as_major = cost * minor_per_major / list_price_minor
        if off > _FAR_OFF and 1 / _NEAR <= as_major <= _NEAR:
            found.append(
                Finding(
                    field="cost_minor",
                    value=cost,
                    bound=(
                        f"must be in minor units: in major units it is {cost * minor_per_major:g}, near the list "
                        f"price {list_price_minor:g}; say `confirm_cost` if it is meant"
                    ),
                )
            )
        elif off > _FAR_OFF:
            found.append(
                Finding(
                    field="cost_minor",
                    value=cost,
                    bound=f"should be near the list price {list_price_minor:g}, in minor units",
                    severity=Severity.WARNING,
                )
            )
    for campaign in campaigns:
        most = max(offer.margin_minor for offer in campaign.offers)
        if channel.name in campaign.channels and cost >= most > 0:
            found.append(
                Finding(
                    field="cost_minor",
                    value=cost,
                    bound=f"should be below {most:g}, the most that a conversion of {campaign.campaign_id} earns",
                    severity=Severity.WARNING,
                )
            )
    return tuple(found)


def _names(campaign: Campaign) -> Iterator[Finding]:
    if not campaign.purpose:
        yield Finding(
            field="purpose", value="", bound="must say what consent has to cover, for example marketing"
        )
    named = [("campaign_id", campaign.campaign_id)]
    named += [(f"offers.{index}.offer_id", offer.offer_id) for index, offer in enumerate(campaign.offers)]
    for field, name in named:
        if len(name) > LONGEST_NAME or any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in name):
            yield Finding(
                field=field,
                value=name,
                bound=f"must be at most {LONGEST_NAME} characters, none of them a control character",
            )


def _window(campaign: Campaign, now: datetime) -> Iterator[Finding]:
    ends_at = campaign.send_window.ends_at
    # What has no zone or lies out of every calendar is told already.
    told = ends_at.tzinfo is None or not KNOWN_TIME.holds(ends_at)
    if not told and campaign.send_window.closes_at <= now:
        yield Finding(
            field="send_window.ends_at",
            value=campaign.send_window.ends_at.isoformat(),
            bound=f"must be after now, {now.isoformat()}",
        )
    quiet = campaign.quiet_hours
    if any(moment.tzinfo is not None for moment in (*campaign.slots, quiet.start, quiet.end)):
        return  # told already: local times have no zone
    if campaign.slots and all(campaign.quiet_at(slot) for slot in campaign.slots):
        yield Finding(
            field="slots",
            value=[slot.isoformat() for slot in campaign.slots],
            bound=(
                "must have one outside the quiet hours "
                f"{campaign.quiet_hours.start.isoformat()} to {campaign.quiet_hours.end.isoformat()}"
            ),
        )
        return
    for index, slot in enumerate(campaign.slots):
        if campaign.quiet_at(slot):
            yield Finding(
                field=f"slots.{index}",
                value=slot.isoformat(),
                bound="should lie outside the quiet hours: nothing ever goes out at it",
                severity=Severity.WARNING,
            )


def _content(campaign: Campaign, known: list[Channel]) -> Iterator[Finding]:
    reasons = [[content_reason(offer, channel) for channel in known] for offer in campaign.offers]
    for o, offer in enumerate(campaign.offers):
        gaps = [
            (channel, reason) for channel, reason in zip(known, reasons[o], strict=True) if reason is not None
        ]
        never = len(gaps) == len(known) > 0
        for channel, reason in gaps:
            nobody = all(row[known.index(channel)] is not None for row in reasons)
            kinds = ", ".join(sorted(channel.content_kinds))
            yield Finding(
                field=f"offers.{o}.content",
                value=sorted(offer.content),
                bound=(
                    f"must have content for the channel {channel.name} ({kinds}): {REASON_WORDS[reason]}"
                    if never or nobody
                    else f"should have content for the channel {channel.name} ({kinds}): {REASON_WORDS[reason]}"
                ),
                severity=Severity.ERROR if never or nobody else Severity.WARNING,
            )


def _in_major_units(given: float, own: float, minor_per_major: int) -> bool:
    """Whether an amount reads like one in major units beside another of the installation's own."""
    return (
        minor_per_major > 1
        and given > 0
        and own > 0
        and 1 / _NEAR_OWN <= given * minor_per_major / own <= _NEAR_OWN
    )


def _margins(campaign: Campaign, known: list[Channel], minor_per_major: int) -> Iterator[Finding]:
    """Who decides by value never chooses an offer that earns nothing; a service message is sent for other reasons."""
    matters = campaign.policy in LEARNED and campaign.message_class is MessageClass.MARKETING
    for index, offer in enumerate(campaign.offers):
        if offer.margin_minor <= 0:
            yield Finding(
                field=f"offers.{index}.margin_minor",
                value=offer.margin_minor,
                bound=f"must be > 0: the policy {campaign.policy} would never choose it"
                if matters
                else "should be > 0: a conversion that earns nothing is worth no contact",
                severity=Severity.ERROR if matters else Severity.WARNING,
            )
        elif _in_major_units(offer.margin_minor, campaign.conversion_value_minor, minor_per_major):
            yield Finding(
                field=f"offers.{index}.margin_minor",
                value=offer.margin_minor,
                bound=(
                    f"should be in minor units: in major units it is {offer.margin_minor * minor_per_major:g}, near "
                    f"the value of a conversion {campaign.conversion_value_minor:g}"
                ),
                severity=Severity.WARNING,
            )
    if campaign.conversion_value_minor < 0:
        yield Finding(
            field="conversion_value_minor",
            value=campaign.conversion_value_minor,
            bound="must be >= 0: what a conversion earns without contact is its value",
        )
    most = max((offer.margin_minor for offer in campaign.offers), default=0.0)
    priced = [(channel, channel.cost_minor) for channel in known if channel.cost_minor is not None]
    dear = [channel for channel, cost in priced if cost >= most > 0]
    for channel in dear:
        hopeless = matters and len(dear) == len(known)
        yield Finding(
            field=f"channels.{campaign.channels.index(channel.name)}",
            value=channel.name,
            bound=(
                f"{'must' if hopeless else 'should'} cost less than a conversion earns: a message costs "
                f"{channel.cost_minor:g}, the best margin is {most:g} minor units"
            ),
            severity=Severity.ERROR if hopeless else Severity.WARNING,
        )


def _costs(campaign: Campaign, known: list[Channel]) -> Iterator[Finding]:
    unpriced = [channel for channel in known if channel.cost_minor is None]
    useless = len(unpriced) == len(known) > 0
    for channel in unpriced:
        yield Finding(
            field=f"channels.{campaign.channels.index(channel.name)}",
            value=channel.name,
            bound=f"{'must' if useless else 'should'} have a cost: set it with PATCH /v1/channels/{channel.name}",
            severity=Severity.ERROR if useless else Severity.WARNING,
        )
    costs = [channel.cost_minor for channel in known if channel.cost_minor is not None]
    budget = campaign.budget_minor
    if budget is not None and costs and budget < min(costs):
        yield Finding(
            field="budget_minor",
            value=budget,
            bound=f"must pay for one message at least: the cheapest costs {min(costs):g}",
        )


def _reach(campaign: Campaign, known: list[Channel]) -> Iterator[Finding]:
    barred = [channel for channel in known if channel.touch not in campaign.touch_levels]
    for channel in barred:
        none_left = len(barred) == len(known)
        yield Finding(
            field="touch_levels",
            value=sorted(campaign.touch_levels),
            bound=f"{'must' if none_left else 'should'} include {channel.touch}, the touch level of {channel.name}",
            severity=Severity.ERROR if none_left else Severity.WARNING,
        )
    silent = [
        (
            "experiment.holdout_share",
            campaign.experiment.holdout_share,
            campaign.experiment.holdout_share >= 1,
            "< 1",
        ),
        (
            "canary_share",
            campaign.canary_share,
            campaign.mode is Mode.CANARY and campaign.canary_share == 0,
            "> 0",
        ),
        (
            "caps.contacts",
            campaign.caps.contacts,
            campaign.caps.contacts == 0 and campaign.message_class in campaign.caps.message_classes,
            "> 0",
        ),
        (
            "caps.contacts_per_campaign",
            campaign.caps.contacts_per_campaign,
            campaign.caps.contacts_per_campaign == 0,
            "> 0",
        ),
    ]
    for field, value, nobody, bound in silent:
        if nobody:
            yield Finding(
                field=field,
                value=value,
                bound=f"should be {bound}: as it is, it lets nobody in",
                severity=Severity.WARNING,
            )
    for index, name in enumerate(campaign.channels):
        if any(channel.name == name and not channel.enabled for channel in known):
            yield Finding(
                field=f"channels.{index}",
                value=name,
                bound="should be switched on: no decision uses it as it is",
                severity=Severity.WARNING,
            )

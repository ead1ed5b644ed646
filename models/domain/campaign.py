"""A purpose with a send window, offers, channels, an experiment and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated

from models.domain.action import ActionGrid
from models.domain.bounds import Distinct, NotEmpty, Within, check_bounds
from models.domain.channel import Channel, ContentKind, Touch
from models.domain.customer import MessageClass, zone
from models.domain.errors import require
from models.domain.experiment import Experiment
from models.domain.follow_up import LONGEST_WAIT_SECONDS, FollowUpRule
from models.domain.interaction import KNOWN_TIME, InteractionKind, require_moment
from models.domain.slots import moment_of

# How far back past contacts are known one by one; beyond that, only how many there were of each campaign.
LONGEST_CAP_WINDOW = timedelta(days=31)

_MARKETING = frozenset({MessageClass.MARKETING})
# The last clocks to strike an hour are twelve hours behind UTC.
_FURTHEST_WEST = timedelta(hours=12)


class Mode(StrEnum):
    """How far the optimiser is let in."""

    SHADOW = "shadow"
    CANARY = "canary"
    LIVE = "live"


class PolicyName(StrEnum):
    """Policies that a campaign can ask for."""

    BANDIT = "bandit"
    GREEDY = "greedy"
    UNIFORM = "uniform"
    CHEAPEST_FIRST = "cheapest_first"
    PINNED = "pinned"
    FIXED_TIME = "fixed_time"


LEARNED = frozenset({PolicyName.BANDIT, PolicyName.GREEDY})
"""Policies that rank by expected value, so that they need a model; the others are rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is said, in one form.

    Attributes:
        body: Text, HTML source or template text.
        subject: Subject or title, where the channel has one.
        media_url: Address of an image or video.
        link_url: Where the message leads.
        locales: The same in other languages, by locale, for example `zh-Hant`.
    """

    body: str
    subject: str = ""
    media_url: str | None = None
    link_url: str | None = None
    locales: Mapping[str, Content] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One competing proposition.

    Attributes:
        offer_id: Unique within the campaign.
        margin_minor: Margin of a conversion under this offer, minor units, after its discount and what redeeming costs on average.
        content: What is said, by content kind.
    """

    offer_id: Annotated[str, NotEmpty()]
    margin_minor: float
    content: Annotated[Mapping[ContentKind, Content], NotEmpty("must have at least one content kind")]

    def __post_init__(self) -> None:
        check_bounds(self, "offer.")
        require(
            abs(self.margin_minor) < float("inf"),
            "offer.margin_minor",
            self.margin_minor,
            "must be finite",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SendWindow:
    """When messages of a campaign may go out, from `starts_at` up to and without `ends_at`.

    Attributes:
        in_local_time: The window opens and closes when the customer's own clock shows what `starts_at` and
            `ends_at` show, instead of at those moments.
    """

    starts_at: Annotated[datetime, KNOWN_TIME]
    ends_at: Annotated[datetime, KNOWN_TIME]
    in_local_time: bool = False

    def __post_init__(self) -> None:
        for name in ("starts_at", "ends_at"):
            moment: datetime = getattr(self, name)
            require(
                moment.tzinfo is not None,
                f"send_window.{name}",
                moment.isoformat(),
                "must carry a time zone",
            )
            if moment.tzinfo is not None:
                require_moment(f"send_window.{name}", moment)
        comparable = self.starts_at.tzinfo is not None and self.ends_at.tzinfo is not None
        require(
            not comparable or self.starts_at < self.ends_at,
            "send_window.ends_at",
            self.ends_at.isoformat(),
            f"must be after starts_at {self.starts_at.isoformat()}",
        )

    def bounds(self, time_zone: str) -> tuple[datetime, datetime]:
        """The moments at which the window opens and closes for customers of a time zone."""
        if not self.in_local_time:
            return self.starts_at, self.ends_at
        local = zone(time_zone)
        return (
            moment_of(self.starts_at.replace(tzinfo=local, fold=0)),
            moment_of(self.ends_at.replace(tzinfo=local, fold=0)),
        )

    @property
    def closes_at(self) -> datetime:
        """From when on the window is closed for everybody."""
        if not self.in_local_time:
            return self.ends_at
        return self.ends_at.replace(tzinfo=UTC) + _FURTHEST_WEST


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietHours:
    """Local hours in which nobody is contacted, from `start` up to and without `end`.

    `start` later than `end` spans midnight; equal ones mean that there are no quiet hours.

    Attributes:
        message_classes: Whom they bind: campaigns of these message classes.
    """

    start: time = time(21)
    end: time = time(8)
    message_classes: frozenset[MessageClass] = _MARKETING

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            moment: time = getattr(self, name)
            require(
                moment.tzinfo is None,
                f"quiet_hours.{name}",
                moment.isoformat(),
                "must be a local time, without a zone",
            )

    def cover(self, local: time) -> bool:
        """Whether that local time of day is quiet."""
        if self.start <= self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Most contacts of one customer in rolling windows; None for no limit.

    Attributes:
        contacts: All channels and campaigns together, within `window_seconds`.
        contacts_per_channel: One channel, within `window_seconds`.
        contacts_on: The same for some channels by name, instead of `contacts_per_channel`.
        contacts_per_campaign: This campaign, ever; binds whatever its message class.
        window_seconds: Length of the rolling window, at most `LONGEST_CAP_WINDOW`.
        message_classes: Whom the rolling caps bind, and whose contacts they count: campaigns of these classes.
    """

    contacts: Annotated[int, Within(0)] | None = 3
    contacts_per_channel: Annotated[int, Within(0)] | None = None
    contacts_on: Mapping[str, int] = field(default_factory=dict)
    contacts_per_campaign: Annotated[int, Within(0)] | None = None
    window_seconds: Annotated[int, Within(1, int(LONGEST_CAP_WINDOW.total_seconds()))] = 7 * 86_400
    message_classes: frozenset[MessageClass] = _MARKETING

    def __post_init__(self) -> None:
        check_bounds(self, "caps.")
        for channel, most in self.contacts_on.items():
            require(most >= 0, f"caps.contacts_on.{channel}", most, "must be >= 0")

    def on_channel(self, name: str) -> int | None:
        """The rolling cap of one channel; None for no limit."""
        return self.contacts_on.get(name, self.contacts_per_channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """Everything that a decision needs to know about its purpose.

    Attributes:
        campaign_id: Unique name.
        version: Grows by one with each change; a decision names the one it used.
        purpose: What consent must cover, for example `marketing`.
        message_class: Whether it promotes or serves; caps and quiet hours say which of the two they bind.
        send_window: When messages may go out.
        slots: Local times of day to choose from, ascending.
        offers: Competing propositions.
        channels: Names of the allowed channels.
        experiment: The split into arms.
        conversion_value_minor: Margin of a conversion that nobody was contacted for, minor units.
        conversion_kind: The interaction that counts as a conversion.
        policy: What the treatment arm gets.
        control_policy: What the control arm gets: business as usual.
        pinned_channel: Use this channel or none.
        fixed_slot: Index of the slot that `fixed_time` uses.
        quiet_hours: When nobody is contacted.
        caps: How often one customer may be contacted.
        touch_levels: Touch levels that the campaign may use.
        budget_minor: Most that the campaign may spend on contact; None for no limit.
        exploration_budget_minor: Most that the bandit may expect to lose a UTC day by exploring, minor units; None for no
            limit beyond that of each decision.
        attribution_window_seconds: How long after `send_at` a conversion counts.
        message_ttl_seconds: How long after `send_at` a message is still worth sending.
        mode: How far the optimiser is let in.
        canary_share: Share of the treatment arm that the optimiser gets in canary mode.
        simulated: Whether customers and outcomes come from a simulator.
        fields: What content may say of a customer: the attribute's name, and what to say where it is unknown.
        follow_ups: What comes after silence, an answer or an event.
        most_follow_ups: Most decisions that follow the first one in a conversation.
    """

    campaign_id: Annotated[str, NotEmpty()]
    version: Annotated[int, Within(1)] = 1
    purpose: str = "marketing"
    message_class: MessageClass = MessageClass.MARKETING
    send_window: SendWindow
    slots: Annotated[tuple[time, ...], NotEmpty("must name at least one local time of day")]
    offers: Annotated[tuple[Offer, ...], NotEmpty("must hold at least one offer")]
    channels: Annotated[tuple[str, ...], NotEmpty("must name at least one channel"), Distinct()]
    experiment: Experiment
    conversion_value_minor: float
    conversion_kind: InteractionKind = InteractionKind.CONVERTED
    policy: PolicyName = PolicyName.BANDIT
    control_policy: PolicyName = PolicyName.CHEAPEST_FIRST
    pinned_channel: str | None = None
    fixed_slot: Annotated[int, Within(0)] = 0
    quiet_hours: QuietHours = field(default_factory=QuietHours)
    caps: Caps = field(default_factory=Caps)
    touch_levels: frozenset[Touch] = frozenset(Touch)
    budget_minor: Annotated[float, Within(0)] | None = None
    exploration_budget_minor: Annotated[float, Within(0)] | None = None
    attribution_window_seconds: Annotated[int, Within(1, LONGEST_WAIT_SECONDS)] = 7 * 86_400
    message_ttl_seconds: Annotated[int, Within(1, LONGEST_WAIT_SECONDS)] = 6 * 3600
    mode: Mode = Mode.LIVE
    canary_share: Annotated[float, Within(0, 1)] = 0.1
    simulated: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)
    follow_ups: tuple[FollowUpRule, ...] = ()
    most_follow_ups: Annotated[int, Within(0)] = 1

    def __post_init__(self) -> None:
        check_bounds(self)
        local = all(slot.tzinfo is None for slot in self.slots)
        require(
            local,
            "slots",
            [slot.isoformat() for slot in self.slots],
            "must be local times, without a zone",
        )
        require(
            not local or all(a < b for a, b in zip(self.slots, self.slots[1:], strict=False)),
            "slots",
            [slot.isoformat() for slot in self.slots],
            "must be ascending and without repeats",
        )
        offer_ids = [offer.offer_id for offer in self.offers]
        require(len(set(offer_ids)) == len(offer_ids), "offers", offer_ids, "must not repeat")
        require(
            self.pinned_channel is None or self.pinned_channel in self.channels,
            "pinned_channel",
            self.pinned_channel,
            f"must be one of {', '.join(self.channels)}",
        )
        require(
            self.pinned_channel is not None or PolicyName.PINNED not in (self.policy, self.control_policy),
            "pinned_channel",
            self.pinned_channel,
            "must be set for the policy `pinned`",
        )
        require(
            self.fixed_slot < len(self.slots),
            "fixed_slot",
            self.fixed_slot,
            f"must be in [0, {len(self.slots) - 1}]",
        )
        for rule in self.follow_ups:
            if rule.campaign_id in (None, self.campaign_id):
                for name in rule.offers:
                    require(
                        name in offer_ids, "follow_ups.offers", name, f"must be one of {', '.join(offer_ids)}"
                    )

    def quiet_at(self, local: time) -> bool:
        """Whether that local time of day lies in quiet hours that bind this campaign."""
        quiet = self.quiet_hours
        return quiet.cover(local) and self.message_class in quiet.message_classes

    @property
    def grid(self) -> ActionGrid:
        """The axes of this campaign's decisions."""
        return ActionGrid(tuple(offer.offer_id for offer in self.offers), self.channels, self.slots)


# Which form is preferred where a channel carries several of those that an offer has.
_PREFERRED = (
    ContentKind.CARD,
    ContentKind.TEMPLATE,
    ContentKind.HTML,
    ContentKind.VIDEO,
    ContentKind.IMAGE,
    ContentKind.TEXT,
    ContentKind.STICKER,
)


def content_for(
    offer: Offer, channel: Channel, *, in_window: bool = True
) -> tuple[ContentKind, Content] | None:
    """The offer's preferred content that the channel takes, or None where there is none.

    Args:
        offer: What is offered.
        channel: What it would go out on.
        in_window: Whether the channel's provider window is open when it goes out.
    """
    for kind in _PREFERRED:
        content = offer.content.get(kind)
        if content is not None and channel.takes(kind, content.body, in_window=in_window):
            return kind, content
    return None

"""What would be decided if prices, limits or the time were others; nothing is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, TypeVar

from models.domain.campaign import Campaign, Caps
from models.domain.channel import Channel
from models.domain.decision import Decision
from models.domain.errors import InvalidInputError, NotFoundError
from models.policy.registry import build_policies
from serving.decide import Decider
from serving.request import DecisionRequest
from serving.snapshot import Snapshot

T = TypeVar("T", Campaign, Caps, Channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignOverride:
    """What to change of a campaign.

    Attributes:
        changes: New values by name of the field, of those that `Campaign` has.
        caps: New values by name of the field, of those that `Caps` has.
        margin_minor: New margins by offer.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    caps: Mapping[str, Any] = field(default_factory=dict)
    margin_minor: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What is different.

    Attributes:
        now: Decide as of then; None for now.
        channels: New values by name of the field, by channel.
        campaigns: By id.
    """

    now: datetime | None = None
    channels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    campaigns: Mapping[str, CampaignOverride] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Both decisions, drawn with the same seed, so that they differ by the overrides alone.

    Attributes:
        base: As things are.
        what_if: With the overrides.
        changed: Names of the parts of the decision that differ.
    """

    base: Decision
    what_if: Decision
    changed: tuple[str, ...]

    @property
    def net_value_change_minor(self) -> float | None:
        """How much more the other decision is expected to earn; None without predictions."""
        before, after = self.base.expected.net_value_minor, self.what_if.expected.net_value_minor
        return None if before is None or after is None else after - before


# What two decisions of different moments, campaigns' versions or ids need not have in common.
_NOT_COMPARED = frozenset({"decision_id", "decided_at", "evidence", "dry_run"})


def simulate(
    decider: Decider,
    snapshot: Snapshot,
    request: DecisionRequest,
    overrides: Overrides,
    now: datetime,
    seed: str,
) -> Comparison:
    """Decide twice for one customer: as things are, and with the overrides.

    Args:
        decider: Decides.
        snapshot: As things are.
        request: Whom and what for; a dry run without a decision id.
        overrides: What is different.
        now: Aware.
        seed: The decision id that seeds both draws.

    Raises:
        NotFoundError: the customer, a campaign, channel or offer is unknown.
        InvalidInputError: an override breaks a bound.
    """
    other = _overridden(snapshot, request, overrides)
    base = decider.what_if(request, now, snapshot, seed)
    what_if = decider.what_if(request, overrides.now or now, other, seed)
    changed = tuple(
        one.name
        for one in fields(Decision)
        if one.name not in _NOT_COMPARED and getattr(base, one.name) != getattr(what_if, one.name)
    )
    return Comparison(base=base, what_if=what_if, changed=changed)


def _overridden(snapshot: Snapshot, request: DecisionRequest, overrides: Overrides) -> Snapshot:
    channels = dict(snapshot.channels)
    for name, changes in overrides.channels.items():
        if name not in channels:
            raise NotFoundError(f"overrides.channels.{name}", name)
        channels[name] = _below(f"overrides.channels.{name}", channels[name], changes)
    campaigns = dict(snapshot.campaigns)
    for campaign_id, override in overrides.campaigns.items():
        if campaign_id not in request.campaign_ids:
            raise InvalidInputError(
                f"overrides.campaigns.{campaign_id}", campaign_id, "must be a campaign of the request"
            )
        campaigns[campaign_id] = _changed(snapshot.campaign(campaign_id), override)
    bandit = None if snapshot.model is None else snapshot.model.bandit
    touched = {name: build_policies(campaigns[name], bandit) for name in overrides.campaigns}
    return replace(
        snapshot, channels=channels, campaigns=campaigns, policies={**snapshot.policies, **touched}
    )


def _changed(campaign: Campaign, override: CampaignOverride) -> Campaign:
    place = f"overrides.campaigns.{campaign.campaign_id}"
    known = {offer.offer_id for offer in campaign.offers}
    for name in override.margin_minor:
        if name not in known:
            raise NotFoundError(f"{place}.margin_minor", name)
    offers = tuple(
        replace(offer, margin_minor=override.margin_minor.get(offer.offer_id, offer.margin_minor))
        for offer in campaign.offers
    )
    caps = _below(place, campaign.caps, override.caps)
    return _below(place, campaign, {**override.changes, "offers": offers, "caps": caps})


def _below(place: str, noun: T, changes: Mapping[str, Any]) -> T:
    """The noun with the changes; what is wrong with them is told below `place`."""
    try:
        return replace(noun, **changes)
    except InvalidInputError as exc:
        raise InvalidInputError(f"{place}.{exc.field}", exc.value, exc.bound) from exc

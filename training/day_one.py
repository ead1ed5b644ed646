"""A first model for a campaign that has no history: published rates, and a bandit that has learned nothing yet.

It explores from the first decision, so that its log teaches the first trained model; see `models.response.prior`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from features.history.campaigns import load_campaign
from features.history.channels import load_channels
from features.history.engine import read_only
from features.registry import ModelRegistry
from models.bundle import Bundle
from models.domain.campaign import Campaign
from models.domain.channel import Channel
from models.domain.errors import NotFoundError
from models.policy.bandit import Bandit
from models.response.prior import EFFECT_OF_AN_OPEN, POOLED, PriorResponse, published_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPrior:
    """The first model in the registry.

    Attributes:
        version: Its number.
        promoted: Whether it is champion now; not where a champion was there already.
        report: The page that goes with it, Markdown.
    """

    version: int
    promoted: bool
    report: str


def publish_prior(engine: Engine, registry: ModelRegistry, campaign_id: str, now: datetime) -> PublishedPrior:
    """Publish the prior of a campaign; it becomes champion where there is none.

    Args:
        engine: The history.
        registry: Where it is published.
        campaign_id: The campaign.
        now: Aware.

    Raises:
        NotFoundError: there is no such campaign, or one of its channels is not stored.
    """
    with read_only(engine).connect() as conn:
        campaign, channels = load_campaign(conn, campaign_id), load_channels(conn)
    for name in campaign.channels:
        if name not in channels:
            raise NotFoundError("channels", name)
    response = PriorResponse(attention_value_minor=max(campaign.conversion_value_minor, 0.0))
    bundle = Bundle(
        feature_names=response.feature_names,
        offers=campaign.grid.offers,
        channels=campaign.channels,
        slots=campaign.slots,
        created_at=now,
        response=response.to_files(),
        bandit=Bandit.fresh(campaign.channels, campaign.slots).to_files(),
    )
    report = _report(campaign, channels)
    promoted = registry.champion_version() is None
    version = registry.publish(bundle, {"campaign_id": campaign_id, "prior": "true"}, {}, report)
    if promoted:
        registry.promote(version)
    return PublishedPrior(version=version, promoted=promoted, report=report)


def _report(campaign: Campaign, channels: Mapping[str, Channel]) -> str:
    margin = max(offer.margin_minor for offer in campaign.offers)
    said = (
        "Nothing was learned from your customers yet. Open rates are published ones; what an open adds "
        f"({EFFECT_OF_AN_OPEN:.4f} conversions) is half of what the randomised e-mail experiment of 2008 showed."
    )
    lines = [
        f"# {campaign.campaign_id}: before the first decision",
        "",
        said,
        "",
        "| channel | p_open | from | a contact is worth | and costs |",
        "|---|---|---|---|---|",
    ]
    for name in campaign.channels:
        rate = published_rate(name)
        source = (
            rate.source
            if rate is not POOLED or name == "email"
            else "none found that deserves trust: as e-mail"
        )
        worth = margin * rate.p_open * EFFECT_OF_AN_OPEN
        lines.append(
            f"| {name} | {rate.p_open:.3f} | {source} | {worth:.2f} | {channels[name].cost_minor or 0.0:.2f} |"
        )
    return "\n".join([*lines, ""])

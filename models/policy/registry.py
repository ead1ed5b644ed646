"""Every policy that a campaign can be decided by, under its name."""

from __future__ import annotations

from models.choice import Policy
from models.domain.campaign import Campaign, PolicyName
from models.policy.bandit import Bandit
from models.policy.baselines import CheapestFirst, FixedTime, Greedy, Pinned, Uniform


def build_policies(campaign: Campaign, bandit: Bandit | None = None) -> dict[PolicyName, Policy]:
    """The policies as this campaign sets them; build them once a campaign version and bandit.

    Args:
        campaign: Gives the pinned channel, the fixed slot and what a conversion is worth.
        bandit: None where none has been trained: the answer then holds no `bandit`. `pinned` is absent
            where the campaign pins no channel.
    """
    policies: dict[PolicyName, Policy] = {
        PolicyName.CHEAPEST_FIRST: CheapestFirst(),
        PolicyName.FIXED_TIME: FixedTime(campaign.fixed_slot),
        PolicyName.UNIFORM: Uniform(),
        PolicyName.GREEDY: Greedy(),
    }
    if campaign.pinned_channel is not None:
        policies[PolicyName.PINNED] = Pinned(campaign.pinned_channel)
    if bandit is not None:
        margin = max(abs(offer.margin_minor) for offer in campaign.offers)
        policies[PolicyName.BANDIT] = bandit.valued_at(margin) if margin > 0 else bandit
    return policies

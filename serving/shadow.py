"""What the optimiser would have done where it did not decide, or not in the end.

Where the campaign's mode keeps it out (shadow, and outside the canary's share); for the holdout, so that the customers whom
it contacts by a channel can be compared with those whom it would have (Johnson, Lewis and Nubbemeyer 2017, Ghost ads, Journal
of Marketing Research 54); and where what it chose had run out by the time that it was to be taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np

from models.choice import FloatArray, Policy, ResponseModel
from models.choose import Choices, choose, policy_of
from models.domain.campaign import Campaign, Mode, PolicyName
from models.domain.customer import Customer
from models.domain.decision import Decision, Shadow
from models.domain.eligibility import Limits
from models.domain.experiment import Arm
from serving.answer import Setting, action_of, expected_of, version_of


def shadows(
    choices: Choices,
    setting: Setting,
    live: Campaign,
    customers: Sequence[Customer],
    features: FloatArray,
    response: ResponseModel | None,
    policies: Mapping[PolicyName, Policy],
    decision_ids: Sequence[str],
    now: datetime,
    limits: Limits,
    shadow_price_minor: FloatArray | float = 0.0,
) -> dict[int, Shadow]:
    """The optimiser's choice by row, for the holdout and for those of the treatment for whom the control policy decided.

    It is drawn with the decision's own seed, so that it is what the same decision would have been in the treatment of a live
    campaign. It takes nothing of budgets, capacities and allowances.

    Args:
        choices: What was decided.
        setting: Of the call.
        live: Its campaign in live mode, with everybody in the treatment.
        customers: n people, as of now.
        features: Theirs, shape (n, F).
        response: None where there is no model.
        policies: The campaign's policy and its control policy, by name.
        decision_ids: One a customer.
        now: Aware.
        limits: What is left of budgets and capacities.
        shadow_price_minor: What a unit of each channel's capacity is worth, shape (C,).
    """
    campaign = setting.campaign
    kept_out = campaign.mode is not Mode.LIVE and campaign.policy is not campaign.control_policy
    rows = [
        row
        for row, (person, arm) in enumerate(zip(customers, choices.arms, strict=True))
        if arm is Arm.HOLDOUT
        or (
            kept_out
            and arm is Arm.TREATMENT
            and policy_of(campaign, person.customer_id, arm) is campaign.control_policy
        )
    ]
    if not rows:
        return {}
    would = choose(
        live,
        setting.channels,
        [customers[row] for row in rows],
        features[np.array(rows)],
        response,
        policies,
        [decision_ids[row] for row in rows],
        now,
        limits,
        shadow_price_minor,
    )
    found = {}
    for at, row in enumerate(rows):
        index = int(would.action[at])
        name, version = version_of(would.policies[at], setting.model_version)
        found[row] = Shadow(
            policy=name,
            policy_version=version,
            action=action_of(would, at, index, campaign),
            propensity=float(would.propensity[at]),
            expected=expected_of(would, at, index, setting),
        )
    return found


def wanted_by(refused: Decision) -> Shadow | None:
    """What the optimiser chose in a decision that was refused, because a budget or a capacity had run out meanwhile.

    Whoever is in the holdout is never refused, so without this the two would not be alike. None where the optimiser had no
    say, or several campaigns were asked.
    """
    if refused.arm is not Arm.TREATMENT or refused.arbitration is not None:
        return None
    return refused.shadow or Shadow(
        policy=refused.policy,
        policy_version=refused.policy_version,
        action=refused.action,
        propensity=refused.propensity,
        expected=refused.expected,
    )

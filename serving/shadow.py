"""What the optimiser would have done where a campaign's mode keeps it out: shadow, and outside the canary's share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from models.choice import FloatArray, Policy, ResponseModel
from models.choose import Choices, choose, policy_of
from models.domain.campaign import Mode, PolicyName
from models.domain.customer import Customer
from models.domain.decision import Shadow
from models.domain.eligibility import Limits
from models.domain.experiment import Arm
from serving.answer import Setting, action_of, expected_of, version_of


def shadows(
    choices: Choices,
    setting: Setting,
    customers: Sequence[Customer],
    features: FloatArray,
    response: ResponseModel | None,
    policies: Mapping[PolicyName, Policy],
    decision_ids: Sequence[str],
    now: datetime,
    limits: Limits,
    shadow_price_minor: FloatArray | float = 0.0,
) -> dict[int, Shadow]:
    """The optimiser's choice by row, for those in the treatment arm for whom the control policy decided.

    It is drawn with the decision's own seed, so that it is what the same decision would have been in live mode.

    Args:
        choices: What was decided.
        setting: Of the call.
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
    if campaign.mode is Mode.LIVE or campaign.policy is campaign.control_policy:
        return {}
    rows = [
        row
        for row, (person, arm) in enumerate(zip(customers, choices.arms, strict=True))
        if arm is Arm.TREATMENT and policy_of(campaign, person.customer_id, arm) is campaign.control_policy
    ]
    if not rows:
        return {}
    live = replace(campaign, mode=Mode.LIVE)
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

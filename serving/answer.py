"""From one row of the choice arrays to the decision that is recorded and answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from models.choice import FloatArray, Policy
from models.choose import Choices
from models.domain.action import Action
from models.domain.campaign import Campaign, PolicyName
from models.domain.channel import Channel
from models.domain.customer import Customer
from models.domain.decision import Alternative, Decision, Evidence, Expected
from models.domain.eligibility import Eligibility
from serving.explain.summary import Grounds, explain
from serving.money import Currency

MOST_ALTERNATIVES = 5
HOLDOUT_POLICY = "holdout"
# Policies whose choices depend on the model: their version is the model's.
LEARNED = frozenset({PolicyName.BANDIT, PolicyName.GREEDY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the rows of one call of `choose` have in common.

    Attributes:
        model_version: Of the bundle; None without one.
        feature_names: Names of the columns of the features that are logged.
    """

    campaign: Campaign
    channels: Mapping[str, Channel]
    model_version: str | None
    feature_names: Sequence[str]
    currency: Currency
    now: datetime


def to_decision(
    choices: Choices,
    row: int,
    setting: Setting,
    *,
    decision_id: str,
    customer: Customer,
    features: FloatArray,
    degraded: tuple[str, ...],
    dry_run: bool,
    parent_id: str | None = None,
) -> Decision:
    """The decision of one row.

    Args:
        choices: What `choose` answered.
        row: Which customer of it.
        setting: Of the call.
        decision_id: The id that seeded the draw.
        customer: The person.
        features: Their features, shape (F,); NaN where missing.
        degraded: What was missing.
        dry_run: Whether the decision is only shown.
        parent_id: The decision that it follows.
    """
    campaign = setting.campaign
    chosen = int(choices.action[row])
    verdict = choices.eligibility[row]
    action = _action_at(choices, verdict, chosen, campaign)
    expected = expected_of(choices, row, chosen, setting)
    candidates = np.flatnonzero(choices.mask[row])
    alternatives = _alternatives(choices, row, verdict, candidates, chosen, setting)
    exclusions = verdict.exclusions(campaign)
    name, version = version_of(choices.policies[row], setting.model_version)
    propensity = float(choices.propensity[row])
    return Decision(
        decision_id=decision_id,
        customer_id=customer.customer_id,
        campaign_id=campaign.campaign_id,
        campaign_version=campaign.version,
        decided_at=setting.now,
        action=action,
        propensity=propensity,
        expected=expected,
        alternatives=alternatives,
        exclusions=exclusions,
        arm=choices.arms[row],
        mode=campaign.mode,
        policy=name,
        policy_version=version,
        degraded=degraded,
        explanation=explain(
            Grounds(
                action=action,
                propensity=propensity,
                expected=expected,
                alternatives=alternatives,
                exclusions=exclusions,
                arm=choices.arms[row],
                policy=name,
                n_candidates=len(candidates),
                time_zone=customer.time_zone,
            ),
            setting.currency,
        ),
        evidence=_evidence(choices, row, candidates, setting, customer, features),
        parent_id=parent_id,
        dry_run=dry_run,
    )


def version_of(policy: Policy | None, model_version: str | None) -> tuple[str, str]:
    """Name and version of the policy that chose; None is the holdout's, which never contacts anybody."""
    if policy is None:
        return HOLDOUT_POLICY, "1"
    if policy.name in LEARNED and model_version is not None:
        return policy.name, model_version
    return policy.name, policy.version


def action_of(choices: Choices, row: int, index: int, campaign: Campaign) -> Action | None:
    """The action of an index of the grid; None is no contact."""
    return _action_at(choices, choices.eligibility[row], index, campaign)


def _action_at(choices: Choices, verdict: Eligibility, index: int, campaign: Campaign) -> Action | None:
    axes = choices.grid.unravel(index)
    if axes is None:
        return None
    offer, channel, slot = axes
    send_at = verdict.send_at[slot]
    return Action(
        offer=choices.grid.offers[offer],
        channel=choices.grid.channels[channel],
        slot=slot,
        send_at=send_at,
        expires_at=send_at + timedelta(seconds=campaign.message_ttl_seconds),
    )


def expected_of(choices: Choices, row: int, index: int, setting: Setting) -> Expected:
    """What the action of that index is expected to do."""
    axes = choices.grid.unravel(index)
    predictions = choices.predictions
    cost = 0.0
    if axes is not None:
        cost = setting.channels[choices.grid.channels[axes[1]]].cost_minor or 0.0
    if predictions is None:
        return Expected(
            p_open=None,
            p_convert=None,
            p_convert_no_contact=None,
            uplift=None,
            cost_minor=cost,
            net_value_minor=None,
        )
    base = float(predictions.p_convert_no_contact[row])
    p_open, p_convert = None, base
    if axes is not None:
        offer, channel, slot = axes
        p_convert = float(predictions.p_convert[row, offer, channel, slot])
        if choices.p_open is not None:
            p_open = float(choices.p_open[row, channel, slot])
    value = None if choices.net_value_minor is None else float(choices.net_value_minor[row, index])
    return Expected(
        p_open=p_open,
        p_convert=p_convert,
        p_convert_no_contact=base,
        uplift=p_convert - base,
        cost_minor=cost,
        net_value_minor=value,
    )


def _alternatives(
    choices: Choices,
    row: int,
    verdict: Eligibility,
    candidates: np.ndarray[tuple[int], np.dtype[np.intp]],
    chosen: int,
    setting: Setting,
) -> tuple[Alternative, ...]:
    """The best other candidates: the best slot of each offer and channel, and no contact."""
    if choices.net_value_minor is not None:
        rank = -choices.net_value_minor[row, candidates]
    else:  # without predictions: the likelier first, the rest in the order of the grid
        rank = -choices.probabilities[row, candidates]
    found: list[Alternative] = []
    seen: set[int] = set()
    n_slots = len(choices.grid.slots)
    for index in candidates[np.argsort(rank, kind="stable")].tolist():
        pair = index // n_slots  # of offer and channel; no contact is the last
        if index == chosen or pair in seen:
            continue
        seen.add(pair)
        found.append(
            Alternative(
                action=_action_at(choices, verdict, index, setting.campaign),
                propensity=float(choices.probabilities[row, index]),
                expected=expected_of(choices, row, index, setting),
            )
        )
        if len(found) == MOST_ALTERNATIVES:
            break
    return tuple(found)


def _evidence(
    choices: Choices,
    row: int,
    candidates: np.ndarray[tuple[int], np.dtype[np.intp]],
    setting: Setting,
    customer: Customer,
    features: FloatArray,
) -> Evidence:
    known: list[float | None] = features.tolist()
    for missing in np.flatnonzero(np.isnan(features)).tolist():
        known[missing] = None
    drawn = np.flatnonzero(choices.probabilities[row])
    values, prices = choices.net_value_minor, choices.price_minor
    names = choices.grid.channels
    return Evidence(
        features=dict(zip(setting.feature_names, known, strict=True)),
        distribution=dict(zip(drawn.tolist(), choices.probabilities[row, drawn].tolist(), strict=True)),
        net_value_minor=(
            {}
            if values is None
            else dict(zip(candidates.tolist(), values[row, candidates].tolist(), strict=True))
        ),
        cost_minor={name: setting.channels[name].cost_minor or 0.0 for name in names},
        price_minor={} if prices is None else dict(zip(names, prices[row].tolist(), strict=True)),
        n_candidates=len(candidates),
        time_zone=customer.time_zone,
    )

"""The pure middle of a decision: exclude, assign, predict, value, choose - for many customers at once.

Reading what is known before it and recording the answer after it are the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from models.candidates import candidates, mask_of, seconds_of
from models.choice import (
    ActionDistribution,
    BoolArray,
    ChoiceProblem,
    FloatArray,
    Policy,
    Predictions,
    ResponseModel,
)
from models.domain.action import ActionGrid
from models.domain.campaign import Campaign, Mode, PolicyName
from models.domain.channel import Channel
from models.domain.customer import Customer
from models.domain.eligibility import NO_LIMITS, Eligibility, Limits, eligible
from models.domain.experiment import Arm, assign, uniform
from models.draw import faults, sample
from models.policy.allowance import Explored, draw_on
from models.value import net_value


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """One choice a customer.

    Attributes:
        grid: Axes.
        eligibility: Verdict and send times, one a customer.
        arms: Arm, one a customer.
        policies: The policy that chose, one a customer; None in the holdout.
        action: Index of the chosen action, shape (n,).
        propensity: Its probability, shape (n,), in (0, 1].
        probabilities: The whole distribution, shape (n, A).
        mask: Candidates, shape (n, A).
        net_value_minor: What the candidates were ranked by, shape (n, A), or None without predictions.
        p_open: Open probabilities behind the ranking, shape (n, C, S), or None.
        predictions: Of the response model, or None.
        price_minor: Cost, shadow price and attention price of each channel, shape (n, C), or None without
            predictions.
        explored: What the decisions draw on the day's allowance for exploring; None where that has no limit.
    """

    grid: ActionGrid
    eligibility: Sequence[Eligibility]
    arms: tuple[Arm, ...]
    policies: tuple[Policy | None, ...]
    action: NDArray[np.intp]
    propensity: FloatArray
    probabilities: FloatArray
    mask: BoolArray
    net_value_minor: FloatArray | None
    p_open: FloatArray | None
    predictions: Predictions | None
    price_minor: FloatArray | None
    explored: Explored | None = None


def choose(
    campaign: Campaign,
    channels: Mapping[str, Channel],
    customers: Sequence[Customer],
    features: FloatArray,
    response: ResponseModel | None,
    policies: Mapping[PolicyName, Policy],
    decision_ids: Sequence[str],
    now: datetime,
    limits: Limits = NO_LIMITS,
    shadow_price_minor: FloatArray | float = 0.0,
) -> Choices:
    """Choose for every customer.

    Args:
        campaign: The campaign that asks.
        channels: Every channel that the campaign names, by name.
        customers: n people, as of now.
        features: Their features in the order of `response.feature_names`, shape (n, F).
        response: None where there is no model: only policies that need no predictions can choose.
        policies: The campaign's policy and its control policy, by name.
        decision_ids: One a customer; seeds the draw, so that the same id gives the same choice.
        now: Aware.
        limits: What is left of budgets and capacities.
        shadow_price_minor: What a unit of each channel's capacity is worth, shape (C,).

    Raises:
        CampaignExpiredError: the send window has closed.
    """
    grid = campaign.grid
    verdicts, mask, send_at = _judge(campaign, channels, customers, now, limits)
    cost = np.array([channels[name].cost_minor or 0.0 for name in grid.channels])
    predictions = values = None
    if response is not None:
        predictions = response.predict(features, grid, channels)
        margin = np.array([offer.margin_minor for offer in campaign.offers])
        values = net_value(predictions, margin, cost, shadow_price_minor)
    arms = tuple(assign(person.customer_id, campaign.experiment) for person in customers)
    named = [
        policy_of(campaign, person.customer_id, arm) for person, arm in zip(customers, arms, strict=True)
    ]

    problem = ChoiceProblem(
        grid=grid,
        mask=mask,
        send_at=send_at,
        cost_minor=cost,
        shadow_price_minor=shadow_price_minor,
        features=features,
        predictions=predictions,
        net_value_minor=values,
    )
    answer = _distribution(problem, named, policies)
    explored = None
    if limits.exploration_left_minor is not None:
        explores = np.array([name is not None and policies[name].name == PolicyName.BANDIT for name in named])
        explored = draw_on(limits.exploration_left_minor, problem, answer, explores)
    probabilities = answer.probabilities if explored is None else explored.probabilities
    draws = np.array([uniform("action", decision_id) for decision_id in decision_ids])
    action = sample(probabilities, draws)
    return Choices(
        grid=grid,
        eligibility=verdicts,
        arms=arms,
        policies=tuple(None if name is None else policies[name] for name in named),
        action=action,
        propensity=probabilities.take(np.arange(0, probabilities.size, grid.n_actions) + action),
        probabilities=probabilities,
        mask=mask,
        net_value_minor=answer.net_value_minor,
        p_open=answer.p_open,
        predictions=predictions,
        price_minor=None if predictions is None else cost + shadow_price_minor + predictions.attention_minor,
        explored=explored,
    )


def policy_of(campaign: Campaign, customer_id: str, arm: Arm) -> PolicyName | None:
    """Which policy decides for the customer; None for the holdout, which is never contacted."""
    if arm is Arm.HOLDOUT:
        return None
    if arm is Arm.CONTROL or campaign.mode is Mode.SHADOW:
        return campaign.control_policy
    if (
        campaign.mode is Mode.CANARY
        and uniform("canary", campaign.campaign_id, customer_id) >= campaign.canary_share
    ):
        return campaign.control_policy
    return campaign.policy


def _distribution(
    problem: ChoiceProblem, named: Sequence[PolicyName | None], policies: Mapping[PolicyName, Policy]
) -> ActionDistribution:
    """What every customer's policy says; where it does not say by what values, those of the response model."""
    found = dict.fromkeys(named)
    if len(found) == 1:
        return _said(problem, named[0], policies)
    predictions, values = problem.predictions, problem.net_value_minor
    probabilities = np.zeros(problem.mask.shape)
    ranked = None if values is None else values.copy()
    p_open = None if predictions is None else predictions.p_open.copy()
    for name in found:
        rows = np.array([i for i, other in enumerate(named) if other is name], dtype=np.intp)
        answer = _said(problem.take(rows), name, policies)
        probabilities[rows] = answer.probabilities
        if ranked is not None:
            ranked[rows] = answer.net_value_minor
        if p_open is not None:
            p_open[rows] = answer.p_open
    return ActionDistribution(probabilities=probabilities, net_value_minor=ranked, p_open=p_open)


def _said(
    problem: ChoiceProblem, name: PolicyName | None, policies: Mapping[PolicyName, Policy]
) -> ActionDistribution:
    """The same, of one policy for all; nobody decides for the holdout, which gets no contact."""
    values = problem.net_value_minor
    p_open = None if problem.predictions is None else problem.predictions.p_open
    if name is None:
        probabilities = np.zeros(problem.mask.shape)
        probabilities[:, problem.grid.no_contact] = 1.0
        return ActionDistribution(probabilities=probabilities, net_value_minor=values, p_open=p_open)
    answer = policies[name].distribution(problem)
    _check(answer, problem.mask, name)
    return ActionDistribution(
        probabilities=answer.probabilities,
        net_value_minor=values if answer.net_value_minor is None else answer.net_value_minor,
        p_open=p_open if answer.p_open is None else answer.p_open,
    )


def _judge(
    campaign: Campaign,
    channels: Mapping[str, Channel],
    customers: Sequence[Customer],
    now: datetime,
    limits: Limits,
) -> tuple[Sequence[Eligibility], BoolArray, FloatArray]:
    """Verdicts, candidates and send times (seconds since 1970, shape (n, S)) of every customer."""
    if len(customers) != 1:
        found = candidates(campaign, channels, customers, now, limits)
        return found, found.mask, found.send_at
    # For one customer the plain rules take half the time that arrays take.
    verdict = eligible(campaign, channels, customers[0], now, limits)
    return (verdict,), mask_of(campaign.grid, (verdict,)), seconds_of(verdict.send_at)[None]


def _check(answer: ActionDistribution, mask: BoolArray, name: PolicyName) -> None:
    """Refuse a distribution that gives mass to what is no candidate, or that does not sum to 1."""
    outside, off = faults(answer.probabilities, mask)
    if outside:
        raise ValueError(f"policy {name} gives probability to an action that is not a candidate")
    if not off <= 1e-6:
        raise ValueError(f"policy {name}: probabilities sum to 1 +- {off:.3g}, must be <= 1e-6")

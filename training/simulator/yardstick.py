"""How hard a market is: what simple rules earn, in percent of what the truth would earn.

Each rule plays its own copy of the market for some weeks, so that it meets the fatigue and the loss of
permission that it causes. A rule's value is the sum of the true expected net values of what it chose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from models.choice import BoolArray, FloatArray
from models.domain.campaign import Campaign
from models.logged import IntArray
from training.simulator.market import Market

_DAYS_A_WEEK = 7
# Fixed choices that look best at the start and are then played out.
_FINALISTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a rule is shown of n decisions.

    Attributes:
        mask: Candidates, shape (n, A).
        net_value_minor: The truth, shape (n, A); only the oracle looks.
        rng: Source of chance.
    """

    mask: BoolArray
    net_value_minor: FloatArray
    rng: np.random.Generator


Rule = Callable[[Situation], IntArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardness:
    """Net value of rules in percent of the oracle's.

    Attributes:
        oracle_minor: The oracle's mean net value of a decision, minor units.
        random: A candidate at random, no contact included.
        cheapest_first: The cheapest channel, at the best fixed offer and slot in hindsight.
        best_fixed: The best single (offer, channel, slot) in hindsight; nobody else is contacted.
        best_fixed_action: Which that was.
    """

    oracle_minor: float
    random: float
    cheapest_first: float
    best_fixed: float
    best_fixed_action: tuple[str, str, int]


def hardness(market: Market, start: datetime, weeks: int = 5, seed: int = 0) -> Hardness:
    """Measure the rules on copies of a market; every customer is decided on once a week."""
    campaign = market.campaign(start)
    grid = market.grid
    cost = np.array([market.channels()[name].cost_minor or 0.0 for name in grid.channels])

    def earn(rule: Rule) -> float:
        return play(market.fork(), campaign, rule, start, weeks, np.random.default_rng(seed))

    sample = np.arange(min(market.n_customers, 20_000))
    mask = market.mask(sample, campaign, start)
    static = np.where(mask, market.expected_net_value(sample, start), 0.0).mean(axis=0)[:-1]
    oracle = earn(_oracle)
    finalists = np.argsort(-static)[:_FINALISTS]
    fixed = [earn(_fixed(int(action))) for action in finalists]
    best = int(np.argmax(fixed))
    offers, _, slots = grid.shape
    by_slot = static.reshape(grid.shape).sum(axis=1)
    offer, slot = np.unravel_index(int(by_slot.argmax()), (offers, slots))
    chosen = grid.unravel(int(finalists[best]))
    assert chosen is not None
    return Hardness(
        oracle_minor=oracle / (market.n_customers * weeks),
        random=100 * earn(_random) / oracle,
        cheapest_first=100 * earn(_cheapest(grid.shape, cost, int(offer), int(slot))) / oracle,
        best_fixed=100 * fixed[best] / oracle,
        best_fixed_action=(grid.offers[chosen[0]], grid.channels[chosen[1]], chosen[2]),
    )


def play(
    market: Market, campaign: Campaign, rule: Rule, start: datetime, weeks: int, rng: np.random.Generator
) -> float:
    """Sum of the true expected net values of what a rule chooses, one decision a customer and week."""
    day_of = np.random.default_rng(market.seed).permutation(market.n_customers) % _DAYS_A_WEEK
    total = 0.0
    for day in range(weeks * _DAYS_A_WEEK):
        now = start + timedelta(days=day)
        rows = np.flatnonzero(day_of == day % _DAYS_A_WEEK)
        mask = market.mask(rows, campaign, now)
        values = market.expected_net_value(rows, now)
        actions = rule(Situation(mask=mask, net_value_minor=values, rng=rng))
        total += float(values[np.arange(len(rows)), actions].sum())
        market.respond(rows, actions, market.start_at(rows, actions, campaign, now), rng)
        market.advance()
    return total


def _oracle(now: Situation) -> IntArray:
    return np.asarray(np.where(now.mask, now.net_value_minor, -np.inf).argmax(axis=1))


def _random(now: Situation) -> IntArray:
    return np.asarray(np.where(now.mask, now.rng.random(now.mask.shape), -1.0).argmax(axis=1))


def _fixed(action: int) -> Rule:
    def rule(now: Situation) -> IntArray:
        return np.where(now.mask[:, action], action, now.mask.shape[1] - 1)

    return rule


def _cheapest(shape: tuple[int, int, int], cost: FloatArray, offer: int, slot: int) -> Rule:
    _, n_channels, n_slots = shape
    order: IntArray = (offer * n_channels + np.argsort(cost, kind="stable")) * n_slots + slot

    def rule(now: Situation) -> IntArray:
        available = now.mask[:, order]
        cheapest: IntArray = order[available.argmax(axis=1)]
        return np.where(available.any(axis=1), cheapest, now.mask.shape[1] - 1)

    return rule

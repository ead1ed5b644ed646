"""The policies of this project in the market benchmark, and those that look at nothing or at everything."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.choice import ActionDistribution, ChoiceProblem, Policy, ResponseModel
from models.logged import IntArray, LoggedRows
from models.policy.bandit import Bandit
from models.policy.baselines import CheapestFirst, Greedy, Uniform
from models.policy.events import response_events
from models.response.model import FittedResponse, fit_response
from models.response.reach import PRICED_ROWS, decisions_per_customer, priced_by_reach
from models.value import net_value
from tests.benchmarks.market_world import Situation, World, certain


class Rule:
    """A policy that never learns: a function of the situation to actions."""

    needs_features = False

    def __init__(self, decide: Callable[[Situation], IntArray]) -> None:
        self._decide = decide

    def refit(self, rows: LoggedRows, recent: LoggedRows, world: World) -> None:
        """Nothing to learn."""

    def observe(self, rows: LoggedRows, world: World) -> None:
        """Nothing to learn."""

    def choose(self, now: Situation) -> ActionDistribution:
        """The action for certain."""
        return ActionDistribution(probabilities=certain(self._decide(now), now.mask.shape[1]))


def oracle(now: Situation) -> IntArray:
    """The candidate that is truly best."""
    best: IntArray = np.where(now.mask, now.truth, -np.inf).argmax(axis=1).astype(np.int64)
    return best


def fixed(action: int) -> Callable[[Situation], IntArray]:
    """One action for everybody who may get it, no contact for the others."""

    def decide(now: Situation) -> IntArray:
        return np.where(now.mask[:, action], action, now.grid.no_contact)

    return decide


class Blind:
    """A baseline policy of the product that needs no predictions."""

    needs_features = False

    def __init__(self, policy: CheapestFirst | Uniform) -> None:
        self._policy = policy

    def refit(self, rows: LoggedRows, recent: LoggedRows, world: World) -> None:
        """Nothing to learn."""

    def observe(self, rows: LoggedRows, world: World) -> None:
        """Nothing to learn."""

    def choose(self, now: Situation) -> ActionDistribution:
        """As the product would."""
        return self._policy.distribution(problem(now, None))


def problem(now: Situation, response: ResponseModel | None) -> ChoiceProblem:
    """The situation as the product's policies see it."""
    predictions = values = None
    if response is not None:
        predictions = response.predict(now.features, now.grid, now.channels)
        margin = np.array([offer.margin_minor for offer in now.campaign.offers])
        values = net_value(predictions, margin, now.cost_minor)
    return ChoiceProblem(
        grid=now.grid,
        mask=now.mask,
        send_at=now.send_at,
        cost_minor=now.cost_minor,
        features=now.features,
        predictions=predictions,
        net_value_minor=values,
    )


class Ours:
    """The response model of this project, greedy or with the bandit.

    Args:
        explores: Whether the bandit draws the action; else the best net value is taken.
    """

    needs_features = True

    def __init__(self, *, explores: bool) -> None:
        self._explores = explores
        self._response: FittedResponse | None = None
        self._bandit: Bandit | None = None

    def refit(self, rows: LoggedRows, recent: LoggedRows, world: World) -> None:
        """Fit the response model; the bandit starts afresh and replays what the model has not seen."""
        margins = np.array([offer.margin_minor for offer in world.campaign.offers])
        fitted = fit_response(
            rows, world.channels, attention_value_minor=0.0, seed=world.seed, margin_minor=margins
        )
        newest = rows.take(np.arange(len(rows))[-PRICED_ROWS:])
        mask = world.market.mask(newest.customer, world.campaign, world.now)
        self._response = priced_by_reach(
            fitted, newest, mask, margins, world.channels, decisions_per_customer(rows)
        )
        if self._explores:
            bandit = Bandit.fresh(world.campaign.channels, world.campaign.slots)
            margin = max(offer.margin_minor for offer in world.campaign.offers)
            self._bandit = bandit.valued_at(margin)
            if len(recent):
                self.observe(recent, world)

    def observe(self, rows: LoggedRows, world: World) -> None:
        """Let the bandit learn from opens and clicks."""
        if self._bandit is None or self._response is None:
            return
        p_open = self._response.predict(rows.features, rows.grid, world.channels).p_open
        events = response_events(rows, p_open, self._bandit.segments, world.channels)
        self._bandit = self._bandit.learn(events)

    def choose(self, now: Situation) -> ActionDistribution:
        """As the product would, with the net values it ranked by."""
        asked = problem(now, self._response)
        policy: Policy = self._bandit or Greedy()
        answer = policy.distribution(asked)
        ranked = asked.net_value_minor if answer.net_value_minor is None else answer.net_value_minor
        return ActionDistribution(probabilities=answer.probabilities, net_value_minor=ranked)

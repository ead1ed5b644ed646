"""Worlds that drift, and the branches that are played in them side by side.

All branches of a world meet the same customers on the same days with the same features; every customer is
decided on once, so nothing that a branch does reaches its later decisions except by what the bandit learns.
The value of a branch is the true expected net value under its distributions: no draw adds noise to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from models.choice import BoolArray, ChoiceProblem, FloatArray, Predictions
from models.domain.campaign import PolicyName
from models.domain.interaction import InteractionKind as Kind
from models.draw import sample
from models.logged import IntArray
from models.policy.bandit import Bandit
from models.policy.baselines import Greedy
from models.policy.events import response_events
from models.policy.registry import build_policies
from models.policy.vw import held, logit, sigmoid
from models.value import net_value
from tests.benchmarks.drift_history import Scene
from tests.benchmarks.drift_learner import Learner
from training.simulator.market import Market

Change = Callable[[Market], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What every branch of a world meets on one day."""

    problem: ChoiceProblem
    rows: IntArray
    truth: FloatArray
    oracle: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A branch, played to the end.

    Attributes:
        points: True value by day, percent of the oracle's whole value, shape (days,).
        bandit: As it ended; None for a policy that does not learn.
        contacts: Expected share of each channel among decisions, shape (C,).
        off_slot: Expected share of contacts that went to another slot than the channel's favourite.
    """

    points: FloatArray
    bandit: Bandit | None
    contacts: FloatArray
    off_slot: float


class World:
    """One drift of one scene.

    Args:
        scene: Where the branches part.
        change: Drift, made before the first decision.
        exploration: Replaces the campaign's.
    """

    def __init__(self, scene: Scene, change: Change) -> None:
        self.scene = scene
        self.market = scene.market.fork()
        change(self.market)
        self.grid = self.market.grid
        self.channels = self.market.channels()
        self.cost = np.array([self.channels[name].cost_minor or 0.0 for name in self.grid.channels])
        offers = scene.campaign.offers
        self.margin = np.array([offer.margin_minor for offer in offers])
        self.campaign = replace(scene.campaign, channels=self.grid.channels)
        predictions = scene.predict(self.market)
        self.days, self.true_days = self._days(predictions)
        self.oracle = sum(day.oracle for day in self.days)

    def _days(self, predictions: Predictions) -> tuple[list[Day], list[Day]]:
        """The days by the response model, and the same by one that was told how responses have changed."""
        market, before = self.market.fork(), self.scene.market.fork()
        known, informed = [], []
        for d, rows in enumerate(self.scene.days):
            now = self.scene.now + timedelta(days=d)
            mask = market.mask(rows, self.campaign, now)
            truth = market.expected_net_value(rows, now)
            problem = self._problem(predictions.take(rows), mask, market, rows, now)
            told = self._told(problem, before.true_p_open(rows, now), market.true_p_open(rows, now))
            oracle = float(np.where(mask, truth, 0.0).max(axis=1).sum())
            known.append(Day(problem=problem, rows=rows, truth=truth, oracle=oracle))
            informed.append(Day(problem=told, rows=rows, truth=truth, oracle=oracle))
            market.advance()
            before.advance()
        return known, informed

    def _problem(
        self, said: Predictions, mask: BoolArray, market: Market, rows: IntArray, now: datetime
    ) -> ChoiceProblem:
        return ChoiceProblem(
            grid=self.grid,
            mask=mask,
            send_at=market.send_at(rows, self.campaign, now),
            cost_minor=self.cost,
            features=self.scene.features[rows],
            predictions=said,
            net_value_minor=net_value(said, self.margin, self.cost),
        )

    def _told(self, problem: ChoiceProblem, was: FloatArray, is_now: FloatArray) -> ChoiceProblem:
        """The true change of every open's (or click's) log-odds added, valued as the bandit values it.

        Of a channel that is new, the true probability: this is what perfect learning of responses could win.
        """
        said = problem.predictions
        assert said is not None
        assert problem.net_value_minor is not None
        old = self.scene.market.grid.channels
        p_open = held(said.p_open)
        for c, name in enumerate(self.grid.channels):
            reported = self.channels[name].reports(Kind.OPENED)
            share = 1.0 if reported else self.market.preset.channels[name].p_click
            true = held(is_now[:, c] * share)
            if name not in old:
                p_open[:, c] = true
            elif share > 0:
                change = logit(true) - logit(held(was[:, old.index(name)] * share))
                p_open[:, c] = sigmoid(logit(p_open[:, c]) + change)
        price = (problem.cost_minor + said.attention_minor)[:, None, :, None]
        values = problem.net_value_minor.copy()
        contacts = values[:, :-1].reshape(-1, *self.grid.shape) + price
        contacts = contacts * (p_open / held(said.p_open))[:, None] - price
        values[:, :-1] = contacts.reshape(len(values), -1)
        return replace(problem, predictions=replace(said, p_open=p_open), net_value_minor=values)

    # Branches.

    def frozen(self, bandit: Bandit) -> Played:
        """The response model alone, with the bandit's exploration."""
        return self._play(self.days, trusting_the_model(bandit), None)

    def informed(self, bandit: Bandit) -> Played:
        """The same, told the true response."""
        return self._play(self.true_days, trusting_the_model(bandit), None)

    def greedy(self) -> Played:
        """The response model alone, without exploration."""
        return self._play(self.days, None, None)

    def learning(self, bandit: Bandit, seed: int) -> Played:
        """The bandit, which learns every day what has become known."""
        return self._play(self.days, bandit, Learner(seed=seed))

    def sabotaged(self, bandit: Bandit, seed: int) -> Played:
        """The bandit whose experts are taught the opposite of what happened."""
        return self._play(self.days, bandit, Learner(seed=seed, flipped=True))

    def _play(self, days: list[Day], bandit: Bandit | None, learner: Learner | None) -> Played:
        market = self.market.fork()
        points, contacts, off_slot = [], np.zeros(len(self.grid.channels)), 0.0
        for d, day in enumerate(days):
            now = self.scene.now + timedelta(days=d)
            if learner is not None and bandit is not None:
                bandit = learner.taught(bandit, now.timestamp())
            policy = Greedy() if bandit is None else self.policy(bandit)
            answer = policy.distribution(day.problem)
            points.append(float((answer.probabilities * day.truth).sum()))
            cube = answer.probabilities[:, :-1].reshape(-1, *self.grid.shape)
            contacts += cube.sum(axis=(0, 1, 3))
            off_slot += float((cube.sum(axis=3) - cube.max(axis=3)).sum())
            if learner is not None:
                rng = np.random.default_rng([learner.seed, d])
                action = sample(answer.probabilities, rng.random(len(day.rows))).astype(np.int64)
                start_at = market.start_at(day.rows, action, self.campaign, now)
                outcomes = market.respond(day.rows, action, start_at, rng)
                learner.sent(day.problem, self.channels, action, outcomes, now)
            market.advance()
        n = sum(len(day.rows) for day in days)
        return Played(
            points=100 * np.array(points) / self.oracle,
            bandit=bandit,
            contacts=contacts / n,
            off_slot=off_slot / max(contacts.sum(), 1e-9),
        )

    def policy(self, bandit: Bandit) -> Bandit:
        """The bandit with the campaign's own exploration."""
        policy = build_policies(self.campaign, bandit)[PolicyName.BANDIT]
        assert isinstance(policy, Bandit)
        return policy


def trusting_the_model(bandit: Bandit) -> Bandit:
    """The same bandit with all belief in the response model."""
    overall = np.zeros_like(bandit.gate.overall)
    overall[0] = 1.0
    return replace(bandit, gate=replace(bandit.gate, overall=overall))


def warmed_up(scene: Scene) -> Bandit:
    """A bandit that has replayed the newer part of the history."""
    rows, channels = scene.replayed, scene.market.channels()
    bandit = Bandit.fresh(rows.channels, rows.slots)
    p_open = scene.response.predict(rows.features, rows.grid, channels).p_open
    return bandit.warm_start(response_events(rows, p_open, bandit.segments, channels))

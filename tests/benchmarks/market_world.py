"""One simulated market played by one policy: everybody is decided on once a week, models learn in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np

from models.choice import ActionDistribution, BoolArray, FloatArray
from models.domain.action import ActionGrid
from models.domain.campaign import Campaign
from models.domain.channel import Channel
from models.draw import sample
from models.logged import IntArray, LoggedRows
from tests.benchmarks.market_memory import GROUPS, Decided, Memory
from training.simulator.market import Market
from training.simulator.randomised import random_distribution

BORN = datetime(2026, 1, 4, 6, tzinfo=UTC)
PRIOR_DAYS = 60
SETTLING_DAYS = 8
NO_CONTACT_SHARE = 0.2
# The experiment's holdout, as campaigns have it by default: never contacted, whoever decides, and not counted.
HOLDOUT_SHARE = 0.05


def certain(action: IntArray, n_actions: int) -> FloatArray:
    """All probability on one action a row, shape (n, A)."""
    p = np.zeros((len(action), n_actions))
    p[np.arange(len(action)), action] = 1.0
    return p


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a policy sees of the decisions of one day.

    Attributes:
        mask: Candidates, shape (n, A).
        send_at: Seconds since 1970, shape (n, S).
        features: Shape (n, F).
        truth: True expected net value, shape (n, A): only the oracle looks.
        rng: Source of chance.
    """

    campaign: Campaign
    channels: dict[str, Channel]
    mask: BoolArray
    send_at: FloatArray
    features: FloatArray
    truth: FloatArray
    rng: np.random.Generator

    @property
    def grid(self) -> ActionGrid:
        """Axes."""
        return self.campaign.grid

    @property
    def cost_minor(self) -> FloatArray:
        """Cost of a message by channel, shape (C,)."""
        return np.array([self.channels[name].cost_minor or 0.0 for name in self.grid.channels])


class Player(Protocol):
    """A policy that may learn."""

    needs_features: bool

    def refit(self, rows: LoggedRows, recent: LoggedRows, world: World) -> None:
        """Learn from all final rows; `recent` are newer ones, of which only opens are known."""
        ...

    def observe(self, rows: LoggedRows, world: World) -> None:
        """Hear of the opens of a day's decisions, two days later."""
        ...

    def choose(self, now: Situation) -> ActionDistribution:
        """Probabilities of every action."""
        ...


@dataclass(slots=True)
class Played:
    """Totals of a run by week, minor units; the last three are sums over contacts.

    Attributes:
        true: True expected net value of the choices.
        claimed: What the policy said they were worth; NaN where it says nothing.
        contacts: Number of contacts.
        slot_chosen: True value at the chosen slot less the mean over the eligible slots.
        slot_best: The same of the best slot.
        ineligible: Choices outside the candidates.
        off_one: Largest deviation of a distribution's sum from 1.
    """

    true: FloatArray
    claimed: FloatArray
    contacts: FloatArray
    slot_chosen: FloatArray
    slot_best: FloatArray
    ineligible: int = 0
    off_one: float = 0.0


class World:
    """A market after its randomised warm-up, with everything that was learned about it.

    Args:
        preset: Of the market.
        seed: Of the market and of every draw.
        n_customers: Each is decided on once a week; the warm-up is one week.
    """

    def __init__(self, preset: str, seed: int, n_customers: int) -> None:
        self.market = Market(preset, n_customers, seed)
        self.seed = seed
        self.now = BORN
        self.group = np.random.default_rng(seed).permutation(n_customers) % GROUPS
        self.held_out = np.random.default_rng([seed, 29]).random(n_customers) < HOLDOUT_SHARE
        self.memory = Memory.of(self.market, self.group, BORN)
        self.memory.add(self.market.prior_history(BORN, PRIOR_DAYS), self.group)
        self.now += timedelta(days=PRIOR_DAYS)
        self.campaign = self.market.campaign(self.now, days=400)
        self.channels = self.market.channels()
        self.n_decided = 0
        # What people do by themselves and what was decided is written down only for those who look at it.
        self.remembers = True
        rng = np.random.default_rng([seed, 17])
        for day in range(GROUPS):
            self._warm_up(day, rng)
        for _ in range(SETTLING_DAYS):
            self._end_day()

    def fork(self) -> World:
        """The same world as of now, to be played on apart."""
        other = object.__new__(World)
        other.__dict__ |= self.__dict__
        other.market, other.memory = self.market.fork(), self.memory.fork()
        return other

    def _warm_up(self, day: int, rng: np.random.Generator) -> None:
        rows = np.flatnonzero(self.group == day)
        features = self.memory.read(self.market, rows, day, self.now)
        p = random_distribution(self.market.mask(rows, self.campaign, self.now), NO_CONTACT_SHARE)
        self._act(rows, features, p, rng, randomised=True)
        self._end_day()

    def _act(
        self,
        rows: IntArray,
        features: FloatArray,
        p: FloatArray,
        rng: np.random.Generator,
        *,
        randomised: bool,
    ) -> IntArray:
        action = sample(p, rng.random(len(p))).astype(np.int64)
        start_at = self.market.start_at(rows, action, self.campaign, self.now)
        outcomes = self.market.respond(rows, action, start_at, rng)
        if not self.remembers:
            return action
        ids = [str(self.n_decided + i) for i in range(len(rows))]
        self.n_decided += len(rows)
        self.memory.add(self.market.interactions(outcomes, ids, self.campaign.campaign_id), self.group)
        self.memory.log.append(
            Decided(
                row=rows,
                action=action,
                propensity=p[np.arange(len(p)), action],
                decided_at=np.full(len(rows), self.now.timestamp()),
                randomised=randomised,
                features=features.astype(np.float32),
                outcomes=outcomes,
            )
        )
        return action

    def _end_day(self) -> None:
        if self.remembers:
            self.memory.add(self.market.everyday(self.now, 1), self.group)
        self.market.advance()
        self.now += timedelta(days=1)

    def play(
        self, player: Player, weeks: int, refit_days: frozenset[int], tick: Callable[[], None]
    ) -> Played:
        """Let a policy decide for some weeks; this world is changed.

        Args:
            player: The policy.
            weeks: How many.
            refit_days: At the start of which days (from 0) it learns from all final rows.
            tick: Told after every week.
        """
        rng = np.random.default_rng([self.seed, 23])
        found = Played(*(np.zeros(weeks) for _ in range(5)))
        self.remembers = player.needs_features
        for week in range(weeks):
            for day in range(GROUPS):
                if player.needs_features and week * GROUPS + day in refit_days:
                    self._refit(player)
                self._play_day(player, week, day, found, rng)
            tick()
        return found

    def _refit(self, player: Player) -> None:
        recent_from = (self.now - timedelta(days=SETTLING_DAYS)).timestamp()
        player.refit(
            self.memory.rows(self.market, self.now),
            self.memory.rows(self.market, self.now, since=recent_from, final=False),
            self,
        )

    def _hold_out(self, day: int, rng: np.random.Generator) -> None:
        """Decide no contact for the holdout of the day, which every learner may learn from."""
        rows = np.flatnonzero((self.group == day) & self.held_out)
        if not len(rows):
            return
        features = self.memory.read(self.market, rows, day, self.now)
        p = certain(np.full(len(rows), self.campaign.grid.no_contact), self.campaign.grid.n_actions)
        self._act(rows, features, p, rng, randomised=True)

    def _play_day(self, player: Player, week: int, day: int, found: Played, rng: np.random.Generator) -> None:
        rows = np.flatnonzero((self.group == day) & ~self.held_out)
        if player.needs_features:
            heard = (self.now - timedelta(days=2)).timestamp()
            if self.memory.log[-1].decided_at[0] >= heard:
                recent = self.memory.rows(self.market, self.now, since=heard, final=False)
                player.observe(recent.take(recent.decided_at == heard), self)
            features = self.memory.read(self.market, rows, day, self.now)
        else:
            features = np.zeros((len(rows), 0))
        truth = self.market.expected_net_value(rows, self.now)
        mask = self.market.mask(rows, self.campaign, self.now)
        answer = player.choose(
            Situation(
                campaign=self.campaign,
                channels=self.channels,
                mask=mask,
                send_at=self.market.send_at(rows, self.campaign, self.now),
                features=features,
                truth=truth,
                rng=rng,
            )
        )
        p = answer.probabilities
        action = self._act(rows, features, p, rng, randomised=False)
        at = np.arange(len(rows))
        found.ineligible += int((~mask[at, action]).sum())
        found.off_one = max(found.off_one, float(np.abs(p.sum(axis=1) - 1).max()))
        found.true[week] += truth[at, action].sum()
        said = answer.net_value_minor
        found.claimed[week] += np.nan if said is None else said[at, action].sum()
        contact = action != self.campaign.grid.no_contact
        found.contacts[week] += contact.sum()
        n_slots = self.campaign.grid.shape[2]
        first = action[contact] // n_slots * n_slots
        slots = first[:, None] + np.arange(n_slots)
        value = truth[contact][at[: len(slots), None], slots]
        open_slots = mask[contact][at[: len(slots), None], slots]
        mean = (value * open_slots).sum(axis=1) / open_slots.sum(axis=1)
        found.slot_chosen[week] += (truth[contact][at[: len(slots)], action[contact]] - mean).sum()
        found.slot_best[week] += (np.where(open_slots, value, -np.inf).max(axis=1) - mean).sum()
        if player.needs_features:
            self._hold_out(day, np.random.default_rng([self.seed, 31, week, day]))
        self._end_day()

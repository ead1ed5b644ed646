"""A market whose truth is known exactly: people, what every action earns with each of them, and logs drawn from it.

Four channels at four times of day, or no contact. Contact does nothing for six people in ten and harms one in ten; purchases are
rare and their amounts lognormal. How often somebody buys, and for how much, also hangs on what no feature tells and all decisions
on the customer share, so that the rows of a customer are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time

import numpy as np

from models.choice import FloatArray
from models.domain.action import ActionGrid
from models.draw import sample
from models.logged import IntArray, LoggedRows

GRID = ActionGrid(("sale",), ("email", "push", "sms", "call"), (time(9), time(12), time(18), time(21)))
_COST_MINOR = np.array([1.0, 0.5, 8.0, 60.0, 0.0])  # the last one is no contact
_REACH = np.array([0.5, 0.35, 0.8, 1.0])
_LIKED_BY_PHONE = np.array([-1.0, 0.0, 1.0, 0.6])
_HOURS = np.array([slot.hour for slot in GRID.slots])
# How much less or more often than their features tell people buy, half of them each.
_HABITS = np.array([0.2, 1.8])
# Spread of the logarithm of what a customer spends, and of one basket around it.
_CUSTOMER_SD, _BASKET_SD = 0.5, 0.8
_RIDGE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """P kinds of people, of whom equally many come in; A actions as in `GRID`.

    Attributes:
        features: What a model may see, shape (P, 3).
        p_convert: Probability that a purchase follows a decision, shape (P, A), in [0, 0.3].
        spend_minor: Mean amount of a purchase, minor units, shape (P,).
        n_decisions: How often each is decided on, shape (P,), at least 1.
    """

    features: FloatArray
    p_convert: FloatArray
    spend_minor: FloatArray
    n_decisions: IntArray

    @classmethod
    def of(cls, n_kinds: int, rng: np.random.Generator) -> World:
        """A world with that many kinds of people."""
        features = rng.normal(size=(n_kinds, 3))
        engaged, phone, late = features.T
        base = np.minimum(0.025 * np.exp(0.5 * engaged), 0.15)
        kind = rng.random(n_kinds)
        moved, harmed = kind < 0.1 + 0.4 / (1 + np.exp(-1.5 * engaged)), kind > 0.9
        best_hour = 15 + 4 * late + rng.normal(0, 2, n_kinds)
        heard = np.exp(-(((_HOURS - best_hour[:, None]) / 5) ** 2))
        by_channel = _REACH * np.exp(0.7 * phone[:, None] * _LIKED_BY_PHONE)
        reached = np.minimum(by_channel[:, :, None] * heard[:, None, :], 1.5).reshape(n_kinds, -1)
        effect = np.where(harmed, -0.5 * base, np.where(moved, 0.08, 0.0))
        contacted = np.clip(base[:, None] + effect[:, None] * reached, 0.0, 0.3)
        return cls(
            features=features,
            p_convert=np.column_stack([contacted, base]),
            spend_minor=rng.lognormal(7.5, 0.5, n_kinds),
            n_decisions=1 + rng.poisson(4 + np.exp(0.4 * engaged)),
        )

    def mean(self, by_kind: FloatArray) -> float:
        """Mean over decisions of what each kind of people has, shape (P,)."""
        return float(self.n_decisions @ by_kind) / float(self.n_decisions.sum())

    def value_of(self, policy: FloatArray) -> float:
        """What a policy earns a decision, minor units, exactly; its probabilities have shape (P, A)."""
        cost = np.append(np.repeat(_COST_MINOR[:-1], len(GRID.slots)), _COST_MINOR[-1])
        return self.mean((policy * (self.p_convert * self.spend_minor[:, None] - cost)).sum(axis=1))

    def usual(self) -> FloatArray:
        """What is done without a model: an e-mail at nine to the more engaged half, shape (P, A)."""
        action = np.where(self.features[:, 0] > 0, GRID.index(0, 0, 0), GRID.no_contact)
        return np.eye(GRID.n_actions)[action]

    def log(
        self, policy: FloatArray, n_customers: int, rng: np.random.Generator
    ) -> tuple[IntArray, LoggedRows]:
        """Let customers come in, decide on them by a policy, and see what they buy.

        Args:
            policy: Probabilities, shape (P, A).
            n_customers: Drawn anew, each of any kind.
            rng: Source of chance.

        Returns:
            The kind of the people of each row, shape (n,), and the rows.
        """
        kind = rng.integers(0, len(self.spend_minor), n_customers)
        customer = np.repeat(np.arange(n_customers), self.n_decisions[kind])
        habit = rng.choice(_HABITS, n_customers)[customer]
        level = _mean_one(rng, _CUSTOMER_SD, n_customers)[customer]
        who = kind[customer]
        n = len(who)
        action = sample(policy.take(who, axis=0), rng.random(n)).astype(np.int64)
        bought = np.flatnonzero(rng.random(n) < habit * self.p_convert[who, action])
        value = np.zeros(n)
        value[bought] = (
            self.spend_minor[who[bought]] * level[bought] * _mean_one(rng, _BASKET_SD, len(bought))
        )
        contacted = action != GRID.no_contact
        channel, slot = np.divmod(action, len(GRID.slots))
        unknown = np.full(n, np.nan)
        return who, LoggedRows(
            offers=GRID.offers,
            channels=GRID.channels,
            slots=GRID.slots,
            feature_names=(),
            features=np.empty((n, 0)),
            customer=customer,
            offer=np.where(contacted, 0, -1),
            channel=np.where(contacted, channel, -1),
            slot=np.where(contacted, slot, -1),
            propensity=policy[who, action],
            decided_at=np.zeros(n),
            opened=unknown,
            clicked=unknown,
            converted=(value > 0).astype(np.float64),
            value_minor=value,
            cost_minor=_COST_MINOR[channel],
            unsubscribed=np.zeros(n),
            randomised=np.zeros(n, dtype=np.bool_),
        )

    def fitted(self, who: IntArray, rows: LoggedRows) -> FloatArray:
        """Reward of every action as least squares learn it from a log, minor units, shape (P, A).

        Linear in the features, with a slope of its own for contact, for each channel and for each time of day.
        """
        columns = self._columns()
        seen = columns[who, rows.action]
        squares = seen.T @ seen + _RIDGE * np.eye(seen.shape[1])
        learned: FloatArray = columns @ np.linalg.solve(squares, seen.T @ rows.net_value_minor)
        return learned

    def _columns(self) -> FloatArray:
        n_channels, n_slots = GRID.shape[1:]
        which = np.zeros((GRID.n_actions, 1 + n_channels + n_slots))
        which[:, 0] = 1
        for action in range(GRID.no_contact):
            channel, slot = divmod(action, n_slots)
            which[action, [1 + channel, 1 + n_channels + slot]] = 1
        x = np.column_stack([np.ones(len(self.features)), self.features])
        crossed: FloatArray = np.einsum("ak,pf->pakf", which, x)
        return crossed.reshape(len(x), len(which), -1)


def _mean_one(rng: np.random.Generator, sd: float, n: int) -> FloatArray:
    return rng.lognormal(-(sd**2) / 2, sd, n)

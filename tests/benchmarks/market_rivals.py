"""What else one could do: learners of the textbook, each on its own log, as a careful team would set them up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.choice import ActionDistribution, BoolArray, FloatArray
from models.logged import IntArray, LoggedRows
from tests.benchmarks.market_world import Situation, World, certain

if TYPE_CHECKING:
    import lightgbm

_TREES = 120
_PARAMETERS = {
    "learning_rate": 0.06,
    "num_leaves": 15,
    "min_data_in_leaf": 60,
    "lambda_l2": 5.0,
    "feature_fraction": 0.7,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}
_EPSILON = 0.05


def _trained(
    inputs: FloatArray, label: FloatArray, *, objective: str, seed: int, weight: FloatArray | None = None
) -> lightgbm.Booster:
    import lightgbm

    table = lightgbm.Dataset(inputs.astype(np.float32), label, weight=weight)
    return lightgbm.train(_PARAMETERS | {"objective": objective, "seed": seed}, table, num_boost_round=_TREES)


def _asked(booster: lightgbm.Booster, inputs: FloatArray) -> FloatArray:
    said = booster.predict(inputs.astype(np.float32), num_threads=1, validate_features=False)
    return np.asarray(said, dtype=np.float64)


def _of_action(rows: LoggedRows) -> FloatArray:
    """What was done, as columns: contacted, offer, channel, slot."""
    return np.column_stack([rows.contacted, rows.offer, rows.channel, rows.slot]).astype(np.float64)


def _all_actions(now: Situation) -> FloatArray:
    """The same columns of every action of the grid, shape (A, 4)."""
    places = [now.grid.unravel(action) for action in range(now.grid.n_actions)]
    return np.array([(0, -1, -1, -1) if place is None else (1, *place) for place in places], dtype=np.float64)


def _margin_and_cost(now: Situation, actions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Margin of a conversion and cost of every action, minor units, shape (A,); full margin without contact."""
    margins = np.array([offer.margin_minor for offer in now.campaign.offers])
    contact = actions[:, 0] > 0
    margin = np.where(contact, margins[actions[:, 1].astype(int)], now.campaign.conversion_value_minor)
    return margin, np.where(contact, now.cost_minor[actions[:, 2].astype(int)], 0.0)


def _explored(best: IntArray, mask: BoolArray, epsilon: float) -> FloatArray:
    """The best action, and with probability epsilon any candidate."""
    spread = mask / mask.sum(axis=1, keepdims=True)
    return (1 - epsilon) * certain(best, mask.shape[1]) + epsilon * spread


def _best(values: FloatArray, mask: BoolArray) -> IntArray:
    return np.where(mask, values, -np.inf).argmax(axis=1).astype(np.int64)


class _Learner:
    """Learns at every refit and ranks all actions; nothing in between."""

    needs_features = True

    def observe(self, rows: LoggedRows, world: World) -> None:
        """Waits for the final reward."""

    def choose(self, now: Situation) -> ActionDistribution:
        """The highest value, with the share of chance that keeps such a learner alive."""
        values = self.values(now)
        return ActionDistribution(
            probabilities=_explored(_best(values, now.mask), now.mask, _EPSILON), net_value_minor=values
        )

    def values(self, now: Situation) -> FloatArray:
        """Value of every action, minor units, shape (n, A)."""
        raise NotImplementedError


class SLearner(_Learner):
    """LightGBM on conversions with the action among the features.

    Args:
        gross: Value contacts by their response alone, as if nobody bought without one.
    """

    def __init__(self, *, gross: bool) -> None:
        self._gross = gross
        self._model: lightgbm.Booster | None = None

    def refit(self, rows: LoggedRows, recent: LoggedRows, world: World) -> None:  # noqa: ARG002
        """Fit on all final rows; gross response looks at contacts only."""
        used = rows.take(rows.contacted) if self._gross else rows
        inputs = np.hstack([used.features, _of_action(used)])
        self._model = _trained(inputs, used.converted, objective="binary", seed=world.seed)

    def values(self, now: Situation) -> FloatArray:
        """Margin times p_convert less cost, beyond no contact unless gross."""
        assert self._model is not None
        actions = _all_actions(now)
        margin, cost = _margin_and_cost(now, actions)
        p = np.empty(now.mask.shape)
        for a, action in enumerate(actions):
            columns = np.broadcast_to(action, (len(p), len(action)))
            p[:, a] = _asked(self._model, np.hstack([now.features, columns]))
        alone = np.zeros((len(p), 1)) if self._gross else p[:, -1:]
        values = margin * (p - alone) - cost
        values[:, -1] = 0.0
        return values


class OpenRate(_Learner):
    """The action that is most likely to be opened, whatever it costs and causes; the offer in turn."""

    def __init__(self) -> None:
        self._model: lightgbm.Booster | None = None

    def refit(self, rows: LoggedRows, recent: LoggedRows, world: World) -> None:  # noqa: ARG002
        """LightGBM on opens where the channel reports them."""
        used = rows.take(~np.isnan(rows.opened))
        inputs = np.hstack([used.features, _of_action(used)])
        self._model = _trained(inputs, used.opened, objective="binary", seed=world.seed)

    def values(self, now: Situation) -> FloatArray:
        """Open probability as if it were value; only the order counts."""
        assert self._model is not None
        p = np.empty(now.mask.shape)
        for a, action in enumerate(_all_actions(now)):
            p[:, a] = _asked(self._model, np.hstack([now.features, np.broadcast_to(action, (len(p), 4))]))
        p[:, -1] = 0.0
        return p

    def choose(self, now: Situation) -> ActionDistribution:
        """No claim about value is made."""
        return ActionDistribution(probabilities=super().choose(now).probabilities)


class MediatedGreedy(_Learner):
    """`p_open * tau(x, channel) * margin - cost`: an R-loss by LightGBM on predicted opens, no other path."""

    def __init__(self) -> None:
        self._opens: lightgbm.Booster | None = None
        self._tau: lightgbm.Booster | None = None

    def refit(self, rows: LoggedRows, recent: LoggedRows, world: World) -> None:  # noqa: ARG002
        """Opens, then conversions without the action, then the residual on the predicted open."""
        heard = rows.take(~np.isnan(rows.opened))
        self._opens = _trained(
            np.hstack([heard.features, _of_action(heard)]), heard.opened, objective="binary", seed=world.seed
        )
        q = np.where(rows.contacted, self._p_open(rows.features, _of_action(rows)), 0.0)
        usual = _trained(rows.features, rows.converted, objective="binary", seed=world.seed)
        expected = _trained(rows.features, q, objective="regression", seed=world.seed)
        through = q - _asked(expected, rows.features)
        sound = np.where(np.abs(through) < 0.01, np.copysign(0.01, through), through)
        pseudo = (rows.converted - _asked(usual, rows.features)) / sound
        inputs = np.column_stack([rows.features, rows.channel, rows.offer])
        self._tau = _trained(inputs, pseudo, objective="regression", seed=world.seed, weight=sound**2)

    def _p_open(self, features: FloatArray, action: FloatArray) -> FloatArray:
        assert self._opens is not None
        return _asked(self._opens, np.hstack([features, action]))

    def values(self, now: Situation) -> FloatArray:
        """By the formula; no contact is 0."""
        assert self._tau is not None
        actions = _all_actions(now)
        margin, cost = _margin_and_cost(now, actions)
        values = np.zeros(now.mask.shape)
        tau: dict[tuple[float, float], FloatArray] = {}
        for a, action in enumerate(actions[:-1]):
            columns = np.broadcast_to(action, (len(values), len(action)))
            pair = (action[1], action[2])
            if pair not in tau:
                inputs = np.column_stack([now.features, columns[:, 2], columns[:, 1]])
                tau[pair] = _asked(self._tau, inputs)
            values[:, a] = margin[a] * tau[pair] * self._p_open(now.features, columns) - cost[a]
        return values


class Linear:
    """LinUCB, or Thompson sampling on the same posterior: an arm for every offer and channel, and no contact.

    Reward is the net value of the decision in units of the margin; the slot is the one that the channel's
    messages were opened at most often so far.

    References:
        Li, Chu, Langford, Schapire (2010); Agrawal and Goyal (2013).
    """

    needs_features = True
    _WIDTH = 1.0
    _RIDGE = 10.0

    def __init__(self, *, thompson: bool) -> None:
        self._thompson = thompson
        self._center = self._scale = np.zeros(0)
        self._mean = self._root = np.zeros(0)
        self._slot = np.zeros(0, dtype=np.int64)

    def _inputs(self, features: FloatArray) -> FloatArray:
        z = np.clip((features - self._center) / self._scale, -3, 3)
        return np.hstack([np.ones((len(z), 1)), np.nan_to_num(z) / np.sqrt(z.shape[1])])

    def refit(self, rows: LoggedRows, recent: LoggedRows, world: World) -> None:  # noqa: ARG002
        """Ridge regression by arm."""
        self._center = np.nan_to_num(np.nanmean(rows.features, axis=0))
        self._scale = np.nan_to_num(np.nanstd(rows.features, axis=0)) + 1e-6
        x, unit = self._inputs(rows.features), world.campaign.conversion_value_minor
        reward = rows.net_value_minor / unit
        offers, channels, slots = rows.grid.shape
        arm = np.where(rows.contacted, rows.offer * channels + rows.channel, offers * channels)
        means, roots = [], []
        for k in range(offers * channels + 1):
            own = x[arm == k]
            inverse = np.linalg.inv(own.T @ own + self._RIDGE * np.eye(x.shape[1]))
            means.append(inverse @ own.T @ reward[arm == k])
            noise = float(reward[arm == k].std()) if len(own) else 1.0
            roots.append(np.linalg.cholesky(inverse) * noise)
        self._mean, self._root = np.array(means), np.array(roots)
        reply = np.where(np.isnan(rows.opened), np.nan_to_num(rows.clicked), rows.opened)
        cell = (np.maximum(rows.channel, 0) * slots + np.maximum(rows.slot, 0))[rows.contacted]
        n = np.bincount(cell, minlength=channels * slots)
        rate = (np.bincount(cell, weights=reply[rows.contacted], minlength=len(n)) + 1) / (n + 10)
        self._slot = rate.reshape(channels, slots).argmax(axis=1)

    def observe(self, rows: LoggedRows, world: World) -> None:
        """Waits for the final reward."""

    def choose(self, now: Situation) -> ActionDistribution:
        """The arm with the highest bound, or the highest draw."""
        x = self._inputs(now.features)
        offers, channels, slots = now.grid.shape
        spread = np.einsum("nf,kfg->nkg", x, self._root)
        if self._thompson:
            score = x @ self._mean.T + np.sqrt((spread**2).sum(axis=2)) * now.rng.standard_normal(
                spread.shape[:2]
            )
        else:
            score = x @ self._mean.T + self._WIDTH * np.sqrt((spread**2).sum(axis=2))
        place = np.arange(offers * channels) * slots + np.tile(self._slot, offers)
        at_all = np.append(place, now.grid.no_contact)
        best = np.where(now.mask[:, at_all], score, -np.inf).argmax(axis=1)
        return ActionDistribution(probabilities=certain(at_all[best].astype(np.int64), now.mask.shape[1]))

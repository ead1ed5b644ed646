"""What a trained policy would have earned on logged decisions that it has not seen.

Only decisions in which something was left to chance are used: a propensity of one says nothing about what else
could have been done, and which rows have it depends on the customer and the arm, not on the outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from models.choice import BoolArray, ChoiceProblem, FloatArray, Predictions
from models.domain.action import ActionGrid
from models.domain.campaign import Campaign
from models.domain.channel import Channel
from models.domain.interaction import InteractionKind
from models.evaluation.estimate import Estimate
from models.evaluation.off_policy import dr, dr_difference, snips
from models.evaluation.overlap import Withheld, screened
from models.logged import LoggedRows
from models.policy.native import NativeBandit
from models.policy.registry import build_policies
from models.response.boosting import log_loss
from models.response.metrics import auc, calibration_error
from models.value import net_value
from training.datasets import LoggedDecisions, in_order
from training.opened import OpenedBundle

NOBODY = "nobody"
CHAMPION_POLICY = "champion"
SHADOW = "shadow"
_GROUPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyValue:
    """What one policy would have earned, minor units a decision.

    Attributes:
        name: The policy.
        value: Doubly robust, or why it is withheld.
        check: The same by SNIPS.
        ahead: The new policy minus this one, paired on the same rows; None for the new policy itself.
    """

    name: str
    value: Estimate | Withheld
    check: Estimate | Withheld
    ahead: Estimate | Withheld | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationCheck:
    """Predicted probabilities against what happened later.

    Attributes:
        name: `p_open` or `p_convert`.
        n: Rows.
        rate: Share of events.
        mean_predicted: Mean predicted probability.
        error: Mean distance of predicted and true rate over ten equal groups.
        chance_error: What `error` would be by chance alone were the predictions right.
        auc: Probability that an event ranks above a non-event; NaN with only one kind.
        log_loss: Nats a row.
        curve: Mean prediction, rate of events and number of rows of each of the ten groups.
    """

    name: str
    n: int
    rate: float
    mean_predicted: float
    error: float
    chance_error: float
    auc: float
    log_loss: float
    curve: tuple[tuple[float, float, int], ...] = ()

    @property
    def tolerance(self) -> float:
        """Largest sound `error`: a fifth of the rate, and twice what chance explains."""
        return 0.2 * self.rate + 2 * self.chance_error

    @property
    def sound(self) -> bool:
        """Whether the predictions can be multiplied with money; nothing is claimed about no rows."""
        return self.n == 0 or self.error <= self.tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How a bundle did on held-out decisions.

    Attributes:
        n_rows: Held-out decisions.
        n_explored: Those in which something was left to chance.
        policies: The new policy first, then what it is compared with.
        best_constant: Name of the constant action that looked best in the rows learned from.
        calibration: One check a kind of prediction.
        expected_net_value_minor: What the model itself expects of the new policy beyond no contact, a decision.
        expected_leaving: Share of decisions after which the customer leaves a channel, under the new policy, in [0, 1].
        control_leaving: The same under the campaign's control policy.
        contact_share: Share of decisions in which the new policy contacts the customer, in [0, 1].
    """

    n_rows: int
    n_explored: int
    policies: tuple[PolicyValue, ...]
    best_constant: str
    calibration: tuple[CalibrationCheck, ...]
    expected_net_value_minor: float
    expected_leaving: float
    control_leaving: float
    contact_share: float

    def policy(self, name: str) -> PolicyValue | None:
        """The policy of that name, where it was compared."""
        return next((one for one in self.policies if one.name == name), None)


@dataclass(frozen=True, slots=True)
class _Judged:
    """A policy's probabilities on the held-out rows and the model's rewards under it."""

    target: FloatArray  # of the logged action, (n,)
    expected: FloatArray  # sum_a target(a) q(a), (n,)


def evaluate(
    held_out: LoggedDecisions,
    learned: LoggedDecisions,
    campaign: Campaign,
    channels: Mapping[str, Channel],
    bundle: OpenedBundle,
    champion: OpenedBundle | None,
    leaving: FloatArray,
    shadow: NativeBandit | None = None,
) -> Evaluation:
    """Judge a bundle on decisions that it was not fitted on.

    Args:
        held_out: Later decisions.
        learned: The decisions that it was fitted on; the best constant action is chosen on them.
        campaign: Whose policy is judged.
        channels: Every channel of the campaign, by name.
        bundle: The new one.
        champion: The present one, where there is one.
        leaving: Probability that a contact makes the customer leave the channel, by channel of the decisions, shape (C,).
        shadow: A challenger that decides for nobody.
    """
    rows, grid = held_out.rows, held_out.rows.grid
    predictions = bundle.response.predict(rows.features, grid, channels)
    problem = problem_of(held_out, campaign, channels, predictions)
    q = rewards_of(predictions, campaign, channels, grid)
    policies = build_policies(campaign, bundle.bandit)
    name = str(campaign.policy)
    chosen = policies[campaign.policy].distribution(problem)
    control = policies[campaign.control_policy].distribution(problem).probabilities
    constants = {label: constant(grid, held_out.mask, pair) for label, pair in constants_of(grid).items()}
    best = best_constant(learned)
    targets = {name: chosen.probabilities, f"control: {campaign.control_policy}": control}
    if champion is not None:
        features = in_order(rows.features, rows.feature_names, champion.response.feature_names)
        theirs = champion.response.predict(features, grid, channels)
        their_problem = replace(problem_of(held_out, campaign, channels, theirs), features=features)
        policy = build_policies(campaign, champion.bandit)[campaign.policy]
        targets[CHAMPION_POLICY] = policy.distribution(their_problem).probabilities
    if shadow is not None:
        targets[f"{SHADOW}: {shadow.name}"] = shadow.distribution(problem).probabilities
    targets |= {label: constants[label] for label in dict.fromkeys((best, NOBODY))}
    explored = np.flatnonzero(rows.propensity < 1)
    ranked = problem.net_value_minor if chosen.net_value_minor is None else chosen.net_value_minor
    assert ranked is not None
    leaves = _on_contacts(leaving, len(rows), grid)
    return Evaluation(
        n_rows=len(rows),
        n_explored=len(explored),
        policies=policy_values(
            rows.take(explored), {n: t[explored] for n, t in targets.items()}, q[explored]
        ),
        best_constant=best,
        calibration=calibration_of(rows, predictions, channels),
        # A shadow price is what others would bring, and no cost.
        expected_net_value_minor=_mean_under(
            chosen.probabilities, ranked + _on_contacts(held_out.shadow_price_minor, len(rows), grid)
        ),
        expected_leaving=_mean_under(chosen.probabilities, leaves),
        control_leaving=_mean_under(control, leaves),
        contact_share=float(1.0 - chosen.probabilities[:, grid.no_contact].mean()),
    )


def problem_of(
    logged: LoggedDecisions, campaign: Campaign, channels: Mapping[str, Channel], predictions: Predictions
) -> ChoiceProblem:
    """The choice that stood before whoever made the logged decisions."""
    grid = logged.rows.grid
    cost = _cost(grid, channels)
    return ChoiceProblem(
        grid=grid,
        mask=logged.mask,
        send_at=logged.send_at(),
        cost_minor=cost,
        shadow_price_minor=logged.shadow_price_minor,
        features=logged.rows.features,
        predictions=predictions,
        net_value_minor=net_value(predictions, _margins(campaign, grid), cost, logged.shadow_price_minor),
    )


def rewards_of(
    predictions: Predictions, campaign: Campaign, channels: Mapping[str, Channel], grid: ActionGrid
) -> FloatArray:
    """Reward that the model expects of every action, minor units, shape (n, A); attention is no reward."""
    margin = _margins(campaign, grid)[:, None, None]
    worth = np.reshape(predictions.worth, (-1, 1, 1))
    base = predictions.p_convert_no_contact
    uplift = predictions.p_convert - base[:, None, None, None]
    contacts = margin * (base[:, None, None, None] + worth * uplift) - _cost(grid, channels)[:, None]
    alone = campaign.conversion_value_minor * base
    return np.concatenate([contacts.reshape(len(contacts), -1), alone[:, None]], axis=1)


def constants_of(grid: ActionGrid) -> dict[str, tuple[int, int] | None]:
    """Every constant action by name: an offer on a channel, or nobody; times of day are not told apart."""
    named: dict[str, tuple[int, int] | None] = {
        f"{offer} by {channel}": (o, c)
        for o, offer in enumerate(grid.offers)
        for c, channel in enumerate(grid.channels)
    }
    return named | {NOBODY: None}


def constant(grid: ActionGrid, mask: BoolArray, pair: tuple[int, int] | None) -> FloatArray:
    """That offer on that channel at any eligible slot for everybody who can get it; the others are left alone.

    Returns:
        Probabilities, shape (n, A).
    """
    n_slots = len(grid.slots)
    probabilities = np.zeros(mask.shape)
    if pair is not None:
        start = grid.index(*pair, 0)
        open_slots = mask[:, start : start + n_slots]
        probabilities[:, start : start + n_slots] = open_slots / np.maximum(
            open_slots.sum(axis=1, keepdims=True), 1
        )
    probabilities[:, grid.no_contact] = 1.0 - probabilities.sum(axis=1)
    return probabilities


def best_constant(learned: LoggedDecisions) -> str:
    """The constant action with the highest SNIPS value in the rows learned from; nobody where none can be judged."""
    rows = learned.rows
    explored = np.flatnonzero(rows.propensity < 1)
    mask, some = learned.mask[explored], rows.take(explored)
    values = {}
    for name, pair in constants_of(rows.grid).items():
        target = constant(rows.grid, mask, pair)[np.arange(len(some)), some.action]
        if len(some) >= 2 and target.any():
            values[name] = snips(some.net_value_minor, some.propensity, target).value
    return max(values, key=lambda name: values[name], default=NOBODY)


def calibration_of(
    rows: LoggedRows, predictions: Predictions, channels: Mapping[str, Channel]
) -> tuple[CalibrationCheck, ...]:
    """Hold predictions of the logged actions against what followed.

    Opens count on channels that report them; on another channel only successes are ever seen (through a click).
    """
    measurable = np.array([channels[name].reports(InteractionKind.OPENED) for name in rows.channels])
    known = np.flatnonzero(rows.contacted & ~np.isnan(rows.opened))
    known = known[measurable[rows.channel[known]]]
    p_open = predictions.p_open[known, rows.channel[known], rows.slot[known]]
    contacted = np.flatnonzero(rows.contacted)
    p_convert = predictions.p_convert_no_contact.copy()
    p_convert[contacted] = predictions.p_convert[
        contacted, rows.offer[contacted], rows.channel[contacted], rows.slot[contacted]
    ]
    return (
        _calibration("p_open", rows.opened[known], p_open),
        _calibration("p_convert", rows.converted.astype(np.float64), p_convert),
    )


def _calibration(name: str, label: FloatArray, probability: FloatArray) -> CalibrationCheck:
    n = len(label)
    rate = float(label.mean()) if n else float("nan")
    # A group of n / 10 rows misses its true rate by sqrt(rate (1 - rate) / (n / 10)) * sqrt(2 / pi) on average.
    chance = float(np.sqrt(2 / np.pi * rate * (1 - rate) / (n / _GROUPS))) if n else float("nan")
    return CalibrationCheck(
        name=name,
        n=n,
        rate=rate,
        mean_predicted=float(probability.mean()) if n else float("nan"),
        error=calibration_error(label, probability, _GROUPS),
        chance_error=chance,
        auc=auc(label, probability),
        log_loss=log_loss(label, probability),
        curve=tuple(
            (float(probability[group].mean()), float(label[group].mean()), len(group))
            for group in np.array_split(np.argsort(probability, kind="stable"), _GROUPS)
            if len(group)
        ),
    )


def policy_values(
    rows: LoggedRows, targets: Mapping[str, FloatArray], q: FloatArray
) -> tuple[PolicyValue, ...]:
    """What policies would have earned on logged decisions, minor units each, where the log covers what they do.

    Args:
        rows: Decisions with a propensity below 1.
        targets: Probabilities of each policy by name, shape (n, A); the new policy first.
        q: Reward predicted for every action by a model not fitted on these rows, minor units, shape (n, A).
    """
    if len(rows) < 2:
        nothing = Withheld(reason="the log left nothing to chance", ess=0.0, n=len(rows))
        return tuple(
            PolicyValue(name=name, value=nothing, check=nothing, ahead=nothing if i else None)
            for i, name in enumerate(targets)
        )
    at = np.arange(len(rows))
    q_logged = q[at, rows.action]
    judged = {
        name: _Judged(target[at, rows.action], np.einsum("na,na->n", target, q))
        for name, target in targets.items()
    }
    new = next(iter(judged.values()))
    reward, propensity, clusters = rows.net_value_minor, rows.propensity, rows.customer
    values = []
    for name, one in judged.items():
        value = dr(reward, propensity, one.target, q_logged, one.expected, clusters=clusters)
        check: Estimate | Withheld = Withheld(reason="the log never did what it does", ess=0.0, n=len(rows))
        if one.target.any():
            check = screened(snips(reward, propensity, one.target, clusters=clusters))
        ahead = dr_difference(
            reward,
            propensity,
            new.target,
            one.target,
            q_logged,
            new.expected,
            one.expected,
            clusters=clusters,
        )
        values.append(
            PolicyValue(
                name=name,
                value=screened(value),
                check=check,
                ahead=None if one is new else screened(ahead),
            )
        )
    return tuple(values)


def _mean_under(probabilities: FloatArray, values: FloatArray) -> float:
    return float(np.einsum("na,na->n", probabilities, np.where(probabilities > 0, values, 0.0)).mean())


def _on_contacts(by_channel: FloatArray, n: int, grid: ActionGrid) -> FloatArray:
    """What stands for a channel, shape (C,) or (n, C), for every contact on it; 0 for no contact, shape (n, A)."""
    contacts = np.broadcast_to(np.reshape(by_channel, (-1, 1, len(grid.channels), 1)), (n, *grid.shape))
    return np.concatenate([contacts.reshape(n, -1), np.zeros((n, 1))], axis=1)


def _margins(campaign: Campaign, grid: ActionGrid) -> FloatArray:
    margin = {offer.offer_id: offer.margin_minor for offer in campaign.offers}
    # An offer that the campaign no longer makes is no candidate; any value will do.
    return np.array([margin.get(offer, campaign.conversion_value_minor) for offer in grid.offers])


def _cost(grid: ActionGrid, channels: Mapping[str, Channel]) -> FloatArray:
    return np.array([channels[name].cost_minor or 0.0 for name in grid.channels])

"""Explains a recorded decision: from its evidence, with the bundle that decided it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from sqlalchemy import Engine

from features.history.campaigns import load_campaign
from features.history.channels import load_channels
from features.history.decisions import load_shadow_prices
from features.history.query import load_customers
from models.choice import FloatArray
from models.domain.action import Action
from models.domain.campaign import LEARNED, Campaign, PolicyName
from models.domain.channel import Channel
from models.domain.customer import Customer
from models.domain.decision import Decision
from models.domain.errors import NotFoundError
from models.domain.price import priced
from models.domain.slots import next_send_times
from models.explanation.contributions import Breakdown, Explains, largest
from models.explanation.flips import Flip, FlipKind, Ranking, find_flips, opened_flip
from models.explanation.openings import find_openings
from models.explanation.replay import Replayed, replay
from models.policy.registry import build_policies
from serving.answer import HOLDOUT_POLICY
from serving.explain.catalogue import Absence
from serving.explain.explanation import (
    Contributions,
    Explanation,
    KnownFlip,
    Missing,
    Part,
    Prediction,
    ScarceChannel,
)
from serving.occasions.cause import Cause, load_cause
from serving.snapshot import Model, Snapshots
from serving.store.availability import reaching_the_store

_UNKNOWN_ZONE = "UTC"
# The decision itself is a contact as of its own moment: it must not count against itself.
_MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A decision with what it was decided on."""

    decision: Decision
    campaign: Campaign
    channels: Mapping[str, Channel]
    customer: Customer | None
    ranking: Ranking

    def action(self, index: int) -> Action | None:
        """The action of that index."""
        axes = self.ranking.grid.unravel(index)
        if axes is None:
            return None
        offer, channel, slot = axes
        send_at = datetime.fromtimestamp(float(self.ranking.send_at[slot]), UTC)
        return Action(
            offer=self.ranking.grid.offers[offer],
            channel=self.ranking.grid.channels[channel],
            slot=slot,
            send_at=send_at,
            expires_at=send_at + timedelta(seconds=self.campaign.message_ttl_seconds),
        )


class Explainer:
    """Explains decisions.

    Args:
        engine: The history.
        snapshots: Where the bundles are.
    """

    def __init__(self, engine: Engine, snapshots: Snapshots) -> None:
        self._engine = engine
        self._snapshots = snapshots

    def explain(self, decision: Decision) -> Explanation:
        """Contributions and flips, as far as what was recorded and the bundle that decided allow.

        Raises:
            StoreUnavailableError: the database cannot be reached.
        """
        zone = decision.evidence.time_zone or _UNKNOWN_ZONE
        campaign = self._campaign(decision)
        slots = () if campaign is None else campaign.slots
        case = Absence.NOT_RECORDED if campaign is None else self._case(decision, campaign)
        if isinstance(case, Absence):
            return Explanation(
                best=decision.action,
                contributions=None,
                flips=None,
                scarce=(),
                missing=tuple(Missing(part=part, reason=case) for part in ("contributions", "flips")),
                occasion=self._cause(decision),
                time_zone=zone,
                slots=slots,
            )
        flips = [_named(case, flip) for flip in find_flips(case.ranking)]
        contributions, openings = self._with_model(case)
        missing = tuple(
            Missing(part=part, reason=reason, version=decision.policy_version)
            for part, reason in (("contributions", contributions), ("openings", openings))
            if isinstance(reason, Absence)
        )
        return Explanation(
            best=case.action(case.ranking.best),
            contributions=None if isinstance(contributions, Absence) else contributions,
            flips=flips if isinstance(openings, Absence) else [*flips, *openings],
            scarce=self._scarce(decision),
            missing=missing,
            occasion=self._cause(decision),
            time_zone=zone,
            slots=slots,
        )

    def _with_model(self, case: _Case) -> tuple[Contributions | Absence, list[KnownFlip] | Absence]:
        """What only the bundle that decided can tell: contributions, and values of what was excluded."""
        model = self._snapshots.model_of(case.decision.policy_version)
        if model is None:
            return Absence.MODEL_GONE, Absence.MODEL_GONE
        replayed = _replay(case, model)
        if replayed is None:
            return Absence.NOT_REPRODUCED, Absence.NOT_REPRODUCED
        return _contributions(case, model, replayed), _openings(case, replayed.ranking)

    def _scarce(self, decision: Decision) -> tuple[ScarceChannel, ...]:
        with reaching_the_store(), self._engine.connect() as conn:
            prices = load_shadow_prices(conn, decision.decision_id)
        return tuple(ScarceChannel(channel=name, shadow_price_minor=price) for name, price in prices.items())

    def _cause(self, decision: Decision) -> Cause | None:
        with reaching_the_store(), self._engine.connect() as conn:
            return load_cause(conn, decision.decision_id)

    def _campaign(self, decision: Decision) -> Campaign | None:
        """The campaign in the version that asked; None where the decision was imported without it."""
        try:
            with reaching_the_store(), self._engine.connect() as conn:
                return load_campaign(conn, decision.campaign_id, decision.campaign_version)
        except NotFoundError:
            return None

    def _case(self, decision: Decision, campaign: Campaign) -> _Case | Absence:
        """What the decision was decided on, or why that is not known."""
        evidence = decision.evidence
        if decision.policy == HOLDOUT_POLICY:
            return Absence.HOLDOUT
        if decision.policy not in LEARNED:
            return Absence.RULE
        if not evidence.price_minor or evidence.time_zone is None:
            return Absence.NOT_RECORDED
        with reaching_the_store(), self._engine.connect() as conn:
            channels = {name: priced(campaign, one) for name, one in load_channels(conn).items()}
            people = load_customers(conn, [decision.customer_id], decision.decided_at - _MOMENT)
        grid = campaign.grid
        mask = np.zeros(grid.n_actions, dtype=np.bool_)
        values = np.zeros(grid.n_actions)
        for index, value in evidence.net_value_minor.items():
            mask[index], values[index] = True, value
        moments = next_send_times(campaign.slots, evidence.time_zone, decision.decided_at)
        return _Case(
            decision=decision,
            campaign=campaign,
            channels=channels,
            customer=people.get(decision.customer_id),
            ranking=Ranking(
                grid=grid,
                mask=mask,
                net_value_minor=values,
                price_minor=np.array([evidence.price_minor[name] for name in grid.channels]),
                cost_minor=np.array([evidence.cost_minor[name] for name in grid.channels]),
                margin_minor=np.array([offer.margin_minor for offer in campaign.offers]),
                send_at=np.array([moment.timestamp() for moment in moments]),
            ),
        )


def _replay(case: _Case, model: Model) -> Replayed | None:
    """The values of every action; None where the candidates' are not those that were recorded."""
    policy = build_policies(case.campaign, model.bandit).get(PolicyName(case.decision.policy))
    if policy is None or set(model.response.feature_names) != set(case.decision.evidence.features):
        return None
    again = replay(case.ranking, model.response, policy, case.channels, _features(case, model))
    return again if again.reproduced else None


def _contributions(case: _Case, model: Model, replayed: Replayed) -> Contributions | Absence:
    """Of the chosen contact; where none was chosen, of the best one."""
    grid, response = case.ranking.grid, model.response
    if not isinstance(response, Explains):
        return Absence.MODEL_SILENT
    chosen = case.decision.action
    index = (
        case.ranking.first_of(case.ranking.mask)
        if chosen is None
        else grid.index(grid.offers.index(chosen.offer), grid.channels.index(chosen.channel), chosen.slot)
    )
    axes = grid.unravel(index)
    action = case.action(index)
    if axes is None or action is None:
        return Absence.NO_CANDIDATE
    features = _features(case, model)
    parts = response.contributions(features, grid, axes)
    predictions = response.predict(features[None], grid, case.channels)
    uplift = float((predictions.p_convert[0] - predictions.p_convert_no_contact[0])[axes])
    names = response.feature_names
    return Contributions(
        action=action,
        p_open=_prediction(parts.p_open, float(replayed.p_open[axes[1:]]), names, features),
        uplift=_prediction(parts.uplift, uplift, names, features),
    )


def _openings(case: _Case, ranking: Ranking) -> list[KnownFlip] | Absence:
    """Excluded channels that would hold the best action if they were open."""
    if case.customer is None:
        return Absence.CUSTOMER_GONE
    exclusions = case.decision.exclusions
    closed = {one.channel: one.reason for one in exclusions if one.channel and one.offer is None}
    allowed = np.ones(ranking.grid.n_actions, dtype=np.bool_)
    for index in range(ranking.grid.n_actions - 1):
        offer, channel, slot = ranking.grid.unravel(index) or (0, 0, 0)
        allowed[index] = not any(
            one.slot == slot
            or (one.offer == ranking.grid.offers[offer] and one.channel == ranking.grid.channels[channel])
            for one in exclusions
        )
    flips = []
    for opening in find_openings(
        case.campaign, case.channels, case.customer, case.decision.decided_at, closed
    ):
        flip = opened_flip(ranking, ranking.grid.channels.index(opening.channel), allowed)
        if flip is not None:
            flips.append(
                KnownFlip(
                    kind=flip.kind,
                    winner=case.action(flip.winner),
                    channel=opening.channel,
                    without=opening.without,
                    gain_minor=flip.gain_minor,
                )
            )
    return sorted(flips, key=lambda flip: -(flip.gain_minor or 0.0))


def _named(case: _Case, flip: Flip) -> KnownFlip:
    grid = case.ranking.grid
    assert flip.threshold is not None, "only an opened channel has none"
    share = flip.kind is FlipKind.ALL_MARGINS_BELOW
    moment = flip.kind in (FlipKind.NOT_BEFORE, FlipKind.NOT_AFTER)
    money = not share and not moment
    return KnownFlip(
        kind=flip.kind,
        winner=case.action(flip.winner),
        offer=None if flip.offer is None else grid.offers[flip.offer],
        channel=None if flip.channel is None else grid.channels[flip.channel],
        threshold_minor=flip.threshold if money else None,
        present_minor=flip.present if money else None,
        threshold_share=flip.threshold if share else None,
        threshold_at=datetime.fromtimestamp(flip.threshold, UTC) if moment else None,
    )


def _prediction(
    breakdown: Breakdown, total: float, names: tuple[str, ...], features: FloatArray
) -> Prediction:
    values = dict(zip(names, features.tolist(), strict=True))
    return Prediction(
        base=breakdown.base,
        parts=tuple(
            Part(feature=name, value=None if values[name] != values[name] else values[name], amount=amount)
            for name, amount in largest(names, breakdown.amounts)
        ),
        adjustment=total - breakdown.total,
        total=total,
    )


def _features(case: _Case, model: Model) -> FloatArray:
    """As they were recorded, in the model's order."""
    known = case.decision.evidence.features
    return np.array([np.nan if (v := known[n]) is None else v for n in model.response.feature_names])

"""From a history to a bundle that has been judged: settle, assemble, fit, warm up, evaluate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from sqlalchemy import Engine

from features.history.campaigns import load_campaign
from features.history.channels import load_channels
from features.history.engine import read_only
from features.history.rewards import settle_in_parts
from features.workspace import FeatureWorkspace
from models.bundle import Bundle
from models.choice import Predictions
from models.domain.campaign import Campaign, PolicyName
from models.domain.channel import Channel
from models.domain.price import priced
from models.policy.bandit import REPLAYED, Bandit
from models.policy.events import replies, response_events
from models.policy.native import NativeBandit
from models.policy.registry import build_policies
from models.response.model import FittedResponse, fit_response
from models.response.reach import decisions_per_customer, priced_by_reach
from training.datasets import LoggedDecisions, logged_decisions
from training.evaluation import evaluate, problem_of
from training.opened import OpenedBundle, open_bundle
from training.promotion import judge
from training.report import TrainingReport
from training.splits import split_by_time
from training.threads import one_thread


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedBundle:
    """A bundle and the page that says what it is worth."""

    bundle: Bundle
    report: TrainingReport


@one_thread()
def train(
    engine: Engine,
    workspace: FeatureWorkspace,
    campaign_id: str,
    *,
    as_of: datetime,
    seed: int = 0,
    champion: Bundle | None = None,
    attention_value_minor: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> TrainedBundle:
    """Train on everything that the history knows of a campaign.

    The log is cut by time: the response model learns from the first 70 %, the bandit warms up on the next 10 %
    and both are judged on the last 20 %. What is judged is what is returned; nothing is fitted again afterwards.

    Args:
        engine: The history.
        workspace: Its features.
        campaign_id: The campaign.
        as_of: Later facts are ignored.
        seed: Same history and seed, same bundle.
        champion: The bundle that serves now, to be compared with.
        attention_value_minor: What it is worth that a customer can be reached on a channel, minor units; None takes what
            the model itself would lose without the channel: see `models.response.reach`.
        progress: Told in words what is being done.

    Raises:
        NotFoundError: there is no such campaign, or none of its decisions has a final reward yet.
    """
    say = progress or (lambda _words: None)
    say("rewards: what decisions turned out to be worth")
    settle_in_parts(engine, as_of, campaign_id)
    say("features: as they were at every decision")
    workspace.define()
    logged = logged_decisions(engine, workspace, campaign_id, as_of)
    with read_only(engine).connect() as conn:
        campaign, configured = load_campaign(conn, campaign_id), load_channels(conn)
    channels = {name: priced(campaign, channel) for name, channel in configured.items()}
    learned, replayed, held_out = (logged.take(part) for part in split_by_time(logged.rows.decided_at, seed))
    margin = {offer.offer_id: offer.margin_minor for offer in campaign.offers}
    # An offer that has left the campaign is no candidate any more, whatever it was worth.
    margins = np.array([margin.get(name, 0.0) for name in learned.rows.offers])
    response = fit_response(
        learned.rows,
        channels,
        attention_value_minor=0.0 if attention_value_minor is None else attention_value_minor,
        seed=seed,
        margin_minor=margins,
        progress=progress,
    )
    if attention_value_minor is None:
        say("attention: what it is worth to reach a customer")
        decisions = decisions_per_customer(learned.rows)
        response = priced_by_reach(response, learned.rows, learned.mask, margins, channels, decisions)
    say("bandit: warm up on later decisions")
    expected = response.predict(replayed.rows.features, replayed.rows.grid, channels)
    bandit = _warmed_up(replayed, expected, campaign, channels)
    say("evaluation: on decisions after those")
    evaluation = evaluate(
        held_out,
        learned,
        campaign,
        channels,
        OpenedBundle(response, bandit),
        None if champion is None else open_bundle(champion),
        response.attention.leaving(held_out.rows.channels),
        _shadow(replayed, expected, bandit, campaign, channels),
    )
    assert response.metrics is not None
    report = TrainingReport(
        campaign_id=campaign_id,
        simulated=campaign.simulated,
        as_of=as_of,
        learned_until=datetime.fromtimestamp(float(learned.rows.decided_at.max()), UTC),
        n_learned=len(learned),
        n_replayed=len(replayed),
        response=response.metrics,
        evaluation=evaluation,
        promotion=judge(evaluation),
        importance=_importance(response),
    )
    bundle = Bundle(
        feature_names=response.feature_names,
        offers=learned.rows.offers,
        channels=learned.rows.channels,
        slots=learned.rows.slots,
        created_at=as_of,
        response=response.to_files(),
        bandit=bandit.to_files(),
        metrics=response.metrics.as_numbers(),
    )
    return TrainedBundle(bundle=bundle, report=report)


def _warmed_up(
    replayed: LoggedDecisions, expected: Predictions, campaign: Campaign, channels: Mapping[str, Channel]
) -> Bandit:
    bandit = Bandit.fresh(campaign.channels, campaign.slots)
    return bandit.warm_start(response_events(replayed.rows, expected.p_open, bandit.segments, channels))


def _shadow(
    replayed: LoggedDecisions,
    expected: Predictions,
    bandit: Bandit,
    campaign: Campaign,
    channels: Mapping[str, Channel],
) -> NativeBandit:
    """The challenger that decides for nobody: taught by what the bandit warms up on, exploring as it does."""
    some = np.arange(len(replayed))[-REPLAYED:]
    newest = replayed.take(some)
    problem = problem_of(newest, campaign, channels, expected.take(some))
    served = build_policies(campaign, bandit)[PolicyName.BANDIT]
    assert isinstance(served, Bandit)
    return NativeBandit.learned(problem, newest.rows, replies(newest.rows, channels), served.exploration)


def _importance(response: FittedResponse) -> dict[str, float]:
    """Mean share of the gain in the trees for opens and for conversions."""
    names = response.feature_names
    shares = []
    for trees in (response.convert.trees, response.opens.by_channel):
        if trees is not None:
            gains = trees.gains()[: len(names)]
            shares.append(gains / max(float(gains.sum()), 1e-12))
    total = np.mean(shares, axis=0) if shares else np.zeros(len(names))
    return {names[i]: float(total[i]) for i in np.argsort(-total, kind="stable") if total[i] > 0}

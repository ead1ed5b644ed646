"""The main job on a simulated retail market, from raw history to a decision, sent messages and a report.

The market's own calendar is counted back from today: a history in which contact was randomised for four weeks, and
a live campaign that was decided eight days ago, so that its outcomes are known.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from sqlalchemy import Engine, func, select

from features.history.append import (
    append_consents,
    append_customers,
    append_decisions,
    append_identities,
    append_interactions,
)
from features.history.campaigns import save_campaign
from features.history.channels import save_channel
from features.history.rewards import settle_in_parts
from features.history.tables import outbox
from features.offline import materialize
from features.online import FeatureReader
from models.domain.action import ActionGrid
from models.domain.campaign import Campaign, PolicyName
from models.domain.decision import Decision
from models.domain.experiment import Experiment
from models.domain.interaction import InteractionKind
from nextchannel.commands.installation import open_features, open_history, open_registry
from nextchannel.demo.comparison import PolicyTruth, true_values
from nextchannel.demo.stages import (
    Stages,
    address_of,
    conclude,
    installation_for,
    require_free_port,
    show_mail,
)
from nextchannel.service import serve, service_config
from nextchannel.settings import Settings
from serving.bootstrap import build, build_dispatcher
from serving.request import DecisionRequest
from serving.smtp_sink import ReceivedMail, SmtpSink
from training.publish import Published, train_and_publish
from training.simulator.history import simulate_history
from training.simulator.market import Market

LIVE_CAMPAIGN = "spring_sale"
# The outcomes of a week of attribution are known today.
_DAYS_AGO = 8
_BATCH = 1_000
_SEND_EVERY = timedelta(minutes=30)
_SEND_FOR = timedelta(hours=26)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the demonstration ends with.

    Attributes:
        n_customers: All of them simulated.
        published: The model that was trained, and whether it serves.
        decisions: Of the live campaign.
        comparison: True value of the live policy and of its rivals, minor units a customer.
        n_sent: Messages by adapter.
        mail: The first mail that the local mail server got.
    """

    n_customers: int
    published: Published
    decisions: tuple[Decision, ...]
    comparison: PolicyTruth
    n_sent: dict[str, int]
    mail: ReceivedMail | None

    def lines(self, address: str) -> tuple[str, ...]:
        """The five-line result."""
        by_channel = Counter(one.action.channel if one.action else "no contact" for one in self.decisions)
        truth, n = self.comparison, self.n_customers
        expected = "" if truth.expected is None else f"expected {_units(truth.expected * n)}, "
        question = json.dumps({"customer_id": self.decisions[0].customer_id, "campaign_id": LIVE_CAMPAIGN})
        return (
            f"{n:,} simulated customers, one decision each: "
            + ", ".join(f"{name} {count:,}" for name, count in by_channel.most_common()),
            "Net value beyond doing nothing, were everybody treated: " + expected + self._truth(),
            "Other policies, true (simulated): "
            + ", ".join(f"{name} {_units(value * n)}" for name, value in truth.rivals.items()),
            f"{sum(self.n_sent.values()):,} messages sent: "
            + ", ".join(f"{count:,} by {name}" for name, count in sorted(self.n_sent.items())),
            f"See {address} - or ask: curl -XPOST {address}/v1/decisions -H 'content-type: application/json' -d '{question}'",
        )

    def _truth(self) -> str:
        live, share = _units(self.comparison.live * self.n_customers), self.comparison.percent_of_oracle
        return f"true (simulated) {live}, {share:.0f} % of what full knowledge would earn"


def _units(minor: float) -> str:
    return f"{minor / 100:,.0f}"


def run(settings: Settings, n_customers: int, seed: int, *, leave_running: bool) -> None:
    """Play the whole job, say what came of it, and leave the service running.

    Args:
        settings: Of the installation that is made; see `installation_for`.
        n_customers: Size of the market.
        seed: Of the market, the training and every draw.
        leave_running: Whether to serve until interrupted.
    """
    with SmtpSink() as sink:
        settings = installation_for(settings, "simulated").model_copy(update={"smtp_port": sink.port})
        if leave_running:
            require_free_port(settings)
        result = play(settings, n_customers, seed, sink)
        show_mail(result.mail)
        conclude(result.lines(address_of(settings)))
        if leave_running:
            serve(settings)


def play(settings: Settings, n_customers: int, seed: int, sink: SmtpSink) -> DemoResult:
    """The same in a fresh installation, without a word on standard output."""
    stages = Stages()
    today = datetime.now(UTC).replace(hour=6, minute=0, second=0, microsecond=0)
    live_at = today - timedelta(days=_DAYS_AGO)
    rng = np.random.default_rng([seed, 1])
    with stages.stage("a simulated retail market and its history") as step:
        market = Market("retail", n_customers, seed)
        engine = open_history(settings)
        warm_up = _write_history(engine, market, live_at, rng, step)
    workspace, registry = open_features(settings, engine), open_registry(settings)
    with stages.stage("features, models, evaluation, registry") as step:
        published = train_and_publish(
            engine,
            workspace,
            registry,
            warm_up.campaign_id,
            as_of=live_at,
            seed=seed,
            promote=True,
            progress=step,
        )
    with stages.stage("features of everybody into the online store"):
        materialize(workspace, live_at)
    features = FeatureReader(workspace)
    live = replace(
        warm_up,
        campaign_id=LIVE_CAMPAIGN,
        policy=PolicyName.BANDIT,
        experiment=Experiment(experiment_id=LIVE_CAMPAIGN, holdout_share=0.1, control_share=0.2),
    )
    with engine.begin() as conn:
        save_campaign(conn, live, live_at)
    bundle = published.trained.bundle if published.promoted else None
    with stages.stage("what each policy is truly worth in this market"):
        comparison = true_values(market, engine, features, live, bundle, live_at)
    with stages.stage("one decision for every customer") as step:
        decisions = _decide(settings, market, live_at, step)
    with stages.stage("messages through the outbox") as step:
        n_sent = _dispatch(settings, engine, live_at, step)
    with stages.stage("outcomes, rewards, features of today"):
        _play_outcomes(engine, market, live, decisions, live_at, rng)
        materialize(workspace, datetime.now(UTC))
    engine.dispose()
    return DemoResult(
        n_customers=n_customers,
        published=published,
        decisions=tuple(decisions),
        comparison=comparison,
        n_sent=n_sent,
        mail=sink.received[0] if sink.received else None,
    )


def _write_history(
    engine: Engine, market: Market, ends_at: datetime, rng: np.random.Generator, step: Callable[[str], None]
) -> Campaign:
    """Write what the company knows by then; the campaign whose contacts were drawn at random."""
    history = simulate_history(market, ends_at, rng, step)
    # Nobody was held out of it: actions were drawn at random, not arms.
    campaign = replace(history.campaign, experiment=Experiment(experiment_id=history.campaign.campaign_id))
    step("writing it into the database")
    with engine.begin() as conn:
        for channel in market.channels().values():
            save_channel(conn, channel, history.begins_at)
        save_campaign(conn, campaign, history.begins_at)
        append_customers(conn, history.customers)
        append_identities(conn, history.identities)
        append_consents(conn, history.consents)
        append_decisions(conn, history.log.decisions())
        append_interactions(conn, history.interactions, ends_at)
    return campaign


def _decide(settings: Settings, market: Market, now: datetime, step: Callable[[str], None]) -> list[Decision]:
    """Ask the service's own decider, a thousand customers at a time."""
    service = build(replace(service_config(settings), run_dispatcher=False))
    service.start()
    try:
        decisions: list[Decision] = []
        ids = market.customer_ids()
        for start in range(0, len(ids), _BATCH):
            requests = [
                DecisionRequest(
                    campaign_id=LIVE_CAMPAIGN,
                    customer_id=customer_id,
                    # The same draw at every run: the demonstration can be repeated.
                    decision_id=str(uuid5(NAMESPACE_URL, f"{LIVE_CAMPAIGN}/{customer_id}")),
                )
                for customer_id in ids[start : start + _BATCH]
            ]
            for answer in service.decider.decide_many(requests, now):
                if not isinstance(answer, Decision):
                    raise answer
                decisions.append(answer)
            step(f"{len(decisions):,} of {len(ids):,}")
        return decisions
    finally:
        service.stop()


def _dispatch(
    settings: Settings, engine: Engine, now: datetime, step: Callable[[str], None]
) -> dict[str, int]:
    """Let the market's clock run for a day, send what falls due, and count what went out by channel."""
    dispatcher, adapters = build_dispatcher(service_config(settings), engine)

    async def send() -> None:
        for tick in range(int(_SEND_FOR / _SEND_EVERY)):
            clock = now + tick * _SEND_EVERY
            while (await dispatcher.run_once(clock)).claimed:
                pass
            step(f"{clock:%d %B %H:%M} UTC")
        for adapter in adapters:
            await adapter.aclose()

    asyncio.run(send())
    with engine.connect() as conn:
        rows = conn.execute(
            select(outbox.c.provider, func.count().label("n"))
            .where(outbox.c.status == "sent")
            .group_by(outbox.c.provider)
        )
        return {row.provider: row.n for row in rows}


def _play_outcomes(
    engine: Engine,
    market: Market,
    live: Campaign,
    decisions: Sequence[Decision],
    live_at: datetime,
    rng: np.random.Generator,
) -> None:
    """What the simulated customers did with the live campaign, as the channels report it."""
    grid, rows = live.grid, np.arange(market.n_customers)
    actions = np.array([_index(grid, one) for one in decisions])
    start_at = market.start_at(rows, actions, live, live_at)
    outcomes = market.respond(rows, actions, start_at, rng)
    facts = market.interactions(outcomes, [one.decision_id for one in decisions], live.campaign_id)
    # What was sent is the dispatcher's to say.
    heard = [fact for fact in facts if fact.kind is not InteractionKind.SENT]
    with engine.begin() as conn:
        append_interactions(conn, heard, live_at + timedelta(days=_DAYS_AGO))
        append_interactions(conn, market.everyday(live_at, _DAYS_AGO), live_at + timedelta(days=_DAYS_AGO))
    settle_in_parts(engine, datetime.now(UTC))


def _index(grid: ActionGrid, decision: Decision) -> int:
    action = decision.action
    if action is None:
        return grid.no_contact
    return grid.index(grid.offers.index(action.offer), grid.channels.index(action.channel), action.slot)

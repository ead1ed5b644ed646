"""The bandit learns while the service goes on: once from each contact, in one process, without a gap."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
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
from features.history.sole import sole_holder
from features.history.tables import interactions
from features.registry import ModelRegistry
from features.workspace import FeatureWorkspace
from models.domain.errors import ConflictError, NotFoundError
from models.domain.experiment import Experiment
from training.day_one import publish_prior
from training.learner import HEARD_AFTER, learn_step, learned_until
from training.opened import open_bundle
from training.simulator.market import Market
from training.simulator.randomised import randomised_log

START = datetime(2024, 1, 8, 1, tzinfo=UTC)
DAYS = 4
CAMPAIGN = "simulated_retail"
SILENT = "direct_mail"


@pytest.fixture
def log(engine: Engine) -> Market:
    """Four days of a simulated market whose contacts were drawn at random."""
    market = Market("retail", 120, seed=3, withheld=("web_push", "whatsapp", "call"))
    campaign = market.campaign(START, days=365, experiment=Experiment(experiment_id="none"))
    with engine.begin() as conn:
        for channel in market.channels().values():
            save_channel(conn, channel, START)
        save_campaign(conn, campaign, START)
        append_customers(conn, market.customers(START))
        append_identities(conn, market.identities(START))
        append_consents(conn, market.consents(START))
        log = randomised_log(market, campaign, START, DAYS, 30, 0.2, np.random.default_rng(3))
        append_decisions(conn, log.decisions())
        append_interactions(conn, log.interactions, START + timedelta(days=DAYS + 8))
    return market


@pytest.fixture
def registry(log: Market, engine: Engine, tmp_path: Path) -> ModelRegistry:
    """With the prior of the campaign as champion, made when the log began."""
    registry = ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "mlartifacts")
    publish_prior(engine, registry, CAMPAIGN, START)
    return registry


@pytest.fixture
def workspace(registry: ModelRegistry, engine: Engine, tmp_path: Path) -> FeatureWorkspace:
    workspace = FeatureWorkspace(tmp_path, engine)
    workspace.define()
    return workspace


def test_each_contact_is_learned_from_once_whatever_the_steps(
    engine: Engine, workspace: FeatureWorkspace, registry: ModelRegistry, log: Market, tmp_path: Path
) -> None:
    end = START + timedelta(days=DAYS) + HEARD_AFTER
    whole = ModelRegistry(f"sqlite:///{tmp_path / 'whole.db'}", tmp_path / "whole")
    publish_prior(engine, whole, CAMPAIGN, START)

    steps = [
        learn_step(engine, workspace, registry, CAMPAIGN, START + timedelta(days=days) + HEARD_AFTER)
        for days in (0, 2, 2, DAYS)
    ]
    at_once = learn_step(engine, workspace, whole, CAMPAIGN, end)

    assert [step.version for step in steps] == [None, 2, None, 3]
    assert steps[1].n_events > 10
    assert sum(step.n_events for step in steps) == at_once.n_events
    mine, theirs = (open_bundle(one.load()).bandit for one in (registry, whole))
    assert mine is not None
    assert theirs is not None
    assert mine.version == theirs.version
    assert learned_until(registry.load(), CAMPAIGN) == START + timedelta(days=DAYS)
    # Silence on a channel that reports nothing is no news, and no machine's open is.
    with engine.connect() as conn:
        sent = conn.scalar(select(func.count()).where(interactions.c.kind == "sent"))
    assert SILENT in mine.corrections.channels
    assert sent is None or at_once.n_events < sent
    # The response model has not changed, and a rollback does not lead to yesterday's bandit.
    assert registry.load(1).response == registry.load(3).response
    with pytest.raises(ConflictError, match="no former champion"):
        registry.rollback()


def test_a_champion_promoted_meanwhile_is_not_overwritten(
    engine: Engine, workspace: FeatureWorkspace, registry: ModelRegistry
) -> None:
    other = registry.publish(registry.load(1), {}, {}, "# Another")
    registry.promote(other)
    with pytest.raises(ConflictError, match="version 1 is not champion"):
        registry.advance(1, 1)
    step = learn_step(engine, workspace, registry, CAMPAIGN, START + timedelta(days=2) + HEARD_AFTER)
    assert step.version == registry.champion_version() == other + 1
    assert registry.rollback() == 1


def test_without_a_champion_there_is_nothing_to_learn(
    engine: Engine, workspace: FeatureWorkspace, tmp_path: Path
) -> None:
    empty = ModelRegistry(f"sqlite:///{tmp_path / 'empty.db'}", tmp_path / "empty")
    with pytest.raises(NotFoundError, match="champion"):
        learn_step(engine, workspace, empty, CAMPAIGN, START)


def test_one_process_at_a_time_is_the_learner(engine: Engine) -> None:
    with sole_holder(engine, "learner"):
        with (
            pytest.raises(ConflictError, match="another process is the learner"),
            sole_holder(engine, "learner"),
        ):
            pass
        with sole_holder(engine, "painter"):
            pass
    with sole_holder(engine, "learner"):
        pass

"""Train, publish, and promote where the evidence allows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from features.registry import ModelRegistry
from features.workspace import FeatureWorkspace
from training.fit import TrainedBundle, train


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A trained bundle in the registry.

    Attributes:
        version: Its number.
        promoted: Whether it is champion now.
    """

    version: int
    promoted: bool
    trained: TrainedBundle


def train_and_publish(
    engine: Engine,
    workspace: FeatureWorkspace,
    registry: ModelRegistry,
    campaign_id: str,
    *,
    as_of: datetime,
    seed: int = 0,
    promote: bool = False,
    attention_value_minor: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> Published:
    """Train a bundle, compare it with the champion, publish it as challenger.

    Args:
        engine: The history.
        workspace: Its features.
        registry: Where it is published.
        campaign_id: The campaign.
        as_of: Later facts are ignored.
        seed: Same history and seed, same bundle.
        promote: Make it champion where off-policy evaluation, calibration and guardrails agree.
        attention_value_minor: As in `training.fit.train`.
        progress: Told in words what is being done.
    """
    champion = None if registry.champion_version() is None else registry.load()
    trained = train(
        engine,
        workspace,
        campaign_id,
        as_of=as_of,
        seed=seed,
        champion=champion,
        attention_value_minor=attention_value_minor,
        progress=progress,
    )
    report = trained.report
    version = registry.publish(trained.bundle, report.params(), report.metrics(), report.to_markdown())
    promoted = promote and report.promotion.promote
    if promoted:
        registry.promote(version)
    return Published(version=version, promoted=promoted, trained=trained)

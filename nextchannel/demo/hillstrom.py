"""The main job on real data: the randomised e-mail experiment that MineThatData published in 2008."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

from features.offline import materialize
from models.evaluation.estimate import Estimate
from nextchannel.commands.installation import open_features, open_history, open_registry
from nextchannel.demo.stages import Stages, address_of, conclude, installation_for, require_free_port
from nextchannel.service import serve
from nextchannel.settings import Settings
from training.experiment_report import ExperimentOutcome, put_history, report
from training.hillstrom import HILLSTROM

# The outcomes span two weeks: mailed this long ago, all of them are known today.
_DAYS_AGO = 16


def run(settings: Settings, seed: int, *, leave_running: bool) -> None:
    """Train on a random half, decide for the other half, and say honestly what that is worth.

    Args:
        settings: Where the data set is looked for (`data_dir`), and of the installation that is made.
        seed: Of the cut into halves and of the training.
        leave_running: Whether to serve the page until interrupted.
    """
    data_dir, settings = settings.data_dir, installation_for(settings, "hillstrom")
    if leave_running:
        require_free_port(settings)
    stages = Stages()
    mailed_at = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0) - timedelta(
        days=_DAYS_AGO
    )
    with stages.stage("the experiment into the history"):
        rows = HILLSTROM.load(None, data_dir or settings.home / "data")
        engine = open_history(settings)
        put_history(engine, HILLSTROM, rows, mailed_at, seed)
    workspace, registry = open_features(settings, engine), open_registry(settings)
    with stages.stage("features, models, and what the other half would have earned") as step:
        result = report(engine, workspace, HILLSTROM, rows, mailed_at, seed, step)
    with stages.stage("the model into the registry, features into the online store"):
        trained = result.trained
        version = registry.publish(
            trained.bundle, trained.report.params(), trained.report.metrics(), trained.report.to_markdown()
        )
        if trained.report.promotion.promote:
            registry.promote(version)
        materialize(workspace, datetime.now(UTC))
    engine.dispose()
    sys.stdout.write("\n" + result.to_markdown() + "\n")
    conclude(_lines(result, address_of(settings)))
    if leave_running:
        serve(settings)


def _lines(result: ExperimentOutcome, address: str) -> tuple[str, ...]:
    """The five-line result, in dollars a customer."""
    constants = ", ".join(f"{name} {_dollars(value)}" for name, value in result.comparison.constants.items())
    return (
        f"{result.n_learned + result.n_held_out:,} real customers of 2008: learned from {result.n_learned:,}, decided for {result.n_held_out:,}: "
        + ", ".join(f"{name} {share:.0%}" for name, share in result.shares.items()),
        f"nextchannel would have earned {_dollars(result.comparison.value)} a customer (doubly robust, 95 % interval)",
        f"For everybody the same: {constants}",
        f"Verdict: {result.verdict}",
        f"See {address} for the funnel and the experiment",
    )


def _dollars(estimate: Estimate) -> str:
    value, low, high = (minor / 100 for minor in (estimate.value, estimate.low, estimate.high))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"

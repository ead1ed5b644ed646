"""Learn from one random half of a published experiment, decide for the other, and say honestly what that earns.

The same path as any other history: customers, decisions and interactions are appended, rewards settled, features
read through Feast, the model trained by `training.fit.train` and the choices made by `models.choose`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from sqlalchemy import Engine

from features.history.append import append_decisions, append_interactions
from features.history.campaigns import save_campaign
from features.history.channels import save_channel
from features.history.register import register
from features.history.rewards import settle_in_parts
from features.workspace import FeatureWorkspace
from models.choice import FloatArray
from models.domain.action import ActionGrid
from models.domain.campaign import Campaign
from models.evaluation.estimate import Estimate
from models.evaluation.off_policy import dr_difference, snips
from models.evaluation.overlap import Withheld
from models.evaluation.verdict import PolicyComparison, compare_with_constants
from training.choices import Chooser, ComputedFeatures
from training.datasets import logged_decisions
from training.evaluation import rewards_of
from training.fit import TrainedBundle, train
from training.public_experiment import PublicExperiment, mean_value_minor

_POLICY = "nextchannel"
_SETTLED_AFTER = timedelta(days=1)
_ROWS_AT_ONCE = 20_000
_OF_THE_DESIGN = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentOutcome:
    """What the policy and the constant actions earn a customer of the held-out half, in the experiment's minor unit.

    Intervals allow for any correlation within the experiment's units.

    Attributes:
        experiment: Which.
        trained: The bundle and its own report.
        n_learned: Customers in the half learned from.
        n_held_out: Customers in the half decided for.
        n_units: Units that these belong to.
        shares: Share of the held-out half that gets each action, by name.
        comparison: Doubly robust values and the difference to the best constant action.
        checks: SNIPS by name of the policy.
        ahead: The policy minus each constant action, paired, doubly robust.
    """

    experiment: PublicExperiment
    trained: TrainedBundle
    n_learned: int
    n_held_out: int
    n_units: int
    shares: Mapping[str, float]
    comparison: PolicyComparison
    checks: Mapping[str, Estimate]
    ahead: Mapping[str, Estimate]

    @property
    def verdict(self) -> str:
        """The verdict as a sentence, in whole units of money or of the outcome."""
        return f"nextchannel is {self.comparison.words(minor_per_unit=self.experiment.minor_per_unit)}."

    def to_markdown(self) -> str:
        """The page."""
        values = {_POLICY: self.comparison.value, **self.comparison.constants}
        lines = [
            f"# {self.experiment.title}",
            "",
            self._origin(),
            "",
            "| policy | doubly robust | SNIPS | nextchannel beyond it |",
            "|---|---|---|---|",
            *(
                f"| {name} | {value} | {self.checks[name]} | {self.ahead.get(name, '')} |"
                for name, value in values.items()
            ),
            "",
            "nextchannel chooses: "
            + ", ".join(f"{name} {share:.0%}" for name, share in self.shares.items())
            + ".",
            "",
            f"**{self.verdict}**",
            "",
        ]
        return "\n".join(lines)

    def _origin(self) -> str:
        return (
            f"Learned from {self.n_learned:,} customers, decided for the {self.n_held_out:,} others. "
            f"{self.experiment.unit_of_value}, with 95 % intervals"
            + ("." if self.n_units == self.n_held_out else f" by cluster ({self.n_units:,}).")
        )


def put_history(
    engine: Engine, experiment: PublicExperiment, rows: pl.DataFrame, ran_at: datetime, seed: int = 0
) -> tuple[Campaign, Campaign]:
    """Put the experiment into a history as two campaigns: the half to learn from and the half to decide for.

    What a conversion is worth comes from the first half alone.

    Args:
        engine: A migrated history.
        experiment: Which.
        rows: Its frame, or some rows of it.
        ran_at: When the experiment is to have run.
        seed: Of the cut into halves.

    Returns:
        The two campaigns.
    """
    first = pl.Series([experiment.in_half(unit, seed) for unit in rows["unit"]])
    halves = {experiment.name: rows.filter(first), _held_out(experiment): rows.filter(~first)}
    margin = mean_value_minor(halves[experiment.name])
    received_at = ran_at + experiment.window
    stored = []
    with engine.begin() as conn:
        save_channel(conn, experiment.channel, ran_at)
        for some in rows.iter_slices(_ROWS_AT_ONCE):
            register(conn, list(experiment.customers(some, ran_at)), ran_at)
        for campaign_id, half in halves.items():
            campaign = save_campaign(conn, experiment.campaign(campaign_id, margin, ran_at), ran_at)
            for some in half.iter_slices(_ROWS_AT_ONCE):
                append_decisions(conn, list(experiment.decisions(some, campaign, ran_at)))
                append_interactions(conn, list(experiment.interactions(some, campaign, ran_at)), received_at)
            stored.append(campaign)
    return stored[0], stored[1]


def report(
    engine: Engine,
    workspace: FeatureWorkspace,
    experiment: PublicExperiment,
    rows: pl.DataFrame,
    ran_at: datetime,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> ExperimentOutcome:
    """Train on the one half, decide for the other, compare.

    Args:
        engine: A history that `put_history` has filled.
        workspace: Its features.
        experiment: As given to `put_history`.
        rows: As given to `put_history`.
        ran_at: As given to `put_history`.
        seed: Of the training.
        progress: Told in words what is being done.
    """
    say = progress or (lambda _words: None)
    as_of = ran_at + experiment.window + _SETTLED_AFTER
    # No file says anything of unsubscriptions, so attention has no price here.
    trained = train(
        engine,
        workspace,
        experiment.name,
        as_of=as_of,
        seed=seed,
        attention_value_minor=0.0,
        progress=progress,
    )
    say("the other half: choices, and what they would have earned")
    held_out = _held_out(experiment)
    settle_in_parts(engine, as_of, held_out)
    logged = logged_decisions(engine, workspace, held_out, as_of)
    chooser = Chooser.open(engine, ComputedFeatures(workspace), held_out, trained.bundle)
    target, q, grid = _chosen(chooser, logged.customer_ids, ran_at)
    unit_of = dict(zip(rows["customer_id"], rows["unit"].rank("dense").cast(pl.Int64), strict=True))
    clusters = np.array([unit_of[customer_id] for customer_id in logged.customer_ids], dtype=np.int64)
    names = {f"all {offer}": index for index, offer in enumerate(grid.offers)}
    constants = {**names, "nobody": grid.no_contact}
    outcomes = logged.rows
    reward, propensity = outcomes.net_value_minor, outcomes.propensity
    comparison = compare_with_constants(
        _POLICY,
        reward,
        propensity,
        outcomes.action,
        target,
        q,
        constants,
        clusters=clusters,
        # The experiment was drawn so: whoever always takes the rarest action matches about its propensity of the rows.
        min_ess_share=_OF_THE_DESIGN * float(propensity.min()),
    )
    if isinstance(comparison, Withheld):
        raise AssertionError(f"everybody got each action with a known probability, and yet: {comparison}")
    at = np.arange(len(outcomes))
    expected = np.einsum("na,na->n", target, q)
    always = {name: (outcomes.action == index).astype(np.float64) for name, index in constants.items()}
    return ExperimentOutcome(
        experiment=experiment,
        trained=trained,
        n_learned=trained.report.n_learned + trained.report.n_replayed + trained.report.evaluation.n_rows,
        n_held_out=len(outcomes),
        n_units=len(np.unique(clusters)),
        shares={name: float(target[:, index].mean()) for name, index in constants.items()},
        comparison=comparison,
        checks={_POLICY: comparison.check}
        | {name: snips(reward, propensity, same, clusters=clusters) for name, same in always.items()},
        ahead={
            name: dr_difference(
                reward,
                propensity,
                target[at, outcomes.action],
                same,
                q[at, outcomes.action],
                expected,
                q[:, constants[name]],
                clusters=clusters,
            )
            for name, same in always.items()
        },
    )


def _held_out(experiment: PublicExperiment) -> str:
    return f"{experiment.name}_held_out"


def _chosen(
    chooser: Chooser, customer_ids: Sequence[str], now: datetime
) -> tuple[FloatArray, FloatArray, ActionGrid]:
    """Probabilities and predicted rewards of every action, shape (n, A) each, in chunks of bounded memory."""
    target, q = [], []
    for start in range(0, len(customer_ids), _ROWS_AT_ONCE):
        _, choices = chooser.choose(customer_ids[start : start + _ROWS_AT_ONCE], now)
        assert choices.predictions is not None
        target.append(choices.probabilities)
        q.append(rewards_of(choices.predictions, chooser.campaign, chooser.channels, choices.grid))
    return np.concatenate(target), np.concatenate(q), chooser.campaign.grid

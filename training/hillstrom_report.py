"""Learn from one random half of the experiment of 2008, decide for the other, and say honestly what that earns.

The same path as any other history: customers, decisions and interactions are appended, rewards settled, features
read through Feast, the model trained by `training.fit.train` and the choices made by `models.choose`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from sqlalchemy import Engine

from features.history.append import append_decisions, append_interactions
from features.history.query import save_campaign, save_channel
from features.history.rewards import settle_rewards
from features.workspace import FeatureWorkspace
from models.domain.campaign import Campaign
from models.evaluation.estimate import Estimate
from models.evaluation.off_policy import dr_difference, snips
from models.evaluation.overlap import Withheld
from models.evaluation.verdict import PolicyComparison, compare_with_constants
from training import hillstrom
from training.choices import Chooser, ComputedFeatures
from training.datasets import logged_decisions
from training.evaluation import rewards_of
from training.fit import TrainedBundle, train
from training.imports import append_customer_rows

CAMPAIGN = "hillstrom"
HELD_OUT = "hillstrom_held_out"
_POLICY = "nextchannel"
_SETTLED_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class HillstromReport:
    """What the policy and the constant actions earn a customer of the held-out half, in cents.

    Attributes:
        trained: The bundle and its own report.
        n_learned: Customers in the half learned from.
        n_held_out: Customers in the half decided for.
        shares: Share of the held-out half that gets each action, by name.
        comparison: Doubly robust values and the difference to the best constant action.
        checks: SNIPS by name of the policy.
        ahead: The policy minus each constant action, paired, doubly robust.
    """

    trained: TrainedBundle
    n_learned: int
    n_held_out: int
    shares: Mapping[str, float]
    comparison: PolicyComparison
    checks: Mapping[str, Estimate]
    ahead: Mapping[str, Estimate]

    @property
    def verdict(self) -> str:
        """The verdict as a sentence, in dollars."""
        return f"nextchannel is {self.comparison.words(minor_per_unit=100)}."

    def to_markdown(self) -> str:
        """The page."""
        values = {_POLICY: self.comparison.value, **self.comparison.constants}
        lines = [
            "# The e-mail experiment of 2008 (real data, MineThatData)",
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
            "Cents of spend less cost a customer, with 95 % intervals."
        )


def put_history(
    engine: Engine, rows: pl.DataFrame, mailed_at: datetime, seed: int = 0
) -> tuple[Campaign, Campaign]:
    """Put the experiment into a history as two campaigns: the half to learn from and the half to decide for.

    What a conversion is worth comes from the first half alone.

    Args:
        engine: A migrated history.
        rows: The file.
        mailed_at: When the experiment is to have been mailed.
        seed: Of the cut into halves.

    Returns:
        The two campaigns.
    """
    first = pl.Series([hillstrom.in_half(customer_id, seed) for customer_id in rows["customer_id"]])
    halves = {CAMPAIGN: rows.filter(first), HELD_OUT: rows.filter(~first)}
    margin = hillstrom.mean_order_minor(halves[CAMPAIGN])
    received_at = mailed_at + hillstrom.WINDOW
    stored = []
    with engine.begin() as conn:
        save_channel(conn, hillstrom.email_channel(), mailed_at)
        append_customer_rows(conn, list(hillstrom.customers(rows, mailed_at)), mailed_at)
        for campaign_id, half in halves.items():
            campaign = save_campaign(conn, hillstrom.campaign(campaign_id, margin, mailed_at), mailed_at)
            append_decisions(conn, list(hillstrom.decisions(half, campaign, mailed_at)))
            append_interactions(conn, list(hillstrom.interactions(half, campaign, mailed_at)), received_at)
            stored.append(campaign)
    return stored[0], stored[1]


def report(
    engine: Engine,
    workspace: FeatureWorkspace,
    mailed_at: datetime,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> HillstromReport:
    """Train on the one half, decide for the other, compare.

    Args:
        engine: A history that `put_history` has filled.
        workspace: Its features.
        mailed_at: As given to `put_history`.
        seed: Of the training.
        progress: Told in words what is being done.
    """
    say = progress or (lambda _words: None)
    as_of = mailed_at + hillstrom.WINDOW + _SETTLED_AFTER
    # The file says nothing of unsubscriptions, so attention has no price here.
    trained = train(
        engine, workspace, CAMPAIGN, as_of=as_of, seed=seed, attention_value_minor=0.0, progress=progress
    )
    say("the other half: choices, and what they would have earned")
    with engine.begin() as conn:
        settle_rewards(conn, as_of, HELD_OUT)
    logged = logged_decisions(engine, workspace, HELD_OUT, as_of)
    chooser = Chooser.open(engine, ComputedFeatures(workspace), HELD_OUT, trained.bundle)
    _, choices = chooser.choose(logged.customer_ids, mailed_at)
    assert choices.predictions is not None
    rows, target = logged.rows, choices.probabilities
    q = rewards_of(choices.predictions, chooser.campaign, chooser.channels, choices.grid)
    names = {f"all {offer}": index for index, offer in enumerate(choices.grid.offers)}
    constants = {**names, "nobody": choices.grid.no_contact}
    comparison = compare_with_constants(
        _POLICY, rows.net_value_minor, rows.propensity, rows.action, target, q, constants
    )
    if isinstance(comparison, Withheld):
        raise AssertionError(f"a third of everybody got each action, and yet: {comparison}")
    at = np.arange(len(rows))
    expected = np.einsum("na,na->n", target, q)
    always = {name: (rows.action == index).astype(np.float64) for name, index in constants.items()}
    return HillstromReport(
        trained=trained,
        n_learned=trained.report.n_learned + trained.report.n_replayed + trained.report.evaluation.n_rows,
        n_held_out=len(rows),
        shares={name: float(target[:, index].mean()) for name, index in constants.items()},
        comparison=comparison,
        checks={_POLICY: comparison.check}
        | {name: snips(rows.net_value_minor, rows.propensity, same) for name, same in always.items()},
        ahead={
            name: dr_difference(
                rows.net_value_minor,
                rows.propensity,
                target[at, rows.action],
                same,
                q[at, rows.action],
                expected,
                q[:, constants[name]],
            )
            for name, same in always.items()
        },
    )

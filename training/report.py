"""The one-page training report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from models.evaluation.estimate import Estimate
from models.evaluation.overlap import Withheld
from models.response.metrics import ResponseMetrics
from models.response.worth import Worth
from training.evaluation import Evaluation
from training.promotion import Promotion


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport:
    """What was learned from what, how well, and whether it may serve.

    Attributes:
        campaign_id: Whose decisions were learned from.
        simulated: Whether customers and outcomes come from a simulator.
        as_of: When.
        learned_until: Decision time of the newest row that the response model saw.
        n_learned: Rows that the response model was fitted on.
        n_replayed: Rows that the bandit was warmed up on, later ones.
        response: How the fit went.
        evaluation: How it did on the rows after those.
        promotion: The verdict.
        importance: Share of the trees' gain by feature, largest first.
    """

    campaign_id: str
    simulated: bool
    as_of: datetime
    learned_until: datetime
    n_learned: int
    n_replayed: int
    response: ResponseMetrics
    evaluation: Evaluation
    promotion: Promotion
    importance: Mapping[str, float]

    def params(self) -> dict[str, str]:
        """What a run was made from."""
        return {
            "campaign_id": self.campaign_id,
            "as_of": self.as_of.isoformat(),
            "learned_until": self.learned_until.isoformat(),
            "simulated": str(self.simulated).lower(),
            "best_constant": self.evaluation.best_constant,
        }

    def metrics(self) -> dict[str, float]:
        """Every finite figure, by a flat name."""
        numbers = dict(self.response.as_numbers())
        numbers["rows.learned"] = self.n_learned
        numbers["rows.replayed"] = self.n_replayed
        numbers["rows.held_out"] = self.evaluation.n_rows
        numbers["expected.net_value_minor"] = self.evaluation.expected_net_value_minor
        numbers["expected.contact_share"] = self.evaluation.contact_share
        for check in self.evaluation.calibration:
            numbers[f"later.{check.name}.calibration_error"] = check.error
            numbers[f"later.{check.name}.auc"] = check.auc
            numbers[f"later.{check.name}.log_loss"] = check.log_loss
        for policy in self.evaluation.policies:
            for kind, estimate in (("dr", policy.value), ("snips", policy.check), ("ahead", policy.ahead)):
                if isinstance(estimate, Estimate):
                    name = f"policy.{_metric_name(policy.name)}.{kind}"
                    numbers[name] = estimate.value
                    numbers[f"{name}.low"] = estimate.low
                    numbers[f"{name}.high"] = estimate.high
        numbers["promote"] = float(self.promotion.promote)
        return {_metric_name(name): number for name, number in numbers.items() if math.isfinite(number)}

    def to_markdown(self) -> str:
        """The page."""
        evaluation = self.evaluation
        title = f"# Training report: {self.campaign_id}{' (simulated)' if self.simulated else ''}"
        lines = [
            title,
            "",
            f"{self.promotion.words}",
            "",
            self._origin(),
            "",
            "## Conditions",
            "",
            *(
                f"- {'yes' if check.passed else '**no**'} - {check.name}: {check.words}"
                for check in self.promotion.checks
            ),
            "",
            "## What policies would have earned, minor units a decision",
            "",
            "| policy | doubly robust | SNIPS | the new policy beyond it |",
            "|---|---|---|---|",
            *(
                f"| {policy.name} | {_cell(policy.value)} | {_cell(policy.check)} | {_cell(policy.ahead)} |"
                for policy in evaluation.policies
            ),
            "",
            f"The best constant action is `{evaluation.best_constant}`, chosen on the decisions learned from.",
            "",
            "## Calibration on later decisions",
            "",
            "| | rows | rate | predicted | error | by chance | AUC |",
            "|---|---|---|---|---|---|---|",
            *(
                f"| {check.name} | {check.n:,} | {check.rate:.4f} | {check.mean_predicted:.4f} | {check.error:.4f} "
                f"| {check.chance_error:.4f} | {check.auc:.3f} |"
                for check in evaluation.calibration
                if check.n
            ),
            "",
            "## Uplift: conversions caused by a contact",
            "",
            "| offer | channel | uplift |",
            "|---|---|---|",
            *(
                f"| {one.offer} | {one.channel} | {one.estimate:+.5f} [{one.low:+.5f}, {one.high:+.5f}] |"
                for one in self.response.uplift
            ),
            "",
            *_what_a_conversion_brings(self.response.worth),
            "",
        ]
        return "\n".join(lines)

    def _origin(self) -> str:
        return (
            f"As of {self.as_of:%Y-%m-%d %H:%M} UTC. Learned from {self.n_learned:,} decisions made until "
            f"{self.learned_until:%Y-%m-%d %H:%M}, warmed up on {self.n_replayed:,} later ones, judged on the "
            f"{self.evaluation.n_rows:,} after those ({self.evaluation.n_explored:,} with something left to chance)."
        )


def _what_a_conversion_brings(worth: Worth) -> list[str]:
    title = "## What a caused conversion brings, as a share of the margin"
    if not worth.n_conversions:
        return [title, "", "The log does not tell: the margins are believed."]
    return [
        f"{title} (from {worth.n_conversions:,} conversions after contacts)",
        "",
        "| offer | share |",
        "|---|---|",
        *(f"| {offer} | {share:.3f} |" for offer, share in zip(worth.offers, worth.shares, strict=True)),
        "",
        f"A conversion at a discount brings {worth.discount:.0%} less than the same at the full price."
        if worth.discount
        else "What a discount takes from a conversion, the log does not tell.",
    ]


def _cell(estimate: Estimate | Withheld | None) -> str:
    if isinstance(estimate, Withheld) and estimate.untried:
        return f"withheld ({estimate.untried:.0%} never tried)"
    if isinstance(estimate, Withheld):
        return f"withheld (ESS {estimate.ess:.0f} of {estimate.n})"
    return "" if estimate is None else str(estimate)


def _metric_name(name: str) -> str:
    """A name as MLflow takes it: letters, digits and `_-. /`."""
    return "".join(sign if sign.isalnum() or sign in "_-. /" else "_" for sign in name)

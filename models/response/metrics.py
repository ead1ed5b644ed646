"""How good a fitted response model is, in figures that a run can be compared by."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.choice import FloatArray
from models.response.boosting import log_loss
from models.response.calibration import Calibration
from models.response.worth import Worth


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbabilityMetrics:
    """How good predicted probabilities are, on later rows; NaN where there are none.

    Attributes:
        n: Rows.
        rate: Share of events.
        log_loss: Nats a row.
        log_loss_of_rate: The same of a model that always says `rate`.
        auc: Probability that an event ranks above a non-event.
        calibration_error: Mean distance of predicted and true rate over ten equal groups.
        calibration: Method chosen.
        calibration_log_losses: Of every method tried.
    """

    n: int
    rate: float
    log_loss: float
    log_loss_of_rate: float
    auc: float
    calibration_error: float
    calibration: str
    calibration_log_losses: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpliftSummary:
    """Mean uplift of one offer on one channel over all logged customers and slots, with its 95 % interval."""

    offer: str
    channel: str
    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseMetrics:
    """What a training run reports.

    Attributes:
        n_rows: Rows of the log.
        n_contacted: Of which contacts.
        n_converted: Of which conversions.
        p_open: Of opens (clicks where a channel cannot tell).
        p_convert: Of conversions without contact.
        noise: Variance of the effect's residual over that of a binary outcome; about 1.
        log_evidence: Of the effect model.
        effect_sd: Prior standard deviation of each part of the effects, as the evidence set it.
        effect_determined: How many coefficients of each part the data determine.
        worth: What a conversion that contact causes brings, by offer, as a share of the margin.
        uplift: By offer and channel.
    """

    n_rows: int
    n_contacted: int
    n_converted: int
    p_open: ProbabilityMetrics
    p_convert: ProbabilityMetrics
    noise: float
    log_evidence: float
    effect_sd: dict[str, float] = field(default_factory=dict)
    effect_determined: dict[str, float] = field(default_factory=dict)
    worth: Worth = field(default_factory=Worth)
    uplift: tuple[UpliftSummary, ...] = ()

    def as_numbers(self) -> dict[str, float]:
        """Every figure that is a finite number, by a flat name such as `p_open.auc`."""
        numbers: dict[str, float] = {
            "n_rows": self.n_rows,
            "n_contacted": self.n_contacted,
            "n_converted": self.n_converted,
            "effect.noise": self.noise,
            "effect.log_evidence": self.log_evidence,
            "worth.n_conversions": self.worth.n_conversions,
            "worth.discount": self.worth.discount,
        }
        for name, part in (("p_open", self.p_open), ("p_convert", self.p_convert)):
            for figure in ("n", "rate", "log_loss", "log_loss_of_rate", "auc", "calibration_error"):
                numbers[f"{name}.{figure}"] = getattr(part, figure)
            for method, loss in part.calibration_log_losses.items():
                numbers[f"{name}.log_loss.{method}"] = loss
        for part_name, sd in self.effect_sd.items():
            numbers[f"effect.sd.{part_name}"] = sd
        for part_name, determined in self.effect_determined.items():
            numbers[f"effect.determined.{part_name}"] = determined
        for offer, share in zip(self.worth.offers, self.worth.shares, strict=True):
            numbers[f"worth.{offer}"] = share
        for summary in self.uplift:
            for figure in ("estimate", "low", "high"):
                numbers[f"uplift.{summary.offer}.{summary.channel}.{figure}"] = getattr(summary, figure)
        return {name: float(value) for name, value in numbers.items() if np.isfinite(value)}


def probability_metrics(
    label: FloatArray, probability: FloatArray, calibration: Calibration
) -> ProbabilityMetrics:
    """Judge probabilities against what happened."""
    rate = float(label.mean()) if len(label) else float("nan")
    return ProbabilityMetrics(
        n=len(label),
        rate=rate,
        log_loss=log_loss(label, probability),
        log_loss_of_rate=log_loss(label, np.full(len(label), rate)),
        auc=auc(label, probability),
        calibration_error=calibration_error(label, probability),
        calibration=calibration.method,
        calibration_log_losses=dict(calibration.log_losses),
    )


def auc(label: FloatArray, probability: FloatArray) -> float:
    """Probability that an event ranks above a non-event, ties counted half; NaN with only one kind.

    Example:
        >>> auc(np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.1, 0.4, 0.5, 0.8]))
        0.75
    """
    from scipy.stats import rankdata  # a process that decides does without

    events = label.sum()
    others = len(label) - events
    if not events or not others:
        return float("nan")
    ranks = rankdata(probability)[label == 1].sum()
    return float((ranks - events * (events + 1) / 2) / (events * others))


def calibration_error(label: FloatArray, probability: FloatArray, groups: int = 10) -> float:
    """Expected calibration error: mean |predicted - true rate| over groups of equal size, ranked by prediction.

    Example:
        >>> round(calibration_error(np.array([0.0, 1.0]), np.array([0.2, 0.9]), groups=2), 2)
        0.15
    """
    if not len(label):
        return float("nan")
    gap = (label - probability)[np.argsort(probability, kind="stable")]
    return float(sum(abs(part.sum()) for part in np.array_split(gap, groups)) / len(label))

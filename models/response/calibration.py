"""Make a probability mean what it says: raw, Platt, beta or isotonic, whichever later data prefers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from models.choice import FloatArray
from models.response.boosting import log_loss, logit, sigmoid

# Below about this many positives isotonic steps follow noise: measured at a base rate of 5 %.
ISOTONIC_MIN_POSITIVES = 10_000
_MIN_POSITIVES = 50
# A calibration must earn its place: this much of the raw log-loss, or the model stays raw.
_WORTHWHILE = 1e-4
_MAX_KNOTS = 200
# Probabilities are held this far from 0 and 1, where logarithms end.
_LEAST = 1e-9
_FURTHEST_LOGIT = float(logit(np.float64(1 - _LEAST)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A monotone map of probabilities.

    platt:     logit(q) = parameters[0] + parameters[1] * logit(p)
    beta:      logit(q) = parameters[0] + parameters[1] * log(p) - parameters[2] * log(1 - p)
    isotonic:  q = linear between the knots
    raw:       q = p

    Attributes:
        method: One of the four names.
        parameters: As above.
        knots: Probabilities p of the isotonic map, and their q.
        log_losses: Of every method tried, on rows that it was not fitted on, nats a row; empty without rows.

    References:
        Kull, Silva Filho, Flach (2017), Beta calibration.
    """

    method: str = "raw"
    parameters: tuple[float, ...] = ()
    knots: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    log_losses: Mapping[str, float] = field(default_factory=dict)

    def apply(self, probability: FloatArray) -> FloatArray:
        """The calibrated probability, same shape."""
        if self.method == "platt":
            return sigmoid(self.parameters[0] + self.parameters[1] * logit(probability))
        if self.method == "beta":
            p = np.clip(probability, _LEAST, 1 - _LEAST)
            constant, low, high = self.parameters
            return sigmoid(constant + low * np.log(p) - high * np.log(1 - p))
        if self.method == "isotonic":
            return np.interp(probability, *self.knots)
        return probability

    def of_logit(self, raw: FloatArray) -> FloatArray:
        """`apply(sigmoid(raw))`: a map of logits needs no way through the raw probability."""
        if self.method == "platt":
            return sigmoid(self.parameters[0] + self.parameters[1] * raw)
        if self.method == "beta":
            # log(p) of the logit, and log(1 - p) = log(p) - logit.
            held = np.minimum(np.maximum(raw, -_FURTHEST_LOGIT), _FURTHEST_LOGIT)
            constant, low, high = self.parameters
            return sigmoid(constant + high * held - (low - high) * np.log1p(np.exp(-held)))
        return self.apply(sigmoid(raw))


def fit_calibration(label: FloatArray, probability: FloatArray, seed: int) -> Calibration:
    """Choose and fit a calibration on data that the model was not fitted on.

    Every method is fitted on one random half and judged by log-loss on the other; the winner is fitted
    again on both. Raw stays where it wins, or where there are too few positives to tell.

    Args:
        label: 1 or 0, shape (n,).
        probability: The model's, shape (n,).
        seed: For the halves.
    """
    half = np.random.default_rng(seed).random(len(label)) < 0.5
    positives = float(label.sum())
    if half.all():
        return Calibration()
    losses = {"raw": log_loss(label[~half], probability[~half])}
    if min(positives, len(label) - positives) < _MIN_POSITIVES:
        return Calibration(log_losses=losses)
    methods = ["platt", "beta"] + ["isotonic"] * (positives > ISOTONIC_MIN_POSITIVES)
    for method in methods:
        tried = _fit(method, label[half], probability[half])
        if tried is not None:
            losses[method] = log_loss(label[~half], tried.apply(probability[~half]))
    best = min(losses, key=lambda name: losses[name])
    if losses["raw"] - losses[best] <= _WORTHWHILE * losses["raw"]:
        best = "raw"
    winner = _fit(best, label, probability) or Calibration()
    return Calibration(
        method=winner.method, parameters=winner.parameters, knots=winner.knots, log_losses=losses
    )


def _fit(method: str, label: FloatArray, probability: FloatArray) -> Calibration | None:
    """The fitted map, or None where it would turn the order round."""
    from scipy.optimize import isotonic_regression  # a process that decides does without

    if method == "raw":
        return Calibration()
    if method == "isotonic":
        order = np.argsort(probability, kind="stable")
        smooth = isotonic_regression(label[order], increasing=True).x
        # Never certain: a map that says 0 or 1 pays without bound when it is wrong.
        q = np.clip(smooth, 1 / (len(label) + 2), 1 - 1 / (len(label) + 2))
        at = np.unique(np.linspace(0, len(label) - 1, _MAX_KNOTS).astype(np.intp))
        return Calibration(
            method=method, knots=(tuple(probability[order][at].tolist()), tuple(q[at].tolist()))
        )
    p = np.clip(probability, _LEAST, 1 - _LEAST)
    columns = [logit(p)] if method == "platt" else [np.log(p), -np.log(1 - p)]
    weights = _logistic(np.column_stack([np.ones(len(p)), *columns]), label)
    if (weights[1:] < 0).any() or not (weights[1:] > 0).any():
        return None
    return Calibration(method=method, parameters=tuple(weights.tolist()))


def _logistic(rows: FloatArray, label: FloatArray) -> FloatArray:
    """Logistic regression by Newton steps from the identity map, with a slight pull towards it."""
    start = np.concatenate([[0.0], np.ones(rows.shape[1] - 1)])
    weights = start.copy()
    for _ in range(25):
        p = sigmoid(rows @ weights)
        gradient = rows.T @ (label - p) - (weights - start)
        hessian = (rows * (p * (1 - p))[:, None]).T @ rows + np.eye(len(weights))
        step = np.linalg.solve(hessian, gradient)
        weights = weights + np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-8:
            break
    return weights

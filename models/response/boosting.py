"""LightGBM as a function of arrays: trees that add to a logit, kept as LightGBM's own text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.choice import Float32Array, FloatArray
from models.response.forest import Tree, read_trees
from models.response.thinned import reply_logit, sensitivity

if TYPE_CHECKING:
    import lightgbm

# Fewer events (or non-events) than this cannot tell one customer from another.
MIN_EVENTS = 20
MAX_TREES = 200
_PATIENCE = 20
# The same trees on every machine and with every number of threads.
_PARAMETERS = {
    "objective": "binary",
    "learning_rate": 0.08,
    "num_leaves": 15,
    "max_bin": 127,
    # In units of p * (1 - p): a leaf needs evidence, whatever the base rate.
    "min_sum_hessian_in_leaf": 5.0,
    "min_data_in_leaf": 20,
    "lambda_l2": 5.0,
    "feature_fraction": 0.7,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}


class Trees:
    """Boosted trees, as a sum that adds to a logit.

    Args:
        text: LightGBM's own text of the model.

    Raises:
        ValueError: it is none.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.each: tuple[Tree, ...] = read_trees(text)

    @cached_property
    def booster(self) -> lightgbm.Booster:
        """The same as LightGBM's object."""
        import lightgbm

        return lightgbm.Booster(model_str=self.text)

    @property
    def n_trees(self) -> int:
        """Number of trees."""
        return int(self.booster.num_trees())

    def logits(self, rows: Float32Array) -> FloatArray:
        """What the trees add to the logit of every row, shape (n,): the reference for `models.response.forest`."""
        if not len(rows):
            return np.zeros(0)
        # num_threads counts only here: LightGBM ignores the constructor's.
        raw = self.booster.predict(rows, raw_score=True, num_threads=1, validate_features=False)
        return np.asarray(raw, dtype=np.float64)

    def gains(self) -> FloatArray:
        """Total gain of the splits on every column, shape (F,)."""
        return np.asarray(self.booster.feature_importance("gain"), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """What trees are fitted on.

    Attributes:
        rows: Shape (n, F); NaN where missing.
        label: 1 or 0, shape (n,).
        offset: Logit that the trees add to, shape (n,).
        per_reply: Where a label tells of one in k of the events that the logit is of, k >= 1, shape (n,); None where it tells of all
            (see `models.response.thinned`).
    """

    rows: Float32Array
    label: FloatArray
    offset: FloatArray
    per_reply: FloatArray | None = None

    def log_loss(self, added: FloatArray | float = 0.0) -> float:
        """Of the labels, where the trees add so much to the logits."""
        logits = self.offset + added
        return log_loss(
            self.label,
            sigmoid(logits if self.per_reply is None else reply_logit(logits, self.per_reply)),
        )


def fit_trees(
    examples: Examples,
    *,
    seed: int,
    n_trees: int = MAX_TREES,
    later: Examples | None = None,
    categorical: Sequence[int] = (),
) -> Trees | None:
    """Fit trees on top of a given logit.

    Args:
        examples: With at least 20 events and non-events.
        seed: For the sampling of columns.
        n_trees: Most trees.
        later: Later data; trees are added only while they help there.
        categorical: Columns that hold codes.

    Returns:
        The trees, or None where the events are too few or where no tree helps the later data.
    """
    events = float(examples.label.sum())
    if n_trees == 0 or min(events, len(examples.label) - events) < MIN_EVENTS:
        return None
    import lightgbm

    columns = list(categorical)
    train = lightgbm.Dataset(
        examples.rows, examples.label, init_score=examples.offset, categorical_feature=columns
    )
    how: dict[str, Any] = {}
    parameters: dict[str, Any] = _PARAMETERS | {"seed": seed}
    thinned = examples.per_reply is not None
    if thinned:
        parameters |= {"objective": _thinned_objective(examples), "metric": "none"}
    if later is not None and 0 < later.label.sum() < len(later.label):
        how = {
            "valid_sets": [
                lightgbm.Dataset(later.rows, later.label, init_score=later.offset, reference=train)
            ],
            "callbacks": [lightgbm.early_stopping(_PATIENCE, verbose=False)],
            "feval": _thinned_loss(later) if thinned else None,
        }
    booster = lightgbm.train(parameters, train, num_boost_round=n_trees, **how)
    trees = Trees(booster.model_to_string(num_iteration=booster.best_iteration or -1))
    if later is not None and later.log_loss(trees.logits(later.rows)) >= later.log_loss():
        return None
    return trees


def _thinned_objective(examples: Examples) -> Callable[[FloatArray, object], tuple[FloatArray, FloatArray]]:
    """Gradient and Fisher information of labels that tell of some of the events, by the logits of the events."""
    label, per_reply = examples.label, examples.per_reply
    assert per_reply is not None

    def slope(logits: FloatArray, _data: object) -> tuple[FloatArray, FloatArray]:
        p = sigmoid(logits) / per_reply
        felt = sensitivity(p, per_reply)
        return felt * (p - label), felt**2 * p * (1 - p)

    return slope


def _thinned_loss(later: Examples) -> Callable[[FloatArray, object], tuple[str, float, bool]]:
    """What stops the trees early: LightGBM hands over logits with the offset."""
    assert later.per_reply is not None
    per_reply = later.per_reply

    def loss(logits: FloatArray, _data: object) -> tuple[str, float, bool]:
        return "log_loss", log_loss(later.label, sigmoid(logits) / per_reply), False

    return loss


def sigmoid(logit: FloatArray) -> FloatArray:
    """`1 / (1 + exp(-logit))`, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logit)), dtype=np.float64)


def logit(probability: FloatArray | float) -> FloatArray:
    """`log(p / (1 - p))`, of p kept 1e-9 away from 0 and 1."""
    p = np.clip(probability, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(p / (1.0 - p)), dtype=np.float64)


def log_loss(label: FloatArray, probability: FloatArray) -> float:
    """Mean negative log-likelihood, in nats a row; NaN of no rows."""
    if not len(label):
        return float("nan")
    p = np.clip(probability, 1e-9, 1 - 1e-9)
    return float(-np.mean(label * np.log(p) + (1 - label) * np.log(1 - p)))


def shrunk_rate(events: ArrayLike, n: ArrayLike, prior: float, strength: float) -> FloatArray:
    """Posterior mean of a rate under a beta prior: `(events + strength * prior) / (n + strength)`."""
    counted, rows = np.asarray(events, dtype=np.float64), np.asarray(n, dtype=np.float64)
    return np.asarray((counted + strength * prior) / (rows + strength))


def later_rows(decided_at: FloatArray, share: float, seed: int) -> NDArray[np.bool_]:
    """Mark the latest share of the rows, shape (n,); rows of one moment are split at random."""
    n = len(decided_at)
    order = np.lexsort((np.random.default_rng(seed).permutation(n), decided_at))
    later = np.zeros(n, dtype=np.bool_)
    later[order[n - int(n * share) :]] = True
    return later

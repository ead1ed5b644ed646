"""LightGBM as a function of arrays: trees that add to a logit, kept as LightGBM's own text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.choice import Float32Array, FloatArray
from models.response.forest import Tree, read_trees

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


def fit_trees(
    rows: Float32Array,
    label: FloatArray,
    offset: FloatArray,
    *,
    seed: int,
    n_trees: int = MAX_TREES,
    later: tuple[Float32Array, FloatArray, FloatArray] | None = None,
    categorical: Sequence[int] = (),
) -> Trees | None:
    """Fit trees on top of a given logit.

    Args:
        rows: Shape (n, F); NaN where missing.
        label: 1 or 0, shape (n,).
        offset: Logit that the trees add to, shape (n,).
        seed: For the sampling of columns.
        n_trees: Most trees.
        later: Rows, label and offset of later data; trees are added only while they help there.
        categorical: Columns that hold codes.

    Returns:
        The trees, or None where the events are too few or where no tree helps the later data.
    """
    events = float(label.sum())
    if n_trees == 0 or min(events, len(label) - events) < MIN_EVENTS:
        return None
    import lightgbm

    columns = list(categorical)
    train = lightgbm.Dataset(rows, label, init_score=offset, categorical_feature=columns)
    validation = {}
    if later is not None and 0 < later[1].sum() < len(later[1]):
        held_out = lightgbm.Dataset(later[0], later[1], init_score=later[2], reference=train)
        validation = {
            "valid_sets": [held_out],
            "callbacks": [lightgbm.early_stopping(_PATIENCE, verbose=False)],
        }
    booster = lightgbm.train(_PARAMETERS | {"seed": seed}, train, num_boost_round=n_trees, **validation)
    trees = Trees(booster.model_to_string(num_iteration=booster.best_iteration or -1))
    if later is not None:
        raw = log_loss(later[1], sigmoid(later[2]))
        if log_loss(later[1], sigmoid(later[2] + trees.logits(later[0]))) >= raw:
            return None
    return trees


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

"""Who converts anyway: `p_convert` without contact.

    p_convert_no_contact(x) = calibrate(sigmoid(base + trees(x, contacted = 0)))

The trees are fitted on *all* rows with the contact as one more column: customers differ far more from each other
than a contact changes them, so contacted rows tell who buys. The level belongs to the rows without contact:
they alone calibrate, on later data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.choice import Float32Array, FloatArray
from models.logged import LoggedRows
from models.response.boosting import (
    MAX_TREES,
    Examples,
    Trees,
    fit_trees,
    later_rows,
    logit,
    shrunk_rate,
)
from models.response.calibration import Calibration, fit_calibration
from models.response.forest import NO_TREES, Part, plant

# What is believed of a conversion rate before any row: one in a hundred, worth fifty rows.
_PRIOR_RATE = 0.01
_PRIOR_ROWS = 50.0
_LATER_SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertModel:
    """`p_convert(x)` of a customer who is left alone.

    Attributes:
        base: Logit of the shrunk rate without contact.
        trees: What the features add, or None.
        calibration: From the raw probability.
    """

    base: float
    trees: Trees | None
    calibration: Calibration

    def predict(self, features: Float32Array) -> FloatArray:
        """Probability of a conversion without contact, shape (n,)."""
        return self.calibrated(plant(features.shape[1], [self.part]).logits(features)[:, 0])

    @property
    def part(self) -> Part:
        """The trees, for somebody without contact: one alternative of a forest."""
        return NO_TREES if self.trees is None else self.trees.each, np.zeros((1, 1), dtype=np.float32)

    def calibrated(self, added: FloatArray) -> FloatArray:
        """`predict`, from what the trees add to the logit, shape (n,)."""
        return self.calibration.of_logit(self.base + added)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertFit:
    """A fitted `ConvertModel` and how it does on later rows without contact."""

    model: ConvertModel
    later_label: FloatArray
    later_probability: FloatArray


def fit_convert(rows: LoggedRows, seed: int) -> ConvertFit:
    """Fit `p_convert` without contact; the number of trees and the calibration come from the latest fifth."""
    features = rows.features.astype(np.float32)
    inputs = np.column_stack([features, rows.contacted.astype(np.float32)])
    converted = rows.converted
    alone = ~rows.contacted
    overall = float(shrunk_rate(converted.sum(), len(rows), _PRIOR_RATE, _PRIOR_ROWS))
    base = float(logit(shrunk_rate(converted[alone].sum(), alone.sum(), overall, _PRIOR_ROWS)))
    late = later_rows(rows.decided_at, _LATER_SHARE, seed)
    offset = np.full(len(rows), base)
    earlier, later, every = (
        Examples(rows=inputs[some], label=converted[some], offset=offset[some])
        for some in (~late, late, np.full(len(rows), True))
    )
    trial = fit_trees(earlier, seed=seed, n_trees=MAX_TREES, later=later)
    held_out = ConvertModel(base=base, trees=trial, calibration=Calibration())
    label = converted[late & alone]
    raw = held_out.predict(features[late & alone])
    calibration = fit_calibration(label, raw, seed)
    trees = fit_trees(every, seed=seed, n_trees=trial.n_trees if trial else 0)
    return ConvertFit(
        model=ConvertModel(base=base, trees=trees, calibration=calibration),
        later_label=label,
        later_probability=calibration.apply(raw),
    )

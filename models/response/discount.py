"""How much less a conversion at a discount brings than one at the full price.

    log(value) = level + discounted * log(1 - discount) + x' b + noise

Those who take a discount are others than those who pay the full price, so what is known of the customers stands beside it.
How much each part is shrunk is set by the evidence.
"""

from __future__ import annotations

import numpy as np

from models.logged import LoggedRows
from models.response.evidence import Moments, fit_evidence
from models.response.standardiser import fit_standardiser, varying_columns

# Width of what is believed of the logarithm before any conversion: most discounts are smaller than a quarter.
_WIDTH = 0.3


def fit_discount(rows: LoggedRows) -> float:
    """The share of the value that a discount takes away, in [0, 1); 0 where the log cannot tell.

    Args:
        rows: The log. Conversions without a value, or of which the price is not known, are left out.
    """
    if rows.discounted is None:
        return 0.0
    at = np.flatnonzero((rows.value_minor > 0) & ~np.isnan(rows.discounted))
    cheap = rows.discounted[at]
    if len(np.unique(cheap)) < 2:
        return 0.0
    value = np.log(rows.value_minor[at])
    if np.ptp(value) == 0.0:
        return 0.0
    spread = float(value.std())
    y = (value - value.mean()) / spread
    known = rows.features[at]
    inputs = fit_standardiser(known, varying_columns(known)).apply(known)
    n_features = inputs.shape[1] - 1
    # The discount, the level, which is the first of the inputs, and what is known of the customers.
    x = np.column_stack([cheap, inputs])
    group = np.concatenate([[0, 1], np.full(n_features, 2)])
    widths = np.array([_WIDTH / spread, 1.0, 1.0 / np.sqrt(max(1, n_features))])
    moments = Moments(gram=x.T @ x, moment=x.T @ y, total=float(y @ y), n=len(y))
    log_kept = spread * float(fit_evidence(moments, group, widths**2).mean[0])
    return float(max(0.0, -np.expm1(log_kept)))

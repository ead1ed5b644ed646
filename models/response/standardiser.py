"""Features as inputs of a linear model: cut, centred and scaled; and which of them are fit for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.choice import FloatArray
from models.compiled import compiled, plain

_SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standardiser:
    """Chosen features, cut at their outer percentiles, with mean 0 and standard deviation 1; 0 where missing.

    Attributes:
        columns: Which features, shape (Z,).
        low: First percentile, shape (Z,).
        high: Last percentile, shape (Z,).
        center: Mean in between, shape (Z,).
        scale: Standard deviation in between, shape (Z,).
    """

    columns: np.ndarray
    low: FloatArray
    high: FloatArray
    center: FloatArray
    scale: FloatArray

    def apply(self, features: np.ndarray) -> FloatArray:
        """Intercept and standardised features, shape (n, 1 + Z)."""
        inputs = np.empty((len(features), 1 + len(self.columns)))
        _apply(plain(features), self.columns, self.low, self.high, self.center, self.scale, inputs)
        return inputs


@compiled(
    "void(float32[:, ::1], int64[::1], float64[::1], float64[::1], float64[::1], float64[::1], float64[:, ::1])",
    "void(float64[:, ::1], int64[::1], float64[::1], float64[::1], float64[::1], float64[::1], float64[:, ::1])",
)
def _apply(
    features: np.ndarray,
    columns: np.ndarray,
    low: FloatArray,
    high: FloatArray,
    center: FloatArray,
    scale: FloatArray,
    inputs: FloatArray,
) -> None:
    """Write what `Standardiser.apply` returns into `inputs`."""
    for i in range(len(features)):
        inputs[i, 0] = 1.0
        for z in range(len(columns)):
            known = np.float64(features[i, np.uint64(columns[z])])
            cut = (min(max(known, low[z]), high[z]) - center[z]) / scale[z]
            inputs[i, 1 + z] = 0.0 if np.isnan(known) else cut


def fit_standardiser(features: FloatArray, columns: np.ndarray) -> Standardiser:
    """Standardise some columns, each of which varies."""
    low, high, center, scale = (np.zeros(len(columns)) for _ in range(4))
    for z, c in enumerate(columns):
        known = features[~np.isnan(features[:, c]), c]
        low[z], high[z] = np.quantile(known, [0.01, 0.99])
        if low[z] == high[z]:  # a rare flag
            low[z], high[z] = known.min(), known.max()
        inner = np.clip(known, low[z], high[z])
        center[z], scale[z] = inner.mean(), inner.std()
    return Standardiser(columns=columns, low=low, high=high, center=center, scale=scale)


def varying_columns(features: FloatArray) -> np.ndarray:
    """Columns that have more than one value."""
    return np.array(
        [
            c
            for c in range(features.shape[1])
            if len(np.unique(features[~np.isnan(features[:, c]), c][:10_000])) > 1
        ],
        dtype=np.intp,
    )


def calendar_share(features: FloatArray, decided_at: FloatArray) -> FloatArray:
    """Share of the variance of every feature that lies between days, shape (F,), in [0, 1].

    Corrected for what chance alone puts between days, as adjusted R squared is; 0 where there are too few rows a
    day to tell. Missing values count as 0.
    """
    day, n_rows = np.unique(decided_at // _SECONDS_PER_DAY, return_inverse=True, return_counts=True)[1:]
    n, n_days = len(decided_at), len(n_rows)
    if n <= 2 * n_days:
        return np.zeros(features.shape[1])
    share = np.empty(features.shape[1])
    for c in range(features.shape[1]):
        x = np.nan_to_num(features[:, c])
        mean = np.bincount(day, weights=x, minlength=n_days) / n_rows
        total = float(((x - x.mean()) ** 2).sum())
        within = float(((x - mean[day]) ** 2).sum())
        share[c] = 1.0 - (within / (n - n_days)) / (total / (n - 1)) if total > 0 else 0.0
    return np.clip(share, 0.0, 1.0)

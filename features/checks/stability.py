"""How far two distributions lie apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from models.choice import FloatArray

# Siddiqi (2006), Credit Risk Scorecards, chapter 9: below 0.1 no change, above 0.25 a significant one.
SMALL_PSI = 0.1
LARGE_PSI = 0.25
# A class that one side lacks would be infinitely far: no share counts as less.
_SMALLEST_SHARE = 1e-4


def psi(expected: Mapping[object, int], actual: Mapping[object, int]) -> float:
    """Population stability index of two counts by class.

    PSI = sum over classes of (a - e) * ln(a / e), where e and a are the shares; none counts as less than 0.0001.

    Args:
        expected: Count by class in the reference, at least one.
        actual: Count by class now, at least one.

    Returns:
        >= 0; 0 for equal shares.

    Example:
        >>> round(psi({"a": 50, "b": 50}, {"a": 70, "b": 30}), 4)
        0.1695
    """
    classes = sorted({*expected, *actual}, key=repr)
    before = _shares([expected.get(each, 0) for each in classes])
    now = _shares([actual.get(each, 0) for each in classes])
    return float(((now - before) * np.log(now / before)).sum())


def bin_edges(values: FloatArray, n_bins: int = 10) -> FloatArray:
    """Inner edges of bins that hold equal shares of the values; fewer where values repeat."""
    return np.unique(np.quantile(values, np.linspace(0, 1, n_bins + 1)[1:-1]))


def _shares(counts: list[int]) -> FloatArray:
    numbers = np.array(counts, dtype=float)
    shares: FloatArray = np.maximum(numbers / numbers.sum(), _SMALLEST_SHARE)
    return shares

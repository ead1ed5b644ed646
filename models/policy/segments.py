"""A small grouping of customers that the bandit's experts may tell apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.choice import FloatArray
from models.compiled import compiled
from models.domain.errors import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Segments by ranges of one feature; the default knows a single segment.

    Segment g holds the customers with `edges[g - 1] <= feature < edges[g]`; the last segment holds those
    whose feature is missing.

    Attributes:
        feature: Name of the feature; empty for a single segment.
        column: Its column among the features.
        edges: Ascending bounds between segments.
    """

    feature: str = ""
    column: int = 0
    edges: tuple[float, ...] = ()

    @classmethod
    def by_quantile(
        cls, features: FloatArray, feature_names: tuple[str, ...], feature: str, n_ranges: int = 4
    ) -> Segments:
        """Equally full ranges of one feature.

        Args:
            features: Shape (n, F); NaN where missing.
            feature_names: Names of the F columns.
            feature: The feature to split by.
            n_ranges: Number of ranges, >= 2; ranges that would be empty are merged.

        Raises:
            InvalidInputError: there is no such feature, or no value of it.
        """
        require(feature in feature_names, "feature", feature, f"must be one of {', '.join(feature_names)}")
        require(n_ranges >= 2, "n_ranges", n_ranges, "must be >= 2")
        column = feature_names.index(feature)
        known = features[~np.isnan(features[:, column]), column]
        require(len(known) > 0, feature, "missing throughout", "must have at least one value")
        edges = np.unique(np.quantile(known, np.arange(1, n_ranges) / n_ranges))
        return cls(feature=feature, column=column, edges=tuple(float(edge) for edge in edges))

    def __len__(self) -> int:
        return len(self.edges) + 2 if self.feature else 1

    def of(self, features: FloatArray) -> NDArray[np.intp]:
        """Segment of each customer, shape (n,)."""
        if not self.feature:
            return np.zeros(len(features), dtype=np.intp)
        found = np.empty(len(features), dtype=np.intp)
        _place(features[:, self.column].copy(), np.array(self.edges, dtype=np.float64), found)
        return found


@compiled("void(float64[::1], float64[::1], int64[::1])")
def _place(values: FloatArray, edges: FloatArray, found: NDArray[np.intp]) -> None:
    """Write the segment of each customer into `found`: edges at or below the value, the last where it is missing."""
    for i in range(len(values)):
        if np.isnan(values[i]):
            found[i] = len(edges) + 1
        else:
            found[i] = np.searchsorted(edges, values[i], side="right")

"""Segments by ranges of one feature."""

import numpy as np
import pytest

from models.domain.errors import InvalidInputError
from models.policy.segments import Segments


def test_by_default_everybody_is_in_one_segment() -> None:
    assert len(Segments()) == 1
    assert Segments().of(np.array([[1.0], [np.nan]])).tolist() == [0, 0]


def test_quantiles_make_ranges_and_the_missing_stand_apart() -> None:
    ages = np.array([[0.0, 10.0], [0.0, 20.0], [0.0, 30.0], [0.0, 40.0], [0.0, np.nan]])
    segments = Segments.by_quantile(ages, ("other", "age"), "age", n_ranges=2)
    assert segments.edges == (25.0,)
    assert len(segments) == 3
    assert segments.of(ages).tolist() == [0, 0, 1, 1, 2]


def test_an_edge_belongs_to_the_range_above() -> None:
    segments = Segments(feature="age", column=0, edges=(25.0,))
    assert segments.of(np.array([[24.9], [25.0]])).tolist() == [0, 1]


def test_ranges_that_would_be_empty_are_merged() -> None:
    same = np.full((10, 1), 7.0)
    assert Segments.by_quantile(same, ("age",), "age").edges == (7.0,)


def test_an_unknown_feature_is_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match="must be one of age, income"):
        Segments.by_quantile(np.zeros((1, 2)), ("age", "income"), "height")


def test_a_feature_without_values_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least one value"):
        Segments.by_quantile(np.full((3, 1), np.nan), ("age",), "age")

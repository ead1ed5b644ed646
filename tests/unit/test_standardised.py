"""How far two groups are apart, against figures worked by hand, and its laws; Wilson's interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.domain.errors import InvalidInputError
from models.evaluation.share import counted_share
from models.evaluation.standardised import standardised_difference

_VALUES = arrays(np.float64, st.integers(2, 30), elements=st.integers(-50, 50).map(float))


def test_figures_worked_by_hand() -> None:
    # Means 4 and 1; sums of squares about them 8 and 6; pooled variance (8 + 6) / (3 + 4 - 2) = 2.8.
    found = standardised_difference(np.array([2.0, 4.0, 6.0]), np.array([0.0, 0.0, 1.0, 3.0]))
    assert (found.n, found.other_n, found.mean, found.other_mean) == (3, 4, 4.0, 1.0)
    assert found.value == pytest.approx(3 / math.sqrt(2.8))
    # Variances 4 and 2: standard error sqrt(4 / 3 + 2 / 4).
    reach = 1.959964 * math.sqrt(4 / 3 + 2 / 4) / math.sqrt(2.8)
    assert found.low == pytest.approx(found.value - reach, abs=1e-6)
    assert found.high == pytest.approx(found.value + reach, abs=1e-6)
    assert found.certain == (found.low > 0)


def test_shares_are_means_of_zeros_and_ones() -> None:
    # 3 of 4 against 1 of 4: both variances 0.25 * 0.75 * 4 / 3 = 0.25, so d = 0.5 / 0.5.
    found = standardised_difference(np.array([1.0, 1.0, 1.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]))
    assert (found.mean, found.other_mean, found.value) == (0.75, 0.25, pytest.approx(1.0))


def test_where_nobody_differs_within_a_group_the_difference_is_none_or_infinite() -> None:
    ones, zeros = np.full(30, 0.1), np.full(40, 0.2)
    assert standardised_difference(ones, ones).value == 0.0
    assert not standardised_difference(ones, ones).certain
    assert standardised_difference(ones, zeros).value == -math.inf
    assert standardised_difference(ones, zeros).certain


@given(_VALUES, _VALUES)
def test_swapping_the_groups_flips_the_sign(one, other) -> None:
    found, swapped = standardised_difference(one, other), standardised_difference(other, one)
    assert swapped.value == pytest.approx(-found.value)
    assert (swapped.low, swapped.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


@given(_VALUES, _VALUES, st.integers(-1_000, 1_000), st.sampled_from([0.5, 2.0, 100.0]))
def test_adding_a_constant_or_another_unit_changes_nothing(one, other, constant, unit) -> None:
    found = standardised_difference(one, other)
    moved = standardised_difference(one * unit + constant, other * unit + constant)
    assert moved.value == pytest.approx(found.value, abs=1e-9)
    assert moved.low == pytest.approx(found.low, abs=1e-9)


def test_one_value_is_not_enough() -> None:
    with pytest.raises(InvalidInputError, match="values == 1"):
        standardised_difference(np.array([1.0]), np.array([1.0, 2.0]))


def test_wilsons_interval() -> None:
    # p = 0.3, n = 10, z = 1.96: (0.3 + 0.192073 +- 1.96 * sqrt(0.021 + 0.0096036)) / 1.384146.
    found = counted_share(3, 10)
    assert (found.n, found.n_hits, found.value) == (10, 3, 0.3)
    assert found.low == pytest.approx(0.10779, abs=1e-5)
    assert found.high == pytest.approx(0.60322, abs=1e-5)
    assert counted_share(0, 5).low == 0.0
    assert counted_share(0, 5).high == pytest.approx(1.959964**2 / (5 + 1.959964**2), abs=1e-6)
    assert counted_share(5, 5).high == 1.0


@pytest.mark.parametrize(("hits", "n", "field"), [(0, 0, "n"), (3, 2, "n_hits"), (-1, 2, "n_hits")])
def test_a_share_of_what_cannot_be_is_refused(hits, n, field) -> None:
    with pytest.raises(InvalidInputError) as refused:
        counted_share(hits, n)
    assert refused.value.field == field

"""Cutting a log by time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import InvalidInputError
from training.splits import split_by_time
from training.spreadsheet import safe_cell


@given(st.lists(st.integers(0, 20), min_size=3, max_size=60), st.integers(0, 5))
def test_every_row_lands_in_one_part_and_no_part_looks_ahead(moments: list[int], seed: int) -> None:
    decided_at = np.array(moments, dtype=np.float64)
    parts = split_by_time(decided_at, seed)

    assert sorted(np.concatenate(parts)) == list(range(len(moments)))
    filled = [decided_at[part] for part in parts if len(part)]
    for earlier, later in pairwise(filled):
        assert earlier.max() <= later.min()


def test_ten_rows_are_cut_seven_one_two() -> None:
    parts = split_by_time(np.arange(10.0), seed=0)
    assert [part.tolist() for part in parts] == [[0, 1, 2, 3, 4, 5, 6], [7], [8, 9]]


def test_rows_of_one_moment_are_cut_at_random_but_always_alike() -> None:
    first = split_by_time(np.zeros(1_000), seed=1)
    assert all(
        np.array_equal(a, b) for a, b in zip(first, split_by_time(np.zeros(1_000), seed=1), strict=True)
    )
    # A cut in the order of the file would put no row of the first 300 into the last fifth.
    assert 40 <= (first[2] < 300).sum() <= 80


def test_two_rows_cannot_be_cut_in_three() -> None:
    with pytest.raises(InvalidInputError, match="rows == 2"):
        split_by_time(np.zeros(2), seed=0)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_text_that_looks_like_a_formula_is_quoted(text: str) -> None:
    assert safe_cell(text) == f"'{text}"


def test_numbers_and_plain_text_stay_as_they_are() -> None:
    assert [safe_cell(value) for value in (-1.5, 0, "a=b", "")] == [-1.5, 0, "a=b", ""]

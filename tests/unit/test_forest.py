"""A forest laid out for alternatives says of every row what LightGBM says of it."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.errors import InvalidInputError
from models.response.boosting import Trees
from models.response.forest import NO_TREES, Part, plant, read_trees

N_FEATURES = 5
HOURS = np.array(
    [[9.0, 0.7, -0.7], [12.5, -0.1, -1.0], [20.0, -0.9, 0.5], [np.nan, 0.0, 0.0]], dtype=np.float32
)


def rows_of(seed: int, n: int, missing: float) -> np.ndarray:
    """Few values, so that many lie exactly on a threshold."""
    rng = np.random.default_rng(seed)
    rows = np.round(rng.normal(size=(n, N_FEATURES)), 1).astype(np.float32)
    rows[rng.random(rows.shape) < missing] = np.nan
    return rows


def trained(
    seed: int, beside: np.ndarray, *, missing: float, categorical: bool, leaves: int = 15, trees: int = 30
) -> Trees:
    """On rows that end in one of the alternatives' columns."""
    rng = np.random.default_rng(seed)
    features = rows_of(seed, 4_000, missing)
    which = rng.integers(0, len(beside), len(features))
    rows = np.hstack([features, beside[which]])
    score = np.nan_to_num(features).sum(axis=1) * (1 + which % 2) - which % 3
    label = (rng.random(len(rows)) < 1 / (1 + np.exp(-score))).astype(np.float64)
    data = lightgbm.Dataset(rows, label, categorical_feature=[N_FEATURES] if categorical else [])
    settings_ = {
        "objective": "binary",
        "num_leaves": leaves,
        "min_data_in_leaf": 5,
        "verbose": -1,
        "num_threads": 1,
    }
    return Trees(lightgbm.train(settings_, data, trees).model_to_string())


def by_lightgbm(trees: Trees, features: np.ndarray, beside: np.ndarray) -> np.ndarray:
    n, k = len(features), len(beside)
    rows = np.hstack([np.repeat(features, k, axis=0), np.tile(beside, (n, 1))])
    return trees.logits(rows).reshape(n, k)


@pytest.fixture(scope="module", params=[0.0, 0.2], ids=["complete", "missing values"])
def parts(request: pytest.FixtureRequest) -> list[tuple[Trees, np.ndarray]]:
    codes = np.arange(7, dtype=np.float32)[:, None]
    nothing = np.zeros((1, 1), dtype=np.float32)
    return [
        (trained(1, codes, missing=request.param, categorical=True, leaves=40), codes),
        (trained(2, HOURS, missing=request.param, categorical=False), HOURS),
        (trained(3, nothing, missing=request.param, categorical=False, leaves=2, trees=3), nothing),
    ]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.sampled_from([1, 2, 700]), missing=st.sampled_from([0.0, 0.3, 1.0])
)
def test_a_forest_of_several_models_says_what_lightgbm_says_of_each(parts, seed, n, missing):
    features = rows_of(seed, n, missing)
    forest = plant(N_FEATURES, [(trees.each, beside) for trees, beside in parts])
    expected = np.hstack([by_lightgbm(trees, features, beside) for trees, beside in parts])
    np.testing.assert_allclose(forest.logits(features), expected, rtol=0, atol=1e-12)


def test_a_row_has_the_same_bits_alone_and_among_many(parts):
    forest = plant(N_FEATURES, [(trees.each, beside) for trees, beside in parts])
    features = rows_of(9, 900, 0.1)
    many = forest.logits(features)
    assert all((forest.logits(features[i : i + 1])[0] == many[i]).all() for i in range(0, 900, 7))
    assert forest.logits(features[:0]).shape == (0, 12)


def test_where_no_tree_was_grown_nothing_is_added(parts):
    trees, beside = parts[0]
    features = rows_of(4, 3, 0.1)
    none: Part = NO_TREES, HOURS
    assert (plant(N_FEATURES, [none, none]).logits(features) == np.zeros((3, 8))).all()
    mixed = plant(N_FEATURES, [none, (trees.each, beside)]).logits(features)
    assert (mixed[:, :4] == 0).all()
    np.testing.assert_allclose(mixed[:, 4:], by_lightgbm(trees, features, beside), rtol=0, atol=1e-12)


def test_what_cannot_be_laid_out_is_refused():
    codes = np.arange(7, dtype=np.float32)[:, None]
    on_category = trained(1, codes, missing=0.0, categorical=True)
    with pytest.raises(InvalidInputError, match="categorical_feature"):
        plant(N_FEATURES + 1, [(on_category.each, np.zeros((1, 0), dtype=np.float32))])
    with pytest.raises(ValueError, match="LightGBM"):
        read_trees("tree\nnum_class=1\n")

"""Boosted trees of one customer and many alternatives: what does not depend on the alternative is looked at once.

Every row that a decision predicts is a customer's features with a few further columns beside them: the channel, or the
time of day. A tree is a set of conditions; one that fails rules out the leaves on its left, and the leftmost leaf that
is left over is the row's. So the conditions on the customer leave a set of leaves in every tree, as bits of a number;
those on the further columns leave another, which is known beforehand; and what both leave is the answer:

    leaf(x, j) = leftmost of { leaves left over by x } & { leaves left over by alternative j }

References:
    Lucchese, Nardini, Orlando, Perego, Tonellotto and Venturini (2015), QuickScorer: a fast algorithm to rank
    documents with additive ensembles of regression trees, SIGIR.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.choice import Float32Array, FloatArray
from models.domain.errors import require

Bits = NDArray[np.uint32]

# A set of leaves is one unsigned number.
MOST_LEAVES = 32
_EVERY = (1 << MOST_LEAVES) - 1
# Times a power of two, its topmost five bits differ for each: they tell which power it was. Leiserson, Prokop and Randall
# (1998), Using de Bruijn sequences to index a 1 in a computer word.
_DE_BRUIJN = 0x077CB531
_TOPMOST = 27
_PLACE = np.array([(_DE_BRUIJN << i & _EVERY) >> _TOPMOST for i in range(MOST_LEAVES)])
# Numbers held at once: about what the nearer caches take.
_NUMBERS_AT_ONCE = 128_000
# Bits of LightGBM's decision type: a category, missing goes left, and what counts as missing (2 << 2 is NaN).
_CATEGORICAL, _DEFAULT_LEFT, _MISSING, _NAN = 1, 2, 12, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """An inner node of a tree.

    Attributes:
        column: What it looks at.
        threshold: It holds at or below; of no meaning where there are categories.
        missing_holds: Whether it holds for a missing value.
        categories: It holds for these; None of a number.
        rules_out: Leaves that it rules out where it does not hold, as bits.
    """

    column: int
    threshold: float
    missing_holds: bool
    categories: frozenset[int] | None
    rules_out: int

    def holds(self, value: float) -> bool:
        """Whether a row with this value goes to the left."""
        if np.isnan(value):
            return self.missing_holds
        if self.categories is not None:
            return int(value) in self.categories
        return value <= self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Conditions, and the values of the leaves from left to right."""

    conditions: tuple[Condition, ...]
    leaves: tuple[float, ...]


Part = tuple[Sequence[Tree], Float32Array]
"""Trees, and the further columns of every alternative that has them, shape (k, H)."""
NO_TREES = (Tree(conditions=(), leaves=(0.0,)),)
"""They add nothing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forest:
    """Trees on a customer's F features, for k alternatives, each of which has some of the trees.

    The conditions on features lie in D layers of at most one a tree. A column is a feature with missing values put
    lowest or, F further on, the same with missing values put highest: so one comparison says where they go. Alternatives
    that leave the same leaves of a tree over have the same leaf of it: there are M different pairs of a tree and what an
    alternative leaves of it. What all alternatives of a part have in common is added up once.

    Attributes:
        n_features: F.
        column: Of every condition, shape (D * T,).
        threshold: It holds at or below, shape (D * T,).
        rules_out: Leaves that it rules out where it does not hold, shape (D, T).
        tree: Of every pair, shape (M,).
        beside: Leaves that the pair leaves over, shape (M,).
        place: Where the leaves of the pair's tree begin, shape (M,).
        added: Pairs to add up, behind each other.
        first: First of them that is for all alternatives of a part, then first for each alternative, shape (P + k,).
        part: Of every alternative, shape (k,).
        leaf: Value of every leaf by its place, shape (T * 32,).
    """

    n_features: int
    column: NDArray[np.intp]
    threshold: Float32Array
    rules_out: Bits
    tree: NDArray[np.intp]
    beside: Bits
    place: NDArray[np.intp]
    added: NDArray[np.intp]
    first: NDArray[np.intp]
    part: NDArray[np.intp]
    leaf: FloatArray

    def logits(self, features: Float32Array) -> FloatArray:
        """What the trees add to the logit of every customer and alternative, shape (n, k).

        Args:
            features: Shape (n, F); NaN where missing.
        """
        chunk = max(1, _NUMBERS_AT_ONCE // max(self.rules_out.size, self.added.size))
        if len(features) <= chunk:
            return self._logits(features)
        starts = range(0, len(features), chunk)
        return np.concatenate([self._logits(features[start : start + chunk]) for start in starts])

    def _logits(self, features: Float32Array) -> FloatArray:
        missing = np.isnan(features)
        values = np.concatenate(
            [np.where(missing, -np.inf, features), np.where(missing, np.inf, features)], axis=1
        )
        fails = values.take(self.column, axis=1) > self.threshold
        # A product with 0 or 1 takes a tenth of the time of a choice between two numbers.
        shape = len(features), *self.rules_out.shape
        ruled_out = np.bitwise_or.reduce(fails.reshape(shape) * self.rules_out, axis=1)
        leaves = np.invert(ruled_out).take(self.tree, axis=1)
        leaves &= self.beside
        leaves &= np.negative(leaves)
        leaves *= np.uint32(_DE_BRUIJN)
        leaves >>= np.uint32(_TOPMOST)
        values_of_pairs = self.leaf.take(self.place + leaves)
        sums = np.add.reduceat(values_of_pairs.take(self.added, axis=1), self.first, axis=1)
        n_alternatives = len(self.part)
        return np.asarray(sums[:, -n_alternatives:] + sums.take(self.part, axis=1))


def read_trees(text: str) -> tuple[Tree, ...]:
    """The trees of a LightGBM model in its own text format.

    Raises:
        InvalidInputError: a tree has more than 32 leaves.
        ValueError: it is not such a text.
    """
    if not text.startswith("tree\n") or "\nend of trees\n" not in text:
        raise ValueError("not a model in LightGBM's text format")
    return tuple(_tree(dict(_entries(part))) for part in text.split("\nTree=")[1:]) or NO_TREES


def plant(n_features: int, parts: Sequence[Part]) -> Forest:
    """Lay trees out for the alternatives of one grid.

    Args:
        n_features: F, the columns that are the customer's.
        parts: Their alternatives follow each other.
    """
    # The first tree adds nothing: it stands where there is nothing to add.
    trees = [*NO_TREES, *(tree for some, _ in parts for tree in some)]
    leaf = np.zeros((len(trees), MOST_LEAVES))
    for number, tree in enumerate(trees):
        leaf[number, _PLACE[: len(tree.leaves)]] = tree.leaves
    pairs: dict[tuple[int, int], int] = {(0, _EVERY): 0}
    common: list[list[int]] = []
    own: list[list[int]] = []
    part: list[int] = []
    begin = 1
    for some, columns in parts:
        # By alternative, then by tree.
        beside = [_left_by(some, n_features, row) for row in columns.tolist()]
        alike = [len(set(bits)) == 1 for bits in zip(*beside, strict=True)]
        found = [
            [pairs.setdefault((begin + t, bits), len(pairs)) for t, bits in enumerate(of_one)]
            for of_one in beside
        ]
        common.append(
            [0, *(pair for pair, same in zip(found[0], alike, strict=True) if same)] if found else [0]
        )
        own += [
            [0, *(pair for pair, same in zip(of_one, alike, strict=True) if not same)] for of_one in found
        ]
        part += [len(common) - 1] * len(columns)
        begin += len(some)
    column, threshold, rules_out = _layers(trees, n_features)
    tree_of_pair = np.array([number for number, _ in pairs], dtype=np.intp)
    added = [*common, *own]
    return Forest(
        n_features=n_features,
        column=column.ravel(),
        threshold=threshold.ravel(),
        rules_out=rules_out,
        tree=tree_of_pair,
        beside=np.array([bits for _, bits in pairs], dtype=np.uint32),
        place=tree_of_pair * MOST_LEAVES,
        added=np.concatenate([np.array(some, dtype=np.intp) for some in added]),
        first=np.cumsum([0, *map(len, added[:-1])]),
        part=np.array(part, dtype=np.intp),
        leaf=leaf.ravel(),
    )


def _entries(part: str) -> Iterator[tuple[str, str]]:
    """The lines `name=value` of one tree."""
    for line in part.splitlines()[1:]:
        name, found, value = line.partition("=")
        if not found:
            return
        yield name, value


def _tree(entries: dict[str, str]) -> Tree:
    values = [float(word) for word in entries["leaf_value"].split()]
    require(len(values) <= MOST_LEAVES, "num_leaves", len(values), f"must be <= {MOST_LEAVES}")
    if len(values) == 1:
        return Tree(conditions=(), leaves=(values[0],))
    column, kind, lefts, rights = (
        [int(word) for word in entries[name].split()]
        for name in ("split_feature", "decision_type", "left_child", "right_child")
    )
    threshold = [float(word) for word in entries["threshold"].split()]
    bounds = [int(word) for word in entries.get("cat_boundaries", "").split()]
    words = [int(word) for word in entries.get("cat_threshold", "").split()]
    leaves: list[float] = []
    conditions: list[Condition] = []

    def walk(node: int) -> int:
        """Go through a subtree from left to right; the leaves below, as bits."""
        if node < 0:
            leaves.append(values[~node])
            return 1 << (len(leaves) - 1)
        on_left = walk(lefts[node])
        categories = None
        if kind[node] & _CATEGORICAL:
            at = int(threshold[node])
            categories = frozenset(_members(words[bounds[at] : bounds[at + 1]]))
        conditions.append(
            Condition(
                column=column[node],
                threshold=threshold[node],
                missing_holds=_missing_holds(kind[node], threshold[node]),
                categories=categories,
                rules_out=on_left,
            )
        )
        return on_left | walk(rights[node])

    walk(0)
    return Tree(conditions=tuple(conditions), leaves=tuple(leaves))


def _missing_holds(kind: int, threshold: float) -> bool:
    """Where a missing value goes: to a tree that has never seen one it is 0, and it is of no category."""
    if kind & _CATEGORICAL:
        return False
    return bool(kind & _DEFAULT_LEFT) if kind & _MISSING == _NAN else threshold >= 0.0


def _members(words: Sequence[int]) -> Iterator[int]:
    """The numbers in a set that is written as 32 bits a word."""
    for position, word in enumerate(words):
        yield from (32 * position + bit for bit in range(32) if word >> bit & 1)


def _left_by(trees: Sequence[Tree], n_features: int, row: Sequence[float]) -> list[int]:
    """Leaves of every tree that further columns leave over."""
    left = []
    for tree in trees:
        bits = _EVERY
        for one in tree.conditions:
            if one.column >= n_features and not one.holds(row[one.column - n_features]):
                bits &= ~one.rules_out
        left.append(bits)
    return left


def _layers(trees: Sequence[Tree], n_features: int) -> tuple[NDArray[np.intp], Float32Array, Bits]:
    """The conditions on features in layers of one a tree; a place that is not needed holds for everybody."""
    own = [[one for one in tree.conditions if one.column < n_features] for tree in trees]
    shape = max(map(len, own)), len(trees)
    column = np.zeros(shape, dtype=np.intp)
    threshold = np.full(shape, np.inf, dtype=np.float32)
    rules_out = np.zeros(shape, dtype=np.uint32)
    for number, conditions in enumerate(own):
        for layer, one in enumerate(conditions):
            require(one.categories is None, "categorical_feature", one.column, f"must be >= {n_features}")
            column[layer, number] = one.column + (0 if one.missing_holds else n_features)
            threshold[layer, number] = _at_most(one.threshold)
            rules_out[layer, number] = one.rules_out
    return column, threshold, rules_out


def _at_most(threshold: float) -> np.float32:
    """The largest finite number of single precision that is not above: the same such values are at or below both.

    A condition that holds for every number has an infinite threshold; a missing value, put highest, is above it.
    """
    with np.errstate(over="ignore"):
        nearest = np.float32(threshold)
    above = np.isinf(nearest) or float(nearest) > threshold
    return np.nextafter(nearest, np.float32(-np.inf)) if above else nearest

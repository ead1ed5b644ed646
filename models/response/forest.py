"""Boosted trees of one customer and many alternatives: what depends on the alternative is settled beforehand.

Every row that a decision predicts is a customer's features with a few further columns beside them: the channel, or the
time of day. Of a tree that looks at these an alternative leaves a smaller one, which looks at features alone; alternatives
that leave the same of it share it. A customer walks all of these trees at once, level by level:

    node(t) <- first child(node(t)) + [feature of node(t) > threshold of node(t)]

so that the steps of one level, which do not wait for each other, hide how long each takes.

References:
    Asadi, Lin and de Vries (2014), Runtime optimizations for tree-based machine learning models, IEEE TKDE 26(9).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.choice import Float32Array, FloatArray
from models.compiled import compiled, plain
from models.domain.errors import require

Places = NDArray[np.uint32]

# Bits of LightGBM's decision type: a category, missing goes left, and what counts as missing (2 << 2 is NaN).
_CATEGORICAL, _DEFAULT_LEFT, _MISSING, _NAN = 1, 2, 12, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """An inner node of a tree.

    Attributes:
        column: What it looks at.
        threshold: A row at or below goes to the left; of no meaning where there are categories.
        missing_left: Whether a missing value goes to the left.
        categories: These go to the left; None of a number.
        left: A tree.
        right: Another.
    """

    column: int
    threshold: float
    missing_left: bool
    categories: frozenset[int] | None
    left: Tree
    right: Tree

    def side(self, value: float) -> Tree:
        """Where a row with this value goes."""
        if np.isnan(value):
            to_left = self.missing_left
        elif self.categories is not None:
            to_left = int(value) in self.categories
        else:
            to_left = value <= self.threshold
        return self.left if to_left else self.right


Tree: TypeAlias = "Branch | float"
"""A branch, or the value of a leaf."""
Part = tuple[Sequence[Tree], Float32Array]
"""Trees, and the further columns of every alternative that has them, shape (k, H)."""
NO_TREES: tuple[Tree, ...] = (0.0,)
"""They add nothing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forest:
    """Trees on a customer's F features, for k alternatives, each of which has some of the trees.

    There are M trees, the deepest first, and N nodes, leaves among them. A column is a feature with missing values put lowest or, F
    further on, the same with missing values put highest: so one comparison says where they go. What all alternatives
    of a part have in common is added up once.

    Attributes:
        n_features: F.
        column: Of every node, shape (N,).
        threshold: At or below it a row goes to the first child, shape (N,).
        child: First child; the second lies behind it. A leaf leads to itself, shape (N,).
        value: Of a leaf, shape (N,).
        root: Of every tree, shape (M,).
        walked: How many trees have a level, by level, shape (D,).
        added: Trees to add up, behind each other.
        first: First of them that is for all alternatives of a part, then first for each alternative, then their
            number, shape (P + k + 1,).
        part: Of every alternative, shape (k,).
    """

    n_features: int
    column: Places
    threshold: Float32Array
    child: Places
    value: FloatArray
    root: Places
    walked: Places
    added: Places
    first: Places
    part: Places

    def logits(self, features: Float32Array) -> FloatArray:
        """What the trees add to the logit of every customer and alternative, shape (n, k).

        Args:
            features: Shape (n, F); NaN where missing.

        Raises:
            InvalidInputError: there are not F features.
        """
        require(features.shape[1] == self.n_features, "features", features.shape, "must have F columns")
        found = np.empty((len(features), len(self.part)))
        _walk(
            plain(features),
            self.column,
            self.threshold,
            self.child,
            self.value,
            self.root,
            self.walked,
            self.added,
            self.first,
            self.part,
            found,
        )
        return found


@compiled(
    "void(float32[:, ::1], uint32[::1], float32[::1], uint32[::1], float64[::1], uint32[::1], uint32[::1], uint32[::1],"
    "uint32[::1], uint32[::1], float64[:, ::1])"
)
def _walk(
    features: Float32Array,
    column: Places,
    threshold: Float32Array,
    child: Places,
    value: FloatArray,
    root: Places,
    walked: Places,
    added: Places,
    first: Places,
    part: Places,
    found: FloatArray,
) -> None:
    """Write the logits of `Forest.logits` into `found`."""
    n, n_features = features.shape
    n_sums, n_parts = len(first) - 1, len(first) - 1 - len(part)
    values = np.empty(2 * n_features, dtype=np.float32)
    node = np.empty(len(root), dtype=np.uint32)
    sums = np.empty(n_sums)
    for i in range(n):
        for c in range(n_features):
            x = features[i, c]
            missing = np.isnan(x)
            values[c] = -np.inf if missing else x
            values[n_features + c] = np.inf if missing else x
        node[:] = root
        for level in range(len(walked)):
            for t in range(walked[level]):
                at = node[t]
                node[t] = child[at] + np.uint32(values[column[at]] > threshold[at])
        for j in range(n_sums):
            total = 0.0
            for a in range(first[j], first[j + 1]):
                total += value[node[added[a]]]
            sums[j] = total
        for j in range(len(part)):
            found[i, j] = sums[part[j]] + sums[n_parts + j]


def read_trees(text: str) -> tuple[Tree, ...]:
    """The trees of a LightGBM model in its own text format.

    Raises:
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

    Raises:
        InvalidInputError: a tree looks at one of the features as a category.
    """
    nodes = _Nodes(n_features)
    common: list[list[int]] = []
    own: list[list[int]] = []
    part: list[int] = []
    for trees, columns in parts:
        alternatives = columns.tolist()
        if not alternatives:
            continue
        of_each: list[list[int]] = [[] for _ in alternatives]
        of_all: list[int] = []
        for tree in trees:
            left = [
                _left_by(row, tree, n_features) for row in alternatives if _looks_beyond(tree, n_features)
            ]
            place = {one: nodes.place(one) for one in dict.fromkeys(left or [tree])}
            if len(place) == 1:
                of_all += place.values()
            else:
                for some, one in zip(of_each, left, strict=True):
                    some.append(place[one])
        common.append(of_all)
        own += of_each
        part += [len(common) - 1] * len(alternatives)
    return nodes.laid_out([*common, *own], part)


@dataclass(slots=True)
class _Nodes:
    """Trees on features alone, one behind the other; `Forest` says what is kept of a node."""

    n_features: int
    column: list[int] = field(default_factory=list)
    threshold: list[np.float32] = field(default_factory=list)
    child: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    root: list[int] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)

    def place(self, tree: Tree) -> int:
        """Put a tree down, level by level; its number."""
        self.root.append(len(self.column))
        depth, level = -1, [tree]
        while level:
            first = len(self.column) + len(level)
            below: list[Tree] = []
            for node in level:
                if isinstance(node, float):
                    self._put(0, np.float32(np.inf), len(self.column), node)
                    continue
                require(node.categories is None, "categorical_feature", node.column, "must be a number")
                column = node.column + (0 if node.missing_left else self.n_features)
                self._put(column, _at_most(node.threshold), first + len(below), 0.0)
                below += [node.left, node.right]
            depth, level = depth + 1, below
        self.depth.append(depth)
        return len(self.root) - 1

    def _put(self, column: int, threshold: np.float32, child: int, value: float) -> None:
        self.column.append(column)
        self.threshold.append(threshold)
        self.child.append(child)
        self.value.append(value)

    def laid_out(self, added: Sequence[Sequence[int]], part: Sequence[int]) -> Forest:
        """The forest of these trees."""
        depth = np.array(self.depth, dtype=np.intp)
        deepest_first = np.argsort(-depth, kind="stable")
        rank = np.empty_like(deepest_first)
        rank[deepest_first] = np.arange(len(rank))
        return Forest(
            n_features=self.n_features,
            column=_places(self.column),
            threshold=np.array(self.threshold, dtype=np.float32),
            child=_places(self.child),
            value=np.array(self.value, dtype=np.float64),
            root=_places(np.array(self.root, dtype=np.intp)[deepest_first]),
            walked=_places(
                [sum(d > level for d in self.depth) for level in range(max(self.depth, default=0))]
            ),
            added=_places(rank[[tree for trees in added for tree in trees]]),
            first=_places(np.cumsum([0, *map(len, added)])),
            part=_places(part),
        )


def _places(numbers: Sequence[int] | NDArray[np.intp]) -> Places:
    return np.array(numbers, dtype=np.uint32)


def _entries(part: str) -> Iterator[tuple[str, str]]:
    """The lines `name=value` of one tree."""
    for line in part.splitlines()[1:]:
        name, found, value = line.partition("=")
        if not found:
            return
        yield name, value


def _tree(entries: dict[str, str]) -> Tree:
    values = [float(word) for word in entries["leaf_value"].split()]
    if len(values) == 1:
        return values[0]
    column, kind, lefts, rights = (
        [int(word) for word in entries[name].split()]
        for name in ("split_feature", "decision_type", "left_child", "right_child")
    )
    threshold = [float(word) for word in entries["threshold"].split()]
    bounds = [int(word) for word in entries.get("cat_boundaries", "").split()]
    words = [int(word) for word in entries.get("cat_threshold", "").split()]

    def below(node: int) -> Tree:
        """The subtree of a node; leaves are numbered from -1 down."""
        if node < 0:
            return values[~node]
        categories = None
        if kind[node] & _CATEGORICAL:
            at = int(threshold[node])
            categories = frozenset(_members(words[bounds[at] : bounds[at + 1]]))
        return Branch(
            column=column[node],
            threshold=threshold[node],
            missing_left=_missing_left(kind[node], threshold[node]),
            categories=categories,
            left=below(lefts[node]),
            right=below(rights[node]),
        )

    return below(0)


def _missing_left(kind: int, threshold: float) -> bool:
    """Where a missing value goes: to a tree that has never seen one it is 0, and it is of no category."""
    if kind & _CATEGORICAL:
        return False
    return bool(kind & _DEFAULT_LEFT) if kind & _MISSING == _NAN else threshold >= 0.0


def _members(words: Sequence[int]) -> Iterator[int]:
    """The numbers in a set that is written as 32 bits a word."""
    for position, word in enumerate(words):
        yield from (32 * position + bit for bit in range(32) if word >> bit & 1)


def _looks_beyond(tree: Tree, n_features: int) -> bool:
    """Whether a tree looks at a further column."""
    return isinstance(tree, Branch) and (
        tree.column >= n_features
        or _looks_beyond(tree.left, n_features)
        or _looks_beyond(tree.right, n_features)
    )


def _left_by(row: Sequence[float], tree: Tree, n_features: int) -> Tree:
    """What further columns leave of a tree."""
    if isinstance(tree, float):
        return tree
    if tree.column >= n_features:
        return _left_by(row, tree.side(row[tree.column - n_features]), n_features)
    return Branch(
        column=tree.column,
        threshold=tree.threshold,
        missing_left=tree.missing_left,
        categories=tree.categories,
        left=_left_by(row, tree.left, n_features),
        right=_left_by(row, tree.right, n_features),
    )


def _at_most(threshold: float) -> np.float32:
    """The largest finite number of single precision that is not above: the same such values are at or below both.

    A condition that holds for every number has an infinite threshold; a missing value, put highest, is above it.
    """
    with np.errstate(over="ignore"):
        nearest = np.float32(threshold)
    above = np.isinf(nearest) or float(nearest) > threshold
    return np.nextafter(nearest, np.float32(-np.inf)) if above else nearest

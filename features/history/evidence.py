"""What a decision was drawn and learned from, as numbers in one column instead of text by name.

A decision rests on some two hundred numbers, most of them features; written by name they are two thirds of its
document. So `decisions.evidence` holds them as they lie in memory, and the names of the features are in
`feature_orders`, once. Little-endian:

    form 1: 1 byte | n features, n drawn, n candidates: 4 bytes each | digest of the names: 32 bytes
            feature values: 8 bytes each
            actions above zero: 4 bytes each | their probabilities: 8 bytes each
            candidates: 4 bytes each | their net values: 8 bytes each
    form 0: the same, then the names as a JSON list
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from features.history.prepared import Prepared, one_of
from features.history.tables import feature_orders
from models.domain.decision import Evidence

K = TypeVar("K")
V = TypeVar("V")
Floats = NDArray[np.float64]

_HEAD = struct.Struct("<BIII32s")
_WITH_NAMES, _BY_DIGEST = 0, 1
_NUMBER, _INDEX = np.dtype("<f8"), np.dtype("<u4")

_NAMES = Prepared(select(feature_orders.c.names).where(feature_orders.c.digest == bindparam("digest")))
_KEPT = Prepared(select(feature_orders.c.digest).where(one_of(feature_orders.c.digest, "digests")))
# Names by digest, as read from a database: what a digest stands for never changes.
_NAMES_OF: dict[str, tuple[str, ...]] = {}


class Numbers(Mapping[K, V]):
    """Numbers by key, kept as two rows; the dictionary is made where somebody looks, which of most decisions nobody does.

    Args:
        given: The keys: names, or indices of actions.
        row: One number a key; NaN reads as None.
    """

    __slots__ = ("_made", "given", "row")

    def __init__(self, given: Sequence[K] | NDArray[np.intp], row: Floats) -> None:
        self.given = given
        self.row = row
        self._made: dict[Any, Any] | None = None

    def __getitem__(self, key: K) -> V:
        found: V = self._dictionary[key]
        return found

    def __iter__(self) -> Iterator[K]:
        return iter(self._dictionary)

    def __len__(self) -> int:
        return len(self.given)

    def __repr__(self) -> str:
        return repr(self._dictionary)

    @property
    def _dictionary(self) -> dict[Any, Any]:
        if self._made is None:
            keys = self.given.tolist() if isinstance(self.given, np.ndarray) else self.given
            self._made = dict(zip(keys, _or_none(self.row), strict=True))
        return self._made


class FeatureOrders:
    """The lists of feature names that a database is known to hold, so that what is written can name them by digest.

    A list counts as held once it was seen committed; until then decisions carry their names themselves.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, ...], str] = {}
        self._hoped: dict[str, tuple[str, ...]] = {}
        self._last: tuple[tuple[str, ...], str | None] = ((), None)

    def digest_of(self, names: tuple[str, ...]) -> str | None:
        """What stands for the names; None where they are not held, and `keep` will write them."""
        if self._last[0] is names:
            return self._last[1]
        digest = self._held.get(names)
        if digest is None:
            self._hoped[_digest(names)] = names
        else:
            self._last = names, digest
        return digest

    def keep(self, conn: Connection) -> None:
        """Write the lists that were asked for and are not held; the caller commits."""
        if self._hoped:
            into = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
            rows = [{"digest": digest, "names": list(names)} for digest, names in sorted(self._hoped.items())]
            conn.execute(into(feature_orders).on_conflict_do_nothing(), rows)

    def confirm(self, connect: Callable[[], Connection]) -> None:
        """See which of the written ones were committed.

        Args:
            connect: Gives a connection whose transaction sees what others have committed; not called where no
                list is in doubt.
        """
        if self._hoped:
            with connect() as conn:
                for (digest,) in _KEPT.rows(conn, digests=sorted(self._hoped)):
                    self._held[self._hoped.pop(digest)] = digest


def pack(evidence: Evidence, orders: FeatureOrders | None = None) -> bytes:
    """The numbers of the evidence: features, probabilities and net values.

    Args:
        evidence: Of one decision.
        orders: What the database holds; None writes the names themselves.
    """
    names, features = _rows(evidence.features)
    drawn, probabilities = _rows(evidence.distribution)
    candidates, values = _rows(evidence.net_value_minor)
    names = tuple(names)
    digest = None if orders is None else orders.digest_of(names)
    parts = [
        _HEAD.pack(
            _WITH_NAMES if digest is None else _BY_DIGEST,
            len(features),
            len(drawn),
            len(candidates),
            bytes(32) if digest is None else bytes.fromhex(digest),
        ),
        features.astype(_NUMBER, copy=False).tobytes(),
        np.asarray(drawn, dtype=_INDEX).tobytes(),
        probabilities.astype(_NUMBER, copy=False).tobytes(),
        np.asarray(candidates, dtype=_INDEX).tobytes(),
        values.astype(_NUMBER, copy=False).tobytes(),
    ]
    if digest is None:
        parts.append(orjson.dumps(names))
    return b"".join(parts)


def unpack(conn: Connection, packed: bytes, rest: Evidence) -> Evidence:
    """The evidence with the numbers that `pack` wrote; only read from `conn`."""
    form, n_features, n_drawn, n_candidates, digest = _HEAD.unpack_from(packed)
    features, at = _numbers(packed, _HEAD.size, n_features, _NUMBER)
    drawn, at = _numbers(packed, at, n_drawn, _INDEX)
    probabilities, at = _numbers(packed, at, n_drawn, _NUMBER)
    candidates, at = _numbers(packed, at, n_candidates, _INDEX)
    values, at = _numbers(packed, at, n_candidates, _NUMBER)
    names = _names_of(conn, digest.hex()) if form == _BY_DIGEST else orjson.loads(packed[at:])
    return replace(
        rest,
        features=dict(zip(names, _or_none(features), strict=True)),
        distribution=dict(zip(drawn.tolist(), probabilities.tolist(), strict=True)),
        net_value_minor=dict(zip(candidates.tolist(), values.tolist(), strict=True)),
    )


def features_of(conn: Connection, packed: bytes) -> tuple[tuple[str, ...], Floats]:
    """The names of the features and their values, NaN where missing; only read from `conn`."""
    form, n_features, n_drawn, n_candidates, digest = _HEAD.unpack_from(packed)
    values, at = _numbers(packed, _HEAD.size, n_features, _NUMBER)
    if form == _BY_DIGEST:
        return _names_of(conn, digest.hex()), values
    behind = at + (_INDEX.itemsize + _NUMBER.itemsize) * (n_drawn + n_candidates)
    return tuple(orjson.loads(packed[behind:])), values


def actions_of(packed: bytes) -> set[int]:
    """The indices of the actions that had a probability or a value."""
    _, n_features, n_drawn, n_candidates, _ = _HEAD.unpack_from(packed)
    drawn, at = _numbers(packed, _HEAD.size + _NUMBER.itemsize * n_features, n_drawn, _INDEX)
    candidates, _ = _numbers(packed, at + _NUMBER.itemsize * n_drawn, n_candidates, _INDEX)
    return {*drawn.tolist(), *candidates.tolist()}


def _rows(numbers: Mapping[Any, float | None]) -> tuple[Any, Floats]:
    if isinstance(numbers, Numbers):
        return numbers.given, numbers.row
    values = [np.nan if value is None else value for value in numbers.values()]
    return tuple(numbers), np.array(values, dtype=np.float64)


def _or_none(row: Floats) -> list[float | None]:
    values: list[float | None] = row.tolist()
    for missing in np.flatnonzero(np.isnan(row)).tolist():
        values[missing] = None
    return values


def _numbers(packed: bytes, at: int, n: int, kind: np.dtype[Any]) -> tuple[NDArray[Any], int]:
    return np.frombuffer(packed, kind, n, at), at + n * kind.itemsize


def _names_of(conn: Connection, digest: str) -> tuple[str, ...]:
    found = _NAMES_OF.get(digest)
    if found is None:
        ((names,),) = _NAMES.rows(conn, digest=digest)
        found = _NAMES_OF[digest] = tuple(orjson.loads(names) if isinstance(names, str) else names)
    return found


def _digest(names: Sequence[str]) -> str:
    return sha256(orjson.dumps(names)).hexdigest()

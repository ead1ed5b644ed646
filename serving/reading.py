"""Features for a decision, in the model's order and inside the deadline; what is missing is said, not hidden."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import numpy as np

from models.choice import BoolArray, FloatArray
from models.domain.errors import NextchannelError

if TYPE_CHECKING:
    from features.online import FeatureVectors

logger = logging.getLogger(__name__)


class Degraded(StrEnum):
    """Why a decision was taken by a simpler policy than the campaign asked for."""

    FEATURES_MISSING = "features_missing"
    FEATURES_STALE = "features_stale"
    FEATURES_UNAVAILABLE = "features_unavailable"
    FEATURES_LATE = "features_late"
    MODEL_MISSING = "model_missing"
    MODEL_FAILED = "model_failed"
    BANDIT_MISSING = "bandit_missing"
    EXPLORATION_SPENT = "exploration_spent"
    """The day's allowance for exploring is used up, so the best candidate was taken."""
    LIMITS_CHANGED = "limits_changed"
    """A cap, budget or capacity was used up while deciding, so the choice was made again without it."""


class FeatureSource(Protocol):
    """The online store, as the decision sees it."""

    def cached(self, customer_ids: Sequence[str], now: datetime) -> FeatureVectors | None:
        """The latest features of every customer where they are at hand, without waiting for anything; else None."""
        ...

    def read(self, customer_ids: Sequence[str], now: datetime) -> FeatureVectors:
        """The latest features of every customer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Features of n customers.

    Attributes:
        names: Of the columns.
        values: Shape (n, F); NaN where missing.
        missing: Customers without a row, shape (n,).
        stale: Customers whose row no night has made anew, shape (n,).
        trouble: Why there are none at all, where that is so.
    """

    names: tuple[str, ...]
    values: FloatArray
    missing: BoolArray
    stale: BoolArray
    trouble: Degraded | None = None


class PatientReader:
    """Reads features, but does not wait for a store that fails or is late.

    A read that was late goes on behind our back; until it has ended nobody waits for another, so a store that hangs
    costs one deadline and not one for each decision. Who waits for less than usual does so alone.

    Args:
        source: The online store.
        n_readers: Reads at the same time.
    """

    def __init__(self, source: FeatureSource, n_readers: int) -> None:
        self._source = source
        self._threads = ThreadPoolExecutor(n_readers, thread_name_prefix="features")
        self._late: Future[FeatureVectors] | None = None

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def read(
        self, customer_ids: Sequence[str], now: datetime, within_seconds: float, *, shortened: bool = False
    ) -> Reading:
        """The features of n customers, or why there are none.

        Args:
            customer_ids: Repeats are allowed.
            now: As of when.
            within_seconds: How long to wait.
            shortened: Whether that is less than usual, so that a late answer says nothing about the store.
        """
        reading = None
        try:
            vectors = self._source.cached(customer_ids, now)
            if vectors is None:
                if self._late is not None and not self._late.done():
                    return _nothing(len(customer_ids), Degraded.FEATURES_LATE)
                reading = self._threads.submit(self._source.read, customer_ids, now)
                vectors = reading.result(timeout=within_seconds)
        except LateError:
            if not shortened:
                self._late = reading
            elif reading is not None:
                reading.cancel()  # one that has not begun
            logger.warning("features were not there within %.3f s", within_seconds)
            return _nothing(len(customer_ids), Degraded.FEATURES_LATE)
        except NextchannelError as exc:  # known and explained: nothing is set up yet
            logger.warning("features cannot be read: %s", exc)
            return _nothing(len(customer_ids), Degraded.FEATURES_UNAVAILABLE)
        except Exception:  # any failure of the store costs features, never the decision
            logger.exception("features cannot be read")
            return _nothing(len(customer_ids), Degraded.FEATURES_UNAVAILABLE)
        return Reading(
            names=tuple(vectors.names), values=vectors.values, missing=vectors.missing, stale=vectors.stale
        )


def in_order(reading: Reading, names: Sequence[str]) -> FloatArray:
    """The columns that a model wants, in its order; NaN for one that the store does not know.

    Returns:
        Shape (n, len(names)).
    """
    if reading.names == tuple(names):
        return reading.values
    at = {name: column for column, name in enumerate(reading.names)}
    ordered = np.full((len(reading.values), len(names)), np.nan)
    for column, name in enumerate(names):
        if name in at:
            ordered[:, column] = reading.values[:, at[name]]
    return ordered


_NOBODY = np.empty(0, dtype=np.bool_)
NO_FEATURES = Reading(names=(), values=np.empty((0, 0)), missing=_NOBODY, stale=_NOBODY)
"""Of nobody."""


def _nothing(n: int, trouble: Degraded) -> Reading:
    return Reading(
        names=(),
        values=np.empty((n, 0)),
        missing=np.ones(n, dtype=np.bool_),
        stale=np.zeros(n, dtype=np.bool_),
        trouble=trouble,
    )

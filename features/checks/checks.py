"""The one list of checks: each looks at a window of facts and says PASS, FAIL or SKIP, with its figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import numpy as np
import polars as pl

from features.checks.stability import LARGE_PSI, SMALL_PSI, bin_edges, psi
from features.checks.window import Window
from models.domain.interaction import InteractionKind, Place

# Clocks of machines differ a little; more than that is a wrong clock or a missing time zone.
CLOCK_SKEW = timedelta(minutes=5)
LARGEST_VALUE_MINOR = 1e12
MOST_DUPLICATES = 0.001
MOST_SKEWED = 0.001
MOST_UNKNOWN = 0.05
# With fewer rows chance alone moves a figure.
FEWEST_ROWS = 500
_PURCHASED = InteractionKind.PURCHASED.value
_SAME = (
    "source", "customer_id", "kind", "occurred_at", "channel", "place", "campaign_id", "decision_id", "value_minor",
    "attributes",
)  # fmt: skip


class Verdict(StrEnum):
    """How a check ended; SKIP where there are too few rows to tell."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    SKIP = "SKIP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        name: Of the check.
        verdict: How it ended.
        figure: The number that decided; 0.0 where it was skipped.
        words: The figure and its bound, for people.
    """

    name: str
    verdict: Verdict
    figure: float
    words: str

    def __str__(self) -> str:
        return f"{self.verdict:<4}  {self.name:<26} {self.words}"


def run_checks(window: Window) -> list[Finding]:
    """Every check, in the order of the list."""
    return [check(window) for check in CHECKS.values()]


def schema(window: Window) -> Finding:
    """Kinds and places are known, channels are configured."""
    strange = (
        ~pl.col("kind").is_in([kind.value for kind in InteractionKind])
        | (pl.col("place").is_not_null() & ~pl.col("place").is_in([place.value for place in Place]))
        | (pl.col("channel").is_not_null() & ~pl.col("channel").is_in(sorted(window.channels)))
    )
    return _at_most(window, "schema", strange, 0.0, "have an unknown kind, place or channel")


def ranges(window: Window) -> Finding:
    """Values are finite and not absurd, and a purchase is not negative."""
    value = pl.col("value_minor")
    beyond = value.is_not_null() & (~value.is_finite() | (value.abs() > LARGEST_VALUE_MINOR))
    negative = (pl.col("kind") == _PURCHASED) & (value < 0).fill_null(False)
    return _at_most(window, "ranges", beyond | negative, 0.0, "have a value out of range")


def known_customers(window: Window) -> Finding:
    """Facts concern people of the customer register."""
    unknown = ~pl.col("customer_id").is_in(sorted(window.known))
    return _at_most(window, "known_customers", unknown, MOST_UNKNOWN, "concern nobody of the register")


def duplicates(window: Window) -> Finding:
    """One happening does not come under two event ids."""
    repeated = pl.struct(_SAME).is_duplicated() & ~pl.struct(_SAME).is_first_distinct()
    return _at_most(window, "duplicates", repeated, MOST_DUPLICATES, "repeat another under a new event id")


def clock_skew(window: Window) -> Finding:
    """Nothing happened after it was received."""
    ahead = pl.col("occurred_at") > pl.col("received_at") + CLOCK_SKEW
    planned = pl.col("kind") == InteractionKind.PLANNED.value
    return _at_most(
        window, "clock_skew", ahead & ~planned, MOST_SKEWED, "happened > 5 min after they arrived"
    )


def zero_variance(window: Window) -> Finding:
    """Values and times of day differ: one value for all is a default that was filled in, or a lost time of day."""
    amounts = window.rows.filter(pl.col("kind") == _PURCHASED)["value_minor"].drop_nulls()
    times = window.rows["occurred_at"].dt.time()
    constant = [
        name
        for name, column in (("value_minor of purchases", amounts), ("time of day", times))
        if len(column) >= FEWEST_ROWS and column.n_unique() == 1
    ]
    if len(window.rows) < FEWEST_ROWS:
        return _skipped("zero_variance", len(window.rows))
    words = f"the same for all: {', '.join(constant)}" if constant else "values and times of day differ"
    return Finding(
        name="zero_variance",
        verdict=Verdict.FAIL if constant else Verdict.PASS,
        figure=float(len(constant)),
        words=words,
    )


def drift_kind(window: Window) -> Finding:
    """Kinds come in the same shares as before."""
    return _drift("drift_kind", *(rows["kind"] for rows in (window.reference, window.rows)))


def drift_channel(window: Window) -> Finding:
    """Channels come in the same shares as before."""
    return _drift(
        "drift_channel", *(rows["channel"].fill_null("") for rows in (window.reference, window.rows))
    )


def drift_hour(window: Window) -> Finding:
    """Facts fall into the same hours of the day, UTC, as before: a shift is a lost time zone."""
    return _drift("drift_hour", *(rows["occurred_at"].dt.hour() for rows in (window.reference, window.rows)))


def drift_value(window: Window) -> Finding:
    """Purchases are as large as before, by tenths of the reference."""
    before, now = (
        rows.filter((pl.col("kind") == _PURCHASED) & pl.col("value_minor").is_not_null())["value_minor"]
        for rows in (window.reference, window.rows)
    )
    if min(len(before), len(now)) < FEWEST_ROWS:
        return _skipped("drift_value", min(len(before), len(now)))
    edges = bin_edges(before.to_numpy())
    return _drift("drift_value", *(pl.Series(np.digitize(each.to_numpy(), edges)) for each in (before, now)))


CHECKS: dict[str, Callable[[Window], Finding]] = {
    check.__name__: check
    for check in (
        schema,
        ranges,
        known_customers,
        duplicates,
        clock_skew,
        zero_variance,
        drift_kind,
        drift_channel,
        drift_hour,
        drift_value,
    )
}


def _at_most(window: Window, name: str, bad: pl.Expr, bound: float, words: str) -> Finding:
    n = len(window.rows)
    if n == 0:
        return _skipped(name, 0)
    n_bad = int(window.rows.select(bad.sum()).item() or 0)
    share = n_bad / n
    return Finding(
        name=name,
        verdict=Verdict.PASS if share <= bound else Verdict.FAIL,
        figure=share,
        words=f"{n_bad:,} of {n:,} ({share:.2%}) {words}; at most {bound:.1%}",
    )


def _drift(name: str, before: pl.Series, now: pl.Series) -> Finding:
    n = min(len(before), len(now))
    if n < FEWEST_ROWS:
        return _skipped(name, n)
    distance = psi(_counts(before), _counts(now))
    size = "none" if distance < SMALL_PSI else "some" if distance <= LARGE_PSI else "large"
    return Finding(
        name=name,
        verdict=Verdict.PASS if distance <= LARGE_PSI else Verdict.FAIL,
        figure=distance,
        words=f"PSI {distance:.3f} ({size}); at most {LARGE_PSI}",
    )


def _counts(column: pl.Series) -> dict[object, int]:
    return dict(column.rename("class").value_counts().iter_rows())


def _skipped(name: str, n: int) -> Finding:
    return Finding(name=name, verdict=Verdict.SKIP, figure=0.0, words=f"only {n:,} rows to tell from")

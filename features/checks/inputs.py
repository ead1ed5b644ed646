"""Whether what the model looks at has moved: the features that decisions were taken from, now and before."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import Connection, func, select

from features.checks.checks import FEWEST_ROWS, Finding, Verdict
from features.checks.stability import LARGE_PSI, bin_edges, psi
from features.history.evidence import features_of
from features.history.tables import decisions
from models.choice import FloatArray

# Decisions of each side that are read, evenly over it: more do not move the index any more.
_MOST_READ = 5_000
_MOST_NAMED = 5


def check_inputs(conn: Connection, as_of: datetime, days: float, reference_days: float) -> Finding:
    """The features of the decisions of the last days against those of the days before them, each by itself.

    Args:
        conn: Only read.
        as_of: Aware; the end of the window.
        days: Length of the window, > 0.
        reference_days: Length of the reference before it, > 0.
    """
    starts_at = as_of - timedelta(days=days)
    before = _features(conn, starts_at - timedelta(days=reference_days), starts_at)
    now = _features(conn, starts_at, as_of)
    moved = {
        name: _distance(before[name], now[name])
        for name in sorted(before.keys() & now.keys())
        if min(len(before[name]), len(now[name])) >= FEWEST_ROWS
    }
    if not moved:
        n = min(max(map(len, side.values()), default=0) for side in (before, now))
        words = f"only {n:,} decisions to tell from; {FEWEST_ROWS} are needed"
        return Finding(name="drift_features", verdict=Verdict.SKIP, figure=0.0, words=words)
    furthest = sorted(moved, key=lambda name: (-moved[name], name))
    beyond = [name for name in furthest if moved[name] > LARGE_PSI]
    named = ", ".join(f"{name} {moved[name]:.3f}" for name in (beyond or furthest)[:_MOST_NAMED])
    more = f" and {len(beyond) - _MOST_NAMED} more" if len(beyond) > _MOST_NAMED else ""
    return Finding(
        name="drift_features",
        verdict=Verdict.FAIL if beyond else Verdict.PASS,
        figure=moved[furthest[0]],
        words=f"{len(beyond)} of {len(moved)} features beyond PSI {LARGE_PSI}; furthest {named}{more}",
    )


def _features(conn: Connection, since: datetime, until: datetime) -> dict[str, FloatArray]:
    """Values by feature of an even sample of the decisions; NaN where a decision lacked it."""
    place = func.row_number().over(order_by=(decisions.c.decided_at, decisions.c.decision_id))
    in_order = (
        select(decisions.c.decision_id, place.label("place"))
        .where(
            decisions.c.decided_at >= since,
            decisions.c.decided_at < until,
            decisions.c.evidence.is_not(None),
        )
        .subquery()
    )
    n = conn.execute(select(func.count()).select_from(in_order)).scalar_one()
    sample = (
        select(decisions.c.evidence)
        .join(in_order, in_order.c.decision_id == decisions.c.decision_id)
        .where(in_order.c.place % max(1, -(-n // _MOST_READ)) == 0)
    )
    by_list: dict[tuple[str, ...], list[FloatArray]] = {}
    for packed in conn.scalars(sample):
        names, values = features_of(conn, packed)
        by_list.setdefault(names, []).append(values)
    columns: dict[str, list[FloatArray]] = {}
    for names, rows in by_list.items():
        for name, column in zip(names, np.array(rows).T, strict=True):
            columns.setdefault(name, []).append(column)
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def _distance(before: FloatArray, now: FloatArray) -> float:
    """PSI by tenths of what was there before; what is missing is a class of its own."""
    there = before[~np.isnan(before)]
    edges = bin_edges(there) if len(there) else np.empty(0)
    counts = []
    for side in (before, now):
        classes = np.where(np.isnan(side), -1, np.digitize(side, edges))
        counts.append(
            dict(zip(*(each.tolist() for each in np.unique(classes, return_counts=True)), strict=True))
        )
    return psi(*counts)

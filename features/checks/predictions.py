"""Whether as much was opened and converted as the model said, by channel.

Looked at are contacts whose outcome is final, as far as it was counted: by the learner, a training, or a look at a report.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, case, func, select

from features.checks.checks import Finding, Verdict
from features.history.tables import decisions, rewards
from models.evaluation.calibration_in_use import FEWEST_EXPECTED, TOLERATED, Kept

_OUTCOMES: tuple[tuple[str, ColumnElement[float | None], ColumnElement[bool | None]], ...] = (
    ("open", decisions.c.p_open, rewards.c.opened),
    ("convert", decisions.c.p_convert, rewards.c.converted),
)


def check_predictions(conn: Connection, as_of: datetime, days: float) -> list[Finding]:
    """One finding an outcome and channel; one that says so where nothing can be told.

    Args:
        conn: Only read.
        as_of: Aware; later decisions are left out.
        days: Decisions of so many days before it.
    """
    found = [
        _finding(f"calibration_{outcome}_{channel}", kept)
        for outcome, predicted, happened in _OUTCOMES
        for channel, kept in _kept(conn, predicted, happened, as_of, days)
    ]
    words = f"no contact of {days:g} days that was predicted has a final outcome that was counted"
    return found or [Finding(name="calibration", verdict=Verdict.SKIP, figure=0.0, words=words)]


def _kept(
    conn: Connection,
    predicted: ColumnElement[float | None],
    happened: ColumnElement[bool | None],
    as_of: datetime,
    days: float,
) -> Iterator[tuple[str, Kept]]:
    """What became of the predictions, by channel in order of name."""
    customer = (
        select(
            decisions.c.channel,
            func.count().label("n"),
            func.sum(predicted).label("expected"),
            func.sum(case((happened, 1), else_=0)).label("observed"),
        )
        .join(rewards, rewards.c.decision_id == decisions.c.decision_id)
        .where(
            decisions.c.decided_at >= as_of - timedelta(days=days),
            decisions.c.decided_at < as_of,
            decisions.c.channel.is_not(None),
            predicted.is_not(None),
            happened.is_not(None),
            rewards.c.final,
        )
        .group_by(decisions.c.channel, decisions.c.customer_id)
        .subquery()
    )
    less = customer.c.observed - customer.c.expected
    rows = conn.execute(
        select(
            customer.c.channel,
            func.sum(customer.c.n).label("n"),
            func.sum(customer.c.expected).label("expected"),
            func.sum(customer.c.observed).label("observed"),
            func.sum(less * less).label("variance"),
        )
        .group_by(customer.c.channel)
        .order_by(customer.c.channel)
    )
    for row in rows:
        yield (
            row.channel,
            Kept(n=int(row.n), expected=row.expected, observed=int(row.observed), variance=row.variance),
        )


def _finding(name: str, kept: Kept) -> Finding:
    broken = kept.broken()
    if broken is None:
        words = f"only {kept.expected:.1f} expected of {kept.n:,} contacts to tell from; {FEWEST_EXPECTED:g} are needed"
        return Finding(name=name, verdict=Verdict.SKIP, figure=0.0, words=words)
    low, high = kept.interval()
    return Finding(
        name=name,
        verdict=Verdict.FAIL if broken else Verdict.PASS,
        figure=kept.ratio,
        words=(
            f"{kept.observed:,} of {kept.n:,}, {kept.expected:,.0f} expected: {kept.ratio:.2f} times ({low:.2f} to {high:.2f}); "
            f"{1 / TOLERATED:g} to {TOLERATED:g}"
        ),
    )

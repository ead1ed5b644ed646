"""Geometry of the chart of contributions: bars to both sides of zero; the template draws it as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serving.dashboard.charts import PLOT_WIDTH, Tick, round_values
from serving.explain.explanation import Prediction

_MOST_BARS = 8
# Room for the figure beside the longest bar, as a share of the range.
_ROOM = 0.16
# Smaller than this, in probability, is rounding.
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One line of the chart.

    Attributes:
        label: What contributed.
        amount: What it added, as a difference of probabilities.
        left: Left end in pixels.
        width: Length in pixels.
    """

    label: str
    amount: float
    left: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """A chart of contributions over one axis; ticks are in probability."""

    width: float
    rows: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    zero: float


def contribution_bars(
    prediction: Prediction, name: Callable[[str], str], others: str, adjustment: str
) -> Bars | None:
    """Lay the largest contributions out, then the sum of the others, then the adjustment.

    Args:
        prediction: As a sum; the bars add up to `total - base`.
        name: What a feature is called.
        others: What the sum of the rest is called; `{n}` is how many there are.
        adjustment: What the adjustment is called.

    Returns:
        None where nothing moved the prediction.
    """
    shown, rest = prediction.parts[:_MOST_BARS], prediction.parts[_MOST_BARS:]
    lines = [(name(part.feature), part.amount) for part in shown]
    if rest:
        lines.append((others.format(n=len(rest)), sum(part.amount for part in rest)))
    if abs(prediction.adjustment) > _NOTHING:
        lines.append((adjustment, prediction.adjustment))
    return _lay_out(lines) if any(abs(amount) > _NOTHING for _, amount in lines) else None


def _lay_out(lines: Sequence[tuple[str, float]]) -> Bars:
    low = min(0.0, *(amount for _, amount in lines))
    high = max(0.0, *(amount for _, amount in lines))
    room = (high - low) * _ROOM
    low, high = low - room, high + room

    def at(value: float) -> float:
        return round((value - low) / (high - low) * PLOT_WIDTH, 1)

    zero = at(0.0)
    return Bars(
        width=PLOT_WIDTH,
        rows=tuple(
            Bar(
                label=label,
                amount=amount,
                left=min(zero, at(amount)),
                width=round(max(abs(at(amount) - zero), 1.0), 1),
            )
            for label, amount in lines
        ),
        ticks=tuple(Tick(at=at(value), value=value) for value in round_values(low, high)),
        zero=zero,
    )

from __future__ import annotations

import pytest

from serving.dashboard.charts import PLOT_WIDTH
from serving.dashboard.contributions import contribution_bars
from serving.explain.explanation import Part, Prediction


def prediction(*amounts: float, adjustment: float = 0.0) -> Prediction:
    return Prediction(
        base=0.2,
        parts=tuple(Part(feature=f"f{i}", value=1.0, amount=amount) for i, amount in enumerate(amounts)),
        adjustment=adjustment,
        total=0.2 + sum(amounts) + adjustment,
    )


def test_bars_start_at_zero_and_their_lengths_are_in_proportion():
    plot = contribution_bars(prediction(0.06, -0.03), str, "{n} others", "learned")
    assert plot is not None
    up, down = plot.rows
    assert up.left == plot.zero
    assert down.left + down.width == pytest.approx(plot.zero, abs=0.11)
    assert up.width == pytest.approx(2 * down.width, abs=0.3)
    assert down.left >= 0
    assert up.left + up.width <= PLOT_WIDTH
    assert 0.0 in [tick.value for tick in plot.ticks]


def test_the_bars_add_up_to_what_the_customer_differs_from_the_average():
    one = prediction(*[0.01 / (i + 1) for i in range(12)], adjustment=-0.004)
    plot = contribution_bars(one, str, "{n} others", "learned")
    assert plot is not None
    assert [row.label for row in plot.rows[-2:]] == ["4 others", "learned"]
    assert sum(row.amount for row in plot.rows) == pytest.approx(one.total - one.base)


def test_nothing_is_drawn_where_nothing_moved():
    assert contribution_bars(prediction(), str, "{n} others", "learned") is None
    assert contribution_bars(prediction(adjustment=1e-17), str, "{n} others", "learned") is None

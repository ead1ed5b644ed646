"""What benchmarks have to reach, and the page that says whether they did."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.benchmarks import _all
from tests.benchmarks.bars import BARS, Bar, missed
from tests.named_programs import names

DECIDE = {"bench": "decide", "p50_over_bare": 3.0, "rps_over_bare": 0.4, "p99_over_p50": 2.0, "rss_mb": 500.0}


def test_every_bar_is_one_of_a_benchmark_that_there_is() -> None:
    assert set(BARS) <= set(names("benchmarks"))


@pytest.mark.parametrize(
    ("bar", "inside", "outside"),
    [
        (Bar(least=1.0), 1.0, 0.999),
        (Bar(most=3.0), 3.0, 3.001),
        (Bar(0.75, 1.35), 0.75, 1.36),
        (Bar(0.75, 1.35), 1.35, 0.74),
    ],
)
def test_a_bar_may_be_touched_and_not_crossed(bar: Bar, inside: float, outside: float) -> None:
    assert bar.met_by(inside)
    assert not bar.met_by(outside)


def test_what_is_missed_is_named_with_its_figure_and_bar() -> None:
    assert missed(DECIDE) == []
    assert missed(DECIDE | {"rps_over_bare": 0.3}) == ["rps_over_bare: 0.3, has to be 0.333 or more"]
    assert missed({"bench": "core", "cpu_ms_per_decision": 1.0, "simulated": {"ineligible": 0}}) == [
        "simulated.furthest_sum_from_1: not measured, has to be at most 1e-06"
    ]
    assert missed({"bench": "day_one"}) == [], "a benchmark without bars"


def test_the_page_says_what_was_missed_and_what_ended_without_figures() -> None:
    text = _all.page(
        {"decide": DECIDE | {"rss_mb": 900.0, "stages": {"write": 0.05}}, "send": None},
        "abc1234",
        ["2 cores"],
        datetime(2026, 3, 1, tzinfo=UTC),
    )
    assert "| `rss_mb` | 900 | at most 700 | **missed** |" in text
    assert "| `p50_over_bare` | 3 | at most 3 | met |" in text
    assert "| `stages.write` | 0.05 | | |" in text
    assert "## send\n\nMessages a second" in text
    assert "It ended without figures." in text

"""What every benchmark has to reach, in one place."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

Figures = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Bar:
    """Bounds of one figure, both of which it may touch."""

    least: float | None = None
    most: float | None = None

    def met_by(self, figure: float) -> bool:
        """Whether the figure lies within."""
        return (self.least is None or figure >= self.least) and (self.most is None or figure <= self.most)

    def __str__(self) -> str:
        if self.most is None:
            return f"{self.least:g} or more"
        return f"at most {self.most:g}" if self.least is None else f"{self.least:g} to {self.most:g}"


# By benchmark, then by figure; `a.b` is figure b of the group a.
BARS: Mapping[str, Mapping[str, Bar]] = {
    "allocation": {
        "gap_100k": Bar(most=1e-5),
        "cpu_s_100k": Bar(most=0.5),
        "gap_1m": Bar(most=1e-5),
        "cpu_s_1m": Bar(most=5.0),
        "peak_rss_mb": Bar(most=1000.0),
        "violations": Bar(most=0),
        "highs_relative_10k": Bar(most=1e-6),
        "over_chunks_pct": Bar(least=1.0),
        "over_priority_pct": Bar(least=2.4),
    },
    "batch": {
        "customers_per_s_over_bare_rps": Bar(least=1.0),
        "rss_growth_pct": Bar(-5.0, 5.0),
        "most_rss_mb": Bar(most=700.0),
    },
    "core": {
        "cpu_ms_per_decision": Bar(most=2.0),
        "simulated.ineligible": Bar(most=0),
        "simulated.furthest_sum_from_1": Bar(most=1e-6),
    },
    "decide": {
        "p50_over_bare": Bar(most=3.0),
        "rps_over_bare": Bar(least=0.333),
        "p99_over_p50": Bar(most=2.5),
        "rss_mb": Bar(most=700.0),
    },
    "drift": {
        "gain_dead_channel_points": Bar(least=5.0),
        "gain_hours_move_points": Bar(least=4.0),
        "share_of_recoverable_gap": Bar(least=0.4),
        "worst_stationary_points": Bar(least=-1.0),
        "sabotaged_points": Bar(least=-1.5),
    },
    "experiments": {
        "always_valid_fpr": Bar(most=0.05),
        "width_over_fixed": Bar(most=1.6),
        "fixed_coverage": Bar(0.94, 0.96),
    },
    "features": {
        "frame_time_over_feast": Bar(most=1.0),
        "peak_rss_mb": Bar(most=4096.0),
        "materialize_time_over_feast": Bar(most=0.1),
    },
    "ingest": {"rows_per_s_over_raw": Bar(least=0.4), "changed_by_repeating": Bar(most=0)},
    "market": {
        "overall.retail": Bar(least=42.0),
        "overall.bank": Bar(least=42.0),
        "overall.travel": Bar(least=32.0),
        "last_quarter.retail": Bar(least=48.0),
        "last_quarter.bank": Bar(least=50.0),
        "last_quarter.travel": Bar(least=40.0),
        "beats_fixed_last_quarter_every_seed": Bar(least=1),
        "beats_other_rules_everywhere": Bar(least=1),
        "worst_week_value": Bar(least=0.0),
        "exploration_cost_points": Bar(most=2.0),
        "claimed_over_true.retail": Bar(0.75, 1.35),
        "claimed_over_true.bank": Bar(0.75, 1.35),
        "claimed_over_true.travel": Bar(most=2.0),
        "slot_gap_recovered": Bar(least=0.4),
        "ineligible_choices": Bar(most=0),
    },
    "mixed": {"refused": Bar(most=0), "fact_p99_ms": Bar(most=300.0)},
    "online": {"warm_read_over_bare": Bar(most=0.1), "us_per_customer_in_1000": Bar(most=20.0)},
    "ope": {
        "dr_bias": Bar(most=0.1),
        "dr_coverage": Bar(0.93, 0.97),
        "withheld_below_ess": Bar(least=1),
    },
    "pages": {
        "share_of_a_bar": Bar(most=1.0),
        "failed": Bar(most=0),
        "refused_while_counting": Bar(most=0),
    },
    "pacing": {
        "worst_over_first_come_points": Bar(least=-1.0),
        "steady_share_of_best": Bar(least=0.97),
        "violations": Bar(most=0),
    },
    "plans": {"refused": Bar(most=0), "over_capacity": Bar(most=0), "most_rss_mb": Bar(most=700.0)},
    "replicas": {"rps_two_over_one": Bar(least=1.7)},
    "send": {"messages_per_s_over_raw": Bar(least=0.5)},
}


def figure(figures: Figures, name: str) -> float | None:
    """The figure of that name; None where it was not measured."""
    found: object = figures
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, (int, float)) else None


def missed(figures: Figures) -> list[str]:
    """The bars that a benchmark's figures miss, in words; one that was not measured is missed."""
    told = []
    for name, bar in BARS.get(str(figures["bench"]), {}).items():
        found = figure(figures, name)
        if found is None:
            told.append(f"{name}: not measured, has to be {bar}")
        elif not bar.met_by(found):
            told.append(f"{name}: {found:g}, has to be {bar}")
    return told


def exit_code(figures: Figures) -> int:
    """What a benchmark ends with: 1 where a bar is missed, which is said on standard error."""
    told = missed(figures)
    for line in told:
        sys.stderr.write(f"missed: {line}\n")
    return int(bool(told))

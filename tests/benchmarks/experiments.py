"""What the intervals of experiments promise, by simulation: looked at every day, and once at the end.

    make bench NAME=experiments [ARGS="--quick"]

Experiments in which contact changes nothing: customers come in over 28 days and buy for amounts with a heavy tail, and who
bought before buys more. After every day treatment is compared with holdout. `always_valid_fpr` is the share of experiments whose
always-valid interval left out 0 on any day, `peeking_fpr` the same of the fixed one, `fixed_coverage` the share of those whose
fixed interval held 0 on the last day; all with what customers did before taken out, as the report does it. Once for customers
who buy rarely (one in twenty a campaign) and once for regular ones (once in the mean); the worse of the two counts. Simulated.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from rich.console import Console
from rich.progress import Progress

from models.domain.experiment import Arm
from models.evaluation.estimate import normal_quantile
from models.evaluation.experiment import Difference, always_valid_factor, compare_arms
from models.evaluation.pre_period import PairedMoments, without_before
from tests.benchmarks.bars import exit_code

_DAYS, _A_DAY = 28, 500
_N = _DAYS * _A_DAY
_PAIR = (Arm.TREATMENT, Arm.HOLDOUT)
_HOLDOUT_SHARE = 0.3
# Purchases a customer before and in the campaign, in the mean.
_CUSTOMERS = {"rare": (0.15, 0.05), "regular": (3.0, 1.0)}


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen after a day.

    Attributes:
        adjusted: Difference without what customers did before.
        plain: As it is.
        explained: Share of the variance that was taken out.
    """

    adjusted: Difference
    plain: Difference
    explained: float


def main(arguments: list[str]) -> int:
    """Measure; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="experiments", description=__doc__)
    parser.add_argument("--experiments", type=int, default=4_000, help="of each kind of customers")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="200 experiments; no bar is judged")
    wanted = parser.parse_args(arguments)
    n = 200 if wanted.quick else wanted.experiments
    rng = np.random.default_rng(wanted.seed)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        by_kind = {
            kind: _figures([_looks(rng, *rates) for _ in progress.track(range(n), description=kind)])
            for kind, rates in _CUSTOMERS.items()
        }
    found: dict[str, object] = {
        "bench": "experiments",
        "always_valid_fpr": max(one["always_valid_fpr"] for one in by_kind.values()),
        "width_over_fixed": round(always_valid_factor(_N, _N) / normal_quantile(0.95), 3),
        "fixed_coverage": max(
            (one["fixed_coverage"] for one in by_kind.values()), key=lambda share: abs(share - 0.95)
        ),
        "simulated": by_kind,
        "experiments": n,
    }
    for kind, figures in by_kind.items():
        for name, figure in figures.items():
            sys.stdout.write(f"  {kind:<8} {name:<24} {figure}\n")
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if wanted.quick else exit_code(found)


def _looks(rng: np.random.Generator, before_rate: float, rate: float) -> list[Look]:
    """One experiment, day by day."""
    treated = rng.random(_N) >= _HOLDOUT_SHARE
    usual, amount = (
        rng.gamma(0.5, 2.0, _N),
        rng.lognormal(8.0, 0.8, _N),
    )  # how often a customer buys, and for how much
    before, after = (
        rng.poisson(mean * usual) * amount * rng.lognormal(0.0, 0.6, _N) for mean in (before_rate, rate)
    )
    looks = []
    for n in range(_A_DAY, _N + 1, _A_DAY):
        paired = {
            arm: PairedMoments.of(after[:n][members], before[:n][members])
            for arm, members in ((Arm.TREATMENT, treated[:n]), (Arm.HOLDOUT, ~treated[:n]))
        }
        adjusted = without_before(paired)
        plain = {arm: sums.plain for arm, sums in paired.items()}
        looks.append(
            Look(
                compare_arms(adjusted.arms, planned_n=_N)[_PAIR],
                compare_arms(plain, planned_n=_N)[_PAIR],
                adjusted.explained,
            )
        )
    return looks


def _figures(experiments: list[list[Look]]) -> dict[str, float]:
    last = [looks[-1] for looks in experiments]
    narrower = fmean(1 - one.adjusted.standard_error / one.plain.standard_error for one in last)
    return {
        "always_valid_fpr": _share(any(one.adjusted.may_stop for one in looks) for looks in experiments),
        "peeking_fpr": _share(not all(_holds(one.adjusted) for one in looks) for looks in experiments),
        "fixed_coverage": _share(_holds(one.adjusted) for one in last),
        "explained": round(fmean(one.explained for one in last), 3),
        "narrower": round(narrower, 3),
        "plain_always_valid_fpr": _share(any(one.plain.may_stop for one in looks) for looks in experiments),
        "plain_fixed_coverage": _share(_holds(one.plain) for one in last),
    }


def _holds(one: Difference) -> bool:
    return one.low <= 0.0 <= one.high


def _share(which: Iterable[bool]) -> float:
    return round(fmean(which), 4)

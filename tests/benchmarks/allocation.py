"""Many customers, scarce channels: how near to the best, how long it takes, and what the usual ways leave behind.

    make bench NAME=allocation [ARGS="--quick"]

Customers are invented. One is worth a lognormal factor (sigma 0.9), a channel brings its mean times that factor times a
lognormal one of its own (sigma 0.6) less its cost, and is open to a share of the customers, each by chance. Scarce are SMS, LINE
and calls; no contact is worth 0.

- `plain`: the three capacities. `gap_*`, `cpu_s_*`, `peak_rss_mb` (the whole process with 1M customers in it) and the
  comparisons are of it.
- `budget`: a budget of money beside them, 0.7 of what the plan without it spends; its use differs by channel.
- `tied`: the values of 500 customers, each for many, as a small tree predicts them; with the budget.
- `scarcer`: as `plain`, each capacity a fifth.
- `by_age`: as `plain`, but listed in an order that says something of what customers are worth, as an export by age may.

`highs_relative_10k` is |bound / optimum of the linear program - 1| by HiGHS, the worst of the first three; `violations` counts
exceeded capacities and choices that are not open in these. `over_chunks_pct` is what is gained over solving 1,000 customers
at a time, each with its share of the capacity (100k customers); `over_priority_pct` over customers in the order of their best value,
each taking the best that it still can. Both depend on how scarce channels are, on what else there is, and chunks on the
order of the list; the bars are held against `plain`, and the others stand beside it.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from models.allocation.prices import allocate
from models.allocation.whole import Allocation
from models.choice import FloatArray
from tests.benchmarks.bars import exit_code

# Mean value (minor units), cost (minor units), share of the customers to whom it is open, capacity a customer.
CHANNELS: Mapping[str, tuple[float, float, float, float | None]] = {
    "email": (20.0, 0.1, 0.9, None),
    "sms": (60.0, 8.0, 0.6, 0.1),
    "line": (50.0, 5.0, 0.5, 0.15),
    "push": (30.0, 0.2, 0.3, None),
    "web_push": (25.0, 0.2, 0.4, None),
    "whatsapp": (80.0, 7.0, 0.3, None),
    "messenger": (30.0, 1.0, 0.3, None),
    "call": (150.0, 200.0, 0.6, 0.01),
}
_CHUNK = 1_000
_BUDGET_SHARE = 0.7
_KINDS = 500
_RUNS = 3


@dataclass(frozen=True, slots=True)
class Instance:
    """What `allocate` takes."""

    value: FloatArray
    use: FloatArray
    capacity: FloatArray

    def solved(self) -> Allocation:
        """Allocated."""
        return allocate(self.value, self.use, self.capacity)

    def violations(self, found: Allocation) -> int:
        """Exceeded capacities and choices that are not open."""
        used = np.bincount(found.choice, minlength=len(self.use)) @ self.use
        taken = self.value[np.arange(len(self.value)), found.choice]
        return int((used > self.capacity).sum() + np.isneginf(taken).sum())


def plain(n: int, seed: int) -> Instance:
    """Three capacities."""
    rng = np.random.default_rng(seed)
    value = np.zeros((n, len(CHANNELS) + 1))
    worth = rng.lognormal(-0.405, 0.9, n)  # 1 in the mean
    for k, (mean, cost, share, _) in enumerate(CHANNELS.values()):
        value[:, k] = mean * worth * rng.lognormal(-0.18, 0.6, n) - cost
        value[rng.random(n) >= share, k] = -np.inf
    scarce = {k: most for k, (*_, most) in enumerate(CHANNELS.values()) if most is not None}
    use = np.zeros((len(CHANNELS) + 1, len(scarce)))
    use[list(scarce), range(len(scarce))] = 1.0
    return Instance(value, use, np.round(n * np.array(list(scarce.values()))))


def budget(n: int, seed: int) -> Instance:
    """A budget beside them."""
    return _with_budget(plain(n, seed))


def tied(n: int, seed: int) -> Instance:
    """Few different customers, and a budget."""
    one = plain(n, seed)
    kinds = one.value[np.random.default_rng(seed).integers(0, min(n, _KINDS), n)]
    return _with_budget(replace(one, value=kinds))


def scarcer(n: int, seed: int) -> Instance:
    """A fifth of the capacities."""
    one = plain(n, seed)
    return replace(one, capacity=np.round(one.capacity / 5))


def by_age(n: int, seed: int) -> Instance:
    """Listed by what they are worth, blurred by as much again."""
    one = plain(n, seed)
    best = np.log1p(one.value.max(axis=1))
    blurred = best + np.random.default_rng(seed).normal(0.0, best.std(), n)
    return replace(one, value=one.value[np.argsort(-blurred)])


def main(arguments: list[str]) -> int:
    """Measure; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="allocation", description=__doc__)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--quick", action="store_true", help="a tenth of the customers; no bar is judged")
    wanted = parser.parse_args(arguments)
    tenth = 10 if wanted.quick else 1
    middle, most, few = 100_000 // tenth, 1_000_000 // tenth, 10_000 // tenth
    # The largest first: what the others need stays below its peak.
    at_most = {one.__name__: _measure(one, most, wanted.seed) for one in (plain, budget, tied)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    at_middle = {one.__name__: _measure(one, middle, wanted.seed) for one in (plain, budget, tied)}
    # Imports SciPy: after the peak was read.
    highs = {one.__name__: _beside_highs(one(few, wanted.seed)) for one in (plain, budget, tied)}
    others = {
        one.__name__: _over_others(one(middle, wanted.seed)) for one in (plain, budget, tied, scarcer, by_age)
    }
    found: dict[str, object] = {
        "bench": "allocation",
        "gap_100k": at_middle["plain"].gap,
        "cpu_s_100k": at_middle["plain"].cpu_s,
        "gap_1m": at_most["plain"].gap,
        "cpu_s_1m": at_most["plain"].cpu_s,
        "peak_rss_mb": round(peak),
        "violations": sum(one.violations for each in (at_middle, at_most) for one in each.values()),
        "highs_relative_10k": max(highs.values()),
        **others["plain"],
        **{
            name: {
                "gap_100k": at_middle[name].gap,
                "cpu_s_100k": at_middle[name].cpu_s,
                "gap_1m": at_most[name].gap,
                "cpu_s_1m": at_most[name].cpu_s,
                "highs_relative_10k": highs[name],
                **others[name],
            }
            for name in ("budget", "tied")
        },
        "scarcer": others["scarcer"],
        "by_age": others["by_age"],
        "customers": most,
    }
    for name in ("plain", "budget", "tied"):
        for size, each in ((middle, at_middle), (most, at_most)):
            sys.stdout.write(
                f"  {name:<8} {size:>9,} customers  gap {each[name].gap:8.2e}  {each[name].cpu_s:6.3f} CPU s\n"
            )
    for name, figures in others.items():
        told = "  ".join(f"{key} {figure:+.2f}" for key, figure in figures.items())
        sys.stdout.write(f"  {name:<8} {told}\n")
    for name, relative in highs.items():
        sys.stdout.write(f"  {name:<8} bound beside HiGHS {relative:.1e}\n")
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if wanted.quick else exit_code(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    gap: float
    cpu_s: float
    violations: int


def _measure(make: Callable[[int, int], Instance], n: int, seed: int) -> _Measured:
    """The median of some runs."""
    instance = make(n, seed)
    spent = []
    for _ in range(_RUNS):
        started = time.process_time()
        found = instance.solved()
        spent.append(time.process_time() - started)
    return _Measured(
        gap=float(f"{found.gap:.3g}"), cpu_s=round(median(spent), 3), violations=instance.violations(found)
    )


def _over_others(instance: Instance) -> dict[str, float]:
    """What is gained over the usual ways, in percent of what they reach."""
    ours = instance.solved().value
    n = len(instance.value)
    chunks = sum(
        allocate(part, instance.use, instance.capacity * (len(part) / n)).value
        for part in (instance.value[start : start + _CHUNK] for start in range(0, n, _CHUNK))
    )
    return {
        "over_chunks_pct": round(100 * (ours / chunks - 1), 3),
        "over_priority_pct": round(100 * (ours / by_priority(instance) - 1), 3),
    }


def by_priority(instance: Instance) -> float:
    """What customers reach who take, in the order of their best value, the best that they still can."""
    left = instance.capacity.copy()
    total = 0.0
    ranked = np.argsort(-instance.value, axis=1)
    for i in np.argsort(-instance.value.max(axis=1), kind="stable"):
        for k in ranked[i]:
            if (instance.use[k] <= left).all():
                left -= instance.use[k]
                total += instance.value[i, k]
                break
    return float(total)


def _beside_highs(instance: Instance) -> float:
    """How far the bound is from the linear program's optimum, as a share of it."""
    return float(f"{abs(instance.solved().bound / highs_optimum(instance) - 1):.3g}")


def highs_optimum(instance: Instance) -> float:
    """What is reached where a customer may take parts of several choices: no bound is tighter than this one of prices."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_array

    customer, choice = np.nonzero(np.isfinite(instance.value))
    each = np.arange(len(customer))
    solved = linprog(
        -instance.value[customer, choice],
        A_ub=csr_array(instance.use[choice].T),
        b_ub=instance.capacity,
        A_eq=csr_array((np.ones(len(customer)), (customer, each))),
        b_eq=np.ones(len(instance.value)),
        method="highs",
    )
    return -float(solved.fun)


def _with_budget(one: Instance) -> Instance:
    cost = np.array([*(cost for _, cost, *_ in CHANNELS.values()), 0.0])
    spent = float(cost[one.solved().choice].sum())
    return Instance(
        one.value, np.column_stack([one.use, cost]), np.append(one.capacity, np.floor(_BUDGET_SHARE * spent))
    )

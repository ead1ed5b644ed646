"""What shadow prices are worth over first come, first served, on days whose requests come by themselves.

    make bench NAME=pacing [ARGS="--quick"]

Simulated: the customers of `allocation` (three channels are scarce), who ask at times of their own, and take what is worth
most to them at the prices of the moment while there is some left. Past days are known as the service keeps them: of many
requests some, each of which stands for several. Prices are worked out anew every five minutes (every five seconds while a batch
comes). The last of five days is looked at; `best` is what it could have been with all its requests known beforehand
(the dual bound), and figures are shares of it.

- `steady`: a day like those before. `first_day`: nobody is expected yet.
- `busier`, `quieter`: twice and half as many as on the days before; `growing` doubles within the five days.
- `evening`: who comes after 15:00 is worth twice as much.
- `batch`: all within a minute, at nine; `moving_batch` up to twenty minutes earlier or later, each day differently;
  `missing_batch`: half of the requests are a batch that did not come.
- `scarcer`: a fifth of the capacities.
- `budget`: money is scarce too, for this day and six more.

`turn_ms` is how long prices take (CPU) when a week of requests is known, `n_known` of them kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from statistics import fmean

import numpy as np

from models.allocation.prices import allocate
from models.choice import FloatArray
from models.domain.campaign import Campaign, Content, Offer, SendWindow
from models.domain.channel import ContentKind
from models.domain.experiment import Experiment
from serving.pacing.ask import Ask, Option
from serving.pacing.memory import Memory, Place
from serving.pacing.scarcity import Scarce, pace
from tests.benchmarks.allocation import CHANNELS, plain
from tests.benchmarks.bars import exit_code

_CAMPAIGN = "spring"
_DAYS = 5
_MIDNIGHT = datetime(2026, 3, 6, tzinfo=UTC)
_DAY_SECONDS = 86_400.0
_NAMES = tuple(CHANNELS)
_COST = np.array([cost for _, cost, *_ in CHANNELS.values()])
_BUDGET_DAYS = 7
# As `serving.pacing.pacing` keeps them: of an hour's first requests each, of later ones fewer and fewer.
_KEPT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Days of requests.

    Attributes:
        arrivals: Seconds after midnight at which n requests of a day come, ascending.
        sizes: Requests of each day, as a share of the usual.
        evening: What those who come after 15:00 are worth more, as a factor.
        scarcity: By how much capacities are smaller.
        budget_share: Of what a day would spend without one, over seven days; None without a budget.
        step: Seconds between two turns.
    """

    arrivals: Callable[[np.random.Generator, int, int], FloatArray]
    sizes: Sequence[float] = (1.0,) * _DAYS
    evening: float = 1.0
    scarcity: float = 1.0
    budget_share: float | None = None
    step: float = 300.0


def _all_day(rng: np.random.Generator, n: int, day: int) -> FloatArray:
    return np.sort((rng.normal(13.0, 4.0, n) % 24) * 3_600)


def _batch(rng: np.random.Generator, n: int, day: int) -> FloatArray:
    return np.sort(9 * 3_600 + rng.uniform(0, 60, n))


def _moving_batch(rng: np.random.Generator, n: int, day: int) -> FloatArray:
    return _batch(rng, n, day) + rng.uniform(-1_200, 1_200)


def _missing_batch(rng: np.random.Generator, n: int, day: int) -> FloatArray:
    if day == _DAYS - 1:
        return _all_day(rng, n, day)
    return np.sort(np.concatenate([_all_day(rng, n // 2, day), _batch(rng, n - n // 2, day)]))


SCENES: Mapping[str, Scene] = {
    "steady": Scene(arrivals=_all_day),
    "first_day": Scene(arrivals=_all_day, sizes=(0.0, 0.0, 0.0, 0.0, 1.0)),
    "busier": Scene(arrivals=_all_day, sizes=(1.0, 1.0, 1.0, 1.0, 2.0)),
    "quieter": Scene(arrivals=_all_day, sizes=(1.0, 1.0, 1.0, 1.0, 0.5)),
    "growing": Scene(arrivals=_all_day, sizes=(0.5, 0.6, 0.7, 0.85, 1.0)),
    "evening": Scene(arrivals=_all_day, evening=2.0),
    "batch": Scene(arrivals=_batch, step=5.0),
    "moving_batch": Scene(arrivals=_moving_batch, step=5.0),
    "missing_batch": Scene(arrivals=_missing_batch, sizes=(1.0, 1.0, 1.0, 1.0, 0.5)),
    "scarcer": Scene(arrivals=_all_day, scarcity=0.2),
    "budget": Scene(arrivals=_all_day, budget_share=0.5),
}


@dataclass(frozen=True, slots=True)
class Day:
    """Requests of a day.

    Attributes:
        at: Seconds since 1970, ascending, shape (n,).
        value: By channel, the last no contact, shape (n, C + 1).
    """

    at: FloatArray
    value: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """How a day ended, as shares of the best."""

    first_come: float
    paced: float
    violations: int


def main(arguments: list[str]) -> int:
    """Measure, print the figures, then one line of JSON; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="pacing", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--quick", action="store_true", help="a fifth of the customers, one seed; no bar is judged"
    )
    wanted = parser.parse_args(arguments)
    n, seeds = (2_000, 1) if wanted.quick else (10_000, wanted.seeds)
    shares: dict[str, dict[str, float]] = {}
    violations = 0
    for name, scene in SCENES.items():
        played = [play(scene, n, seed) for seed in range(seeds)]
        violations += sum(one.violations for one in played)
        first, paced = fmean(one.first_come for one in played), fmean(one.paced for one in played)
        shares[name] = {"first_come": round(first, 4), "paced": round(paced, 4)}
        sys.stdout.write(f"{name:14} first come {first:6.1%}   paced {paced:6.1%}   of the best\n")
        sys.stdout.flush()
    turn_ms, n_known = turn(1_000 if wanted.quick else 20_000)
    found: dict[str, object] = {
        "bench": "pacing",
        "share_of_best": shares,
        "worst_over_first_come_points": round(
            min(100 * (one["paced"] - one["first_come"]) for one in shares.values()), 2
        ),
        "steady_share_of_best": shares["steady"]["paced"],
        "violations": violations,
        "turn_ms": round(turn_ms, 1),
        "n_known": n_known,
        "customers_a_day": n,
        "seeds": seeds,
        "simulated": True,
    }
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if wanted.quick else exit_code(found)


def play(scene: Scene, n: int, seed: int) -> Played:
    """The last day, first come, first served, and at shadow prices."""
    rng = np.random.default_rng(seed)
    instance = plain(n, seed)
    days = [_day(scene, rng, day, n, seed) for day in range(_DAYS)]
    use, capacity = instance.use, np.round(instance.capacity * scene.scarcity)
    last = days[-1]
    if scene.budget_share is not None:
        bought = np.bincount(allocate(last.value, use, capacity).choice, minlength=len(use))
        spent = float(_COST @ bought[:-1])
        use = np.column_stack([use, [*_COST, 0.0]])
        capacity = np.append(capacity, scene.budget_share * spent)
    best = allocate(last.value, use, capacity).bound
    memory = Memory()
    for day in days[:-1]:
        memory.add(_kept(day))
    greedy, used = _served(last, use, capacity, lambda *_: np.zeros(len(use)), np.inf)
    prices = _Prices(memory, _with_capacity(use), None if scene.budget_share is None else float(capacity[-1]))
    paced, used_paced = _served(last, use, capacity, prices.at, scene.step)
    violations = int((used > capacity + 1e-6).sum() + (used_paced > capacity + 1e-6).sum())
    return Played(first_come=greedy / best, paced=paced / best, violations=violations)


def _with_capacity(use: FloatArray) -> list[str]:
    """The channels whose capacities the first columns are."""
    return [_NAMES[int(np.flatnonzero(use[:-1, r])[0])] for r in range(3)]


def _day(scene: Scene, rng: np.random.Generator, day: int, n: int, seed: int) -> Day:
    size = round(n * scene.sizes[day])
    seconds = scene.arrivals(rng, size, day)
    value = plain(max(size, 1), 1_000 * seed + day + 1).value[:size]
    value[seconds > 15 * 3_600] *= scene.evening
    began = (_MIDNIGHT - timedelta(days=_DAYS - 1 - day)).timestamp()
    return Day(began + seconds, value)


def _kept(day: Day) -> list[Ask]:
    kept, since, in_hour, hour = [], 0, 0, -1
    for at, value in zip(day.at, day.value, strict=True):
        if int(at // 3_600) != hour:
            hour, in_hour = int(at // 3_600), 0
        in_hour, since = in_hour + 1, since + 1
        if since * _KEPT >= in_hour:
            kept.append(_ask(at, since, value))
            since = 0
    return kept


def _ask(at: float, n: int, value: FloatArray) -> Ask:
    options = [
        Option(_CAMPAIGN, name, 0, float(each), 0.0)
        for name, each in zip(_NAMES, value[:-1], strict=True)
        if each > 0
    ]
    return Ask(at=datetime.fromtimestamp(at, UTC), n=n, campaigns=(_CAMPAIGN,), options=tuple(options))


class _Prices:
    """Turns of the service over one day."""

    def __init__(self, memory: Memory, scarce: Sequence[str], budget_a_day: float | None) -> None:
        self._memory = memory
        self._scarce = scarce
        self._budget_a_day = budget_a_day
        self._known = 0
        self._cost = {Place(_CAMPAIGN, name): float(cost) for name, cost in zip(_NAMES, _COST, strict=True)}

    def at(self, moment: float, left: FloatArray, asked: Day) -> FloatArray:
        """By choice."""
        self._memory.add(_kept(Day(asked.at[self._known :], asked.value[self._known :])))
        self._known = len(asked.at)
        now = datetime.fromtimestamp(moment, UTC)
        found = pace(self._memory, {_CAMPAIGN: CAMPAIGN}, self._cost, self._left(left, now), now)
        prices = found.prices.get(_CAMPAIGN, {})
        return np.array([*(prices.get(name, 0.0) for name in _NAMES), 0.0])

    def _left(self, left: FloatArray, now: datetime) -> list[Scarce]:
        found = [
            Scarce(channel=name, day=now.date(), left=float(each))
            for name, each in zip(self._scarce, left, strict=False)
        ]
        if self._budget_a_day is not None:
            # What is meant for this day, and as much for each of those that follow.
            rest = (_BUDGET_DAYS - 1) * self._budget_a_day
            found.append(Scarce(campaign_id=_CAMPAIGN, left=float(left[-1]) + rest))
        return found


def _served(
    day: Day,
    use: FloatArray,
    capacity: FloatArray,
    prices: Callable[[float, FloatArray, Day], FloatArray],
    step: float,
) -> tuple[float, FloatArray]:
    """What the requests of a day took one after the other: worth and usage."""
    left, total = capacity.copy(), 0.0
    price, following = np.zeros(len(use)), -np.inf
    for i, (at, value) in enumerate(zip(day.at, day.value, strict=True)):
        if at >= following:
            price = prices(at, left, Day(day.at[:i], day.value[:i]))
            following = at + step
        net = np.where((use <= left).all(axis=1), value - price, -np.inf)
        choice = int(net.argmax()) if net.max() > 0 else len(net) - 1
        total += float(value[choice])
        left -= use[choice]
    return total, capacity - left


def turn(a_day: int) -> tuple[float, int]:
    """CPU milliseconds of a turn when eight days of requests are known, and how many are."""
    rng = np.random.default_rng(1)
    memory = Memory()
    for day in range(8):
        began = (_MIDNIGHT - timedelta(days=7 - day)).timestamp()
        memory.add(_kept(Day(began + _all_day(rng, a_day, day), plain(a_day, day).value)))
    now = _MIDNIGHT + timedelta(hours=12)
    left = [
        Scarce(channel=name, day=(now + timedelta(days=ahead)).date(), left=most * a_day)
        for name, (*_, most) in CHANNELS.items()
        for ahead in (0, 1)
        if most is not None
    ]
    cost = {Place(_CAMPAIGN, name): float(cost) for name, cost in zip(_NAMES, _COST, strict=True)}
    took = []
    for _ in range(5):
        began_at = time.process_time()
        pace(memory, {_CAMPAIGN: CAMPAIGN}, cost, left, now)
        took.append(time.process_time() - began_at)
    return 1_000 * sorted(took)[2], len(memory)


CAMPAIGN = Campaign(
    campaign_id=_CAMPAIGN,
    send_window=SendWindow(
        starts_at=_MIDNIGHT - timedelta(days=30), ends_at=_MIDNIGHT + timedelta(days=_BUDGET_DAYS)
    ),
    slots=(clock(23),),
    offers=(
        Offer(
            offer_id="coats",
            margin_minor=3_000.0,
            content={ContentKind.TEXT: Content(body="Coats are in.")},
        ),
    ),
    channels=_NAMES,
    experiment=Experiment(experiment_id=_CAMPAIGN),
    conversion_value_minor=3_000.0,
)

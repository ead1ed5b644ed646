"""What a policy would have earned, estimated from another one's logs and held against the truth; and when that is withheld.

    make bench NAME=ope [ARGS="--quick"]

A policy learned from an earlier log is judged against the policy that makes the log, on logs drawn anew with known propensities:
2,500 customers each, some six decisions a customer, rare purchases of lognormal amounts; half of the decisions follow the judged
policy, the others what was usual. The figures are those of the training report (`training.evaluation.policy_values`): doubly
robust, screened, errors by customer. Five worlds are simulated, so that the truth is known exactly.

- `dr_bias`: |mean of the estimates of the increment over the log - truth| / |truth|, each in the mean of the worlds. The number of logs
  knows it to `dr_bias_known_within`, 1.96 standard errors.
- `dr_coverage`: share of the 95 % intervals that hold the truth, of the increment and of the policy's value; the worse one.

Both once with the reward model that was fitted on the earlier log, from which the policy was learned too, and once with a
biased one, which takes what people buy anyway for the doing of contact; the worse of the two counts. In shares of the truth, and with
their signs, stand beside them SNIPS and the direct method on the same logs. `dr_error_over_claimed` is the spread of the
estimates over their mean standard error.

- `withheld_below_ess`: whether logs that try ever less of what the policy does are withheld where ESS/n is below the product's bar, and
  reported where it is not. ESS/n is that of the log's design, 1 / E[weight^2], known exactly; within a tenth of the bar, where
  chance decides on which side a log lies, that of the log's own weights. The logs follow the judged policy in a share of the
  decisions that is smaller and smaller. Judged are the learned policy and a careful one, which departs from the usual only for the
  two people in five for whom the model expects most of it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev

import numpy as np
from rich.console import Console
from rich.progress import Progress

from models.choice import FloatArray
from models.evaluation.estimate import Estimate, normal_quantile
from models.evaluation.off_policy import dm
from models.evaluation.overlap import MIN_ESS_SHARE, Withheld
from models.logged import LoggedRows
from tests.benchmarks.bars import exit_code
from tests.benchmarks.ope_world import GRID, World
from training.evaluation import CHAMPION_POLICY, PolicyValue, policy_values

_WORLDS, _KINDS = 5, 5_000
_CUSTOMERS, _EARLIER_CUSTOMERS = 2_500, 12_000
# How sharply the learned policy prefers what the model likes, minor units.
_TEMPERATURE = 5.0
_CHANGED_SHARE = 0.4
# Share of the decisions in which a log follows the judged policy: where bias and coverage are measured, and ever fewer.
_FOLLOWED = 0.5
_EVER_FEWER = (0.5, 0.3, 0.24, 0.21, 0.19, 0.15, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5)
_NEAR = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What is found on one log with one reward model.

    Attributes:
        value: What the policy earns, doubly robust.
        ahead: The same beyond the policy of the log.
        snips: That by SNIPS; NaN where it is withheld.
        dm: That by the direct method.
        withheld: Whether nothing is reported of the policy; None where some is and some is not.
        ess_share: ESS/n of the log's weights.
    """

    value: Estimate | Withheld
    ahead: Estimate | Withheld
    snips: float
    dm: Estimate
    withheld: bool | None
    ess_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """A policy against the one that makes the log.

    Attributes:
        world: Whose people.
        policy: Probabilities, shape (P, A).
        logging: Those of the log, shape (P, A).
        value: What the policy earns, minor units a decision.
        truth: What it earns beyond the log.
        ess_share: ESS/n of the design, `1 / E[weight**2]`, in (0, 1].
    """

    world: World
    policy: FloatArray
    logging: FloatArray
    value: float
    truth: float
    ess_share: float

    @classmethod
    def on(cls, world: World, policy: FloatArray, followed: float) -> Contest:
        """On a log that follows the policy in that share of the decisions, in (0, 1], and does as usual in the rest."""
        logging = followed * policy + (1 - followed) * world.usual()
        squares = np.divide(policy**2, logging, out=np.zeros_like(policy), where=logging > 0)
        value = world.value_of(policy)
        return cls(
            world=world,
            policy=policy,
            logging=logging,
            value=value,
            truth=value - world.value_of(logging),
            ess_share=1 / world.mean(squares.sum(axis=1)),
        )

    def judge(self, models: Mapping[str, FloatArray], rng: np.random.Generator) -> dict[str, Judged]:
        """Draw a log and judge the policy on it, once with the rewards of every model, each of shape (P, A)."""
        who, rows = self.world.log(self.logging, _CUSTOMERS, rng)
        targets = {"new": self.policy.take(who, axis=0), CHAMPION_POLICY: self.logging.take(who, axis=0)}
        weights = self.policy[who, rows.action] / rows.propensity
        ess_share = float(weights.sum()) ** 2 / float(weights @ weights) / len(weights)
        found = {}
        for name, q in models.items():
            believed = ((self.policy - self.logging) * q).sum(axis=1)[who]
            values = policy_values(rows, targets, q.take(who, axis=0))
            found[name] = _judged(rows, values, believed, ess_share)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is found on logs that follow the judged policy in the same share of the decisions.

    Attributes:
        policy: `learned` or `careful`.
        followed: That share.
        ess_share: ESS/n of the design.
        ess_share_found: Mean of that of the logs' own weights.
        withheld: Share of the logs of which nothing was reported.
        right: Whether every log was withheld, or reported, as it ought to be.
        held_truth: Share of the reported intervals that held the truth, by reward model; None where none was reported.
    """

    policy: str
    followed: float
    ess_share: float
    ess_share_found: float
    withheld: float
    right: bool
    held_truth: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What an earlier log of a world teaches.

    Attributes:
        world: Whose people.
        policy: Prefers what the fitted model likes, shape (P, A).
        careful: The same for those for whom the model expects most of it, and as usual for the others, shape (P, A).
        models: Rewards by name, `fitted` and `biased`, minor units, shape (P, A).
    """

    world: World
    policy: FloatArray
    careful: FloatArray
    models: Mapping[str, FloatArray]

    @classmethod
    def of(cls, world: World, rng: np.random.Generator) -> Learned:
        """From a log of which half is drawn evenly from all actions."""
        usual = world.usual()
        q = world.fitted(*world.log((usual + 1 / GRID.n_actions) / 2, _EARLIER_CUSTOMERS, rng))
        liked = np.exp((q - q.max(axis=1, keepdims=True)) / _TEMPERATURE)
        policy = liked / liked.sum(axis=1, keepdims=True)
        gain = ((policy - usual) * q).sum(axis=1)
        most = gain > np.quantile(gain, 1 - _CHANGED_SHARE)
        return cls(
            world=world,
            policy=policy,
            careful=np.where(most[:, None], policy, usual),
            models={"fitted": q, "biased": np.column_stack([q[:, :-1] + q[:, -1:], q[:, -1]])},
        )


def main(arguments: list[str]) -> int:
    """Measure; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="ope", description=__doc__)
    parser.add_argument("--logs", type=int, default=400, help="of each world")
    parser.add_argument("--thin-logs", type=int, default=30, help="of each share of the decisions")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="20 logs, 5 of each share; no bar is judged")
    wanted = parser.parse_args(arguments)
    n_logs, n_thin = (20, 5) if wanted.quick else (wanted.logs, wanted.thin_logs)
    rng = np.random.default_rng(wanted.seed)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        learned = [
            Learned.of(World.of(_KINDS, rng), rng)
            for _ in progress.track(range(_WORLDS), description="worlds")
        ]
        contests = [Contest.on(one.world, one.policy, _FOLLOWED) for one in learned]
        found = [
            [contest.judge(one.models, rng) for _ in progress.track(range(n_logs), description="logs")]
            for one, contest in zip(learned, contests, strict=True)
        ]
        first = learned[0]
        ladder = [
            _step(name, policy, followed, first, n_thin, rng)
            for name, policy in (("learned", first.policy), ("careful", first.careful))
            for followed in progress.track(_EVER_FEWER, description=f"ever fewer, {name}")
        ]
    worlds = [
        {name: _figures([contest], [[one[name] for one in logs]]) for name in first.models}
        for contest, logs in zip(contests, found, strict=True)
    ]
    together = {
        name: _figures(contests, [[one[name] for one in logs] for logs in found]) for name in first.models
    }
    right = all(
        is_right(one.withheld, contest.ess_share, one.ess_share)
        for contest, logs in zip(contests, found, strict=True)
        for log in logs
        for one in log.values()
    )
    coverages = [one[name] for one in together.values() for name in ("dr_coverage", "dr_value_coverage")]
    figures: dict[str, object] = {
        "bench": "ope",
        "dr_bias": max(abs(one["dr_bias"]) for one in together.values()),
        "dr_bias_known_within": max(one["dr_bias_known_within"] for one in together.values()),
        "dr_coverage": max(coverages, key=lambda share: abs(share - 0.95)),
        "withheld_below_ess": right and all(step.right for step in ladder),
        "ess_share": round(fmean(one["fitted"].ess_share for logs in found for one in logs), 4),
        "simulated": together,
        "worlds": worlds,
        "ladder": [asdict(step) for step in ladder],
        "logs": n_logs * _WORLDS,
    }
    _show(contests, worlds, together, ladder)
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0 if wanted.quick else exit_code(figures)


def is_right(withheld: bool | None, designed: float, found: float) -> bool:
    """Whether a log was withheld, or reported, as its ESS/n asks.

    Args:
        withheld: Whether nothing was reported; None where some was, which is never right.
        designed: ESS/n of the log's design.
        found: That of its own weights, which counts where the other is too near to the bar.
    """
    share = found if abs(designed / MIN_ESS_SHARE - 1) <= _NEAR else designed
    return withheld is (share < MIN_ESS_SHARE)


def _judged(
    rows: LoggedRows, values: Sequence[PolicyValue], believed: FloatArray, ess_share: float
) -> Judged:
    new, champion = values
    assert champion.ahead is not None
    withheld = {isinstance(one, Withheld) for one in (new.value, new.check, champion.ahead)}
    snips = float("nan")
    if isinstance(new.check, Estimate) and isinstance(champion.check, Estimate):
        snips = new.check.value - champion.check.value
    return Judged(
        value=new.value,
        ahead=champion.ahead,
        snips=snips,
        dm=dm(believed, clusters=rows.customer),
        withheld=withheld.pop() if len(withheld) == 1 else None,
        ess_share=ess_share,
    )


def _figures(contests: Sequence[Contest], found: Sequence[Sequence[Judged]]) -> dict[str, float]:
    """Of what was reported, in shares of the mean truth; `found` holds the logs of each contest."""
    truth = fmean(abs(one.truth) for one in contests)
    pairs = list(zip(contests, found, strict=True))
    ahead = [[one.ahead for one in logs if isinstance(one.ahead, Estimate)] for logs in found]
    estimates = {
        "dr": [[one.value for one in logs] for logs in ahead],
        "snips": [[one.snips for one in logs if np.isfinite(one.snips)] for logs in found],
        "dm": [[one.dm.value for one in logs] for logs in found],
    }
    figures: dict[str, float] = {"truth_minor": fmean(one.truth for one in contests)}
    for name, by_contest in estimates.items():
        errors = [fmean(some) - one.truth for one, some in zip(contests, by_contest, strict=True)]
        figures[f"{name}_bias"] = fmean(errors) / truth
        figures[f"{name}_spread"] = fmean(stdev(some) ** 2 for some in by_contest) ** 0.5 / truth
    n = sum(len(some) for some in ahead)
    return {
        name: round(figure, 4)
        for name, figure in {
            **figures,
            "dr_bias_known_within": normal_quantile(0.95) * figures["dr_spread"] / n**0.5,
            "dr_error_over_claimed": fmean(
                stdev([one.value for one in some]) / fmean(one.standard_error for one in some)
                for some in ahead
            ),
            "dr_coverage": fmean(_holds(one.ahead, contest.truth) for contest, logs in pairs for one in logs),
            "dr_value_coverage": fmean(
                _holds(one.value, contest.value) for contest, logs in pairs for one in logs
            ),
            "dm_coverage": fmean(_holds(one.dm, contest.truth) for contest, logs in pairs for one in logs),
        }.items()
    }


def _step(
    name: str, policy: FloatArray, followed: float, learned: Learned, n_logs: int, rng: np.random.Generator
) -> Step:
    contest = Contest.on(learned.world, policy, followed)
    logs = [contest.judge(learned.models, rng) for _ in range(n_logs)]
    found = [one for log in logs for one in log.values()]
    return Step(
        policy=name,
        followed=followed,
        ess_share=float(f"{contest.ess_share:.3g}"),
        ess_share_found=round(fmean(one.ess_share for one in found), 4),
        withheld=round(fmean(one.withheld is True for one in found), 3),
        right=all(is_right(one.withheld, contest.ess_share, one.ess_share) for one in found),
        held_truth={
            model: _share(
                _holds(log[model].ahead, contest.truth)
                for log in logs
                if isinstance(log[model].ahead, Estimate)
            )
            for model in learned.models
        },
    )


def _show(
    contests: Sequence[Contest],
    worlds: Sequence[Mapping[str, Mapping[str, float]]],
    together: Mapping[str, Mapping[str, float]],
    ladder: Sequence[Step],
) -> None:
    lines = [
        "bias in shares of the truth                     fitted model           biased model",
        "world     truth   ESS/n             DR  SNIPS     DM           DR  SNIPS     DM",
    ]
    rows = [(str(number), contests[number - 1].ess_share, one) for number, one in enumerate(worlds, start=1)]
    for name, ess_share, one in [*rows, ("all", fmean(one.ess_share for one in contests), together)]:
        biases = "      ".join(
            " ".join(f"{figures[f'{estimator}_bias']:+6.2f}" for estimator in ("dr", "snips", "dm"))
            for figures in one.values()
        )
        lines.append(f"{name:<5} {one['fitted']['truth_minor']:9.2f} {ess_share:7.3f}         {biases}")
    lines += ["", "over all worlds                 fitted    biased"]
    for figure in together["fitted"]:
        lines.append(f"{figure:<26}" + "".join(f"{one[figure]:10.4f}" for one in together.values()))
    lines += ["", "policy    followed     ESS/n    found  withheld  interval held the truth: fitted, biased"]
    for step in ladder:
        held = " ".join(f"{'' if share is None else f'{share:.0%}':>6}" for share in step.held_truth.values())
        lines.append(
            f"{step.policy:<8} {step.followed:>9} {step.ess_share:>9} {step.ess_share_found:>8} "
            f"{step.withheld:>9.0%} {held}{'' if step.right else '  wrong'}"
        )
    sys.stdout.writelines(f"  {line}\n" for line in lines)


def _holds(one: Estimate | Withheld, truth: float) -> bool:
    return isinstance(one, Estimate) and one.low <= truth <= one.high


def _share(which: Iterable[bool]) -> float | None:
    told = list(which)
    return round(fmean(told), 3) if told else None

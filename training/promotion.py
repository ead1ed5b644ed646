"""Whether a newly trained bundle may take over, and why, in words.

All three must agree: off-policy evaluation, calibration, guardrails. Against a champion the new policy has to be
better - its paired, doubly robust difference has an interval above zero and SNIPS points the same way; when it is
no better, the champion stays. The first model has no champion to beat: it may start unless the log shows that it
earns less than business as usual. Where the log covers too little to say (a uniform warm-up over many actions),
calibration and guardrails carry the first promotion, and the experiment's holdout has the last word.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.evaluation.estimate import Estimate
from training.evaluation import CHAMPION_POLICY, Evaluation, PolicyValue

# The new policy may make this many times as many customers leave as business as usual. It is counted in people: what one
# is worth is in the value of every contact already, and is most where contacts are worth most.
_MOST_LEAVING = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition of a promotion.

    Attributes:
        name: What was looked at.
        passed: Whether it allows the promotion.
        words: What was found, as a sentence.
    """

    name: str
    passed: bool
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """The verdict.

    Attributes:
        checks: Every condition.
    """

    checks: tuple[Check, ...]

    @property
    def promote(self) -> bool:
        """Whether every condition allows it."""
        return all(check.passed for check in self.checks)

    @property
    def words(self) -> str:
        """The verdict as a sentence, with what stood against it."""
        against = [check.words for check in self.checks if not check.passed]
        return "Promote." if not against else f"Keep what is there: {' '.join(against)}"


def judge(evaluation: Evaluation) -> Promotion:
    """Decide on a promotion."""
    champion = evaluation.policy(CHAMPION_POLICY)
    value = _beats_champion(evaluation.policies[0], champion) if champion else _may_start(evaluation)
    return Promotion(checks=(value, *_calibrated(evaluation), *_guarded(evaluation)))


def _beats_champion(new: PolicyValue, champion: PolicyValue) -> Check:
    ahead = champion.ahead
    if not isinstance(ahead, Estimate):
        return Check(
            name="off-policy value", passed=False, words=f"The comparison with the champion is {ahead}."
        )
    same_sign = (
        isinstance(new.check, Estimate)
        and isinstance(champion.check, Estimate)
        and new.check.value > champion.check.value
    )
    if ahead.low > 0 and same_sign:
        words = f"The new policy is better than the champion: {ahead} a decision."
        return Check(name="off-policy value", passed=True, words=words)
    verdict = "worse" if ahead.high < 0 else "no better"
    return Check(
        name="off-policy value",
        passed=False,
        words=f"The new policy is {verdict} than the champion: {ahead} a decision.",
    )


def _may_start(evaluation: Evaluation) -> Check:
    control = evaluation.policies[1]
    ahead = control.ahead
    if isinstance(ahead, Estimate):
        verdict = "better" if ahead.low > 0 else "worse" if ahead.high < 0 else "no worse"
        words = f"The first model is {verdict} than {control.name}: {ahead} a decision."
        return Check(name="off-policy value", passed=ahead.high >= 0, words=words)
    words = f"The comparison with {control.name} is {ahead}; nothing speaks against a first model."
    return Check(name="off-policy value", passed=True, words=words)


def _calibrated(evaluation: Evaluation) -> list[Check]:
    return [
        Check(
            name=f"calibration of {check.name}",
            passed=check.sound,
            words=(
                f"{check.name} is off by {check.error:.4f} on later decisions (rate {check.rate:.4f}), "
                f"at most {check.tolerance:.4f} is sound."
                if check.n
                else f"{check.name} cannot be checked: no outcome of it is known."
            ),
        )
        for check in evaluation.calibration
    ]


def _guarded(evaluation: Evaluation) -> list[Check]:
    expected = evaluation.expected_net_value_minor
    leaving, most = evaluation.expected_leaving, _MOST_LEAVING * evaluation.control_leaving
    return [
        Check(
            name="expected value",
            passed=expected >= 0,
            words=f"The model expects {expected:+.3f} a decision beyond no contact.",
        ),
        Check(
            name="attention",
            passed=leaving <= most,
            words=f"After {leaving:.4%} of decisions the customer leaves a channel, at most {most:.4%} is allowed.",
        ),
    ]

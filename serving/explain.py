"""The one sentence that says why a decision was taken.

A sentence is a key with its parts; the words of a language are a table from key to template, so that another
language is another table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from models.domain.action import REASON_WORDS, Action, Exclusion, ReasonCode
from models.domain.customer import zone
from models.domain.decision import Alternative, Expected
from models.domain.experiment import Arm
from serving.money import Currency

ENGLISH: Mapping[str, str] = MappingProxyType(
    {
        "contact": "Send {action}: {why}{runner_up}.",
        "why_best": "it is expected to earn {value} more than no contact, the most of {n} candidates",
        "why_learning": (
            "it is expected to earn {value} against no contact and was drawn with probability {propensity} "
            "so that we keep learning"
        ),
        "why_rule": "the rule {policy} puts it first among {n} candidates",
        "why_drawn": "the rule {policy} drew it with probability {propensity} from {n} candidates",
        "runner_up": "; next came {action} with {value}",
        "runner_up_rule": "; next came {action}",
        "holdout": "No contact: the customer is in the holdout, which is never contacted, so that we know what contact adds.",
        "nothing_left": "No contact: no channel is left, because {reasons}.",
        "silence_best": "No contact: the best alternative, {action}, is expected to earn {value} against leaving the customer alone.",
        "silence_drawn": (
            "No contact: drawn with probability {propensity} so that we keep learning{runner_up}."
        ),
        "silence_rule": "No contact: the rule {policy} gives it with probability {propensity}.",
        "no_contact": "no contact",
        "action": "{offer} by {channel} at {at}",
        "reason": "{words} ({where})",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What the sentence is built from.

    Attributes:
        alternatives: The other candidates, best first.
        n_candidates: How many there were, no contact included.
        time_zone: The customer's.
    """

    action: Action | None
    propensity: float
    expected: Expected
    alternatives: Sequence[Alternative]
    exclusions: Sequence[Exclusion]
    arm: Arm
    policy: str
    n_candidates: int
    time_zone: str


def explain(grounds: Grounds, currency: Currency, words: Mapping[str, str] = ENGLISH) -> str:
    """Say why this action, what came next, or why nothing at all.

    Args:
        grounds: The decision's parts.
        currency: How to write money.
        words: Templates of the language.
    """
    if grounds.action is None:
        return _silence(grounds, currency, words)
    return words["contact"].format(
        action=_action(grounds.action, grounds.time_zone, words),
        why=_why(grounds, currency, words),
        runner_up=_runner_up(grounds, currency, words),
    )


def local_time(moment: datetime, time_zone: str) -> str:
    """A moment on the customer's own clock, for example `Mon 2 Mar 09:00`."""
    local = moment.astimezone(zone(time_zone))
    return f"{local:%a} {local.day} {local:%b %H:%M}"


def _why(grounds: Grounds, currency: Currency, words: Mapping[str, str]) -> str:
    value = grounds.expected.net_value_minor
    if value is None:
        key = "why_rule" if grounds.propensity == 1.0 else "why_drawn"
    else:
        key = "why_best" if _is_best(value, grounds.alternatives) else "why_learning"
    return words[key].format(
        value="" if value is None else currency.words(value),
        propensity=_percent(grounds.propensity),
        policy=grounds.policy,
        n=grounds.n_candidates,
    )


def _silence(grounds: Grounds, currency: Currency, words: Mapping[str, str]) -> str:
    if grounds.arm is Arm.HOLDOUT:
        return words["holdout"]
    if grounds.n_candidates == 1:
        return words["nothing_left"].format(reasons=_reasons(grounds.exclusions, words))
    best = next((other for other in grounds.alternatives if other.action is not None), None)
    value = None if best is None else best.expected.net_value_minor
    if best is not None and best.action is not None and value is not None and value <= 0:
        return words["silence_best"].format(
            action=_action(best.action, grounds.time_zone, words), value=currency.words(value)
        )
    key = "silence_rule" if value is None else "silence_drawn"
    return words[key].format(
        policy=grounds.policy,
        propensity=_percent(grounds.propensity),
        runner_up=_runner_up(grounds, currency, words),
    )


def _runner_up(grounds: Grounds, currency: Currency, words: Mapping[str, str]) -> str:
    if not grounds.alternatives:
        return ""
    other = grounds.alternatives[0]
    value = other.expected.net_value_minor
    key = "runner_up_rule" if value is None or other.action is None else "runner_up"
    return words[key].format(
        action=_action(other.action, grounds.time_zone, words),
        value="" if value is None else currency.words(value),
    )


def _reasons(exclusions: Sequence[Exclusion], words: Mapping[str, str]) -> str:
    """The reasons that closed every channel, the most frequent first."""
    where: dict[ReasonCode, list[str]] = {}
    for exclusion in exclusions:
        place = exclusion.channel or exclusion.offer
        where.setdefault(exclusion.reason, [])
        if place and place not in where[exclusion.reason]:
            where[exclusion.reason].append(place)
    counts = Counter({reason: len(places) for reason, places in where.items()})
    return ", ".join(
        words["reason"].format(words=REASON_WORDS[reason], where=", ".join(where[reason]))
        if where[reason]
        else REASON_WORDS[reason]
        for reason, _ in counts.most_common()
    )


def _action(action: Action | None, time_zone: str, words: Mapping[str, str]) -> str:
    if action is None:
        return words["no_contact"]
    return words["action"].format(
        offer=action.offer, channel=action.channel, at=local_time(action.send_at, time_zone)
    )


def _is_best(value: float, alternatives: Sequence[Alternative]) -> bool:
    others = [other.expected.net_value_minor for other in alternatives]
    return all(other is None or value >= other for other in others)


def _percent(probability: float) -> str:
    return f"{probability:.3g}"

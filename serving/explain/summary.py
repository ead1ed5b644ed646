"""The one sentence that says why a decision was taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from models.domain.action import Action, Exclusion, ReasonCode
from models.domain.campaign import LEARNED
from models.domain.experiment import Arm
from serving.explain.catalogue import Catalogue
from serving.explain.english import ENGLISH
from serving.explain.phrases import name_of, odds, tidy
from serving.money import Currency


class Ranked(NamedTuple):
    """An action, or no contact, and what it is expected to be worth, minor units; None without predictions."""

    action: Action | None
    net_value_minor: float | None


class Grounds(NamedTuple):
    """What the sentence is built from.

    Attributes:
        net_value_minor: Of the action; None without predictions.
        alternatives: The other candidates, best first.
        n_candidates: How many there were, no contact included.
        time_zone: The customer's.
        n_campaigns: How many were asked at the same time.
        lost_to: The campaign that made the contact instead, where several were asked.
    """

    action: Action | None
    propensity: float
    net_value_minor: float | None
    alternatives: Sequence[Ranked]
    exclusions: Sequence[Exclusion]
    arm: Arm
    policy: str
    n_candidates: int
    time_zone: str
    n_campaigns: int = 1
    lost_to: str | None = None


def explain(grounds: Grounds, currency: Currency, words: Catalogue = ENGLISH) -> str:
    """Say why this action, what came next, or why nothing at all.

    Args:
        grounds: The decision's parts.
        currency: How to write money.
        words: The language.
    """
    if grounds.action is None:
        silence = tidy(_silence(grounds, currency, words))
        return silence if grounds.lost_to is None else outbid(grounds.lost_to, words)
    sentence = tidy(
        words.contact.format(
            action=name_of(grounds.action, grounds.time_zone, words),
            why=_why(grounds, currency, words),
            runner_up=_runner_up(grounds, currency, words),
        )
    )
    return sentence if grounds.n_campaigns == 1 else sentence + chosen_among(grounds.n_campaigns, words)


def chosen_among(n_campaigns: int, words: Catalogue = ENGLISH) -> str:
    """What is added to the sentence where several campaigns were asked."""
    return words.contest_won.format(n=n_campaigns)


def outbid(campaign_id: str, words: Catalogue = ENGLISH) -> str:
    """Why a campaign makes no contact where another one does."""
    return tidy(words.contest_lost.format(campaign=campaign_id))


def _why(grounds: Grounds, currency: Currency, words: Catalogue) -> str:
    value = grounds.net_value_minor
    if value is not None and _is_best(value, grounds.alternatives):
        template = words.why_best
    elif value is None or grounds.policy not in LEARNED:
        template = words.why_rule if grounds.propensity == 1.0 else words.why_drawn
    else:
        template = words.why_learning
    return template.format(
        value="" if value is None else currency.words(value),
        propensity=odds(grounds.propensity),
        policy=words.policy(grounds.policy),
        n=grounds.n_candidates,
    )


def _silence(grounds: Grounds, currency: Currency, words: Catalogue) -> str:
    if grounds.arm is Arm.HOLDOUT:
        return words.holdout
    if grounds.n_candidates == 1:
        return words.nothing_left.format(reasons=_reasons(grounds.exclusions, words))
    best = next((other for other in grounds.alternatives if other.action is not None), None)
    value = None if best is None else best.net_value_minor
    if best is not None and value is not None and value <= 0:
        return words.silence_best.format(
            action=name_of(best.action, grounds.time_zone, words), value=currency.words(value)
        )
    by_rule = value is None or grounds.policy not in LEARNED
    template = words.silence_rule if by_rule else words.silence_drawn
    return template.format(
        policy=words.policy(grounds.policy),
        propensity=odds(grounds.propensity),
        runner_up=_runner_up(grounds, currency, words),
    )


def _runner_up(grounds: Grounds, currency: Currency, words: Catalogue) -> str:
    if not grounds.alternatives:
        return ""
    other = grounds.alternatives[0]
    value = other.net_value_minor
    template = words.runner_up_rule if value is None or other.action is None else words.runner_up
    return template.format(
        action=name_of(other.action, grounds.time_zone, words),
        value="" if value is None else currency.words(value),
    )


def _reasons(exclusions: Sequence[Exclusion], words: Catalogue) -> str:
    """The reasons that closed every channel, the most frequent first."""
    where: dict[ReasonCode, list[str]] = {}
    for exclusion in exclusions:
        place = words.channel(exclusion.channel) if exclusion.channel else exclusion.offer
        where.setdefault(exclusion.reason, [])
        if place and place not in where[exclusion.reason]:
            where[exclusion.reason].append(place)
    return words.clauses.join(
        words.reason.format(words=words.reasons[reason], where=words.between.join(places))
        if places
        else words.reasons[reason]
        for reason, places in sorted(where.items(), key=lambda item: -len(item[1]))
    )


def _is_best(value: float, alternatives: Sequence[Ranked]) -> bool:
    best_other = alternatives[0].net_value_minor if alternatives else None
    return best_other is None or value >= best_other

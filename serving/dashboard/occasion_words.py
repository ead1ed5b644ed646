"""The rule of an occasion in words, for its pages."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from serving.explain.english import ENGLISH
from serving.explain.phrases import span
from serving.occasions.occasion import AfterFact, Fact, Occasion, OnDate, Referral
from serving.occasions.standing import OccasionStanding

STANDING_WORDS: Mapping[OccasionStanding, str] = MappingProxyType(
    {
        OccasionStanding.ACTIVE: "active",
        OccasionStanding.NOT_OPEN_YET: "campaign not open yet",
        OccasionStanding.CLOSED: "campaign closed",
    }
)
_DAY_SECONDS = 86_400


def rule_words(occasion: Occasion) -> str:
    """When an occasion decides for a customer.

    Example:
        >>> rule_words(Occasion(campaign_id="birthday", date=OnDate(attribute="birth_date", days=-3)))
        "3 days before every anniversary of birth_date, at 09:00 by the customer's clock"
        >>> rule_words(Occasion(campaign_id="thanks", referral=Referral()))
        'when a friend whom the customer referred has bought or converted for the first time'
    """
    if occasion.date is not None:
        return _date_words(occasion.date)
    if occasion.after is not None:
        return _fact_words(occasion.after)
    assert occasion.referral is not None, "an occasion has one of three rules"
    return _referral_words(occasion.referral)


def _date_words(rule: OnDate) -> str:
    if rule.days:
        side = "before" if rule.days < 0 else "after"
        distance = f"{span(abs(rule.days) * _DAY_SECONDS, ENGLISH)} {side}"
    else:
        distance = "on"
    which = f"every anniversary of {rule.attribute}" if rule.every_year else f"{rule.attribute}, once"
    return f"{distance} {which}, at {rule.at:%H:%M} by the customer's clock"


def _fact_words(rule: AfterFact) -> str:
    wait = f"{span(rule.seconds, ENGLISH)} after" if rule.seconds else "after"
    words = f"{wait} each {ENGLISH.facts[rule.fact.kind]}{_attribute_words(rule.fact)}"
    if rule.unless:
        against = " or ".join(f"{one.kind.value}{_attribute_words(one)}" for one in rule.unless)
        words += f", unless a later fact takes it back: {against}"
    return words


def _referral_words(rule: Referral) -> str:
    bought = "a friend whom the customer referred has bought or converted for the first time"
    return f"{span(rule.seconds, ENGLISH)} after {bought}" if rule.seconds else f"when {bought}"


def _attribute_words(fact: Fact) -> str:
    told = ", ".join(f"{name} = {text}" for name, text in fact.attributes.items())
    return f" with {told}" if told else ""

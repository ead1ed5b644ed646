"""An explanation in sentences of one language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import time

from models.domain.action import Exclusion
from models.domain.decision import Decision
from serving.explain.catalogue import Catalogue, Language
from serving.explain.explanation import (
    Contributions,
    Explanation,
    KnownFlip,
    Missing,
    Prediction,
    ScarceChannel,
)
from serving.explain.feature_words import feature_words
from serving.explain.phrases import local_time, name_of, percent, points, span, tidy
from serving.explain.summary import Grounds, Ranked, explain
from serving.money import Currency
from serving.occasions.cause import Cause

# Features that a sentence names; the data hold all.
_MOST_NAMED = 3
_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The sentences.

    Attributes:
        language: Theirs.
        summary: Why this action.
        alternatives: The candidates that were not chosen, best first.
        exclusions: Why the rest was no candidate, one for each of the decision's exclusions.
        contributions: What moved the predictions.
        flips: What would have turned the decision, one for each flip.
        scarce: What was taken off because a channel was scarce, one for each of these.
        missing: What cannot be said, and why.
        occasion: Which occurrence of which occasion asked for the decision; None where none did.
    """

    language: Language
    summary: str
    alternatives: tuple[str, ...]
    exclusions: tuple[str, ...]
    contributions: tuple[str, ...]
    flips: tuple[str, ...]
    scarce: tuple[str, ...]
    missing: tuple[str, ...]
    occasion: str | None


class Teller:
    """Puts explanations into words.

    Args:
        words: The language.
        currency: How to write money.
    """

    def __init__(self, words: Catalogue, currency: Currency) -> None:
        self._words = words
        self._currency = currency

    def tell(self, decision: Decision, explanation: Explanation) -> Told:
        """All sentences about one decision."""
        zone = explanation.time_zone
        parts = explanation.contributions
        return Told(
            language=self._words.language,
            summary=self._summary(decision),
            alternatives=self._alternatives(decision, zone),
            exclusions=tuple(self.exclusion(one, explanation.slots) for one in decision.exclusions),
            contributions=() if parts is None else self._contributions(parts),
            flips=tuple(self.flip(one, zone) for one in explanation.flips or ()),
            scarce=tuple(self.scarce(one) for one in explanation.scarce),
            missing=tuple(self.missing(one) for one in explanation.missing),
            occasion=None if explanation.occasion is None else self.occasion(explanation.occasion, zone),
        )

    def exclusion(self, one: Exclusion, slots: Sequence[time]) -> str:
        """Where and why something was no candidate; a slot by its local time, or by its index where that is lost."""
        words = self._words
        places = [words.channel(one.channel)] if one.channel else []
        if one.offer:
            places.append(one.offer)
        if one.slot is not None:
            clock = f"{slots[one.slot]:%H:%M}" if one.slot < len(slots) else f"#{one.slot}"
            places.append(words.slot.format(clock=clock))
        place = words.between.join(places) or words.everywhere
        return tidy(words.excluded.format(place=place, words=words.reasons[one.reason]))

    def flip(self, one: KnownFlip, zone: str) -> str:
        """What would have to change, and who would win then."""
        words, money = self._words, self._currency.words
        threshold = ""
        if one.threshold_minor is not None:
            threshold = money(one.threshold_minor)
        elif one.threshold_share is not None:
            threshold = percent(one.threshold_share)
        elif one.threshold_at is not None:
            threshold = local_time(one.threshold_at, zone, words)
        return tidy(
            words.flips[one.kind].format(
                offer=one.offer,
                channel="" if one.channel is None else words.channel(one.channel),
                threshold=threshold,
                present="" if one.present_minor is None else money(one.present_minor),
                winner=name_of(one.winner, zone, words),
                without=words.together.join(words.without[reason] for reason in one.without),
                gain="" if one.gain_minor is None else money(one.gain_minor),
            )
        )

    def scarce(self, one: ScarceChannel) -> str:
        """What room for one more message was worth to others."""
        words = self._words
        price = self._currency.words(one.shadow_price_minor)
        return tidy(words.scarce.format(channel=words.channel(one.channel), price=price))

    def missing(self, one: Missing) -> str:
        """Why a part is not there."""
        return tidy(self._words.absences[one.reason].format(version=one.version))

    def occasion(self, cause: Cause, zone: str) -> str:
        """Which occurrence asked for a decision, and when it was due."""
        words = self._words
        moment = {
            name: "" if at is None else local_time(at, zone, words)
            for name, at in (("at", cause.due_at), ("fact_at", cause.fact_at))
        }
        return tidy(
            words.occasions[cause.kind].format(
                name=cause.name,
                occurrence=cause.occurrence,
                attribute=cause.attribute,
                distance=self._distance(cause.days or 0),
                wait=words.wait.format(span=span(cause.seconds, words)) if cause.seconds else words.at_once,
                fact="" if cause.fact is None else words.facts[cause.fact],
                friend=cause.friend_id or words.a_friend,
                **moment,
            )
        )

    def _distance(self, days: int) -> str:
        words = self._words
        if not days:
            return words.on_the_day
        template = words.days_before if days < 0 else words.days_after
        return template.format(span=span(abs(days) * _DAY_SECONDS, words))

    def _summary(self, decision: Decision) -> str:
        """In English as it was recorded; else from the same grounds, where they were recorded."""
        evidence = decision.evidence
        recorded = evidence.n_candidates is not None and evidence.time_zone is not None
        if self._words.language is Language.ENGLISH or not recorded:
            return decision.explanation
        return explain(
            Grounds(
                action=decision.action,
                propensity=decision.propensity,
                net_value_minor=decision.expected.net_value_minor,
                alternatives=[
                    Ranked(one.action, one.expected.net_value_minor) for one in decision.alternatives
                ],
                exclusions=decision.exclusions,
                arm=decision.arm,
                policy=decision.policy,
                n_candidates=evidence.n_candidates or 1,
                time_zone=evidence.time_zone or "UTC",
                n_campaigns=1 if decision.arbitration is None else len(decision.arbitration.bids),
                lost_to=decision.lost_to,
            ),
            self._currency,
            self._words,
        )

    def _alternatives(self, decision: Decision, zone: str) -> tuple[str, ...]:
        words = self._words
        told = []
        for rank, other in enumerate(decision.alternatives, start=2):
            value = other.expected.net_value_minor
            template = words.alternative_rule if value is None else words.alternative
            told.append(
                tidy(
                    template.format(
                        rank=rank,
                        action=name_of(other.action, zone, words),
                        value="" if value is None else self._currency.words(value),
                        propensity=percent(other.propensity),
                    )
                )
            )
        return tuple(told)

    def _contributions(self, found: Contributions) -> tuple[str, ...]:
        words = self._words
        return tuple(
            tidy(template.format(total=unit(one.total), base=unit(one.base), parts=self._parts(one)))
            for template, one, unit in (
                (words.p_open, found.p_open, percent),
                (words.uplift, found.uplift, points),
            )
        )

    def _parts(self, one: Prediction) -> str:
        return (
            self._words.between.join(
                self._words.part.format(
                    name=feature_words(part.feature, self._words), points=points(part.amount)
                )
                for part in one.parts[:_MOST_NAMED]
            )
            or self._words.nobody
        )

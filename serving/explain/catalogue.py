"""The sentences of one language: a field each, so that a language cannot lack one.

Templates are filled by `str.format`; a test holds the languages to the same placeholders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from models.domain.action import ReasonCode
from models.domain.interaction import InteractionKind
from models.explanation.flips import FlipKind
from serving.occasions.cause import CauseKind


class Language(StrEnum):
    """Languages that explanations are written in, by BCP 47 tag."""

    ENGLISH = "en"
    CHINESE = "zh-Hant"
    JAPANESE = "ja"


class Absence(StrEnum):
    """Why a part of an explanation is not there."""

    HOLDOUT = "holdout"
    RULE = "rule"
    NOT_RECORDED = "not_recorded"
    MODEL_GONE = "model_gone"
    NOT_REPRODUCED = "not_reproduced"
    MODEL_SILENT = "model_silent"
    NO_CANDIDATE = "no_candidate"
    CUSTOMER_GONE = "customer_gone"


class Span(StrEnum):
    """Spans of time: where a language has a singular, one differs from many."""

    DAY = "day"
    DAYS = "days"
    HOUR = "hour"
    HOURS = "hours"
    MINUTE = "minute"
    MINUTES = "minutes"
    SECOND = "second"
    SECONDS = "seconds"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Catalogue:
    """Everything that is said in one language; there is one of each.

    Attributes:
        language: Which.
        own_name: What its speakers call it.
        weekdays: Short names, Monday first.
        months: Short names, January first.
        moment: A moment on the customer's own clock.
        between: What stands between the items of a list.
        clauses: What stands between longer items.
        together: What joins conditions that must all hold.
        action: A contact, as a noun.
        no_contact: No contact, as a noun.
        contact: The summary of a contact; the other fields up to `contest_won` are its parts and the other summaries.
        contest_won: What is added where the campaign made the contact among several that were asked.
        contest_lost: The summary where another campaign made it.
        reason: A reason with the places that it closes.
        alternative: A candidate that was not chosen, with its rank.
        alternative_rule: The same where no values were weighed.
        excluded: One exclusion.
        everywhere: The place of an exclusion that holds for every channel.
        slot: The place of an exclusion of a time of day.
        p_open: What the open probability is made of.
        uplift: What the uplift is made of.
        part: One feature's share, in percentage points.
        nobody: Instead of parts, where no feature moved anything.
        reasons: Words of every reason code.
        trait: What a feature is among the members of a segment and among everybody else, in means, and how far apart.
        trait_share: The same in shares.
        trait_apart: The same where nobody differs within either group.
        trait_defining: What is added where the segment's condition asks for it.
        no_traits: That nothing sets the members apart.
        scarce: That there was not enough of a channel, and what one message of it was worth.
        occasions: Which occurrence of an occasion asked for the decision, by its kind.
        on_the_day: How an occurrence lies to its date; `days_before` and `days_after` likewise.
        wait: How an occurrence lies to the fact that it follows; `at_once` where no time lies between.
        a_friend: Instead of a friend's id that is not kept any more.
        facts: What sets an occasion off, as nouns.
        spans: Spans of time.
        flips: Sentence of every kind of flip.
        without: What would have to be there instead of a reason, for those that can be undone.
        absences: Why a part of the explanation is missing.
        channels: Names of the usual channels; another is called by its own name.
        policies: Names of the policies.
        features: Names of the features that every installation has, without window and channel.
        feature_window: A feature that looks back some days.
        feature_channel: A feature of one channel.
    """

    language: Language
    own_name: str
    weekdays: tuple[str, ...]
    months: tuple[str, ...]
    moment: str
    between: str
    clauses: str
    together: str
    action: str
    no_contact: str
    contact: str
    why_best: str
    why_learning: str
    why_rule: str
    why_drawn: str
    runner_up: str
    runner_up_rule: str
    holdout: str
    nothing_left: str
    silence_best: str
    silence_drawn: str
    silence_rule: str
    contest_won: str
    contest_lost: str
    reason: str
    alternative: str
    alternative_rule: str
    excluded: str
    everywhere: str
    slot: str
    p_open: str
    uplift: str
    part: str
    nobody: str
    trait: str
    trait_share: str
    trait_apart: str
    trait_defining: str
    no_traits: str
    scarce: str
    occasions: Mapping[CauseKind, str]
    on_the_day: str
    days_before: str
    days_after: str
    wait: str
    at_once: str
    a_friend: str
    facts: Mapping[InteractionKind, str]
    spans: Mapping[Span, str]
    reasons: Mapping[ReasonCode, str]
    flips: Mapping[FlipKind, str]
    without: Mapping[ReasonCode, str]
    absences: Mapping[Absence, str]
    channels: Mapping[str, str]
    policies: Mapping[str, str]
    features: Mapping[str, str]
    feature_window: str
    feature_channel: str

    def channel(self, name: str) -> str:
        """What a channel is called."""
        return self.channels.get(name, name)

    def policy(self, name: str) -> str:
        """What a policy is called."""
        return self.policies.get(name, name)

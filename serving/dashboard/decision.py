"""What the page of a decision shows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from models.domain.action import Action
from models.domain.decision import Decision
from serving.dashboard.contributions import Bars, contribution_bars
from serving.dashboard.labels import LABELS, Labels
from serving.explain.catalogue import Language
from serving.explain.explanation import Explanation
from serving.explain.feature_words import feature_words
from serving.explain.languages import CATALOGUES
from serving.explain.phrases import local_time, name_of, tidy
from serving.explain.told import Teller, Told
from serving.money import Currency


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """The contributions to one prediction; `bars` None where nothing moved it."""

    heading: str
    sentence: str
    bars: Bars | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionPage:
    """The page of one decision in one language.

    Attributes:
        decision: As it was recorded.
        explanation: Why it came out so.
        told: The same in sentences.
        labels: What the page calls its parts.
        charts: Empty where there are no contributions.
        most_likely: The largest probability on the page, for the bars.
    """

    decision: Decision
    explanation: Explanation
    told: Told
    labels: Labels
    charts: tuple[Chart, ...]
    most_likely: float

    @classmethod
    def of(
        cls, decision: Decision, explanation: Explanation, language: Language, currency: Currency
    ) -> DecisionPage:
        """Put the page together.

        Args:
            decision: As it was recorded.
            explanation: Why it came out so.
            language: Of the page.
            currency: How to write money.
        """
        told = Teller(CATALOGUES[language], currency).tell(decision, explanation)
        return cls(
            decision=decision,
            explanation=explanation,
            told=told,
            labels=LABELS[language],
            charts=_charts(explanation, told, LABELS[language]),
            most_likely=max([decision.propensity, *(other.propensity for other in decision.alternatives)]),
        )

    @property
    def languages(self) -> tuple[tuple[Language, str], ...]:
        """Every language with its own name."""
        return tuple((one.language, one.own_name) for one in CATALOGUES.values())

    def name_of(self, action: Action | None) -> str:
        """An action, or no contact, in the page's language."""
        return tidy(name_of(action, self.explanation.time_zone, CATALOGUES[self.told.language]))

    def local(self, moment: datetime) -> str:
        """A moment on the customer's own clock."""
        return tidy(local_time(moment, self.explanation.time_zone, CATALOGUES[self.told.language]))

    def channel_name(self, channel: str) -> str:
        """A channel in the page's language."""
        return CATALOGUES[self.told.language].channel(channel).strip()

    def feature_name(self, feature: str) -> str:
        """A feature in the page's language."""
        return feature_words(feature, CATALOGUES[self.told.language])


def _charts(explanation: Explanation, told: Told, labels: Labels) -> tuple[Chart, ...]:
    found = explanation.contributions
    if found is None:
        return ()
    p_open, uplift = told.contributions

    def name(feature: str) -> str:
        return feature_words(feature, CATALOGUES[told.language])

    return (
        Chart(
            heading=labels.p_open,
            sentence=p_open,
            bars=contribution_bars(found.p_open, name, labels.others, labels.learned_since),
        ),
        Chart(
            heading=labels.uplift,
            sentence=uplift,
            bars=contribution_bars(found.uplift, name, labels.others, labels.cut),
        ),
    )

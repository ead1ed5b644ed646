"""What sets the members of a segment apart from everybody else, by the features that are served."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np

from features.definitions import Feature
from features.feature_list import FeatureList
from features.formulas import Flag, Stage
from features.segments.language import OfAttribute, Segment, feature_names, parts
from models.choice import FloatArray
from models.evaluation.standardised import StandardisedDifference, standardised_difference
from serving.arms import CONFIDENCE, FEWEST_TO_JUDGE
from serving.compared import finite
from serving.explain.catalogue import Catalogue
from serving.explain.feature_words import feature_words
from serving.explain.phrases import percent, tidy
from serving.money import Currency
from serving.reading import FeatureSource

MOST_TRAITS = 12
# Cohen (1988): below this a difference is not worth telling.
_LEAST = 0.2
# Beyond this correlation two features say nearly the same.
_THE_SAME = 0.9
# Decisions wait for the online store while it reads: a few at a time.
_CUSTOMERS_A_READ = 500


class TraitKind(StrEnum):
    """What `inside` and `outside` of a trait are."""

    MEAN = "mean"
    SHARE = "share"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """A feature in which members differ from everybody else.

    Attributes:
        feature: Its name.
        kind: Shares of customers for a feature that is 0 or 1, else means.
        unit: Of the means.
        inside: Among the members whose value is known.
        outside: Among the others.
        n_inside: Members whose value is known, of those who were read.
        n_outside: The same of the others.
        standardised: Cohen's d with the pooled standard deviation, of shares too (that of a 0 or 1 is `sqrt(p (1 - p))`); None
            where nobody differs within either group.
        low: Lower end of the interval of `standardised`, corrected for the number of features that were looked at.
        high: Upper end.
        defining: Whether the segment's own condition compares it.
        sentence: The same in words.
    """

    feature: str
    kind: TraitKind
    unit: str
    inside: float
    outside: float
    n_inside: int
    n_outside: int
    standardised: float | None
    low: float | None
    high: float | None
    defining: bool
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What sets the members apart.

    Attributes:
        n_members: Members whose features were read.
        n_others: Others whose features were read.
        n_features: Features that were looked at, for which the intervals are corrected.
        confidence: That no difference is told which is none, all features together.
        told: The strongest first; those that the segment's condition compares come last.
        nothing: In words, where nothing sets them apart; else None.
    """

    n_members: int
    n_others: int
    n_features: int
    confidence: float
    told: tuple[Trait, ...]
    nothing: str | None


@dataclass(frozen=True, slots=True)
class _Looked:
    """A feature that was looked at."""

    feature: Feature
    column: FloatArray
    found: StandardisedDifference

    @property
    def strength(self) -> float:
        return abs(self.found.value)


def read_features(
    source: FeatureSource, features: FeatureList, customer_ids: Sequence[str], now: datetime
) -> FloatArray:
    """The latest features of customers, NaN where they are not known, also where somebody has no row, shape (n, F)."""
    read = []
    for start in range(0, len(customer_ids), _CUSTOMERS_A_READ):
        vectors = source.read(customer_ids[start : start + _CUSTOMERS_A_READ], now)
        values = vectors.values.copy()
        values[vectors.missing] = np.nan
        read.append(values)
    return np.concatenate(read) if read else np.empty((0, len(features.names)))


def traits(
    segment: Segment,
    features: FeatureList,
    inside: FloatArray,
    outside: FloatArray,
    words: Catalogue,
    currency: Currency,
) -> Traits:
    """Tell the differences that are certain and large enough, each once.

    Args:
        segment: Whose members.
        features: The columns.
        inside: Features of members, NaN where missing, shape (n, F).
        outside: Features of others, shape (m, F).
        words: The language.
        currency: How money is written.
    """
    looked = _look(features.features, inside, outside)
    differing = [one for one in looked if one.found.certain and one.strength >= _LEAST]
    differing.sort(key=lambda one: -one.strength)
    own = _defining(segment, features)
    defining = [one for one in differing if one.feature.name in own]
    others = _distinct((one for one in differing if one.feature.name not in own), defining)
    told = tuple(_trait(one, own, words, currency) for one in [*others, *defining][:MOST_TRAITS])
    return Traits(
        n_members=len(inside),
        n_others=len(outside),
        n_features=len(looked),
        confidence=CONFIDENCE,
        told=told,
        nothing=None if told else words.no_traits,
    )


def _look(features: Sequence[Feature], inside: FloatArray, outside: FloatArray) -> list[_Looked]:
    """Those that enough is known of, on both sides. A stage is a code: its mean says nothing."""
    known = [~np.isnan(inside), ~np.isnan(outside)]
    enough = np.minimum(*(each.sum(axis=0) for each in known)) >= FEWEST_TO_JUDGE
    chosen = [
        at for at, feature in enumerate(features) if enough[at] and not isinstance(feature.formula, Stage)
    ]
    confidence = 1.0 - (1.0 - CONFIDENCE) / max(1, len(chosen))
    return [
        _Looked(
            features[at],
            np.concatenate([inside[:, at], outside[:, at]]),
            standardised_difference(
                inside[known[0][:, at], at], outside[known[1][:, at], at], confidence=confidence
            ),
        )
        for at in chosen
    ]


def _distinct(candidates: Iterable[_Looked], told: Iterable[_Looked]) -> list[_Looked]:
    """Those, in their order, that say something else than what is told and than each other."""
    beside, kept = list(told), list[_Looked]()
    for one in candidates:
        if len(kept) == MOST_TRAITS:
            break
        if all(abs(_correlation(one.column, other.column)) <= _THE_SAME for other in beside):
            beside.append(one)
            kept.append(one)
    return kept


def _correlation(one: FloatArray, other: FloatArray) -> float:
    """Pearson's, over customers of whom both are known; 0 where one of the two is the same for all of these."""
    both = ~(np.isnan(one) | np.isnan(other))
    x, y = one[both], other[both]
    if len(x) < 2 or x.min() == x.max() or y.min() == y.max():
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _defining(segment: Segment, features: FeatureList) -> Collection[str]:
    """Features that the condition compares, and those of attributes that it compares."""
    compared = {part.attribute for part in parts(segment.condition) if isinstance(part, OfAttribute)}
    of_attributes = {
        column for each in features.attributes if each.name in compared for column in each.columns
    }
    return of_attributes.union(feature_names(segment.condition))


def _trait(one: _Looked, own: Collection[str], words: Catalogue, currency: Currency) -> Trait:
    feature, found = one.feature, one.found
    kind = TraitKind.SHARE if isinstance(feature.formula, Flag) else TraitKind.MEAN
    defining = feature.name in own
    standardised = finite(found.value)
    template = words.trait_share if kind is TraitKind.SHARE else words.trait
    sentence = (words.trait_apart if standardised is None else template).format(
        name=feature_words(feature.name, words),
        inside=_amount(found.mean, feature.unit, currency),
        outside=_amount(found.other_mean, feature.unit, currency),
        d=f"{found.value:+.2f}",
    )
    return Trait(
        feature=feature.name,
        kind=kind,
        unit=feature.unit,
        inside=found.mean,
        outside=found.other_mean,
        n_inside=found.n,
        n_outside=found.other_n,
        standardised=standardised,
        low=finite(found.low),
        high=finite(found.high),
        defining=defining,
        sentence=tidy(sentence + (words.trait_defining if defining else "")),
    )


def _amount(value: float, unit: str, currency: Currency) -> str:
    if unit == "minor currency units":
        return currency.words(value)
    if unit in ("share", "per send", "0 or 1"):
        return percent(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

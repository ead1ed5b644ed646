"""Which differences of a segment are told, in which order and words."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from features.feature_list import AttributeSpec, FeatureList
from features.segments.drawn import draw
from features.segments.language import parse_segment
from serving.explain.languages import CATALOGUES
from serving.money import Currency
from serving.profile.traits import MOST_TRAITS, Traits, read_features, traits

FEATURES = FeatureList(channels=(), attributes=(AttributeSpec(name="tier", values=("gold",)),))
GOLD = "attr_tier_is_gold"
N = 40


def table(**columns: object) -> np.ndarray:
    """Features of forty customers; those that are not named are not known."""
    values = np.full((N, len(FEATURES.names)), np.nan)
    for name, column in columns.items():
        values[:, FEATURES.names.index(name)] = column
    return values


def halves(low: float, high: float) -> np.ndarray:
    return np.repeat([float(low), float(high)], N // 2)


def told(inside: np.ndarray, outside: np.ndarray, condition: object = None, language: str = "en") -> Traits:
    segment = parse_segment({"name": "x", "condition": condition or {"tag": "vip"}})
    return traits(segment, FEATURES, inside, outside, CATALOGUES[language], Currency())


# 30 of 40 are gold, and 10 of 40.
_MOSTLY, _FEW = np.arange(N) % 4 != 0, np.arange(N) % 4 == 0


def test_the_strongest_comes_first_with_figures_worked_by_hand() -> None:
    found = told(
        table(purchases_365d=halves(4, 6), visits_30d=halves(1, 3), **{GOLD: _MOSTLY}),
        table(purchases_365d=halves(1, 3), visits_30d=halves(1, 3), **{GOLD: _FEW}),
    )
    assert [one.feature for one in found.told] == ["purchases_365d", GOLD]
    assert (found.n_members, found.n_others, found.n_features, found.nothing) == (N, N, 3, None)
    bought, gold = found.told
    # Both variances are 40 / 39; the difference of the means is 3.
    assert bought.standardised == pytest.approx(3 / math.sqrt(40 / 39))
    assert (bought.kind, bought.inside, bought.outside, bought.n_inside, bought.n_outside) == (
        "mean", 5.0, 2.0, N, N,
    )  # fmt: skip
    assert gold.standardised == pytest.approx(0.5 / math.sqrt(0.75 * 0.25 * 40 / 39))
    assert (gold.kind, gold.inside, gold.outside, gold.defining) == ("share", 0.75, 0.25, False)
    # Three features: each interval leaves out the truth once in sixty times.
    assert bought.low is not None
    z = (bought.standardised - bought.low) / math.sqrt(2 / N)  # type: ignore[operator]
    assert z == pytest.approx(2.39398, abs=1e-4)
    assert bought.sentence == (
        "purchases in 365 days: 5 on average, against 2 for everybody else (+2.96 standard deviations)."
    )
    assert gold.sentence == (
        f"{GOLD}: 75% of the members, against 25% of everybody else (+1.14 standard deviations)."
    )


@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        ("zh-Hant", "近 365 天購買次數：成員平均為 5，其他顧客平均為 2（相差 +2.96 個標準差）。"),  # noqa: RUF001
        (
            "ja",
            "過去365日の購入回数：メンバーの平均は5、ほかのお客様の平均は2です（差は標準偏差の+2.96倍）。",  # noqa: RUF001
        ),
    ],
)
def test_sentences_are_in_the_language_asked_for(language: str, sentence: str) -> None:
    inside, outside = table(purchases_365d=halves(4, 6)), table(purchases_365d=halves(1, 3))
    assert told(inside, outside, language=language).told[0].sentence == sentence


def test_money_is_written_as_money() -> None:
    found = told(table(spend_90d=halves(100_000, 300_000)), table(spend_90d=halves(0, 100_000)))
    assert "2,000.00 USD on average, against 500.00 USD" in found.told[0].sentence


def test_what_the_condition_asks_for_is_marked_and_told_last() -> None:
    condition = {"all": [{"feature": "purchases_365d", "op": ">=", "value": 4}]}
    inside = table(purchases_365d=halves(4, 6), visits_30d=np.tile([4.0, 6.0], N // 2))
    outside = table(purchases_365d=halves(1, 3), visits_30d=np.tile([3.0, 5.0], N // 2))
    found = told(inside, outside, condition)
    assert [(one.feature, one.defining) for one in found.told] == [
        ("visits_30d", False),
        ("purchases_365d", True),
    ]
    assert found.told[1].sentence.endswith("The segment asks for this.")


def test_an_attribute_of_the_condition_marks_its_features_even_where_the_difference_is_infinite() -> None:
    condition = {"attribute": "tier", "op": "==", "value": "gold"}
    (only,) = told(table(**{GOLD: 1.0}), table(**{GOLD: 0.0}), condition).told
    assert (only.defining, only.standardised, only.low) == (True, None, None)
    assert only.sentence == (
        f"{GOLD}: 100% for every member, 0% for everybody else. The segment asks for this."
    )


def test_what_says_nearly_the_same_is_told_once() -> None:
    wobble = np.tile([-10.0, 10.0], N // 2)
    inside = table(purchases_365d=halves(4, 6), spend_365d=100 * halves(4, 6) + wobble)
    outside = table(purchases_365d=halves(1, 3), spend_365d=100 * halves(1, 3) + wobble)
    assert [one.feature for one in told(inside, outside).told] == ["purchases_365d"]


def test_small_uncertain_and_little_known_differences_are_not_told() -> None:
    patchy = halves(4, 6)
    patchy[: N // 2] = np.nan  # known of 20
    inside = table(
        visits_30d=np.tile([1.0, 2.0], N // 2), purchases_365d=patchy, lifecycle_stage=halves(3, 4)
    )
    outside = table(
        visits_30d=np.tile([0.9, 1.9], N // 2), purchases_365d=halves(1, 3), lifecycle_stage=halves(0, 1)
    )
    found = told(inside, outside)
    assert (found.told, found.n_features) == ((), 1)
    assert found.nothing == CATALOGUES["en"].no_traits


def test_of_nobody_nothing_is_told() -> None:
    nobody = np.empty((0, len(FEATURES.names)))
    found = told(nobody, table(visits_30d=1.0))
    assert (found.told, found.n_features, found.n_members) == ((), 0, 0)
    assert found.nothing


def test_at_most_so_many_are_told() -> None:
    rng = np.random.default_rng(0)
    shape = (400, len(FEATURES.names))
    found = told(rng.normal(1.0, 1.0, shape), rng.normal(0.0, 1.0, shape))
    assert len(found.told) == MOST_TRAITS


def test_where_nothing_differs_one_time_in_twenty_at_most_anything_is_told() -> None:
    rng = np.random.default_rng(1)
    shape = (2, 60, len(FEATURES.names))
    wrong = sum(bool(told(*rng.normal(size=shape)).told) for _ in range(200))
    assert wrong <= 20  # 10 are allowed in the mean; more than 20 come with a probability of 0.1 %


def test_who_has_no_row_is_not_known_and_reading_is_in_parts() -> None:
    asked: list[int] = []

    class Source:
        def read(self, customer_ids, now):  # noqa: ARG002
            asked.append(len(customer_ids))
            return SimpleNamespace(
                values=np.zeros((len(customer_ids), len(FEATURES.names))),
                missing=np.array([one == "c7" for one in customer_ids]),
            )

    values = read_features(Source(), FEATURES, [f"c{i}" for i in range(1_200)], None)  # type: ignore[arg-type]
    assert asked == [500, 500, 200]
    assert np.isnan(values[7]).all()
    assert not np.isnan(values[8]).any()


def test_customers_are_drawn_the_same_whoever_asks_and_in_their_order() -> None:
    people = [f"c{i:03d}" for i in range(500)]
    drawn = draw("vip", people, 50)
    assert (len(drawn), drawn) == (50, sorted(drawn))
    assert set(draw("vip", people[::-1], 50)) == set(drawn)
    assert set(draw("other", people, 50)) != set(drawn)
    assert draw("vip", people, 500) == people

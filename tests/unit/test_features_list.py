"""The list of features, and the cache of rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from features.definitions import FEATURES
from features.feature_list import (
    MOST_VALUES,
    AttributeSpec,
    ChannelSpec,
    FeatureList,
    describe_attributes,
    describe_channels,
)
from features.past import LOOKBACK_DAYS
from features.reference import reference_page
from features.row_cache import RowCache
from models.domain.channel import DEFAULT_CHANNELS
from models.domain.errors import NotFoundError

EMAIL = ChannelSpec(name="email", opens=True, clicks=True)
SMS = ChannelSpec(name="sms", opens=False, clicks=True)
SEGMENT = AttributeSpec(name="segment", values=("gold", "silver"))
AGE = AttributeSpec(name="age")


def test_every_feature_says_what_it_is() -> None:
    features = FeatureList(channels=(EMAIL, SMS), attributes=(AGE, SEGMENT)).features
    assert len({feature.name for feature in features}) == len(features)
    for feature in features:
        assert feature.name.isidentifier()
        assert feature.why.endswith(".")
        assert feature.unit
        assert feature.window_days is None or 0 < feature.window_days <= LOOKBACK_DAYS
        if feature.dtype == "int64":  # a count is never missing
            assert feature.default == 0


def test_a_channel_that_reports_no_opens_has_no_feature_of_opens() -> None:
    names = FeatureList(channels=(EMAIL, SMS), attributes=()).names[len(FEATURES) + 2 :]
    assert names == (
        "sends_7d_email", "sends_30d_email", "sends_90d_email",
        "opens_7d_email", "opens_30d_email", "opens_90d_email", "open_rate_90d_email",
        "clicks_7d_email", "clicks_30d_email", "clicks_90d_email", "click_rate_90d_email",
        "conversions_7d_email", "conversions_30d_email", "conversions_90d_email", "conversion_rate_90d_email",
        "sends_7d_sms", "sends_30d_sms", "sends_90d_sms",
        "clicks_7d_sms", "clicks_30d_sms", "clicks_90d_sms", "click_rate_90d_sms",
        "conversions_7d_sms", "conversions_30d_sms", "conversions_90d_sms", "conversion_rate_90d_sms",
    )  # fmt: skip


def test_channels_are_described_by_what_they_report() -> None:
    assert describe_channels(channel for channel in DEFAULT_CHANNELS if channel.name in ("sms", "email")) == (
        EMAIL,
        SMS,
    )


def test_numbers_stay_numbers_and_texts_get_a_vocabulary() -> None:
    people = [
        {"age": 41, "segment": "gold"},
        {"age": 30.5, "segment": "silver"},
        {"segment": "gold", "vip": 1},
    ]
    assert describe_attributes(people) == (AGE, SEGMENT, AttributeSpec(name="vip"))
    assert FeatureList(channels=(), attributes=(AGE, SEGMENT)).names[len(FEATURES) + 2 :] == (
        "attr_age",
        "attr_segment_is_gold",
        "attr_segment_is_silver",
    )


def test_only_the_most_frequent_values_become_features() -> None:
    people = [{"city": f"city {number}"} for number in range(40)] + [{"city": "city 39"}]
    (city,) = describe_attributes(people)
    assert len(city.values) == MOST_VALUES
    assert city.values[0] == "city 39"


def test_values_that_look_alike_keep_distinct_names() -> None:
    columns = AttributeSpec(name="City!", values=("New York", "new-york", "", "!")).columns
    assert list(columns.values()) == ["New York", "new-york", "", "!"]
    assert len(columns) == 4
    assert all(name.isidentifier() for name in columns)


def test_a_list_comes_back_from_its_file_and_describes_itself(tmp_path: Path) -> None:
    features = FeatureList(channels=(EMAIL,), attributes=(AGE, SEGMENT))
    path = tmp_path / "features" / "feature_list.json"
    features.save(path)
    assert FeatureList.load(path) == features
    described = json.loads(path.read_text(encoding="utf-8"))["features"]
    assert [each["name"] for each in described] == list(features.names)
    with pytest.raises(NotFoundError, match="feature_list"):
        FeatureList.load(tmp_path / "none.json")


def test_the_fingerprint_follows_the_columns() -> None:
    one = FeatureList(channels=(EMAIL,), attributes=())
    assert one.fingerprint == FeatureList(channels=(EMAIL,), attributes=()).fingerprint
    assert one.fingerprint != FeatureList(channels=(replace(EMAIL, opens=False),), attributes=()).fingerprint
    assert one.fingerprint != FeatureList(channels=(EMAIL,), attributes=(AGE,)).fingerprint


def test_the_cache_drops_what_was_used_least_recently() -> None:
    cache = RowCache(most_rows=2, keep_seconds=60)
    rows = {name: np.zeros(3) for name in "abc"}
    cache.put({"a": rows["a"], "b": rows["b"]})
    cache.get(["a"])
    cache.put({"c": rows["c"]})
    assert set(cache.get("abc")) == {"a", "c"}
    cache.forget(["a"])
    assert set(cache.get("abc")) == {"c"}
    assert len(cache) == 1


def test_an_old_cached_row_is_read_again() -> None:
    cache = RowCache(keep_seconds=-1)
    cache.put({"a": None})
    assert cache.get(["a"]) == {}


def test_a_row_is_not_kept_that_was_read_before_it_was_outdated() -> None:
    cache = RowCache(trust_seconds=60)
    old, new = np.array([10.0, 1.0]), np.array([20.0, 2.0])
    began = monotonic()
    cache.outdate({"a": 20.0})
    cache.put({"a": old}, read_at=began)
    assert cache.get(["a"]) == {}
    cache.put({"a": new}, read_at=began)
    assert cache.get(["a"])["a"] is new
    cache.outdate({"a": 20.0})  # the announcement of the row that is there already
    assert cache.get(["a"])["a"] is new
    cache.outdate({"a": 20.5})
    assert cache.get(["a"]) == {}


def test_nothing_that_was_being_read_survives_clearing() -> None:
    cache = RowCache(trust_seconds=60)
    began = monotonic()
    cache.clear()
    cache.put({"a": None}, read_at=began)
    assert cache.get(["a"]) == {}


def test_without_word_from_the_others_only_young_rows_are_given() -> None:
    cache = RowCache(keep_seconds=60, trust_seconds=-1)
    cache.put({"a": None})
    assert cache.get(["a"]) == {}
    cache = RowCache(keep_seconds=60, trust_seconds=30)
    cache.put({"a": None}, read_at=monotonic() - 40)
    assert cache.get(["a"]) == {}
    cache.confirm(monotonic())
    assert cache.get(["a"]) == {"a": None}


def test_the_reference_page_lists_every_feature_with_its_formula() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "features.md").read_text(encoding="utf-8")
    assert page == reference_page()

"""Features by running totals are what counting fact by fact gives, and nothing sees the future."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.compute import POINTS, Known, compute
from features.definitions import Feature
from features.feature_list import AttributeSpec, ChannelSpec, FeatureList
from features.formulas import Count
from features.history.export import MOMENT
from features.past import (
    ACCOUNT_LINKED,
    AMOUNTS_A_MINOR_UNIT,
    CONSENT_GIVEN,
    CONSENT_LOST,
    DAY_US,
    LOOKBACK_DAYS,
    Past,
    These,
)
from models.domain.customer import ConsentStatus
from models.domain.interaction import InteractionKind as Kind

NOW = datetime(2026, 3, 10, 9, 30, tzinfo=UTC)
FEATURES = FeatureList(
    channels=(
        ChannelSpec(name="email", opens=True, clicks=True),
        ChannelSpec(name="call", opens=False, clicks=False, touch="high"),
    ),
    attributes=(AttributeSpec(name="age"), AttributeSpec(name="tier", values=("gold",))),
)
ZONES = {"a": "Asia/Taipei", "b": "America/New_York"}


@dataclass(frozen=True)
class Fact:
    customer_id: str
    kind: str
    occurred_at: datetime
    channel: str | None
    value_minor: float | None
    place: str | None
    price: str | None
    content: str | None


moments = st.integers(-3 * LOOKBACK_DAYS * 12, 48).map(lambda hours: NOW + timedelta(hours=hours))
facts = st.builds(
    Fact,
    customer_id=st.sampled_from(["a", "b", "stranger"]),
    kind=st.sampled_from(list(Kind)).map(str),
    occurred_at=st.one_of(
        moments,
        # On the very edge of a window.
        st.sampled_from([0, 1, 7, 30, 90, 365, LOOKBACK_DAYS]).map(lambda days: NOW - timedelta(days=days)),
    ),
    channel=st.sampled_from(["email", "call", "sms", None]),
    value_minor=st.one_of(st.none(), st.integers(-(10**6), 10**9).map(lambda cents: cents / 100)),
    place=st.sampled_from(["web", "shop", None]),
    price=st.sampled_from(["full", "discounted", None]),
    content=st.sampled_from(["html", "text", None]),
)
statements = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from(["email", "*"]),
        st.sampled_from(list(ConsentStatus)).map(str),
        moments,
    ),
    max_size=6,
)
links = st.lists(st.tuples(st.sampled_from(["a", "b"]), moments), max_size=4)
changes = st.lists(st.tuples(st.sampled_from(["a", "b"]), moments, st.integers(18, 90)), max_size=4)
points = st.lists(st.tuples(st.sampled_from(["a", "b", "stranger"]), moments), min_size=1, max_size=5)


def known(
    found: Sequence[Fact],
    said: Sequence[tuple[Any, ...]],
    linked: Sequence[tuple[Any, ...]],
    changed: Sequence[tuple[Any, ...]] = (),
) -> Known:
    names = tuple(Fact.__dataclass_fields__)
    texts = {name: pl.String() for name in names}
    return Known(
        interactions=pl.DataFrame(
            [[getattr(fact, name) for name in names] for fact in found],
            schema=texts | {"occurred_at": MOMENT, "value_minor": pl.Float64()},
            orient="row",
        ),
        customers=pl.DataFrame(
            {
                "customer_id": list(ZONES),
                "time_zone": list(ZONES.values()),
                "created_at": [NOW - timedelta(days=100), NOW + timedelta(hours=5)],
                "attr_age": [41.0, None],
                "attr_tier_is_gold": [1, 0],
            },
            schema_overrides={"created_at": MOMENT},
        ),
        identities=pl.DataFrame(linked, schema={"customer_id": pl.String, "linked_at": MOMENT}, orient="row"),
        consents=pl.DataFrame(
            [(*each, "marketing", number) for number, each in enumerate(said)],
            schema={
                "customer_id": pl.String,
                "channel": pl.String,
                "status": pl.String,
                "since": MOMENT,
                "purpose": pl.String,
                "consent_id": pl.Int64,
            },
            orient="row",
        ),
        former=pl.DataFrame(
            [(*each, each[-1] % 2, number) for number, each in enumerate(changed)],
            schema={
                "customer_id": pl.String,
                "until": MOMENT,
                "attr_age": pl.Float64,
                "attr_tier_is_gold": pl.Int64,
                "former_id": pl.Int64,
            },
            orient="row",
        ),
    )


class PlainPast(Past):
    """One point, counted fact by fact."""

    def __init__(self, customer_id: str, at: datetime, of: Known) -> None:
        self.at = at
        self.zone = ZONES.get(customer_id, "UTC")
        self.person = of.customers.filter(customer_id=customer_id).to_dicts()
        former = of.former.filter(customer_id=customer_id).sort("until", "former_id").to_dicts()
        self.former = [each for each in former if each["until"] >= at]
        mine = of.interactions.filter(customer_id=customer_id).to_dicts()
        steps = [
            {"kind": ACCOUNT_LINKED, "occurred_at": linked_at}
            for (_, linked_at) in of.identities.filter(customer_id=customer_id).rows()
        ]
        granted: dict[str, bool] = {}
        for said in of.consents.filter(customer_id=customer_id).sort("since", "consent_id").to_dicts():
            now = said["status"] == "granted"
            if now != granted.get(said["channel"], False):
                kind = CONSENT_GIVEN if now else CONSENT_LOST
                steps.append({"kind": kind, "occurred_at": said["since"]})
            granted[said["channel"]] = now
        self.facts = [fact for fact in [*mine, *steps] if fact["occurred_at"] < at]

    def _those(self, these: These, days: int | None) -> list[dict[str, Any]]:
        found = []
        for fact in self.facts:
            if fact["kind"] not in these.kinds:
                continue
            if days is not None and fact["occurred_at"] < self.at - timedelta(days=days):
                continue
            local = pl.Series([fact["occurred_at"]], dtype=MOMENT).dt.convert_time_zone(self.zone)[0]
            fits = (
                (these.channels is None or fact["channel"] in these.channels)
                and (these.places is None or fact["place"] in these.places)
                and (these.price is None or fact["price"] == these.price)
                and (these.contents is None or fact["content"] in these.contents)
                and (these.hours is None or these.hours[0] <= local.hour < these.hours[1])
                and (not these.weekend or local.isoweekday() >= 6)
            )
            if fits:
                found.append(fact)
        return found

    def count(self, these: These, days: int | None) -> np.ndarray:
        return np.array([len(self._those(these, days))])

    def amount(self, these: These, days: int) -> np.ndarray:
        cents = (round((fact["value_minor"] or 0.0) * 100) for fact in self._those(these, days))
        return np.array([sum(cents) * AMOUNTS_A_MINOR_UNIT // 100])

    def age_us(self, these: These) -> np.ndarray:
        ages = [
            (self.at - fact["occurred_at"]) // timedelta(microseconds=1)
            for fact in self._those(these, LOOKBACK_DAYS)
        ]
        return np.array([min(ages, default=np.nan)], dtype=np.float64)

    def count_after(self, these: These, event: These) -> np.ndarray:
        events = self._those(event, LOOKBACK_DAYS)
        last = max((fact["occurred_at"] for fact in events), default=None)
        after = self._those(these, LOOKBACK_DAYS)
        return np.array([sum(last is None or fact["occurred_at"] > last for fact in after)])

    def tenure_us(self) -> np.ndarray:
        age = (self.at - self.person[0]["created_at"]) / timedelta(microseconds=1) if self.person else -1
        return np.array([age if age >= 0 else np.nan])

    def register(self, column: str) -> np.ndarray:
        value = (self.former or self.person)[0][column] if self.person else None
        return np.array([np.nan if value is None else float(value)])


@settings(deadline=None, max_examples=40)
@given(found=st.lists(facts, max_size=30), said=statements, linked=links, changed=changes, asked=points)
def test_running_totals_give_what_counting_fact_by_fact_gives(found, said, linked, changed, asked) -> None:
    of = known(found, said, linked, changed)
    table = compute(FEATURES, pl.DataFrame(asked, schema=POINTS, orient="row"), of)
    for row, (customer_id, at) in zip(table.to_dicts(), asked, strict=True):
        plain = PlainPast(customer_id, at, of)
        for feature in FEATURES.features:
            (expected,) = feature.formula(plain)
            value = np.nan if row[feature.name] is None else row[feature.name]
            np.testing.assert_array_equal(value, expected, feature.name)


@settings(deadline=None, max_examples=25)
@given(found=st.lists(facts, max_size=20), said=statements, asked=points, planted=st.lists(facts, min_size=1))
def test_a_planted_future_changes_no_feature(found, said, asked, planted) -> None:
    first, last = min(at for _, at in asked), max(at for _, at in asked)
    later = [
        Fact(**{**{name: getattr(fact, name) for name in Fact.__dataclass_fields__}, "occurred_at": at})
        for fact in planted
        for at in (last, last + timedelta(microseconds=1), last + timedelta(days=3))
    ]
    table = pl.DataFrame(asked, schema=POINTS, orient="row")
    before = compute(FEATURES, table, known(found, said, []))
    future = [("a", last), ("b", last + timedelta(seconds=1))]
    told = [*said, ("a", "email", "granted", last), ("b", "*", "granted", last)]
    assert compute(FEATURES, table, known([*found, *later], told, future)).equals(before), first


def test_the_leakage_check_catches_a_feature_that_sees_a_later_purchase() -> None:
    class Foresight(Count):
        """Looks a day too far."""

        def __call__(self, past: Past) -> np.ndarray:
            past._upto = past._place(past._at_us + DAY_US)
            return Count.__call__(self, past)

    leaky = Feature(
        name="leaky",
        dtype="int64",
        unit="count",
        window_days=30,
        default=0,
        why="None.",
        formula=Foresight(These(("purchased",)), 30),
    )
    purchase = Fact("a", "purchased", NOW, None, 1.0, None, None, None)
    table = pl.DataFrame([("a", NOW), ("a", NOW + timedelta(hours=1))], schema=POINTS, orient="row")

    class WithLeak(FeatureList):
        features = (leaky,)

    both = [
        compute(WithLeak(channels=(), attributes=()), table, known(some, [], [])) for some in ([], [purchase])
    ]
    assert both[0]["leaky"].to_list() == [0, 0]
    assert both[1]["leaky"].to_list() == [1, 1], "the honest count at NOW is 0"


@pytest.mark.parametrize("order", [1, -1])
def test_sums_do_not_depend_on_the_order_of_facts(order: int) -> None:
    spent = [
        Fact("a", "purchased", NOW - timedelta(days=n + 1), None, 0.1 * n, None, None, None)
        for n in range(40)
    ]
    row = compute(
        FEATURES, pl.DataFrame([("a", NOW)], schema=POINTS, orient="row"), known(spent[::order], [], [])
    )
    assert row["spend_90d"].item() == 78.0  # 0.1 * (0 + 1 + ... + 39), without an error of rounding

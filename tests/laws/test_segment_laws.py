"""A segment has the same members whether everybody is asked at once or each customer alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete

from features.feature_list import AttributeSpec, FeatureList
from features.history.append import (
    CustomerRecord,
    append_consents,
    append_customers,
    append_identities,
    append_interactions,
)
from features.history.tables import consents, customers, identities, interactions, tags
from features.segments.everybody import members
from features.segments.language import parse_segment
from features.segments.one import is_member
from features.segments.store import TagStatement, append_tags
from models.domain.channel import IdentityKind
from models.domain.customer import Consent, ConsentStatus, Identity
from models.domain.interaction import Interaction, InteractionKind, Place

NOW = datetime(2026, 3, 10, 9, 30, tzinfo=UTC)
PEOPLE = ("ada", "Bob", "c-1", "Érik", "雅")
ZONES = ("UTC", "Asia/Taipei", "America/New_York", "Asia/Kolkata")
KINDS = ("visited", "carted", "purchased", "followed")
CHANNELS = ("email", "line")
FEATURES = FeatureList(channels=(), attributes=(AttributeSpec(name="age"),))

# Exactly at the bounds of windows too: days and hours before now, to the microsecond.
_ago = st.one_of(
    st.sampled_from([0, 1, 7 * 86_400, 86_400]).map(lambda seconds: timedelta(seconds=seconds)),
    st.integers(-2 * 86_400_000_000, 40 * 86_400_000_000).map(lambda us: timedelta(microseconds=us)),
)
_moment = _ago.map(lambda ago: NOW - ago)
_person = st.sampled_from(PEOPLE)
_fact = st.fixed_dictionaries(
    {
        "customer_id": _person,
        "kind": st.sampled_from(KINDS).map(InteractionKind),
        "occurred_at": _moment,
        "channel": st.sampled_from([None, *CHANNELS]),
        "place": st.sampled_from([None, *Place]),
        "value_minor": st.sampled_from([None, 0.0, 99.5, 100.0, 5_000.0]),
        "machine_made": st.sampled_from([False, False, False, True]),
        "attributes": st.sampled_from([{}, {"device": "ios"}, {"device": "a b's", "page": "/x"}]),
    }
)
_said = st.tuples(_person, st.sampled_from([*CHANNELS, "*"]), st.sampled_from(list(ConsentStatus)), _moment)
_tagged = st.tuples(_person, st.sampled_from(["vip", "new"]), st.booleans(), _moment)
_linked = st.tuples(_person, st.sampled_from([IdentityKind.DEVICE, IdentityKind.EMAIL]), _moment)
_register = st.lists(
    st.tuples(st.sampled_from(ZONES), st.sampled_from([{}, {"city": "Taipei"}, {"city": "a", "age": 40.0}, {"age": "40"}])),
    min_size=len(PEOPLE), max_size=len(PEOPLE),
)  # fmt: skip

_window = st.one_of(
    st.just({}),
    st.sampled_from([{"within_days": 7}, {"within_days": 1}, {"within_days": 0.5}]),
    st.just({"since": (NOW - timedelta(days=7)).isoformat(), "until": (NOW - timedelta(days=1)).isoformat()}),
)
_bounds = st.sampled_from([{}, {"at_least": 2}, {"at_most": 0}, {"at_least": 1, "at_most": 2}])
_narrowed = st.sampled_from(
    [
        {},
        {"channel": "line"},
        {"place": "shop"},
        {"value_at_least_minor": 100},
        {"attributes": {"device": "ios"}},
        {"attributes": {"device": "a b's"}},
        {"local_hours": {"from_hour": 6, "until_hour": 12}},
        {"weekdays": [1, 7]},
    ]
)
_counted = st.builds(
    lambda kind, *more: {"interactions": {"kind": kind} | more[0] | more[1] | more[2]},
    st.one_of(st.sampled_from(KINDS), st.lists(st.sampled_from(KINDS), min_size=1, max_size=3)),
    _window,
    _bounds,
    _narrowed,
)
_stated = st.builds(
    lambda attribute, op, value: {
        "attribute": attribute,
        "op": op,
        "value": [value] if op == "in" else value,
    },
    st.sampled_from(["city", "age", "none"]),
    st.sampled_from(["<", "<=", ">", ">=", "==", "!=", "in"]),
    st.sampled_from([40, 39.5, "Taipei", "40"]),
)
_leaf = st.one_of(
    _counted,
    _stated,
    st.sampled_from(["vip", "new", "other"]).map(lambda tag: {"tag": tag}),
    st.sampled_from(["device", "email", "phone"]).map(lambda kind: {"identity": kind}),
    st.builds(
        lambda channel, status: {"consent": {"channel": channel, "status": status}},
        st.sampled_from(["email", "line", "*"]),
        st.sampled_from([status.value for status in ConsentStatus]),
    ),
)
_condition = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: {"all": parts}),
        st.lists(inner, max_size=3).map(lambda parts: {"any": parts}),
        inner.map(lambda part: {"not": part}),
    ),
    max_leaves=6,
)
_history = st.fixed_dictionaries(
    {
        "register": _register,
        "facts": st.lists(_fact, max_size=25),
        "said": st.lists(_said, max_size=6),
        "tagged": st.lists(_tagged, max_size=6),
        "linked": st.lists(_linked, max_size=4, unique_by=lambda each: each[:2]),
    }
)


def write(engine: Engine, history: dict[str, Any]) -> None:
    with engine.begin() as conn:
        for table in (tags, consents, identities, interactions, customers):
            conn.execute(delete(table))
        append_customers(
            conn,
            [
                CustomerRecord(
                    customer_id=who,
                    time_zone=zone,
                    created_at=NOW - timedelta(days=90),
                    attributes=attributes,
                )
                for who, (zone, attributes) in zip(PEOPLE, history["register"], strict=True)
            ],
        )
        append_interactions(
            conn,
            [Interaction(source="s", event_id=str(n), **fact) for n, fact in enumerate(history["facts"])],
            NOW,
        )
        append_consents(
            conn,
            [
                Consent(
                    customer_id=who, channel=channel, purpose="marketing", status=status, since=at, source="s"
                )
                for who, channel, status, at in history["said"]
            ],
        )
        append_tags(
            conn,
            [
                TagStatement(customer_id=who, tag=tag, present=present, since=at, source="s")
                for who, tag, present, at in history["tagged"]
            ],
        )
        append_identities(
            conn,
            [
                Identity(customer_id=who, kind=kind, value=f"{who}:{kind}", linked_at=at, source="s")
                for who, kind, at in history["linked"]
            ],
        )


def agree(engine: Engine, condition: dict[str, Any], features: FeatureList | None = None) -> list[str]:
    segment = parse_segment({"name": "tested", "condition": condition})
    with engine.connect() as conn:
        at_once = members(conn, segment, NOW, features)
        alone = [who for who in sorted(PEOPLE) if is_member(conn, segment, who, NOW, features)]
    assert at_once == alone
    return at_once


_SETTINGS = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


@settings(max_examples=50, **_SETTINGS)
@given(history=_history, condition=_condition)
def test_everybody_at_once_is_each_alone_on_sqlite(
    sqlite_engine: Engine, history: dict[str, Any], condition: dict[str, Any]
) -> None:
    write(sqlite_engine, history)
    agree(sqlite_engine, condition)


@settings(max_examples=15, **_SETTINGS)
@given(history=_history, condition=_condition)
def test_everybody_at_once_is_each_alone_on_postgresql(
    postgresql_engine: Engine, history: dict[str, Any], condition: dict[str, Any]
) -> None:
    write(postgresql_engine, history)
    agree(postgresql_engine, condition)


@settings(max_examples=6, **_SETTINGS)
@given(history=_history, other=_leaf)
def test_conditions_on_features_agree_too(
    sqlite_engine: Engine, history: dict[str, Any], other: dict[str, Any]
) -> None:
    write(sqlite_engine, history)
    recent = {"feature": "days_since_purchase", "op": "<=", "value": 7}
    agree(
        sqlite_engine,
        {"any": [recent, {"all": [{"feature": "carts_30d", "op": ">", "value": 0}, other]}]},
        FEATURES,
    )


@settings(max_examples=20, **_SETTINGS)
@given(history=_history, condition=_condition)
def test_a_condition_and_its_opposite_share_everybody_out(
    sqlite_engine: Engine, history: dict[str, Any], condition: dict[str, Any]
) -> None:
    write(sqlite_engine, history)
    inside, outside = (members_of(sqlite_engine, each) for each in (condition, {"not": condition}))
    assert inside.isdisjoint(outside)
    assert inside | outside == set(PEOPLE)


def members_of(engine: Engine, condition: dict[str, Any]) -> set[str]:
    with engine.connect() as conn:
        return set(members(conn, parse_segment({"name": "tested", "condition": condition}), NOW))


@pytest.fixture
def story(engine: Engine) -> Engine:
    """Ada carted at 8 in the morning in Taipei, on a Sunday; Bob bought in the shop."""
    at = datetime(2026, 3, 8, 0, 15, tzinfo=UTC)
    usual = {"channel": None, "attributes": {}, "machine_made": False, "value_minor": None, "place": None}
    write(
        engine,
        {
            "register": [("Asia/Taipei", {"age": 40.0})] * len(PEOPLE),
            "facts": [
                usual | {"customer_id": "ada", "kind": InteractionKind.CARTED, "occurred_at": at},
                usual | {"customer_id": "Bob", "kind": InteractionKind.PURCHASED, "occurred_at": at, "value_minor": 5_000.0, "place": Place.SHOP},
                usual | {"customer_id": "c-1", "kind": InteractionKind.CARTED, "occurred_at": at, "machine_made": True},
            ],
            "said": [("ada", "email", ConsentStatus.GRANTED, at), ("Bob", "email", ConsentStatus.GRANTED, at), ("Bob", "*", ConsentStatus.WITHDRAWN, at)],
            "tagged": [("ada", "vip", True, at), ("Bob", "vip", True, at), ("Bob", "vip", False, NOW)],
            "linked": [("ada", IdentityKind.DEVICE, at)],
        },
    )  # fmt: skip
    return engine


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ({"interactions": {"kind": "carted", "within_days": 7}}, ["ada"]),
        ({"interactions": {"kind": "carted", "within_days": 2}}, []),
        ({"interactions": {"kind": "carted", "local_hours": {"from_hour": 8, "until_hour": 9}}}, ["ada"]),
        ({"interactions": {"kind": "carted", "weekdays": [7]}}, ["ada"]),
        ({"interactions": {"kind": "carted", "weekdays": [1, 2, 3, 4, 5, 6]}}, []),
        ({"interactions": {"kind": "purchased", "place": "shop", "value_at_least_minor": 5_000}}, ["Bob"]),
        ({"interactions": {"kind": ["carted", "purchased"], "at_most": 0}}, ["c-1", "Érik", "雅"]),
        ({"consent": {"channel": "email"}}, ["ada"]),
        ({"tag": "vip"}, ["ada"]),
        ({"identity": "device"}, ["ada"]),
        ({"all": [{"attribute": "age", "op": ">=", "value": 40}, {"not": {"tag": "vip"}}]}, ["Bob", "c-1", "Érik", "雅"]),
        ({"all": []}, sorted(PEOPLE)),
        ({"any": []}, []),
    ],
)  # fmt: skip
def test_conditions_mean_what_they_say(story: Engine, condition: dict[str, Any], found: list[str]) -> None:
    assert agree(story, condition) == found

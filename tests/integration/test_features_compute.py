"""Features worked by hand; nothing is seen before it happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

import polars as pl
import pytest
from sqlalchemy import Engine

from features.compute import POINTS, compute, load_known
from features.feature_list import AttributeSpec, ChannelSpec, FeatureList
from features.history.append import (
    CustomerRecord,
    append_consents,
    append_customers,
    append_identities,
    append_interactions,
)
from models.domain.channel import IdentityKind
from models.domain.customer import Consent, ConsentStatus, Identity
from models.domain.interaction import Interaction
from models.domain.interaction import InteractionKind as Kind

NOW = datetime(2026, 3, 10, 9, 30, 15, 123456, tzinfo=UTC)
DAY = timedelta(days=1)
FEATURES = FeatureList(
    channels=(ChannelSpec(name="email", opens=True, clicks=True),),
    attributes=(AttributeSpec(name="age"), AttributeSpec(name="segment", values=("gold", "silver"))),
)
numbers = count()


def fact(kind: Kind, at: datetime, customer_id: str = "c-1", **more: object) -> Interaction:
    values = {"source": "test", "event_id": str(next(numbers)), "customer_id": customer_id}
    return Interaction(**values, kind=kind, occurred_at=at, **more)


def known_at(engine: Engine, *points: tuple[str, datetime]) -> pl.DataFrame:
    asked = pl.DataFrame(points, schema=POINTS, orient="row")
    with engine.connect() as conn:
        return compute(FEATURES, asked, load_known(conn, FEATURES, asked))


@pytest.fixture
def history(engine: Engine) -> Engine:
    facts = [
        fact(Kind.PURCHASED, NOW - 2 * DAY, value_minor=1000.1),
        fact(Kind.PURCHASED, NOW - 40 * DAY, value_minor=500.2),
        fact(Kind.PURCHASED, NOW - 100 * DAY, value_minor=300.0),
        fact(Kind.VISITED, NOW - 7 * DAY),  # the window holds its edge
        fact(Kind.VISITED, NOW - 8 * DAY),
        *(fact(Kind.SENT, NOW - days * DAY, channel="email") for days in (1, 5, 20, 80, 120)),
        fact(Kind.SENT, NOW - 3 * DAY, channel="sms"),
        fact(Kind.OPENED, NOW - 5 * DAY, channel="email"),  # 09:30 UTC, in Taipei 17:30: afternoon
        fact(Kind.OPENED, NOW - 20 * DAY + timedelta(hours=1), channel="email"),  # 18:30: evening
        fact(Kind.OPENED, NOW - DAY, channel="email", machine_made=True),
        fact(Kind.UNSUBSCRIBED, NOW - 50 * DAY, channel="sms"),
    ]
    with engine.begin() as conn:
        append_customers(
            conn,
            [
                CustomerRecord(
                    customer_id="c-1",
                    time_zone="Asia/Taipei",
                    created_at=NOW - 200 * DAY,
                    attributes={"age": 41, "segment": "gold"},
                ),
                CustomerRecord(customer_id="c-2", time_zone="UTC", created_at=NOW + DAY),
            ],
        )
        append_interactions(conn, facts, NOW)
        append_identities(
            conn,
            [
                Identity(
                    customer_id="c-1", kind=IdentityKind.EMAIL, value="a", linked_at=NOW - DAY, source="t"
                ),
                Identity(
                    customer_id="c-1", kind=IdentityKind.PHONE, value="b", linked_at=NOW + DAY, source="t"
                ),
            ],
        )
        said = (("email", ConsentStatus.GRANTED, 9), ("line", ConsentStatus.GRANTED, 9), ("line", ConsentStatus.WITHDRAWN, 2))  # fmt: skip
        append_consents(
            conn,
            [
                Consent(customer_id="c-1", channel=name, purpose="marketing", status=status, since=NOW - days * DAY, source="t")
                for name, status, days in said
            ],
        )  # fmt: skip
    return engine


def test_features_are_what_a_hand_count_gives(history: Engine) -> None:
    (row,) = known_at(history, ("c-1", NOW)).to_dicts()
    expected = {
        "days_since_purchase": 2.0,
        "days_since_visit": 7.0,
        "days_since_cart": None,
        "days_since_contact": 1.0,
        "days_since_response": 5.0,
        "purchases_30d": 1,
        "purchases_365d": 3,
        "spend_90d": 1500.3,
        "spend_365d": 1800.3,
        "mean_purchase_365d": 1800.3 / 3,
        "visits_7d": 1,
        "visits_30d": 2,
        "contacts_7d": 3,
        "contacts_30d": 4,
        "opens_90d": 2,
        "open_rate_90d": (2 + 10 * 0.2) / (5 + 10),  # 4 e-mails and 1 SMS sent in 90 days
        "open_rate_90d_email": (2 + 10 * 0.2) / (4 + 10),
        "sends_90d_email": 4,
        "open_share_night": (0 + 1) / (2 + 4),
        "open_share_afternoon": (1 + 1) / (2 + 4),
        "open_share_evening": (1 + 1) / (2 + 4),
        "refusals_365d": 1,
        "tenure_days": 200.0,
        "n_identities": 1,
        "n_consents": 1,  # e-mail; LINE was withdrawn, SMS refused
        "attr_age": 41.0,
        "attr_segment_is_gold": 1,
        "attr_segment_is_silver": 0,
    }
    for name, value in expected.items():
        assert row[name] == (value if value is None else pytest.approx(value, rel=1e-15)), name


def test_a_customer_of_whom_nothing_is_known_has_the_defaults(history: Engine) -> None:
    unknown, later = known_at(history, ("nobody", NOW), ("c-2", NOW)).to_dicts()
    for feature in FEATURES.features:
        assert unknown[feature.name] == feature.default, feature.name
        assert later[feature.name] == feature.default, feature.name


def test_no_feature_sees_what_happens_at_the_moment_or_after_it(history: Engine) -> None:
    points = [("c-1", NOW - DAY), ("c-1", NOW), ("c-2", NOW)]
    before = known_at(history, *points)
    with history.begin() as conn:
        planted = [
            fact(kind, at, customer, channel="email", value_minor=1e6)
            for customer in ("c-1", "c-2")
            for kind in Kind
            for at in (NOW, NOW + timedelta(microseconds=1), NOW + DAY)
        ]
        append_interactions(conn, planted, NOW)
        append_identities(
            conn, [Identity(customer_id="c-1", kind=IdentityKind.LINE, value="z", linked_at=NOW, source="t")]
        )
    told(history, NOW, {"age": 42, "segment": "silver"})
    assert known_at(history, *points).equals(before)
    seen = known_at(history, ("c-1", NOW + timedelta(microseconds=1)))
    assert seen["purchases_365d"].item() == 4  # the test can fail: a moment later the first one counts
    assert seen["attr_age"].item() == 42.0


def told(engine: Engine, at: datetime, attributes: dict[str, float | str], customer_id: str = "c-1") -> None:
    with engine.begin() as conn:
        append_customers(
            conn,
            [
                CustomerRecord(
                    customer_id=customer_id,
                    time_zone="Asia/Taipei",
                    created_at=NOW - 200 * DAY,
                    attributes=attributes,
                    told_at=at,
                )
            ],
        )


def test_a_moment_has_the_attributes_that_were_known_just_before_it(history: Engine) -> None:
    told(history, NOW - 5 * DAY, {"age": 41, "segment": "silver"})
    told(history, NOW - 5 * DAY, {"age": 41, "segment": "silver"})  # the same again is no change
    told(history, NOW - 3 * DAY, {"age": 42, "segment": "silver"})
    told(history, NOW - DAY, {"segment": "gold"})
    # Of c-2 nothing was known: what is learned first counts as having been so always.
    told(history, NOW - DAY, {"age": 20}, "c-2")
    days = (100, 5, 4, 3, 2, 1, 0)
    rows = known_at(history, *(("c-1", NOW - number * DAY) for number in days), ("c-2", NOW - 9 * DAY))
    assert rows["attr_age"].to_list() == [41, 41, 41, 41, 42, 42, None, 20]
    assert rows["attr_segment_is_gold"].to_list() == [1, 1, 0, 0, 0, 0, 1, 0]
    assert rows["attr_segment_is_silver"].to_list() == [0, 0, 1, 1, 1, 1, 0, 0]


def test_a_row_does_not_depend_on_the_rows_computed_with_it(history: Engine) -> None:
    points = [(f"c-{number % 3}", NOW - timedelta(hours=7 * number)) for number in range(60)]
    together = known_at(history, *points)
    for number in range(0, 60, 9):
        assert known_at(history, points[number]).equals(together[number])


def test_an_absurd_amount_does_not_stop_a_build(history: Engine) -> None:
    with history.begin() as conn:
        append_interactions(conn, [fact(Kind.PURCHASED, NOW - DAY, value_minor=1e300)], NOW)
    assert known_at(history, ("c-1", NOW))["spend_90d"].item() == pytest.approx(1e12)

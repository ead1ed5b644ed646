"""When a date of a customer comes round, by law and by worked example."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.history.tables import SELDOM_KINDS
from models.domain.errors import InvalidInputError
from models.domain.interaction import InteractionKind
from serving.occasions.calendar import anniversary, beginnings, date_in, occurrences
from serving.occasions.occasion import SETS_OFF, AfterFact, Fact, Occasion, OnDate, Referral, occurrence_id
from serving.occasions.runner import _last_round

ZONES = (
    "UTC",
    "Asia/Taipei",
    "America/Los_Angeles",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
    "Asia/Kathmandu",
    "Europe/Berlin",
    "Australia/Lord_Howe",
)
rules = st.builds(
    OnDate,
    attribute=st.just("day"),
    every_year=st.booleans(),
    days=st.integers(-366, 366),
    at=st.builds(time, st.integers(0, 23), st.integers(0, 59)),
)
dates = st.dates(date(1, 1, 1), date(9999, 12, 31)) | st.dates(date(2020, 1, 1), date(2030, 12, 31))
moments = st.timedeltas(timedelta(), timedelta(days=2_000)).map(
    lambda since: datetime(2024, 1, 1, tzinfo=UTC) + since
)
spans = st.timedeltas(timedelta(), timedelta(days=500))


@given(rules, dates, st.sampled_from(ZONES), moments, spans, spans)
def test_what_is_due_in_two_spans_is_what_is_due_in_both_together(rule, told, zone, start, one, other):
    first, second = start + one, start + one + other
    whole = list(occurrences(rule, told, zone, start, second))
    parts = [*occurrences(rule, told, zone, start, first), *occurrences(rule, told, zone, first, second)]
    assert whole == parts
    assert len({name for name, _ in whole}) == len(whole), "an occurrence has one moment"


@given(rules, dates, st.sampled_from(ZONES), moments, spans)
def test_the_database_is_asked_for_every_date_that_is_due(rule, told, zone, start, span):
    texts, without_year = beginnings(rule, start, start + span)
    text = told.isoformat()
    for _ in occurrences(rule, told, zone, start, start + span):
        assert (text[5:10] if without_year else text) in texts


@given(rules, dates, st.sampled_from(ZONES), moments, spans)
def test_whatever_is_due_comes_round_at_a_moment_at_which_somebody_looks(rule, told, zone, start, span):
    for _, moment in occurrences(rule, told, zone, start, start + span):
        # The first look at or after it is at most a quarter of an hour late, and that only where clocks are put forward.
        looked = _last_round(rule.at, moment + timedelta(minutes=15))
        assert moment.timestamp() <= looked <= moment.timestamp() + 900


def due(rule: OnDate, told: date, zone: str = "UTC", year: int = 2026) -> list[tuple[str, datetime]]:
    return list(
        occurrences(rule, told, zone, datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC))
    )


def test_a_birthday_comes_each_year_from_the_year_after_on_at_the_local_time():
    rule = OnDate(attribute="birth_date")
    # 09:00 in Taipei is 01:00 UTC, in Los Angeles in March, before the 8th, 17:00 UTC.
    assert due(rule, date(1990, 3, 5), "Asia/Taipei") == [("2026", datetime(2026, 3, 5, 1, tzinfo=UTC))]
    assert due(rule, date(1990, 3, 5), "America/Los_Angeles") == [
        ("2026", datetime(2026, 3, 5, 17, tzinfo=UTC))
    ]
    assert due(rule, date(2026, 3, 5)) == []
    assert due(rule, date(2027, 3, 5)) == []


def test_the_29th_of_february_is_the_28th_in_years_that_have_none():
    rule = OnDate(attribute="birth_date")
    assert due(rule, date(2000, 2, 29)) == [("2026", datetime(2026, 2, 28, 9, tzinfo=UTC))]
    assert due(rule, date(2000, 2, 29), year=2028) == [("2028", datetime(2028, 2, 29, 9, tzinfo=UTC))]
    # 1900 and 2100 are no leap years.
    assert anniversary(date(2000, 2, 29), 2100) == date(2100, 2, 28)


def test_days_before_reach_into_the_year_before_and_keep_the_year_of_the_day_itself():
    rule = OnDate(attribute="birth_date", days=-5)
    assert due(rule, date(1990, 1, 2)) == [("2027", datetime(2026, 12, 28, 9, tzinfo=UTC))]
    after = OnDate(attribute="birth_date", days=5)
    assert due(after, date(1990, 12, 30)) == [("2025", datetime(2026, 1, 4, 9, tzinfo=UTC))]


def test_a_date_that_counts_once_is_an_occurrence_of_its_own():
    rule = OnDate(attribute="warranty_ends", every_year=False, days=-30, at=time(18, 30))
    assert due(rule, date(2026, 7, 31)) == [("2026-07-31", datetime(2026, 7, 1, 18, 30, tzinfo=UTC))]
    assert due(rule, date(2025, 7, 31)) == []


def test_a_local_time_that_is_skipped_is_taken_after_the_gap():
    rule = OnDate(attribute="day", at=time(2, 30))
    assert due(rule, date(1990, 3, 29), "Europe/Berlin") == [("2026", datetime(2026, 3, 29, 1, tzinfo=UTC))]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "1990-2-3",
        "1990-02-30",
        "19900203",
        "1990-W01-1",
        "03/05/1990",
        "1990-03-05T00:00",
        19900305,
        None,
        "१९९०-०३-०५",
    ],
)
def test_only_a_whole_iso_date_is_a_date(value):
    assert date_in(value) is None


@pytest.mark.parametrize(
    ("field", "made"),
    [
        ("occasion.date.days", lambda: OnDate(attribute="day", days=367)),
        ("occasion.date.attribute", lambda: OnDate(attribute="")),
        ("occasion.date.attribute", lambda: OnDate(attribute='a"b')),
        ("occasion.date.attribute", lambda: OnDate(attribute="a" * 65)),
        ("occasion.date.at", lambda: OnDate(attribute="day", at=time(9, tzinfo=UTC))),
        (
            "occasion.catch_up_days",
            lambda: Occasion(campaign_id="c", date=OnDate(attribute="day"), catch_up_days=0),
        ),
        ("occasion", lambda: Occasion(campaign_id="c")),
        (
            "occasion",
            lambda: Occasion(
                campaign_id="c",
                date=OnDate(attribute="day"),
                after=AfterFact(fact=Fact(kind=InteractionKind.PURCHASED)),
            ),
        ),
        ("occasion.after.fact.kind", lambda: AfterFact(fact=Fact(kind=InteractionKind.OPENED))),
        (
            "occasion.after.seconds",
            lambda: AfterFact(fact=Fact(kind=InteractionKind.PURCHASED), seconds=366 * 86_400 + 1),
        ),
        (
            "occasion.after.unless.1.attributes",
            lambda: AfterFact(
                fact=Fact(kind=InteractionKind.PURCHASED),
                unless=(
                    Fact(kind=InteractionKind.CALLED),
                    Fact(kind=InteractionKind.CALLED, attributes={'a"b': "x"}),
                ),
            ),
        ),
        (
            "occasion.after.unless",
            lambda: AfterFact(
                fact=Fact(kind=InteractionKind.PURCHASED),
                unless=(Fact(kind=InteractionKind.CALLED),) * 11,
            ),
        ),
        (
            "occasion.after.fact.attributes.about",
            lambda: AfterFact(fact=Fact(kind=InteractionKind.PURCHASED, attributes={"about": "x" * 513})),
        ),
        ("occasion.referral.seconds", lambda: Referral(seconds=-1)),
        ("occasion.campaign_id", lambda: Occasion(campaign_id="", date=OnDate(attribute="day"))),
    ],
)
def test_a_wrong_document_names_its_field(field, made):
    with pytest.raises(InvalidInputError) as refused:
        made()
    assert refused.value.field == field


def test_facts_that_set_off_are_those_that_the_index_holds():
    assert {kind.value for kind in SETS_OFF} == set(SELDOM_KINDS)


def test_the_id_of_a_decision_is_of_occasion_customer_and_occurrence():
    ids = {
        occurrence_id(name, customer, occurrence)
        for name in ("a", "b")
        for customer in ("c", "c/2026", "")
        for occurrence in ("2026", "2027")
    }
    assert len(ids) == 12
    # Fixed for ever: another one would decide again what was decided before.
    assert occurrence_id("birthday", "ada", "2026") == "2f2144cd-5099-5b32-be60-c0993a5bc889"

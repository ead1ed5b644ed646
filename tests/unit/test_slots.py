"""When a slot falls for a customer: time zones, changes to and from summer time, both hemispheres."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import InvalidInputError
from models.domain.slots import next_send_times

ZONES = (
    "UTC",
    "Asia/Taipei",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "America/Santiago",
    "Australia/Sydney",
    "Australia/Lord_Howe",
    "Pacific/Auckland",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Africa/Casablanca",
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def one(slot: time, zone: str, now: str) -> datetime:
    return next_send_times((slot,), zone, at(now))[0]


def test_a_slot_later_today_is_today() -> None:
    assert one(time(18), "Asia/Taipei", "2026-03-01T02:00Z") == at("2026-03-01T10:00Z")


def test_a_slot_that_has_passed_is_tomorrow() -> None:
    assert one(time(9), "Asia/Taipei", "2026-03-01T02:00Z") == at("2026-03-02T01:00Z")


def test_a_slot_at_this_very_moment_is_now() -> None:
    assert one(time(10), "Asia/Taipei", "2026-03-01T02:00Z") == at("2026-03-01T02:00Z")


def test_today_is_the_customers_own_day() -> None:
    # 23:00 UTC on 1 March is 07:00 on 2 March in Taipei.
    assert one(time(9), "Asia/Taipei", "2026-03-01T23:00Z") == at("2026-03-02T01:00Z")


def test_answers_are_in_utc_and_in_the_order_of_the_slots() -> None:
    moments = next_send_times((time(9), time(18)), "Europe/Berlin", at("2026-01-10T12:00+01:00"))
    assert moments == (at("2026-01-11T08:00Z"), at("2026-01-10T17:00Z"))
    assert all(moment.tzinfo is UTC for moment in moments)


@pytest.mark.parametrize(
    ("zone", "slot", "now", "expected"),
    [
        # Berlin skips 02:00-03:00 on 29 March 2026: 02:30 is taken at 03:00, which is 01:00 UTC.
        ("Europe/Berlin", time(2, 30), "2026-03-28T22:00Z", "2026-03-29T01:00Z"),
        # New York skips 02:00-03:00 on 8 March 2026: 07:00 UTC.
        ("America/New_York", time(2), "2026-03-08T05:00Z", "2026-03-08T07:00Z"),
        # Sydney, southern hemisphere, skips 02:00-03:00 on 4 October 2026: 16:00 UTC the day before.
        ("Australia/Sydney", time(2, 59), "2026-10-03T12:00Z", "2026-10-03T16:00Z"),
        # Lord Howe moves by half an hour: 02:00-02:30 on 4 October 2026, 15:30 UTC the day before.
        ("Australia/Lord_Howe", time(2, 15), "2026-10-03T12:00Z", "2026-10-03T15:30Z"),
        # Santiago skips the midnight hour on 6 September 2026: 04:00 UTC.
        ("America/Santiago", time(0, 30), "2026-09-06T02:00Z", "2026-09-06T04:00Z"),
    ],
)
def test_a_time_that_the_clock_skips_is_taken_after_the_gap(
    zone: str, slot: time, now: str, expected: str
) -> None:
    assert one(slot, zone, now) == at(expected)


@pytest.mark.parametrize(
    ("zone", "slot", "now", "expected"),
    [
        # Berlin has 02:30 twice on 25 October 2026: first at 00:30 UTC, again at 01:30 UTC.
        ("Europe/Berlin", time(2, 30), "2026-10-24T22:00Z", "2026-10-25T00:30Z"),
        # Sydney has 02:30 twice on 5 April 2026: first at 15:30 UTC the day before.
        ("Australia/Sydney", time(2, 30), "2026-04-04T10:00Z", "2026-04-04T15:30Z"),
    ],
)
def test_a_time_that_comes_twice_is_taken_the_first_time(
    zone: str, slot: time, now: str, expected: str
) -> None:
    assert one(slot, zone, now) == at(expected)


def test_between_the_two_the_next_one_is_tomorrow() -> None:
    assert one(time(2, 30), "Europe/Berlin", "2026-10-25T01:00Z") == at("2026-10-26T01:30Z")


def test_a_day_that_an_island_skipped_is_passed_over() -> None:
    # Samoa went from 29 to 31 December 2011: after 12:00 on the 29th the next 09:00 is that of the 31st.
    assert one(time(9), "Pacific/Apia", "2011-12-29T22:00Z") == at("2011-12-31T09:00+14:00")


def test_an_unknown_time_zone_is_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match="Mars/Olympus"):
        next_send_times((time(9),), "Mars/Olympus", at("2026-03-01T02:00Z"))


@given(
    zone=st.sampled_from(ZONES),
    slot=st.times().map(lambda t: t.replace(second=0, microsecond=0)),
    now=st.integers(1_200_000_000, 2_080_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)
def test_a_slot_comes_within_two_days_at_its_local_time_unless_the_clock_skips_it(
    zone: str, slot: time, now: datetime
) -> None:
    moment = next_send_times((slot,), zone, now)[0]
    assert now <= moment < now + timedelta(days=2)
    local_zone = ZoneInfo(zone)
    local = moment.astimezone(local_zone)
    if local.time() != slot:
        before = (moment - timedelta(seconds=1)).astimezone(local_zone)
        assert local.replace(tzinfo=None) - before.replace(tzinfo=None) > timedelta(seconds=1)


@given(
    zone=st.sampled_from(ZONES),
    minutes=st.integers(0, 24 * 60 - 1),
    hours=st.integers(-30, 30),
    change=st.sampled_from(
        [
            "2026-03-29T01:00Z",
            "2026-10-25T01:00Z",
            "2026-04-04T16:00Z",
            "2026-10-03T16:00Z",
            "2026-09-06T04:00Z",
        ]
    ),
)
def test_the_same_holds_around_every_change_of_the_clock(
    zone: str, minutes: int, hours: int, change: str
) -> None:
    now = at(change) + timedelta(hours=hours)
    slot = time(minutes // 60, minutes % 60)
    moment = next_send_times((slot,), zone, now)[0]
    assert now <= moment < now + timedelta(days=2)
    local = moment.astimezone(ZoneInfo(zone))
    assert local.fold == 0 or local.time() == slot

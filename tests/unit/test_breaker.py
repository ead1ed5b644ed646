"""The circuit breaker, moment by moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from serving.breaker import Breaker, BreakerSettings, BreakerState

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def opened(**settings: float) -> Breaker:
    breaker = Breaker(BreakerSettings(failures=3, open_seconds=10, **settings))
    for _ in range(3):
        breaker.failed(NOON)
    return breaker


def test_failures_one_after_another_open_it_and_fewer_do_not():
    breaker = Breaker(BreakerSettings(failures=3))
    for _ in range(4):
        breaker.failed(NOON)
        breaker.failed(NOON)
        assert breaker.state(NOON) is BreakerState.CLOSED
        breaker.succeeded()
    assert opened().state(NOON) is BreakerState.OPEN


def test_a_probe_that_fails_doubles_the_wait_up_to_the_longest():
    breaker = opened(longest_open_seconds=30)
    waits = []
    now = NOON
    for _ in range(4):
        assert breaker.open_until is not None
        waits.append((breaker.open_until - now).total_seconds())
        now = breaker.open_until
        assert breaker.state(now) is BreakerState.HALF_OPEN
        breaker.failed(now)
    assert waits == [10, 20, 30, 30]


def test_a_probe_that_succeeds_closes_it_and_the_next_opening_is_short_again():
    breaker = opened()
    breaker.failed(at(10))
    breaker.succeeded()
    assert breaker.state(at(10)) is BreakerState.CLOSED
    for _ in range(3):
        breaker.failed(at(100))
    assert breaker.open_until == at(110)


def test_calls_that_began_before_it_opened_do_not_lengthen_it():
    breaker = opened()
    breaker.failed(at(5))
    assert breaker.open_until == at(10)

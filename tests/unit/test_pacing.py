"""Who is still expected to ask, and what a unit of what is scarce is worth to them."""

from __future__ import annotations

import numpy as np
import pytest

from models.allocation.pacing import (
    DAY_SECONDS,
    NEAR_SECONDS,
    Asked,
    Expected,
    expected_requests,
    paced_prices,
)
from models.choice import FloatArray

HOUR = 3_600.0
MIDNIGHT = 20_000 * DAY_SECONDS


def asked(*at: float, n: float = 1.0, stream: int = 0) -> Asked:
    return Asked(
        at=np.array(at, dtype=float), n=np.full(len(at), n), stream=np.full(len(at), stream, dtype=np.intp)
    )


def together(*several: Asked) -> Asked:
    return Asked(
        at=np.concatenate([one.at for one in several]),
        n=np.concatenate([one.n for one in several]),
        stream=np.concatenate([one.stream for one in several]),
    )


def every_minute(n_days: float, a_minute: float = 1.0, stream: int = 0) -> Asked:
    """Until midnight, as many each minute."""
    at = MIDNIGHT - np.arange(0.5, n_days * 1_440) * 60
    return asked(*at, n=a_minute, stream=stream)


def total(expected: Expected, since: float = -np.inf, until: float = np.inf) -> float:
    return float(expected.n[(expected.at > since) & (expected.at <= until)].sum())


def test_a_steady_stream_is_expected_to_go_on():
    expected = expected_requests(every_minute(3), MIDNIGHT, MIDNIGHT + 2 * DAY_SECONDS)
    assert total(expected) == pytest.approx(2 * 1_440, rel=1e-3)
    for hour in range(48):
        began = MIDNIGHT + hour * HOUR
        # Who is late may come at once.
        assert total(expected, began - (hour == 0), began + HOUR) == pytest.approx(60, abs=1)
    assert expected.at.min() >= MIDNIGHT
    assert expected.at.max() <= MIDNIGHT + 2 * DAY_SECONDS


def test_on_the_first_day_of_a_stream_nobody_is_expected():
    assert total(expected_requests(every_minute(1), MIDNIGHT, MIDNIGHT + 2 * DAY_SECONDS)) == 0
    # A day is whole once those who may be late have come.
    longer = every_minute(1 + NEAR_SECONDS / DAY_SECONDS + 0.001)
    assert total(expected_requests(longer, MIDNIGHT, MIDNIGHT + 2 * DAY_SECONDS)) > 1_000
    nobody = expected_requests(asked(), MIDNIGHT, MIDNIGHT + DAY_SECONDS)
    assert len(nobody.row) == len(nobody.at) == len(nobody.n) == 0


def test_streams_are_expected_each_by_its_own_days():
    both = together(every_minute(3), every_minute(0.5, a_minute=100.0, stream=1))
    expected = expected_requests(both, MIDNIGHT, MIDNIGHT + DAY_SECONDS)
    assert set(both.stream[expected.row]) == {0}
    assert total(expected) == pytest.approx(1_440, rel=1e-3)


def daily(hour: float, n_days: int, n: float = 1_000.0, late: float = 0.0) -> Asked:
    """A thousand within a minute, each day at that hour; on the last of them late by so much."""
    days = [MIDNIGHT - (n_days - 1 - day) * DAY_SECONDS for day in range(n_days)]
    seconds = np.linspace(0, 60, 100)
    at = [
        day + hour * HOUR + seconds + (late if number == n_days - 1 else 0) for number, day in enumerate(days)
    ]
    return asked(*np.concatenate(at), n=n / 100)


@pytest.mark.parametrize("late", [-1_500.0, -600.0, 0.0, 600.0, 1_500.0])
def test_a_batch_that_comes_every_day_is_expected_once_a_day_though_it_is_late_or_early(late):
    batches = daily(9, n_days=4, late=late)
    began = MIDNIGHT + 9 * HOUR + late
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        now = began + share * 60
        so_far = batches.at <= now
        seen = Asked(at=batches.at[so_far], n=batches.n[so_far], stream=batches.stream[so_far])
        left = 1_000 - float(seen.n[seen.at >= began].sum())
        expected = expected_requests(seen, now, MIDNIGHT + DAY_SECONDS)
        assert total(expected) == pytest.approx(left, abs=15)
        assert (expected.at >= now).all()


def test_a_busy_day_is_expected_to_go_on_busy_and_the_next_as_usual():
    usual = every_minute(3)
    # Until now, six in the morning, twice as many as usual.
    now = MIDNIGHT + 6 * HOUR
    today = asked(*(MIDNIGHT + np.arange(0.5, 360) * 60), n=2.0)
    expected = expected_requests(together(usual, today), now, MIDNIGHT + 2 * DAY_SECONDS)
    assert total(expected, now + NEAR_SECONDS, now + 4 * HOUR) == pytest.approx(2 * 210 * 0.96, rel=0.15)
    # From twenty-four hours on as on the days of before, today's morning among them.
    assert total(expected, now + DAY_SECONDS, now + DAY_SECONDS + 4 * HOUR) == pytest.approx(
        240 * (1 + 2 + 1) / 3, rel=0.35
    )
    ten_times = asked(*(MIDNIGHT + np.arange(0.5, 360) * 60), n=10.0)
    very = expected_requests(together(usual, ten_times), now, MIDNIGHT + DAY_SECONDS)
    assert total(very, now + 6 * HOUR, now + 7 * HOUR) <= 2 * 60 * 1.01


def test_more_than_seven_days_are_not_looked_back_upon():
    before = asked(*(MIDNIGHT - 9 * DAY_SECONDS + np.arange(0.5, 1_440) * 60), n=1_000.0)
    expected = expected_requests(together(before, every_minute(7.5)), MIDNIGHT, MIDNIGHT + DAY_SECONDS)
    assert total(expected) == pytest.approx(1_440, rel=1e-3)


def test_an_even_sample_stands_for_as_many_in_the_same_proportion():
    n = np.array([1.0, 0.0, 3.0, 6.0])
    whole = Expected(row=np.arange(4), at=np.arange(4.0), n=n)
    for most in (10, 1_000):
        sample = whole.sample(most)
        assert len(sample.n) == 10  # no more than they stand for
        assert sample.n.sum() == pytest.approx(10.0)
        assert np.bincount(sample.row, minlength=4).tolist() == [1, 0, 3, 6]
    few = whole.sample(5)
    assert few.n.tolist() == [2.0] * 5
    nobody = Expected(row=np.empty(0, np.intp), at=np.empty(0), n=np.empty(0)).sample(10)
    assert len(nobody.row) == 0


def worth(n: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Two scarce choices, one that is not, and none."""
    rng = np.random.default_rng(seed)
    value = np.column_stack(
        [rng.lognormal(2, 1, n), rng.lognormal(1.5, 1, n), rng.lognormal(0, 1, n), np.zeros(n)]
    )
    return value, np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize("seed", range(5))
def test_those_who_are_expected_use_at_the_prices_what_is_left(seed):
    value, use = worth(2_000, seed)
    capacity = np.array([4_000.0, 1_000.0])
    price = paced_prices(value, 20_000.0, use, capacity)
    used = np.bincount((value - use @ price).argmax(axis=1), minlength=4) @ use * 10
    np.testing.assert_allclose(used, capacity, rtol=0.01)
    assert (paced_prices(value, 20_000.0, use, np.array([2e4, 2e4])) == 0).all()
    assert (paced_prices(value[:0], 0.0, use, capacity) == 0).all()


def test_prices_rise_with_who_is_expected_and_fall_with_what_is_left():
    value, use = worth(1_000, 3)
    capacity = np.array([500.0, 500.0])
    by_demand = [paced_prices(value, n, use, capacity).sum() for n in (1_000.0, 2_000.0, 4_000.0)]
    assert by_demand == sorted(by_demand)
    by_capacity = [paced_prices(value, 4_000.0, use, capacity * c).sum() for c in (1.0, 2.0, 4.0)]
    assert by_capacity == sorted(by_capacity, reverse=True)

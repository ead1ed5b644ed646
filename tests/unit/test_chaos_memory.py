"""What `make chaos NAME=malformed` calls growth."""

from __future__ import annotations

from random import Random

import pytest

from tests.chaos._memory import LEAST_READINGS, MemoryWatch, growth_pct

N = 400


def noisy(extra: list[float]) -> list[float]:
    """About 600 MiB, with what is taken and given back on top."""
    rng = Random(5)
    return [600.0 + rng.uniform(0, 2) + (30.0 if rng.random() < 0.1 else 0.0) + more for more in extra]


def test_memory_that_is_given_back_is_no_growth() -> None:
    grown = growth_pct(noisy([0.0] * N))
    assert grown is not None
    assert abs(grown) < 0.2


@pytest.mark.parametrize(
    "extra",
    [
        [12.0 * number / (N // 2) for number in range(N)],  # 12 MiB, 2 %, in each half
        [0.0] * (N * 3 // 4) + [12.0] * (N // 4),  # all at once
    ],
)
def test_memory_that_stays_is_growth_whether_it_comes_little_by_little_or_at_once(extra: list[float]) -> None:
    grown = growth_pct(noisy(extra))
    assert grown is not None
    assert 1.5 < grown < 2.5


def test_what_filled_in_the_first_half_is_not_counted() -> None:
    grown = growth_pct(noisy([0.0] * (N // 4) + [100.0] * (N - N // 4)))
    assert grown is not None
    assert abs(grown) < 0.2


def test_of_too_few_readings_nothing_is_said() -> None:
    assert growth_pct([600.0] * (LEAST_READINGS - 1)) is None


def test_memory_is_read_at_every_so_many_requests(capsys: pytest.CaptureFixture[str]) -> None:
    watch = MemoryWatch(lambda: 600.0)
    for _ in range(10_249):
        watch()
    assert watch.readings == [600.0] * 40
    assert capsys.readouterr().out == "10,000 requests, 600.0 MiB\n"

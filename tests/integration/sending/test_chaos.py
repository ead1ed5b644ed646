"""Small versions of the programs under tests/chaos that break sending, so that they cannot rot."""

from __future__ import annotations

import pytest

from tests.benchmarks import send
from tests.chaos import (
    answer_lost,
    disk_full,
    kill_sender,
    poison,
    provider_down,
    provider_faults,
    race,
    receipts_shuffled,
    workers,
)

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    if request.param == "postgresql":
        request.getfixturevalue("postgres_url")  # skips where there is no server
    return request.param


def test_killed_senders_lose_nothing_and_park_what_is_unknown():
    result = kill_sender.kill("sqlite", "keyless_parked", 60, 2, seed=1)
    assert result["passed"], result


def test_a_paused_sender_is_refused_by_its_fencing_token(database):
    result = workers.pause(database)
    assert result["passed"], result


def test_faults_of_a_provider_are_outlived_within_its_rate_and_its_retry_after():
    result = provider_faults.play("sqlite", 60, seed=1)
    assert result["passed"], result


def test_a_provider_that_is_down_does_not_hold_up_another_channel():
    result = provider_down.play("sqlite", 40)
    assert result["passed"], result


@pytest.mark.parametrize("case", ["keyed", "keyless", "keyless_parked"])
def test_lost_answers_end_as_the_policy_says(case):
    result = answer_lost.play("sqlite", case, 40, seed=1)
    assert result["passed"], result


def test_poison_becomes_a_dead_letter_and_the_rest_goes_out():
    result = poison.play("sqlite", 101)
    assert result["passed"], result


def test_receipts_in_any_order_from_many_threads_end_in_one_state(database):
    result = receipts_shuffled.play(database, 12, seed=1)
    assert result["passed"], result


def test_a_full_disk_answers_503_and_loses_nothing_that_was_acknowledged():
    result = disk_full.play(60)
    assert result["passed"], result


def test_a_read_against_a_fallback_has_one_outcome_in_every_order():
    result = race.interleave(24, seed=2)
    assert result["passed"], result


def test_reads_timers_and_senders_at_the_same_time_have_one_outcome_each(postgres_url):
    result = race.collide(20, seed=2)
    assert result["passed"], result


def test_the_benchmark_of_sending_measures_both_ways():
    figures = send.measure(30, 1, ["sqlite"])
    assert figures["messages_per_s_over_raw"] > 0
    assert figures["claim_us"]["sqlite"] > 0

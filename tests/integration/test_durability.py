"""What was acknowledged outlives the process that acknowledged it."""

from __future__ import annotations

from tests.chaos import decide_kill, drain, plan_kill
from tests.chaos.decide_kill import CAMPAIGN, CUSTOMERS


def test_a_process_that_is_killed_under_load_loses_no_decision_that_it_acknowledged(market):
    market.customers(*CUSTOMERS)
    market.campaign(CAMPAIGN, budget_minor=1e9)
    found = decide_kill.kill(market.engine, 1)
    assert found["acknowledged"] > 0
    assert {key: found[key] for key in ("lost", "changed", "torn", "miscounted_minor", "other_statuses")} == {
        "lost": 0,
        "changed": 0,
        "torn": 0,
        "miscounted_minor": 0.0,
        "other_statuses": 0,
    }


def test_a_process_that_is_killed_while_it_works_on_a_plan_forgets_nobody_and_decides_for_nobody_twice(
    market,
):
    found = plan_kill.kill(market, 3_000, 2)
    assert found["status"] == "finished"
    assert found["kills"] == 2
    wrong = ("forgotten", "twice", "miscounted", "over_capacity", "without_message")
    assert {key: found[key] for key in wrong} == dict.fromkeys(wrong, 0)


def test_a_service_that_is_told_to_end_answers_everything_that_is_under_way(market):
    market.customers(*CUSTOMERS)
    market.campaign(CAMPAIGN, budget_minor=1e9)
    found = drain.drain(market.engine, 1)
    assert found["passed"], found

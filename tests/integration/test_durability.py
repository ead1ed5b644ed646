"""What was acknowledged outlives the process that acknowledged it."""

from __future__ import annotations

from sqlalchemy import delete, update

from features.history.sales import REDEMPTION
from features.history.tables import interactions, redemption_counts
from tests.chaos import decide_kill, drain, plan_kill, redeem_kill
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


def test_a_process_that_is_killed_while_vouchers_are_redeemed_loses_none_and_exceeds_no_limit(market):
    market.customers(*redeem_kill.BUYERS)
    found = redeem_kill.kill(market, 1)
    assert found["acknowledged"] > 0
    assert not any(found[name] for name in redeem_kill.WRONG), found
    with market.engine.begin() as conn:
        conn.execute(delete(interactions).where(interactions.c.source == REDEMPTION))
        conn.execute(update(redemption_counts).values(n=redemption_counts.c.n + 1))
    torn = redeem_kill.inspect(market.engine, redeem_kill.Callers(), redeem_kill.Limits.of(1))
    assert torn["torn"] == sum(found["redeemed"].values())
    assert torn["miscounted"] == 5  # four offers and a prize


def test_a_service_that_is_told_to_end_answers_everything_that_is_under_way(market):
    market.customers(*CUSTOMERS)
    market.campaign(CAMPAIGN, budget_minor=1e9)
    found = drain.drain(market.engine, 1)
    assert found["passed"], found

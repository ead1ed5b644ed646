"""The day's allowance for exploring: counted in the decision's transaction, by all replicas together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select

from features.history.tables import resource_usage
from models.domain.campaign import Campaign
from models.domain.decision import Decision
from models.domain.errors import InvalidInputError
from models.policy.bandit import Bandit
from serving.request import DecisionRequest

SPENT = "exploration_spent"


def expected_loss(decision: Decision) -> float:
    """What the recorded distribution loses against the best recorded value."""
    values, p = decision.evidence.net_value_minor, decision.evidence.distribution
    return sum(chance * (max(values.values()) - values[action]) for action, chance in p.items())


def used(market) -> dict[str, float]:
    with market.engine.connect() as conn:
        return dict(conn.execute(select(resource_usage.c.resource, resource_usage.c.used)).all())


def decide(market, service, person: str, **more: object) -> Decision:
    return service.decider.decide(
        DecisionRequest(customer_id=person, campaign_id="spring", **more), market.now
    )


def opened(market, budget: float | None, n: int) -> list[str]:
    people = [f"c{i}" for i in range(n)]
    market.customers(*people)
    market.campaign(exploration_budget_minor=budget)
    return people


def of_one(market) -> float:
    """What one decision of this market explores at; everybody is alike."""
    return expected_loss(decide(market, market.service(), "c0", dry_run=True))


def test_decisions_are_greedy_and_say_so_once_the_day_is_spent_and_explore_again_tomorrow(market):
    people = opened(market, None, 6)
    loss = of_one(market)
    assert loss > 0
    market.now += timedelta(seconds=10)
    market.campaign(exploration_budget_minor=2.5 * loss)
    service = market.opened[0]
    service.snapshots.reload()
    answers = [decide(market, service, person) for person in people[:4]]
    assert [answer.degraded for answer in answers] == [(), (), (SPENT,), (SPENT,)]
    assert used(market) == {"exploration:spring:2026-03-01": pytest.approx(2 * loss)}
    for answer in answers[2:]:
        values = answer.evidence.net_value_minor
        assert answer.propensity == 1.0
        assert answer.evidence.distribution == {max(values, key=values.__getitem__): 1.0}
        assert answer.policy == "bandit"
    market.now += timedelta(days=1)
    assert decide(market, service, people[4]).degraded == ()


def test_a_batch_shares_the_allowance(market):
    people = opened(market, None, 10)
    loss = of_one(market)
    market.now += timedelta(seconds=10)
    market.campaign(exploration_budget_minor=3.5 * loss)
    service = market.opened[0]
    service.snapshots.reload()
    requests = [DecisionRequest(customer_id=person, campaign_id="spring") for person in people]
    answers = service.decider.decide_many(requests, market.now)
    assert [SPENT in answer.degraded for answer in answers] == [False] * 3 + [True] * 7


def test_two_replicas_never_lose_more_than_the_allowance(market):
    people = opened(market, None, 48)
    loss = of_one(market)
    market.now += timedelta(seconds=10)
    market.campaign(exploration_budget_minor=10.5 * loss)
    services = [market.opened[0], market.service()]
    services[0].snapshots.reload()
    with ThreadPoolExecutor(48) as pool:
        answers = list(pool.map(lambda i: decide(market, services[i % 2], people[i]), range(48)))
    lost = sum(map(expected_loss, answers))
    assert lost <= 10.5 * loss * (1 + 1e-9)
    # Everybody is alike, so nothing of the allowance is left over that one more decision could have used.
    assert lost == pytest.approx(10 * loss)
    assert used(market)["exploration:spring:2026-03-01"] == pytest.approx(lost)
    assert sum(SPENT in answer.degraded for answer in answers) == 38


def test_no_allowance_is_greed_for_everybody(market):
    people = opened(market, 0.0, 3)
    service = market.service()
    assert [decide(market, service, person).propensity for person in people] == [1.0] * 3
    assert used(market) == {}


def test_a_dry_run_takes_nothing(market):
    opened(market, 1e9, 1)
    assert decide(market, market.service(), "c0", dry_run=True).degraded == ()
    assert used(market) == {}


def test_campaigns_asked_together_each_use_their_own(market):
    opened(market, 1e9, 1)
    market.campaign("summer", exploration_budget_minor=0.0)
    service = market.service()
    answer = service.decider.decide(
        DecisionRequest(customer_id="c0", campaigns=("spring", "summer")), market.now
    )
    both = [answer, service.decider.recorded(other_id(answer))]
    by_campaign = {one.campaign_id: one.degraded for one in both}
    assert by_campaign == {"spring": (), "summer": (SPENT,)}
    assert list(used(market)) == ["exploration:spring:2026-03-01"]


def other_id(answer: Decision) -> str:
    assert answer.arbitration is not None
    return next(bid.decision_id for bid in answer.arbitration.bids if bid.decision_id != answer.decision_id)


def test_an_allowance_below_zero_is_refused_by_name(market):
    with pytest.raises(InvalidInputError, match="exploration_budget_minor == -1"):
        market.campaign(exploration_budget_minor=-1.0)


def test_what_is_allowed_a_decision_still_holds_under_the_days_allowance(market):
    people = opened(market, 1e9, 1)
    service = market.service()
    campaign: Campaign = service.snapshots.current.campaigns["spring"]
    bandit = next(p for p in service.snapshots.current.policies["spring"].values() if isinstance(p, Bandit))
    margin = max(offer.margin_minor for offer in campaign.offers)
    answer = decide(market, service, people[0])
    assert expected_loss(answer) <= bandit.exploration.max_loss_share * margin * (1 + 1e-9)

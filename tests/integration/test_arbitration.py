"""Several campaigns at once, through the service: one message, every campaign's own decision, replayable."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid5

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from features.history.contested import contested
from features.history.tables import decisions, outbox
from models.domain.campaign import Caps, Mode, Offer, PolicyName, SendWindow
from models.domain.experiment import Arm, Experiment
from serving.app import create_app
from serving.request import DecisionRequest

SEED = "01a2019c-ff02-74e0-82f9-fc1c4292b790"


def offers_at(campaign, margin: float) -> tuple[Offer, ...]:
    return tuple(replace(offer, margin_minor=margin) for offer in campaign.offers)


@pytest.fixture
def campaigns(market) -> list[str]:
    """Three greedy campaigns; a conversion of `second` earns most."""
    market.customers("ada")
    for name, margin in (("first", 1000.0), ("second", 4000.0), ("third", 2000.0)):
        made = market.campaign(name)
        market.campaign(name, policy=PolicyName.GREEDY, offers=offers_at(made, margin))
    return ["first", "second", "third"]


def ask(names: list[str], customer_id: str = "ada", **more: object) -> DecisionRequest:
    return DecisionRequest(customer_id=customer_id, campaigns=tuple(names), **more)


def stored(market):
    with market.engine.connect() as conn:
        return conn.execute(select(decisions).order_by(decisions.c.campaign_id)).all()


def n_messages(market) -> int:
    with market.engine.connect() as conn:
        return conn.execute(select(func.count()).select_from(outbox)).scalar_one()


def test_the_campaign_whose_message_is_worth_most_makes_the_contact(market, campaigns):
    decision = market.service().decider.decide(ask(campaigns), market.now)
    # by SMS at 18:00: 0.012 * 1.10 * 4000 - 1.45 = 51.35; third 24.95, first 11.75
    assert decision.campaign_id == "second"
    assert decision.expected.net_value_minor == pytest.approx(51.35)
    contest = decision.arbitration
    assert [(bid.campaign_id, bid.won) for bid in contest.bids] == [
        ("first", False), ("second", True), ("third", False),
    ]  # fmt: skip
    assert [bid.net_value_minor for bid in contest.bids] == pytest.approx([11.75, 51.35, 24.95])
    assert [bid.p_wins for bid in contest.bids] == [0.0, 1.0, 0.0]
    assert (contest.propensity, contest.p_silence, decision.propensity) == (1.0, 0.0, 1.0)


def test_every_campaign_has_its_decision_and_the_customer_one_message(market, campaigns):
    service = market.service()
    decision = service.decider.decide(ask(campaigns), market.now)
    rows = stored(market)
    assert [(row.campaign_id, row.channel, row.propensity) for row in rows] == [
        ("first", None, 1.0), ("second", "sms", 1.0), ("third", None, 1.0),
    ]  # fmt: skip
    assert n_messages(market) == 1
    assert rows[0].decision_id == str(uuid5(UUID(decision.decision_id), "first"))
    loser = service.decider.recorded(rows[0].decision_id)
    assert loser.decided_with == decision.decision_id
    assert loser.lost_to == "second"
    assert loser.explanation.startswith(
        "No contact by this campaign: the customer gets the message of second"
    )
    assert decision.explanation.endswith("It was chosen among the messages of 3 campaigns.")
    assert loser.alternatives[0].action.channel == "sms"
    assert loser.alternatives[0].propensity == 0.0


def test_one_campaign_in_the_list_is_the_same_as_asking_for_it_alone(market):
    market.customers("ada")
    market.campaign()
    decider = market.service().decider
    for seed in range(20):
        given = str(UUID(int=seed, version=4))
        alone = DecisionRequest(customer_id="ada", campaign_id="spring", dry_run=True, decision_id=given)
        listed = ask(["spring"], dry_run=True, decision_id=given)
        assert decider.decide(listed, market.now) == decider.decide(alone, market.now)


def test_exclusions_of_one_campaign_leave_the_candidates_of_the_others_alone(market, campaigns):
    decider = market.service().decider
    before = {
        name: decider.decide(DecisionRequest(customer_id="ada", campaign_id=name, dry_run=True), market.now)
        for name in campaigns
    }
    made = market.campaign("second")
    market.campaign(
        "second", policy=PolicyName.GREEDY, offers=offers_at(made, 4000.0), caps=Caps(contacts_per_campaign=0)
    )
    service = market.service()
    decision = service.decider.decide(ask(campaigns), market.now)
    assert decision.campaign_id == "third"
    for row in stored(market):
        mine = service.decider.recorded(row.decision_id)
        assert {e.reason for e in mine.exclusions} == (
            {"campaign_cap"} if row.campaign_id == "second" else set()
        )
        if row.campaign_id != "second":
            values = before[row.campaign_id].evidence.net_value_minor
            assert mine.evidence.net_value_minor == values


def test_a_holdout_of_one_campaign_may_be_contacted_by_another(market, campaigns):
    made = market.campaign("second")
    market.campaign(
        "second",
        policy=PolicyName.GREEDY,
        offers=offers_at(made, 4000.0),
        experiment=Experiment(experiment_id="second", holdout_share=1.0),
    )
    decision = market.service().decider.decide(ask(campaigns), market.now)
    assert decision.campaign_id == "third"
    assert {row.campaign_id: row.arm for row in stored(market)}["second"] == Arm.HOLDOUT


def test_a_campaign_that_has_closed_is_left_out_and_told(market, campaigns):
    closed = SendWindow(starts_at=market.now - timedelta(days=3), ends_at=market.now - timedelta(days=2))
    market.campaign("second", send_window=closed)
    decision = market.service().decider.decide(ask(campaigns), market.now)
    assert decision.campaign_id == "third"
    assert decision.arbitration.left_out == ("second",)
    assert [bid.campaign_id for bid in decision.arbitration.bids] == ["first", "third"]


def test_a_cap_over_all_campaigns_holds_between_them(market, campaigns):
    for name in campaigns:
        made = market.campaign(name)
        market.campaign(name, policy=PolicyName.GREEDY, offers=made.offers, caps=Caps(contacts=2))
    decider = market.service().decider
    answers = [decider.decide(ask(campaigns), market.now) for _ in range(4)]
    assert [answer.action is not None for answer in answers] == [True, True, False, False]
    assert n_messages(market) == 2


def test_what_somebody_else_used_up_is_arbitrated_again(market, campaigns):
    """A batch in which all want the last SMS that a budget pays for: one gets it, the others a push message."""
    people = [f"c{i}" for i in range(4)]
    market.customers(*people)
    made = market.campaign("second")
    market.campaign("second", policy=PolicyName.GREEDY, offers=offers_at(made, 4000.0), budget_minor=1.5)
    answers = market.service().decider.decide_many([ask(campaigns, who) for who in people], market.now)
    # Without SMS push is worth 0.010 * 1.10 * 4000 = 44.00, more than 24.95 by SMS for the third campaign.
    assert [(answer.campaign_id, answer.action.channel) for answer in answers] == [
        ("second", "sms"), ("second", "push"), ("second", "push"), ("second", "push"),
    ]  # fmt: skip
    assert [answer.degraded for answer in answers] == [(), *[("limits_changed",)] * 3]
    assert len(stored(market)) == 4 * 3


def test_decisions_of_campaigns_that_explore_are_replayed_bit_for_bit(market):
    people = [f"c{i}" for i in range(12)]
    market.customers(*people)
    for name, policy in (("first", "uniform"), ("second", "uniform"), ("third", "bandit")):
        market.campaign(name, policy=PolicyName(policy))
    service = market.service(start=False)
    with TestClient(create_app(service)) as api:
        market.opened.remove(service)
        asked = [
            {
                "customer_id": person,
                "campaigns": ["first", "second"] if number % 2 else ["first", "second", "third"],
                "decision_id": str(UUID(int=number, version=4)),
            }
            for number, person in enumerate(people)
        ]
        body = {"requests": asked}
        answers = [one["decision"] for one in api.post("/v1/decisions/batch", json=body).json()["outcomes"]]
        assert len({answer["campaign_id"] for answer in answers}) > 1, "exploration reaches several campaigns"
        for answer in answers:
            recorded = api.get(f"/v1/decisions/{answer['decision_id']}").json()
            assert recorded["replay"]["reproduced"], recorded["replay"]
            assert recorded["arbitration"] == answer["arbitration"]
            total = sum(bid["p_wins"] for bid in answer["arbitration"]["bids"])
            assert total + answer["arbitration"]["p_silence"] == pytest.approx(1.0)
            assert recorded["replay"]["propensity"] == answer["arbitration"]["propensity"]
            for bid in answer["arbitration"]["bids"]:
                each = api.get(f"/v1/decisions/{bid['decision_id']}").json()
                assert each["campaign_id"] == bid["campaign_id"]
                assert each["replay"]["reproduced"]
                assert sum(each["evidence"]["distribution"].values()) == pytest.approx(1.0)
        assert n_messages(market) == sum(answer["action"] is not None for answer in answers)


def test_asking_again_with_the_same_id_or_key_gives_the_same_arbitration(market, campaigns):
    service = market.service(start=False)
    with TestClient(create_app(service)) as api:
        market.opened.remove(service)
        body = {"customer_id": "ada", "campaigns": campaigns, "decision_id": SEED}
        first = api.post("/v1/decisions", json=body)
        assert api.post("/v1/decisions", json=body).content == first.content
        other = api.post("/v1/decisions", json=body | {"campaigns": ["first"]})
        assert (other.status_code, other.json()["type"]) == (409, "/problems/conflict")
        keyed = {"customer_id": "ada", "campaigns": campaigns}
        headers = {"Idempotency-Key": "k"}
        second = api.post("/v1/decisions", json=keyed, headers=headers)
        assert api.post("/v1/decisions", json=keyed, headers=headers).content == second.content
        for wrong, field in (
            ({"campaigns": []}, "campaigns"),
            ({"campaigns": ["first", "first"]}, "campaigns"),
            ({"campaigns": ["first"], "campaign_id": "first"}, "campaign_id"),
            ({"campaigns": [f"c{i}" for i in range(21)]}, "campaigns"),
        ):
            answer = api.post("/v1/decisions", json={"customer_id": "ada"} | wrong)
            assert answer.status_code == 422, wrong
            assert answer.json()["errors"][0]["field"] == field
        unknown = api.post("/v1/decisions", json={"customer_id": "ada", "campaigns": ["first", "winter"]})
        assert unknown.status_code == 404
    assert n_messages(market) == 2


def test_decisions_between_campaigns_are_told_apart_from_those_of_one_campaign(market, campaigns):
    """What a uniform policy draws is blind to the customer's features only where no values decide afterwards."""
    decider = market.service().decider
    decider.decide(DecisionRequest(customer_id="ada", campaign_id="first"), market.now)
    decider.decide(ask(["first"]), market.now)
    decider.decide(ask(campaigns), market.now)
    with market.engine.connect() as conn:
        found = conn.execute(
            select(decisions.c.campaign_id, contested()).order_by(
                decisions.c.decided_at, decisions.c.campaign_id
            )
        ).all()
    assert sorted((name, bool(between)) for name, between in found) == [
        ("first", False), ("first", False), ("first", True), ("second", True), ("third", True),
    ]  # fmt: skip


def test_shadow_mode_sends_by_the_control_policy_and_logs_what_the_optimiser_would_have_done(market):
    people = [f"c{i}" for i in range(12)]
    market.customers(*people)
    market.campaign(mode=Mode.SHADOW)
    service = market.service()
    for person in people:
        shadowed = service.decider.decide(
            DecisionRequest(customer_id=person, campaign_id="spring"), market.now
        )
        assert (shadowed.policy, shadowed.action.channel) == ("cheapest_first", "push")
        assert shadowed.shadow.policy == "bandit"
        live = replace(service.snapshots.current.campaign("spring"), mode=Mode.LIVE)
        snapshot = replace(service.snapshots.current, campaigns={"spring": live})
        would = service.decider.what_if(
            DecisionRequest(customer_id=person, campaign_id="spring", dry_run=True),
            market.now - timedelta(microseconds=1),
            snapshot,
            shadowed.decision_id,
        )
        assert would.action == shadowed.shadow.action
        assert would.propensity == pytest.approx(shadowed.shadow.propensity)
        assert service.decider.recorded(shadowed.decision_id) == shadowed
    live = market.campaign(mode=Mode.LIVE)
    service.snapshots.reload()
    decided = service.decider.decide(DecisionRequest(customer_id="c0", campaign_id="spring"), market.now)
    assert (decided.campaign_version, decided.shadow) == (live.version, None)

"""What the optimiser chose first, and would have for the holdout: logged, kept and compared, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import func, select

from features.history.append import append_decisions, append_interactions
from features.history.report import customer_sums
from features.history.rewards import settle_rewards
from features.history.tables import outbox, outcomes, reservations
from models.domain.action import Action
from models.domain.campaign import Mode, PolicyName
from models.domain.channel import DEFAULT_CHANNELS
from models.domain.decision import Decision, Expected, Shadow
from models.domain.experiment import Arm, Experiment, assign
from models.domain.interaction import Interaction, InteractionKind
from models.evaluation.experiment import Moments, difference
from serving.report import build_report
from serving.request import DecisionRequest

PEOPLE = [f"c{i:02d}" for i in range(40)]
SPLIT = Experiment(experiment_id="spring", holdout_share=0.4, control_share=0.2)
NOTHING = Expected(
    p_open=None,
    p_convert=None,
    p_convert_no_contact=None,
    uplift=None,
    cost_minor=0.0,
    net_value_minor=None,
)


def decide(market, people=PEOPLE, campaign_id="spring") -> list[Decision]:
    asked = [DecisionRequest(customer_id=person, campaign_id=campaign_id) for person in people]
    return market.service().decider.decide_many(asked, market.now)


def chosen_first(market, campaign_id="spring") -> dict[str, dict[str, int]]:
    """Customers by first choice and arm."""
    with market.engine.begin() as conn:
        settle_rewards(conn, market.now + timedelta(days=1))
        found = customer_sums(conn, campaign_id).first_choices
    return {
        channel: {arm.value: sums.n_customers for arm, sums in arms.items()}
        for channel, arms in found.items()
    }


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.SHADOW])
def test_the_holdout_has_what_the_optimiser_would_have_done_drawn_as_in_live_mode(market, mode):
    market.customers(*PEOPLE)
    market.campaign(experiment=SPLIT, mode=mode)
    made = decide(market)
    service = market.service()
    current = service.snapshots.current
    everybody = replace(
        current.campaign("spring"), mode=Mode.LIVE, experiment=Experiment(experiment_id="spring")
    )
    snapshot = replace(current, campaigns={"spring": everybody})
    assert {one.arm for one in made} == set(Arm)
    for one in made:
        would = service.decider.what_if(
            DecisionRequest(customer_id=one.customer_id, campaign_id="spring", dry_run=True),
            market.now - timedelta(microseconds=1),
            snapshot,
            one.decision_id,
        )
        if one.arm is Arm.CONTROL:
            assert one.shadow is None
        elif one.arm is Arm.TREATMENT and mode is Mode.LIVE:
            assert (one.shadow, one.action) == (None, would.action)
        else:
            assert one.shadow.policy == "bandit"
            assert (one.shadow.action, one.shadow.expected) == (would.action, would.expected)
            assert one.shadow.propensity == pytest.approx(would.propensity)
        if one.arm is Arm.HOLDOUT:
            assert (one.action, one.policy) == (None, "holdout")
        assert service.decider.recorded(one.decision_id) == one


def test_what_the_holdout_would_have_had_takes_nothing_of_what_is_scarce(market):
    market.customers(*PEOPLE)
    market.campaign(
        experiment=Experiment(experiment_id="spring", holdout_share=1.0),
        policy=PolicyName.GREEDY,
        budget_minor=5.0,
    )
    made = decide(market)
    assert {one.shadow.action.channel for one in made} == {"sms"}
    with market.engine.connect() as conn:
        for table in (reservations, outbox):
            assert conn.scalar(select(func.count()).select_from(table)) == 0


def test_a_first_choice_that_had_run_out_is_kept_so_that_the_arms_stay_alike(market):
    """Greedy wants an SMS for everybody; three of those who are to be contacted get one."""
    sms = next(channel for channel in DEFAULT_CHANNELS if channel.name == "sms")
    market.channel(replace(sms, capacity_per_day=3))
    market.now += timedelta(seconds=2)
    market.customers(*PEOPLE)
    market.campaign(experiment=SPLIT, policy=PolicyName.GREEDY)
    made = decide(market)
    treated = [one for one in made if one.arm is Arm.TREATMENT]
    again = [one for one in treated if one.shadow is not None]
    assert len(treated) - len(again) == 3
    for one in again:
        assert one.action.channel == "push"
        assert one.shadow.action.channel == "sms"
        assert "limits_changed" in one.degraded
    n = Counter(one.arm.value for one in made)
    assert chosen_first(market) == {"sms": {"holdout": n["holdout"], "treatment": n["treatment"]}}
    # From now on SMS is a choice for nobody, in both arms alike.
    late = [f"d{i:02d}" for i in range(40)]
    market.customers(*late)
    market.now += timedelta(seconds=1)
    n = Counter(one.arm.value for one in decide(market, late))
    assert chosen_first(market)["push"] == {"holdout": n["holdout"], "treatment": n["treatment"]}


def test_between_several_campaigns_nobody_is_compared(market):
    market.customers(*PEOPLE)
    for name in ("spring", "summer"):
        market.campaign(name, experiment=replace(SPLIT, experiment_id=name), policy=PolicyName.GREEDY)
    asked = [DecisionRequest(customer_id=person, campaigns=("spring", "summer")) for person in PEOPLE]
    market.service().decider.decide_many(asked, market.now)
    assert chosen_first(market, "spring") == chosen_first(market, "summer") == {}
    with market.engine.connect() as conn:
        assert set(customer_sums(conn, "spring").arms) == set(Arm)
        assert set(conn.scalars(select(outcomes.c.first_choice))) == {None}


def test_those_who_came_in_before_it_was_logged_are_left_out(market, monkeypatch):
    late = [f"d{i:02d}" for i in range(40)]
    market.customers(*PEOPLE, *late)
    market.campaign(experiment=SPLIT, policy=PolicyName.GREEDY)
    with monkeypatch.context() as before:
        before.setattr("serving.choosing.shadows", lambda *_: {})
        decide(market)
    assert chosen_first(market) == {}
    with market.engine.connect() as conn:
        held_out = select(outcomes.c.first_choice).where(outcomes.c.arm == Arm.HOLDOUT)
        assert set(conn.scalars(held_out)) == {None}
    market.now += timedelta(minutes=1)
    n = Counter(one.arm.value for one in decide(market, late))
    market.now += timedelta(minutes=1)
    decide(market)  # the first decision counts
    assert chosen_first(market) == {"sms": {"holdout": n["holdout"], "treatment": n["treatment"]}}


def test_what_a_channel_brings_is_found_where_it_is_known(market):
    """An SMS adds .15 to the probability of buying, a mail .03; it is written to those who buy anyway.

    Whoever has an even number is keen: 60 in 100 of them buy untouched, and 10 of the others. Of the keen three in four get an SMS.
    """
    campaign = market.campaign(experiment=SPLIT)
    rng = np.random.default_rng(7)
    effect = {"sms": 0.15, "email": 0.03}
    value_minor, cost_minor = 1000.0, 10.0
    made, facts, spent = [], [], {}
    for i in range(3_000):
        person = f"p{i}"
        arm, keen = assign(person, campaign.experiment), i % 2 == 0
        channel = "sms" if keen and i % 8 else "email"
        one = decision(campaign, person, arm, channel, market.now, cost_minor)
        p_buys = (0.6 if keen else 0.1) + effect[channel] * (arm is Arm.TREATMENT)
        bought = rng.random() < p_buys
        made.append(one)
        spent[person] = (arm, channel, value_minor * bought - cost_minor * (one.action is not None))
        for since, happened in ((timedelta(days=1), bought), (timedelta(days=-9), keen)):
            if happened:
                facts.append(
                    Interaction(
                        source="till",
                        event_id=f"{person}{since}",
                        customer_id=person,
                        kind=InteractionKind.CONVERTED,
                        occurred_at=market.now + since,
                        value_minor=value_minor,
                    )
                )
    with market.engine.begin() as conn:
        append_decisions(conn, made)
        append_interactions(conn, facts, market.now + timedelta(days=2))
        settle_rewards(conn, market.now + timedelta(days=2))
    report = build_report(market.engine, "spring", market.now + timedelta(days=2), "USD")
    assert [one.channel for one in report.first_choices] == ["email", "sms"]
    for one in report.first_choices:
        truth = value_minor * effect[one.channel] - cost_minor
        assert one.difference.low < truth < one.difference.high
        assert one.conversions.low < effect[one.channel] < one.conversions.high
        assert one.sample_ratio.sound
    sms = report.first_choices[1]
    assert sms.verdict == "Treatment earns more than holdout, however often this was looked at."
    assert sms.holdout.share_contacted == 0.0
    texted = [worth for arm, channel, worth in spent.values() if (arm, channel) == (Arm.TREATMENT, "sms")]
    held_out = [worth for arm, _, worth in spent.values() if arm is Arm.HOLDOUT]
    assert sms.treatment.n_customers == len(texted)
    crude = difference(Moments.of(np.array(texted)), Moments.of(np.array(held_out)), planned_n=3_000)
    # 60 in 100 against 35: to the effect comes that they are the keen ones, 250 a customer.
    assert crude.low > value_minor * effect["sms"] - cost_minor + 150.0
    assert crude.value == pytest.approx(sms.difference.value + 250.0, abs=60.0)


def decision(campaign, person: str, arm: Arm, channel: str, at, cost_minor: float) -> Decision:
    """Of a live campaign whose optimiser chooses that channel."""
    send_at = at + timedelta(hours=1)
    action = Action(
        offer="coats", channel=channel, slot=0, send_at=send_at, expires_at=send_at + timedelta(hours=1)
    )
    treated = arm is Arm.TREATMENT
    would = Shadow(policy="greedy", policy_version="1", action=action, propensity=1.0, expected=NOTHING)
    return Decision(
        decision_id=f"d-{person}",
        customer_id=person,
        campaign_id=campaign.campaign_id,
        campaign_version=campaign.version,
        decided_at=at,
        action=action if treated else None,
        propensity=1.0,
        expected=replace(NOTHING, cost_minor=cost_minor if treated else 0.0),
        alternatives=(),
        exclusions=(),
        arm=arm,
        mode=Mode.LIVE,
        policy="greedy" if treated else "holdout",
        policy_version="1",
        degraded=(),
        explanation="",
        shadow=would if arm is Arm.HOLDOUT else None,
    )

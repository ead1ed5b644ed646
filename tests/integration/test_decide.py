from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from scipy.stats import chi2

from models.domain.action import ReasonCode
from models.domain.campaign import Caps, PolicyName
from models.domain.channel import DEFAULT_CHANNELS, IdentityKind
from models.domain.decision import Decision
from models.domain.errors import CampaignExpiredError, ConflictError, InvalidInputError, NotFoundError
from models.domain.experiment import Arm, Experiment
from serving.request import DecisionRequest, IdentityRef

GREEDY = {"policy": PolicyName.GREEDY}


def ask(customer_id: str = "ada", **more: object) -> DecisionRequest:
    return DecisionRequest(**{"customer_id": customer_id, "campaign_id": "spring", **more})


def test_the_best_action_by_net_value_is_chosen_and_every_figure_is_right(market):
    market.customers("ada")
    market.campaign(**GREEDY)
    decision = market.service().decider.decide(ask(), market.now)
    # coats by SMS at 18:00: 0.012 * 1.10 * 3000 - 1.45 = 38.15; by push 0.010 * 1.10 * 3000 - 0 = 33.00
    assert (decision.action.offer, decision.action.channel, decision.action.slot) == ("coats", "sms", 2)
    assert decision.action.send_at.isoformat() == "2026-03-01T10:00:00+00:00"
    assert decision.action.expires_at - decision.action.send_at == timedelta(hours=6)
    assert decision.propensity == 1.0
    assert decision.expected.p_open == pytest.approx(0.22)
    assert decision.expected.p_convert == pytest.approx(0.0332)
    assert decision.expected.p_convert_no_contact == pytest.approx(0.02)
    assert decision.expected.uplift == pytest.approx(0.0132)
    assert decision.expected.cost_minor == 1.45
    assert decision.expected.net_value_minor == pytest.approx(38.15)
    assert (decision.arm, decision.policy, decision.policy_version) == (Arm.TREATMENT, "greedy", "rule-1")
    assert decision.degraded == ()
    values = [other.expected.net_value_minor for other in decision.alternatives]
    assert values == sorted(values, reverse=True)
    assert len(values) == 5
    assert decision.explanation == (
        "Send coats by SMS at Sun 1 Mar 18:00: it is expected to earn 0.38 USD more than no contact, the most of "
        "19 candidates; next came coats by SMS at Sun 1 Mar 15:00 with 0.36 USD."
    )


def test_the_evidence_holds_features_distribution_and_values_of_all_candidates(market):
    market.customers("ada")
    market.campaign()
    evidence = market.service().decider.decide(ask(), market.now).evidence
    assert evidence.features == {"age": 40.0}
    assert sum(evidence.distribution.values()) == pytest.approx(1.0, abs=1e-9)
    assert set(evidence.distribution) <= set(evidence.net_value_minor)
    assert len(evidence.net_value_minor) == 2 * 3 * 3 + 1


def test_the_same_decision_id_gives_the_same_choice_and_the_recorded_decision_is_the_answer(market):
    market.customers("ada")
    market.campaign()
    decider = market.service().decider
    given = "01a2019c-ff02-74e0-82f9-fc1c4292b790"
    rehearsal = decider.decide(ask(decision_id=given, dry_run=True), market.now)
    recorded = decider.decide(ask(decision_id=given), market.now)
    again = decider.decide(ask(decision_id=given), market.now + timedelta(hours=3))
    assert rehearsal.action == recorded.action
    assert rehearsal.propensity == recorded.propensity
    assert again == recorded == decider.recorded(given)


def test_a_decision_id_of_somebody_else_is_a_conflict(market):
    market.customers("ada", "bob")
    market.campaign()
    decider = market.service().decider
    given = "01a2019c-ff02-74e0-82f9-fc1c4292b790"
    decider.decide(ask(decision_id=given), market.now)
    with pytest.raises(ConflictError, match="another customer"):
        decider.decide(ask("bob", decision_id=given), market.now)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_observed_frequencies_agree_with_the_logged_distribution(market):
    market.customers("ada")
    market.campaign()
    decider = market.service().decider
    n = 10_000
    answers = []
    for start in range(0, n, 1_000):
        requests = [
            ask(decision_id=f"00000000-0000-7000-8000-{i:012d}", dry_run=True)
            for i in range(start, start + 1_000)
        ]
        answers += decider.decide_many(requests, market.now)
    distribution = answers[0].evidence.distribution
    assert len(distribution) > 3, "a policy that never explores shows nothing"
    grid = market.campaign().grid
    drawn = Counter(
        grid.no_contact
        if (action := answer.action) is None
        else grid.index(grid.offers.index(action.offer), grid.channels.index(action.channel), action.slot)
        for answer in answers
    )
    assert set(drawn) <= set(distribution)
    expected = {index: p * n for index, p in distribution.items() if p * n >= 5}
    rare = n - sum(expected.values())
    statistic = sum((drawn[index] - e) ** 2 / e for index, e in expected.items())
    if rare >= 5:
        statistic += (n - sum(drawn[index] for index in expected) - rare) ** 2 / rare
    assert statistic < chi2.ppf(0.999, len(expected) - (rare < 5))
    for answer in answers[:100]:
        index = (
            grid.no_contact
            if answer.action is None
            else grid.index(
                grid.offers.index(answer.action.offer),
                grid.channels.index(answer.action.channel),
                answer.action.slot,
            )
        )
        assert answer.propensity == distribution[index]


def test_holdout_customers_are_left_alone_with_certainty(market):
    market.customers("ada")
    market.campaign(experiment=Experiment(experiment_id="all", holdout_share=1.0))
    decision = market.service().decider.decide(ask(), market.now)
    assert decision.action is None
    assert (decision.arm, decision.policy, decision.propensity) == (Arm.HOLDOUT, "holdout", 1.0)
    assert "holdout" in decision.explanation


def test_the_control_arm_gets_business_as_usual(market):
    market.customers("ada")
    market.campaign(experiment=Experiment(experiment_id="all", control_share=1.0))
    decision = market.service().decider.decide(ask(), market.now)
    # push costs nothing and goes before e-mail at 0.01; the next slot is 15:00
    assert (decision.arm, decision.policy) == (Arm.CONTROL, "cheapest_first")
    assert (decision.action.channel, decision.action.slot) == ("push", 1)


def test_without_consent_there_is_no_contact_and_every_channel_says_why(market):
    market.customers("ada", consent=False)
    market.campaign()
    decision = market.service().decider.decide(ask(), market.now)
    assert decision.action is None
    assert decision.propensity == 1.0
    assert {(e.channel, e.reason) for e in decision.exclusions} == {
        (channel, ReasonCode.NO_CONSENT) for channel in ("email", "push", "sms")
    }
    assert "has not agreed" in decision.explanation


def test_a_customer_is_found_by_any_identity(market):
    market.customers("ada")
    market.campaign()
    decider = market.service().decider
    by_phone = ask(customer_id=None, identity=IdentityRef(kind=IdentityKind.PHONE, value="phone:ada"))
    assert decider.decide(by_phone, market.now).customer_id == "ada"
    nobody = ask(customer_id=None, identity=IdentityRef(kind=IdentityKind.PHONE, value="phone:eve"))
    with pytest.raises(NotFoundError, match="identity"):
        decider.decide(nobody, market.now)


def test_unknown_customers_and_campaigns_and_ended_campaigns_are_errors_that_name_the_field(market):
    market.customers("ada")
    market.campaign()
    decider = market.service().decider
    with pytest.raises(NotFoundError) as unknown:
        decider.decide(ask("eve"), market.now)
    assert unknown.value.field == "customer_id"
    with pytest.raises(NotFoundError) as unknown:
        decider.decide(ask(campaign_id="autumn"), market.now)
    assert unknown.value.field == "campaign_id"
    with pytest.raises(CampaignExpiredError) as expired:
        decider.decide(ask(), market.now + timedelta(days=31))
    assert expired.value.field == "campaign_id"
    with pytest.raises(InvalidInputError):
        ask(customer_id=None)


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        ("row", "features_missing"),
        ("store", "features_unavailable"),
        ("late", "features_late"),
        ("model", "model_missing"),
    ],
)
def test_whatever_is_missing_the_control_policy_decides_and_says_so(market, cause, reason):
    market.customers("ada")
    market.campaign()
    deadline = 1.0
    if cause == "row":
        market.features.without.add("ada")
    elif cause == "store":
        market.features.failure = ConnectionError("redis is gone")
    elif cause == "late":
        market.features.delay, deadline = (lambda: time.sleep(0.2)), 0.02
    else:
        market.champion.model = None
    decision = market.service(deadline).decider.decide(ask(), market.now)
    assert decision.degraded == (reason,)
    assert decision.policy == "cheapest_first"
    assert decision.action.channel == "push"
    assert decision.expected.p_convert is None
    assert decision.expected.net_value_minor is None
    assert decision.expected.cost_minor == 0.0


def test_an_old_row_of_features_decides_as_usual_and_is_told(market):
    market.customers("ada", "bob")
    market.features.stale.add("ada")
    market.campaign()
    decider = market.service().decider
    ada, bob = decider.decide_many([ask(), ask(customer_id="bob")], market.now)
    assert (ada.degraded, bob.degraded) == (("features_stale",), ())
    assert ada.policy == bob.policy == "bandit"
    assert ada.expected.net_value_minor is not None


def test_without_a_bandit_the_greedy_policy_decides(market):
    market.customers("ada")
    market.campaign()
    market.champion.model = replace(market.champion.model, bandit=None)
    decision = market.service().decider.decide(ask(), market.now)
    assert decision.degraded == ("bandit_missing",)
    assert decision.policy == "greedy"
    assert decision.action.channel == "sms"


def test_a_batch_gives_each_customer_the_decision_that_it_would_get_alone(market):
    people = [f"c{i}" for i in range(40)]
    market.customers(*people)
    market.features.without.update(people[:5])
    market.campaign()
    decider = market.service().decider
    requests = [
        ask(person, decision_id=f"00000000-0000-7000-8000-{i:012d}", dry_run=True)
        for i, person in enumerate(people)
    ]
    together = decider.decide_many([*requests, ask("eve")], market.now)
    assert together[:-1] == [decider.decide(request, market.now) for request in requests]
    assert isinstance(together[-1], NotFoundError)


def test_a_frequency_cap_holds_within_one_batch(market):
    market.customers("ada")
    market.campaign(caps=Caps(contacts=2), **GREEDY)
    answers = market.service().decider.decide_many([ask()] * 6, market.now)
    contacts = [answer for answer in answers if isinstance(answer, Decision) and answer.action]
    silent = [answer for answer in answers if isinstance(answer, Decision) and not answer.action]
    assert (len(contacts), len(silent)) == (2, 4)
    assert all(answer.degraded == ("limits_changed",) for answer in silent)
    assert {e.reason for e in silent[0].exclusions} == {ReasonCode.FREQUENCY_CAP}


def test_a_dry_run_writes_nothing(market):
    market.customers("ada")
    market.campaign()
    decider = market.service().decider
    decision = decider.decide(ask(dry_run=True), market.now)
    assert decision.dry_run
    with pytest.raises(NotFoundError):
        decider.recorded(decision.decision_id)


def test_a_new_champion_and_a_new_campaign_version_are_taken_up_without_a_restart(market):
    market.customers("ada")
    market.campaign(**GREEDY)
    service = market.service()
    first = service.decider.decide(ask(), market.now)
    market.now += timedelta(seconds=5)
    market.campaign(channels=("email",), **GREEDY)
    market.champion.model = replace(market.champion.model, version="rule-2")
    market.champion.version = 2
    assert service.snapshots.reload()
    second = service.decider.decide(ask(), market.now)
    assert (first.campaign_version, first.policy_version, first.action.channel) == (1, "rule-1", "sms")
    assert (second.campaign_version, second.policy_version, second.action.channel) == (2, "rule-2", "email")
    assert not service.snapshots.reload()


def test_a_champion_that_cannot_be_read_leaves_the_last_one_in_place(market):
    market.customers("ada")
    market.campaign()
    service = market.service()
    market.champion.version, market.champion.load = 2, None
    service.snapshots.reload()
    assert service.snapshots.model_error is not None
    assert service.decider.decide(ask(), market.now).policy_version == "rule-1"


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_campaigns_do_not_wait_for_a_registry_that_hangs(market):
    market.customers("ada")
    market.campaign(**GREEDY)
    service = market.service()
    asked, release = threading.Event(), threading.Event()

    def hang() -> int:
        asked.set()
        release.wait(60)
        return 2

    market.champion.champion_version = hang
    following = threading.Thread(target=service.snapshots.follow_champion)
    following.start()
    assert asked.wait(30)
    market.now += timedelta(seconds=5)
    market.campaign(channels=("email",), **GREEDY)
    assert service.snapshots.reload_campaigns()
    decision = service.decider.decide(ask(), market.now)
    assert (decision.campaign_version, decision.policy_version) == (2, "rule-1")
    market.champion.model = replace(market.champion.model, version="rule-2")
    release.set()
    following.join(30)
    decision = service.decider.decide(ask(), market.now)
    assert (decision.campaign_version, decision.policy_version) == (2, "rule-2")


def test_a_channel_nobody_has_priced_is_never_used(market):
    market.customers("ada")
    sms = next(channel for channel in DEFAULT_CHANNELS if channel.name == "sms")
    market.channel(replace(sms, cost_minor=None))
    market.campaign(**GREEDY)
    decision = market.service().decider.decide(ask(), market.now)
    assert decision.action.channel == "push"
    assert (ReasonCode.COST_UNKNOWN, "sms") in {(e.reason, e.channel) for e in decision.exclusions}
    assert np.isfinite(decision.expected.net_value_minor)

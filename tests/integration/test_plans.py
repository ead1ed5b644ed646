"""Plans: forecast, decided in the background at shadow prices, interrupted and gone on with, nobody twice."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from features.history.campaigns import load_campaign
from features.history.channels import load_channels
from features.history.tables import decisions, outbox, plans
from models.domain.campaign import PolicyName, SendWindow
from models.domain.errors import ConflictError, StoreUnavailableError
from models.domain.experiment import Experiment
from serving.app import create_app
from serving.plans import runner
from serving.plans.forecast import Survey, survey
from serving.plans.plan import Plan, PlanStatus
from serving.plans.runner import Plans, decision_id_of
from serving.plans.store import HELD_FOR, add_plan, hold_one, load_plan, move_plan
from serving.request import DecisionRequest
from tests.integration.conftest import CHANNELS, Market, Unlike, WorthByAge, limit_sms

PAGE = Path(__file__).parents[2] / "docs/how-to/plan-an-audience.md"
PEOPLE = [f"c{number:03}" for number in range(150)]  # more than one transaction holds


@pytest.fixture
def unlike(market: Market) -> Market:
    """150 people who are worth differently much, by a policy that takes the best candidate."""
    market.features = Unlike()
    assert market.champion.model is not None
    market.champion.model = replace(market.champion.model, response=WorthByAge())
    market.customers(*PEOPLE)
    market.campaign(policy=PolicyName.GREEDY)
    return market


def of(market: Market) -> Plans:
    """What works on plans, turn by turn, as the tests ask it to."""
    service = market.service()
    service.plans.stop()
    return service.plans


def another(market: Market, ahead: timedelta = timedelta()) -> Plans:
    """The same of another process, whose clock is ahead."""
    service = market.service()
    service.plans.stop()
    return Plans(
        market.engine,
        service.snapshots,
        service.decider,
        lambda: None,
        lambda: market.now,
        lambda: market.now + ahead,
    )


def made(market: Market, plan_id: str = "p1", **changes: Any) -> str:
    plan = Plan(
        plan_id=plan_id,
        campaign_id="spring",
        segment=None,
        starts=True,
        status=PlanStatus.FORECASTING,
        created_at=market.now,
    )
    with market.engine.begin() as conn:
        add_plan(conn, replace(plan, **changes))
    return plan_id


def loaded(market: Market, plan_id: str = "p1") -> Plan:
    with market.engine.connect() as conn:
        return load_plan(conn, plan_id)


def moved(market: Market, to: PlanStatus, plan_id: str = "p1") -> Plan:
    with market.engine.begin() as conn:
        return move_plan(conn, plan_id, to, market.now)


def worked_off(works: Plans) -> int:
    turns = 0
    while works.work():
        turns += 1
        assert turns < 1_000
    return turns


def contacts(market: Market) -> dict[str, str]:
    """Channel by customer of every decision that makes a contact."""
    with market.engine.connect() as conn:
        rows = conn.execute(
            select(decisions.c.customer_id, decisions.c.channel, decisions.c.decision_id)
        ).all()
        assert len({row.decision_id for row in rows}) == len(rows)
        assert len({row.customer_id for row in rows}) == len(rows), "somebody was decided for twice"
    return {row.customer_id: row.channel for row in rows if row.channel is not None}


def n_rows(market: Market, table: Any) -> int:
    with market.engine.connect() as conn:
        return int(conn.execute(select(func.count()).select_from(table)).scalar_one())


def test_everybody_is_decided_for_as_they_would_be_alone_where_nothing_is_scarce(unlike):
    works = of(unlike)
    made(unlike)
    worked_off(works)
    plan = loaded(unlike)
    assert (plan.status, plan.n_members, plan.n_decided, plan.n_problems) == (
        PlanStatus.FINISHED, 150, 150, 0,
    )  # fmt: skip
    found = contacts(unlike)
    assert plan.contacts == Counter(found.values())
    assert len(found) == n_rows(unlike, outbox)
    assert plan.shadow_prices == {}
    assert plan.forecast is not None
    alone = unlike.service().decider.decide_many(
        [DecisionRequest(campaign_id="spring", customer_id=one, dry_run=True) for one in PEOPLE], unlike.now
    )
    # The policy draws nothing, so that the forecast is exact where everybody was looked at.
    assert plan.forecast.contacts == Counter(found.values())
    assert plan.forecast.net_value_minor == pytest.approx(plan.net_value_minor)
    assert plan.forecast.cost_minor == pytest.approx(plan.cost_minor)
    assert plan.forecast.n_sampled == plan.forecast.n_members == 150
    worth = sum(one.expected.net_value_minor or 0.0 for one in alone if one.action is not None)  # type: ignore[union-attr]
    assert plan.net_value_minor == pytest.approx(worth)


def test_what_is_scarce_goes_to_those_to_whom_it_is_worth_most(unlike):
    limit_sms(unlike, 20)
    works = of(unlike)
    made(unlike)
    worked_off(works)
    plan, found = loaded(unlike), contacts(unlike)
    by_sms = {one for one, channel in found.items() if channel == "sms"}
    assert len(by_sms) == 20
    # Prices are worked out at the beginning alone of so few: exactly the twenty who are worth most.
    assert by_sms == set(PEOPLE[-20:])
    assert plan.forecast is not None
    assert plan.forecast.contacts["sms"] == 20
    assert plan.forecast.net_value_minor == pytest.approx(plan.net_value_minor)
    assert plan.forecast.most_minor == pytest.approx(plan.forecast.net_value_minor)
    assert plan.shadow_prices["sms"] > 0
    assert "email" not in plan.shadow_prices
    first_come = [one for one in PEOPLE if one in by_sms]
    assert first_come != PEOPLE[:20]
    with unlike.engine.connect() as conn:
        kept = unlike.service().decider.recorded(decision_id_of("p1", PEOPLE[-1]))
        assert conn is not None
    assert kept.evidence.price_minor["sms"] == pytest.approx(
        kept.evidence.cost_minor["sms"] + plan.forecast.shadow_prices["sms"]
    )


def test_a_budget_is_never_exceeded_and_spent_on_what_it_is_worth_most_on(unlike):
    sms = 1.45
    unlike.campaign(policy=PolicyName.GREEDY, budget_minor=30 * sms)
    works = of(unlike)
    made(unlike)
    worked_off(works)
    plan, found = loaded(unlike), contacts(unlike)
    assert plan.cost_minor <= 30 * sms + 1e-6
    assert plan.cost_minor > 29 * sms
    assert plan.forecast is not None
    assert plan.net_value_minor == pytest.approx(plan.forecast.most_minor, rel=0.02)
    worth = {one: int(one[1:]) for one in found if found[one] == "sms"}
    assert min(worth.values()) > 100


def test_people_who_are_worth_the_same_still_use_what_is_left(market):
    market.customers(*PEOPLE)
    market.campaign(policy=PolicyName.GREEDY)
    limit_sms(market, 20)
    works = of(market)
    made(market)
    worked_off(works)
    assert Counter(contacts(market).values())["sms"] == 20


def test_holdout_and_control_take_what_they_take_anyway(unlike):
    unlike.campaign(
        policy=PolicyName.GREEDY,
        experiment=Experiment(experiment_id="spring", holdout_share=0.2, control_share=0.3),
    )
    works = of(unlike)
    made(unlike)
    worked_off(works)
    plan = loaded(unlike)
    found = contacts(unlike)
    assert plan.n_decided == 150
    assert 100 < len(found) < 140
    assert plan.forecast is not None
    assert plan.forecast.contacts == pytest.approx(dict(Counter(found.values())))


def test_a_forecast_records_nothing_and_waits_to_be_started(unlike):
    works = of(unlike)
    made(unlike, starts=False)
    worked_off(works)
    plan = loaded(unlike)
    assert plan.status is PlanStatus.READY
    assert plan.forecast is not None
    assert plan.n_decided == 0
    assert n_rows(unlike, decisions) == 0
    moved(unlike, PlanStatus.RUNNING)
    worked_off(works)
    assert loaded(unlike).status is PlanStatus.FINISHED
    assert len(contacts(unlike)) == 150


def test_a_paused_plan_goes_on_where_it_was_and_a_cancelled_one_does_not(unlike, monkeypatch):
    monkeypatch.setattr(runner, "LARGEST_GROUP", 20)
    works = of(unlike)
    made(unlike)
    for _ in range(3):  # the forecast and two turns
        works.work()
    assert moved(unlike, PlanStatus.PAUSED).status is PlanStatus.PAUSED
    works.work()  # hears of it at its end
    assert not works.work()
    paused = loaded(unlike)
    assert paused.n_decided == len(contacts(unlike)) == 60
    moved(unlike, PlanStatus.RUNNING)
    unlike.customers("c777")  # who has joined meanwhile belongs to it, unless their turn has been
    worked_off(works)
    done = loaded(unlike)
    assert done.status is PlanStatus.FINISHED
    assert done.n_decided == done.n_members == n_rows(unlike, decisions)
    assert done.n_decided in (150, 151)
    with pytest.raises(ConflictError):
        moved(unlike, PlanStatus.PAUSED)

    made(unlike, "p2")
    for _ in range(2):
        works.work()
    moved(unlike, PlanStatus.CANCELLED, "p2")
    worked_off(works)
    cancelled = loaded(unlike, "p2")
    assert cancelled.status is PlanStatus.CANCELLED
    assert cancelled.n_decided == 40
    with pytest.raises(ConflictError):
        moved(unlike, PlanStatus.RUNNING, "p2")


def test_after_a_crash_another_process_goes_on_and_counts_everybody_once(unlike, monkeypatch):
    monkeypatch.setattr(runner, "LARGEST_GROUP", 20)
    works, other, later = another(unlike), another(unlike), another(unlike, HELD_FOR * 2)
    made(unlike)
    for _ in range(3):
        works.work()

    def lost(*_args: object) -> None:
        raise StoreUnavailableError("gone")

    # The turn's decisions are recorded, and that they are is not.
    kept = runner.keep_progress
    monkeypatch.setattr(runner, "keep_progress", lost)
    with pytest.raises(StoreUnavailableError):
        works.work()
    monkeypatch.setattr(runner, "keep_progress", kept)
    assert loaded(unlike).n_decided == 40
    assert n_rows(unlike, decisions) == 60
    assert not other.work(), "it is held"
    worked_off(later)
    plan = loaded(unlike)
    assert plan.status is PlanStatus.FINISHED
    assert plan.n_decided == 150
    assert plan.contacts == Counter(contacts(unlike).values())
    # The first one was only asleep: it hears that the plan is not its own any more.
    assert not works.work() or not works.work()
    assert loaded(unlike) == plan


def test_what_was_recorded_and_not_counted_counts_at_the_prices_that_it_was_decided_at(unlike, monkeypatch):
    monkeypatch.setattr(runner, "LARGEST_GROUP", 20)
    monkeypatch.setattr(runner, "_REPRICED_AFTER", 40)
    limit_sms(unlike, 20)
    works, later = another(unlike), another(unlike, HELD_FOR * 2)
    made(unlike)
    for _ in range(3):
        works.work()

    def lost(*_args: object) -> None:
        raise StoreUnavailableError("gone")

    # Prices are worked out anew in the turn, and written; the turn's decisions are recorded, and that they are is not.
    kept, written = runner.keep_progress, iter((True, False))
    monkeypatch.setattr(
        runner, "keep_progress", lambda *given: kept(*given) if next(written) else lost(*given)
    )
    with pytest.raises(StoreUnavailableError):
        works.work()
    monkeypatch.setattr(runner, "keep_progress", kept)
    worked_off(later)
    plan, decider = loaded(unlike), later._decider
    assert plan.status is PlanStatus.FINISHED
    assert plan.shadow_prices
    worth = 0.0
    for one, channel in contacts(unlike).items():
        decision = decider.recorded(decision_id_of("p1", one))
        # Of this market attention has no price: what is left beside the cost is the shadow price.
        price = decision.evidence.price_minor[channel] - decision.evidence.cost_minor[channel]
        worth += (decision.expected.net_value_minor or 0.0) + price
    assert plan.net_value_minor == pytest.approx(worth, rel=1e-12)


@pytest.mark.parametrize("to", [PlanStatus.CANCELLED, PlanStatus.PAUSED])
def test_who_stops_a_plan_while_it_looks_at_people_has_nobody_decided_for(unlike, monkeypatch, to):
    works = of(unlike)
    made(unlike)
    if to is PlanStatus.PAUSED:  # one that goes on looks at those who are left
        works.work()
        works.stop()
    found = survey

    def stopped(*given: Any) -> Survey:
        if loaded(unlike).status is not to:
            moved(unlike, to)
        return found(*given)

    monkeypatch.setattr(runner, "survey", stopped)
    worked_off(works)
    assert loaded(unlike).status is to
    assert n_rows(unlike, decisions) == 0


def test_a_plan_can_be_started_while_its_forecast_is_being_made(unlike, monkeypatch):
    works = of(unlike)
    made(unlike, starts=False)
    found = survey

    def started(*given: Any) -> Survey:
        moved(unlike, PlanStatus.RUNNING)
        return found(*given)

    monkeypatch.setattr(runner, "survey", started)
    works.work()
    monkeypatch.setattr(runner, "survey", found)
    worked_off(works)
    assert loaded(unlike).status is PlanStatus.FINISHED
    assert len(contacts(unlike)) == 150


def test_a_turn_that_was_not_recorded_is_asked_for_again(unlike, monkeypatch):
    monkeypatch.setattr(runner, "LARGEST_GROUP", 20)
    works = of(unlike)
    made(unlike)
    for _ in range(2):
        works.work()

    def lost(*_args: object) -> None:
        raise StoreUnavailableError("gone")

    with monkeypatch.context() as away:
        away.setattr(works._decider, "decide_many", lost)
        with pytest.raises(StoreUnavailableError):
            works.work()
    worked_off(works)
    assert loaded(unlike).n_decided == 150
    assert len(contacts(unlike)) == 150


def test_two_processes_have_a_plan_each(unlike):
    made(unlike, "p1")
    made(unlike, "p2")
    with unlike.engine.begin() as conn:
        one = hold_one(conn, "a", unlike.now)
        other = hold_one(conn, "b", unlike.now)
        assert one is not None
        assert other is not None
        assert (one.plan_id, other.plan_id) == ("p1", "p2")
        assert hold_one(conn, "c", unlike.now) is None
        again = hold_one(conn, "a", unlike.now)
        assert again is not None
        assert again.plan_id == "p1"


def test_a_campaign_that_closes_fails_its_plan_with_words(unlike, monkeypatch):
    monkeypatch.setattr(runner, "LARGEST_GROUP", 20)
    works = of(unlike)
    made(unlike)
    for _ in range(2):
        works.work()
    unlike.now += timedelta(days=40)
    worked_off(works)
    plan = loaded(unlike)
    assert plan.status is PlanStatus.FAILED
    assert plan.n_decided == 20
    assert "send window" in str(plan.problem)
    unlike.campaign(
        policy=PolicyName.GREEDY,
        send_window=SendWindow(starts_at=unlike.now, ends_at=unlike.now + timedelta(days=9)),
    )
    works._snapshots.reload()
    moved(unlike, PlanStatus.RUNNING)
    worked_off(works)
    assert loaded(unlike).status is PlanStatus.FINISHED
    assert n_rows(unlike, decisions) == 150


def test_who_was_erased_meanwhile_is_a_problem_without_a_name(unlike):
    works = of(unlike)
    made(unlike)
    works.work()
    unlike.opened[0].eraser.erase("c010")
    worked_off(works)
    plan = loaded(unlike)
    assert (plan.status, plan.n_decided, plan.n_problems) == (PlanStatus.FINISHED, 150, 1)
    assert plan.problem == "Nothing is recorded under this id"
    with unlike.engine.connect() as conn:
        assert "c010" not in str(conn.execute(select(plans)).one())


def test_an_error_of_the_service_fails_the_plan_and_not_the_thread(unlike, monkeypatch):
    works = of(unlike)
    made(unlike)
    monkeypatch.setattr(runner, "survey", lambda *_: 1 / 0)
    worked_off(works)
    plan = loaded(unlike)
    assert plan.status is PlanStatus.FAILED
    assert plan.problem == "an error of the service; its log says which"
    monkeypatch.setattr(runner, "survey", survey)
    assert moved(unlike, PlanStatus.RUNNING).status is PlanStatus.FORECASTING
    worked_off(works)
    assert loaded(unlike).status is PlanStatus.FINISHED


def test_without_a_model_a_rule_decides_and_the_forecast_says_so(market):
    market.champion.model = None
    market.customers(*PEOPLE[:30])
    market.campaign()
    works = of(market)
    made(market)
    worked_off(works)
    plan = loaded(market)
    assert plan.status is PlanStatus.FINISHED
    assert plan.forecast is not None
    assert plan.forecast.net_value_minor is None
    assert plan.net_value_minor is None
    assert plan.forecast.contacts == plan.contacts == {"push": 30}


def test_a_rule_is_not_expected_to_send_more_than_there_is(market):
    market.champion.model = None
    market.customers(*PEOPLE)
    market.campaign()
    with market.engine.connect() as conn:
        push = load_channels(conn)["push"]
    market.channel(replace(push, capacity_per_day=30))
    works = of(market)
    made(market)
    worked_off(works)
    plan = loaded(market)
    assert plan.forecast is not None
    assert plan.forecast.contacts == {"push": pytest.approx(30.0)}
    # Who finds push closed is sent something else, which nobody knew from asking them one by one.
    assert plan.contacts["push"] == 30
    assert sum(plan.contacts.values()) == 150


def test_an_empty_audience_is_finished_at_once(market):
    market.campaign()
    works = of(market)
    made(market)
    worked_off(works)
    plan = loaded(market)
    assert (plan.status, plan.n_members, plan.contacts) == (PlanStatus.FINISHED, 0, {})


def test_a_survey_keeps_the_best_of_every_channel(unlike):
    service = unlike.service()
    (one,) = service.decider.decide_many(
        [DecisionRequest(campaign_id="spring", customer_id="c100", dry_run=True)], unlike.now
    )
    with unlike.engine.connect() as conn:
        campaign = load_campaign(conn, "spring")
    found: Survey = survey(campaign, [one])  # type: ignore[list-item]
    assert found.by_value.tolist() == [True]
    sms = CHANNELS.index("sms")
    best = max(
        value
        for index, value in one.evidence.net_value_minor.items()  # type: ignore[union-attr]
        if (axes := campaign.grid.unravel(index)) is not None and axes[1] == sms
    )
    assert found.value[0, sms] == best
    assert found.value[0, -1] == 0.0


@pytest.fixture
def api(unlike: Market) -> Any:
    unlike.campaign("second", policy=PolicyName.GREEDY)
    service = unlike.service(start=False)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        unlike.opened.remove(service)
        yield client


def until(api: TestClient, plan_id: str, *states: str) -> dict[str, Any]:
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        plan: dict[str, Any] = api.get(f"/v1/plans/{plan_id}").json()
        if plan["status"] in states:
            return plan
        time.sleep(0.02)
    raise AssertionError(plan)


def test_over_http_a_plan_is_made_looked_at_started_and_listed(api):
    tags = [{"customer_id": one, "tag": "vip", "source": "crm"} for one in PEOPLE[:140]]
    api.post("/v1/tags", json={"tags": tags})
    api.put("/v1/segments/best", json={"condition": {"tag": "vip"}})
    posted = {"campaign_id": "spring", "segment": "best", "start": False}
    answer = api.post("/v1/plans", json=posted, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 202, answer.text
    plan_id = answer.json()["plan_id"]
    assert api.post("/v1/plans", json=posted, headers={"Idempotency-Key": "k"}).json()["plan_id"] == plan_id
    ready = until(api, plan_id, "ready")
    assert ready["forecast"]["n_members"] == 140
    assert sum(ready["forecast"]["contacts"].values()) == 140
    assert api.post(f"/v1/plans/{plan_id}/pause").status_code == 409
    api.post(f"/v1/plans/{plan_id}/start")
    done = until(api, plan_id, "finished")
    assert done["n_decided"] == 140
    assert sum(done["contacts"].values()) == 140
    listed = api.get("/v1/decisions", params={"campaign_id": "spring", "limit": 200}).json()["decisions"]
    assert {one["customer_id"] for one in listed} == set(PEOPLE[:140])
    other = api.post("/v1/plans", json={"campaign_id": "spring", "segment": "best"}).json()["plan_id"]
    until(api, other, "finished")
    first = api.get("/v1/plans", params={"limit": 1}).json()
    second = api.get("/v1/plans", params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert {first["plans"][0]["plan_id"], second["plans"][0]["plan_id"]} == {plan_id, other}
    assert second["next_cursor"] is None


def test_one_campaign_only_after_another_as_the_page_says(api, unlike):
    (document,) = re.findall(
        r"^```json\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    facts = [
        {
            "source": "test",
            "event_id": f"{kind}-{one}",
            "customer_id": one,
            "kind": kind,
            "campaign_id": "spring",
            "channel": "email",
            "occurred_at": (unlike.now - timedelta(days=3)).isoformat(),
        }
        for kind, some in (("sent", PEOPLE[:20]), ("complained", PEOPLE[15:20]))
        for one in some
    ]
    assert api.post("/v1/interactions", json={"interactions": facts}).status_code == 200
    assert api.put("/v1/segments/after_spring", json=json.loads(document)).status_code == 200
    posted = {"campaign_id": "second", "segment": "after_spring"}
    answer = api.post("/v1/plans", json=posted)
    assert answer.status_code == 202, answer.text
    done = until(api, answer.json()["plan_id"], "finished")
    assert done["n_members"] == done["n_decided"] == 15
    with unlike.engine.connect() as conn:
        people = conn.scalars(select(decisions.c.customer_id).where(decisions.c.campaign_id == "second"))
        assert set(people) == set(PEOPLE[:15])


@pytest.mark.parametrize(
    ("posted", "status", "field"),
    [
        ({"campaign_id": "nowhere"}, 404, "campaign_id"),
        ({"campaign_id": "spring", "segment": "nobody"}, 404, "segment"),
        ({"campaign_id": "spring", "segment": "no spaces"}, 422, "segment"),
        ({"campaign_id": "spring", "start": "yes"}, 422, "start"),
        ({"campaign_id": "spring", "color": 1}, 422, "color"),
        ({}, 422, "campaign_id"),
    ],
)
def test_a_wrong_plan_is_refused_by_field_and_nothing_is_kept(api, unlike, posted, status, field):
    answer = api.post("/v1/plans", json=posted)
    assert answer.status_code == status
    assert field in answer.text
    assert n_rows(unlike, plans) == 0


def test_an_unknown_plan_is_not_found(api):
    nowhere = "01a2019c-ff02-74e0-82f9-fc1c4292b790"
    assert api.get(f"/v1/plans/{nowhere}").status_code == 404
    for verb in ("start", "pause", "cancel"):
        assert api.post(f"/v1/plans/{nowhere}/{verb}").status_code == 404
    assert api.get("/v1/plans/p1").status_code == 422
    assert api.get("/v1/plans", params={"cursor": "WyJ4Il0"}).status_code == 404

"""Where customers stand, how they move on, and what came of messages by stage: figures worked by hand, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from features.definitions import FEATURES
from features.history.append import append_interactions
from features.history.lifecycle import (
    LAPSED_AFTER_DAYS,
    Lifecycle,
    LifecycleStage,
    LifecycleStep,
    PurchaseKind,
    stage_arms,
    stage_funnel,
    standing,
)
from features.history.members import merge
from features.history.report import FunnelRow, customer_sums, funnel
from features.history.rewards import settle_rewards
from models.domain.campaign import PolicyName
from models.domain.experiment import Experiment
from models.domain.interaction import Interaction, InteractionKind
from serving.request import DecisionRequest
from tests.integration.conftest import NOW
from tests.integration.test_dashboard import Pages

USUAL = Lifecycle()
ONE_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture
def pages(market) -> Iterator[Pages]:
    opened = Pages(market)
    yield opened
    opened.close()


def did(market, customer_id: str, kind: str, days: float, **more: object) -> None:
    """A fact of so many days before now."""
    about = {"source": "shop", "event_id": f"{customer_id}-{kind}-{days}-{more}", "customer_id": customer_id}
    at = market.now - timedelta(days=days)
    fact = Interaction(kind=InteractionKind(kind), occurred_at=at, **about | more)
    with market.engine.begin() as conn:
        append_interactions(conn, [fact], market.now)


@pytest.fixture
def town(market):
    """Ten customers, each with the days before now on which they did something.

    Entered by a visit: val (100, never registers), new (5), reg (50, registers 9.5 days later), two (90, 9.5 days later).
    Entered by a registration: reg (40.5), one (100, purchases 39.5 days later), two (80.5, purchases 9.5 days later), and
    old (400) where one looks so far back. Guest purchased first and registered then.
    Entered by a purchase: one (60.5), two (71, again 20.5 days later), guest (20).
    """
    market.customers("nobody", "val", "new", "reg", "one", "two", "old", "bot", "guest", "silent")
    for customer_id, kind, days in (
        ("val", "visited", 100), ("new", "viewed", 5), ("reg", "carted", 50), ("reg", "registered", 40.5),
        ("one", "registered", 100), ("one", "purchased", 60.5), ("two", "visited", 90), ("two", "registered", 80.5),
        ("two", "purchased", 71), ("two", "purchased", 50.5), ("old", "registered", 400), ("guest", "purchased", 20),
        ("guest", "registered", 10), ("silent", "sent", 3),
    ):  # fmt: skip
        did(market, customer_id, kind, days)
    did(market, "one", "purchased", 60.5, value_minor=1.0)  # another line of the same receipt
    did(market, "bot", "registered", 30, machine_made=True)
    return market


def stood(market, lifecycle: Lifecycle = USUAL, as_of: datetime | None = None, within_days: int = 365):
    with market.engine.connect() as conn:
        return standing(conn, lifecycle, as_of or market.now, within_days)


def counts(**n: int) -> dict[LifecycleStage, int]:
    return dict.fromkeys(LifecycleStage, 0) | {LifecycleStage(name): each for name, each in n.items()}


def rows(found, step: str) -> list[tuple[int, bool, int]]:
    return sorted((row.day, row.moved, row.n) for row in found.steps[LifecycleStep(step)])


def test_everybody_is_in_the_last_stage_that_fits(town):
    # Visitors: nobody, val, new, bot (a machine registered), silent (was only written to).
    assert stood(town).stages == counts(visitor=5, registered=1, first_purchase=2, repeat=1, lapsed=1)
    soon = stood(town, Lifecycle(lapsed_after_days=30)).stages
    # Only guest and new did anything in the last 30 days.
    assert soon == counts(visitor=4, first_purchase=1, lapsed=5)


def test_a_stage_is_that_of_the_facts_before_the_moment(town):
    then = stood(town, as_of=town.now - timedelta(days=50.5))
    # At that very moment `two` purchases again, which is not before it; `reg`, `guest` and `new` have not come yet.
    assert then.stages == counts(visitor=7, registered=1, first_purchase=2)
    later = stood(town, as_of=town.now - timedelta(days=50))
    assert later.stages[LifecycleStage.REPEAT] == 1


def test_steps_are_counted_by_whole_days(town):
    found = stood(town)
    # 9.5 days are within the 10th; val and new are watched.
    assert rows(found, "registration") == [(5, False, 1), (10, True, 2), (100, False, 1)]
    # reg is watched for 40 whole days; one purchased 39.5 days after registering, two 9.5.
    assert rows(found, "first_purchase") == [(10, True, 1), (40, False, 1), (40, True, 1)]
    assert rows(found, "second_purchase") == [(20, False, 1), (21, True, 1), (60, False, 1)]
    longer = stood(town, within_days=1_000)
    assert rows(longer, "first_purchase") == [(10, True, 1), (40, False, 1), (40, True, 1), (400, False, 1)]
    assert rows(stood(town, within_days=30), "first_purchase") == []


def test_a_move_in_the_day_that_is_under_way_does_not_count_yet(town):
    town.customers("quick")
    did(town, "quick", "registered", 3.4)
    did(town, "quick", "purchased", 0.2)  # 3.2 days later; only three whole days are known
    assert (3, False, 1) in rows(stood(town), "first_purchase")


def test_conversions_can_be_the_purchases(town):
    did(town, "val", "converted", 20)
    did(town, "val", "converted", 10)
    assert stood(town).stages[LifecycleStage.REPEAT] == 1
    found = stood(town, Lifecycle(purchase=PurchaseKind.CONVERTED))
    assert found.stages == counts(visitor=4, registered=4, repeat=1, lapsed=1)
    assert rows(found, "second_purchase") == [(11, True, 1)]


def test_two_customers_who_were_merged_are_one(town):
    """Val's visit and reg's registration are one person's, 59.5 days apart."""
    with town.engine.begin() as conn:
        merge(conn, "reg", "val", town.now)
    found = stood(town)
    assert found.stages == counts(visitor=4, registered=1, first_purchase=2, repeat=1, lapsed=1)
    assert rows(found, "registration") == [(5, False, 1), (10, True, 1), (60, True, 1)]


@pytest.fixture
def spring(town):
    """200 more: half registered 20 days ago, of whom half purchased 10 days ago; all are decided for today, and 50 again later."""
    people = [f"c{i:03d}" for i in range(200)]
    town.customers(*people)
    for i, person in enumerate(people):
        if i % 2:
            did(town, person, "registered", 20)
        if i % 4 == 3:
            did(town, person, "purchased", 10)
    town.campaign(
        policy=PolicyName.GREEDY,
        experiment=Experiment(experiment_id="s", holdout_share=0.3, control_share=0.2),
    )
    service = town.service()

    def decide(who: list[str]):
        asked = [DecisionRequest(customer_id=person, campaign_id="spring") for person in who]
        return service.decider.decide_many(asked, town.now)

    first = decide(people)
    town.now += timedelta(days=1)
    for i, decision in enumerate(first):
        about = {"decision_id": decision.decision_id} if decision.action else {"campaign_id": "spring"}
        if i % 5 == 0:
            did(town, decision.customer_id, "converted", 0.1, value_minor=1_000.0, **about)
        if i % 4 == 0:
            did(town, decision.customer_id, "purchased", 0.05)
    second = decide(people[:50])
    town.now += timedelta(days=2)
    with town.engine.begin() as conn:
        settle_rewards(conn, town.now)
    return first, second


def stage_before(i: int, *, later: bool) -> LifecycleStage:
    if i % 4 == 3 or (later and i % 4 == 0):
        return LifecycleStage.FIRST_PURCHASE
    return LifecycleStage.REGISTERED if i % 2 else LifecycleStage.VISITOR


def test_messages_are_told_apart_by_the_stage_before_each_decision(town, spring):
    with town.engine.connect() as conn:
        found = stage_funnel(conn, USUAL, "spring", NOW)
        whole = {row.channel: row for row in funnel(conn, "spring")}
    planned: dict[tuple[str, str], int] = {}
    for made, later in zip(spring, (False, True), strict=True):
        for i, decision in enumerate(made):
            if decision.action:
                key = (stage_before(i, later=later), decision.action.channel)
                planned[key] = planned.get(key, 0) + 1
    assert {(row.stage, row.funnel.channel): row.funnel.planned for row in found} == planned
    assert len({row.stage for row in found}) == 3
    # Stages are parts of the funnel of the report.
    for channel, row in whole.items():
        parts = [each.funnel for each in found if each.funnel.channel == channel]
        for name in ("planned", "sent", "converted", "cost_minor", "net_value_minor"):
            assert sum(getattr(part, name) for part in parts) == pytest.approx(getattr(row, name)), name
        assert all(isinstance(part, FunnelRow) for part in parts)


def test_arms_are_told_apart_by_the_stage_before_the_first_decision(town, spring):
    first, second = spring
    with town.engine.connect() as conn:
        found = stage_arms(conn, USUAL, "spring", NOW)
        whole = customer_sums(conn, "spring").arms
    for arm, sums in whole.items():
        parts = [arms[arm] for arms in found.values() if arm in arms]
        assert sum(part.n_customers for part in parts) == sums.n_customers
        assert sum(part.net_value_minor for part in parts) == pytest.approx(sums.net_value_minor)
    for stage in (LifecycleStage.VISITOR, LifecycleStage.REGISTERED, LifecycleStage.FIRST_PURCHASE):
        for arm, sums in found[stage].items():
            mine = [
                i for i, one in enumerate(first) if one.arm == arm and stage_before(i, later=False) == stage
            ]
            assert sums.n_customers == len(mine)
            assert sums.n_decisions == len(mine) + sum(i < len(second) for i in mine)
            assert sums.n_converted == sum(i % 5 == 0 for i in mine)


def test_decisions_before_the_days_that_are_asked_for_are_left_out(pages, town, spring):
    """The first 200 decisions are three days old, the next 50 two days."""
    answer = pages.get("/v1/lifecycle/channels", params={"campaign_id": "spring", "within_days": 2}).json()
    contacts = sum(decision.action is not None for decision in spring[1])
    assert sum(row["figures"]["planned"] for row in answer["channels"]) == contacts
    assert answer["arms"] == []


def test_the_api_gives_shares_medians_rates_and_differences(pages, town, spring):
    whole = pages.get("/v1/lifecycle", params={"within_days": 1_000}).json()
    assert sum(one["n_customers"] for one in whole["stages"]) == 210
    registration = whole["steps"][0]
    assert (registration["step"], registration["n_entered"], registration["median_days"]) == (
        "registration", 4, 10,
    )  # fmt: skip
    thirty, ninety = registration["within"]
    # By day 10 two of three who were watched; new was watched for eight days.
    assert (thirty["day"], thirty["n_at_risk"], thirty["share"]["value"]) == (30, 1, pytest.approx(2 / 3))
    assert 0 < thirty["share"]["low"] < 2 / 3 < thirty["share"]["high"] < 1
    assert ninety["n_at_risk"] == 1
    by_channel = pages.get("/v1/lifecycle/channels", params={"campaign_id": "spring"}).json()
    assert by_channel["up_to_date"]
    for row in by_channel["channels"]:
        figures, rates = row["figures"], row["rates"]
        assert rates["converted"]["value"] == pytest.approx(figures["converted"] / figures["planned"])
        assert rates["converted"]["low"] <= rates["converted"]["value"] <= rates["converted"]["high"]
    for stage in by_channel["arms"]:
        means = {arm["arm"]: arm["mean_minor"] for arm in stage["arms"]}
        for one in stage["differences"]:
            raw = means[one["arm"]] - means[one["other"]]
            assert one["unadjusted"]["value"] == pytest.approx(raw)
            assert one["difference"]["always_low"] < one["difference"]["low"]
        assert {(one["arm"], one["other"]) for one in stage["differences"]} == {
            ("treatment", "holdout"), ("treatment", "control"), ("control", "holdout"),
        }  # fmt: skip


def test_erasing_somebody_takes_them_out_of_the_stages_and_leaves_the_steps(pages, town):
    before = pages.get("/v1/lifecycle").json()
    assert pages.post("/v1/customers/two/erase").status_code == 200
    after = pages.get("/v1/lifecycle").json()
    assert {one["stage"]: one["n_customers"] for one in after["stages"]} == {
        one["stage"]: one["n_customers"] - (one["stage"] == "repeat") for one in before["stages"]
    }
    assert after["steps"] == before["steps"]


@ONE_SQLITE
@pytest.mark.parametrize(
    "query",
    ["?as_of=yesterday", "?within_days=0", "?within_days=9999", "?lapsed_after_days=0", "?purchase=opened",
     "/channels", "/channels?campaign_id=spring&lapsed_after_days=x"],
)  # fmt: skip
def test_wrong_input_is_refused(pages, query):
    answer = pages.get(f"/v1/lifecycle{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


@ONE_SQLITE
def test_an_unknown_campaign_is_not_found(pages):
    assert pages.get("/v1/lifecycle/channels?campaign_id=autumn").status_code == 404
    page = pages.get("/lifecycle?campaign=autumn")
    assert page.status_code == 404
    assert "Nothing is recorded under this id" in page.text


@ONE_SQLITE
def test_the_page_shows_the_figures(pages, town, spring):
    html = pages.get("/lifecycle?campaign=spring").text
    assert html.count('<svg class="steps"') == 3
    assert html.count('<svg class="whole"') == 1
    assert html.count('<svg class="forest"') == 2
    assert "They are not what the channels cause" in html
    whole = pages.get("/v1/lifecycle").json()
    for one in whole["stages"]:
        assert f'<td class="number">{one["n_customers"]}</td>' in html
    for step in whole["steps"]:
        assert f"{step['n_entered']} entered" in html
    by_channel = pages.get("/v1/lifecycle/channels?campaign_id=spring").json()
    for one in by_channel["arms"]:
        assert one["verdict"] in html
    for row in by_channel["channels"]:
        assert f'<td class="number">{row["figures"]["planned"]}</td>' in html
    assert 'href="/lifecycle"' in pages.get("/plans").text


@ONE_SQLITE
def test_an_installation_with_nobody_has_a_page(pages):
    html = pages.get("/lifecycle").text
    assert "Nobody is known yet" in html
    assert html.count("Nobody has been followed for a day") == 3


@ONE_SQLITE
def test_a_campaign_that_has_decided_nothing_has_a_page(pages, town):
    town.campaign()
    assert "Choose a campaign" in pages.get("/lifecycle").text
    html = pages.get("/lifecycle?campaign=spring").text
    assert "No contact has been decided on yet" in html
    assert "Nobody has been decided for yet" in html


def test_a_simulated_campaign_is_called_simulated(pages, market, town):
    for name in ("real", "played"):
        market.campaign(name, simulated=name == "played")
    for name, simulated in (("real", False), ("played", True)):
        told = pages.get(f"/v1/lifecycle/channels?campaign_id={name}").json()
        assert told["simulated"] is simulated
        assert ("badge simulated" in pages.get(f"/lifecycle?campaign={name}").text) is simulated


def test_a_customer_lapses_after_as_long_as_the_feature_calls_them_lost_after():
    (stage,) = (each.formula for each in FEATURES if each.name == "lifecycle_stage")
    assert stage.fading_days == LAPSED_AFTER_DAYS

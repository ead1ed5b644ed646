"""Requests that come by themselves over the day: what is scarce is kept for those to whom it is worth most."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from features.history.tables import asks, decisions, resource_usage
from models.domain.action import ReasonCode
from models.domain.campaign import Campaign, PolicyName, QuietHours, SendWindow
from models.domain.decision import Decision
from models.domain.errors import StoreUnavailableError
from models.domain.experiment import Experiment
from serving.app import create_app
from serving.bootstrap import build
from serving.money import Currency
from serving.pacing import pacing
from serving.pacing.pacing import Pacing
from serving.plans.plan import Plan, PlanStatus
from serving.plans.store import add_plan
from serving.request import DecisionRequest
from serving.service import Service
from serving.simulate import Overrides, simulate
from tests.integration.conftest import Market, Unlike, WorthByAge, limit_sms

# Days of requests take a while, and what they are about is the same on both databases.
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
PAGE = Path(__file__).parents[2] / "docs/how-to/share-what-is-scarce.md"
PEOPLE = [f"c{number:03}" for number in range(120)]
N_SMS = 12


@dataclass
class Days:
    """Days of an installation: everybody asks once a day, in an order of the day's own."""

    market: Market
    service: Service

    @property
    def pacing(self) -> Pacing:
        assert self.service.pacing is not None
        return self.service.pacing

    def play(self, order: Iterable[str], turns: int = 5, **asked: Any) -> list[Decision]:
        """A day from 01:00 to 23:00 UTC; prices are worked out after so many requests."""
        found, ids = [], list(order)
        began = self.market.now.replace(hour=1, minute=0)
        for number, customer_id in enumerate(ids):
            self.market.now = began + timedelta(hours=22) * number / len(ids)
            if number % turns == 0:
                self.pacing.work()
            request = DecisionRequest(customer_id=customer_id, **({"campaign_id": "spring"} | asked))
            found.append(self.service.decider.decide(request, self.market.now))
        self.pacing.work()
        self.market.now = began + timedelta(days=1)
        return found


def shuffled(day: int) -> list[str]:
    return [PEOPLE[at] for at in np.random.default_rng(day).permutation(len(PEOPLE))]


def by_sms(decided: Iterable[Decision]) -> list[Decision]:
    return [one for one in decided if one.action is not None and one.action.channel == "sms"]


def worth(decided: Iterable[Decision]) -> float:
    """Expected of what was decided, without what scarcity makes it worth."""
    gained = 0.0
    for one in decided:
        if one.action is not None:
            uplift = one.expected.uplift
            assert uplift is not None
            gained += 3_000.0 * uplift - one.expected.cost_minor
    return gained


@pytest.fixture
def days(market: Market) -> Days:
    """120 people who are worth differently much by SMS, of which there are 12 a day."""
    market.features = Unlike()
    assert market.champion.model is not None
    market.champion.model = replace(market.champion.model, response=WorthByAge())
    market.customers(*PEOPLE)
    campaign(market)
    limit_sms(market, N_SMS)
    return Days(market, market.service())


def campaign(market: Market, campaign_id: str = "spring", **changes: Any) -> Campaign:
    """Whatever is asked within a UTC day goes out at its end."""
    plain = {
        "policy": PolicyName.GREEDY,
        "slots": (time(7, 30),),
        "quiet_hours": QuietHours(start=time(0), end=time(0)),
    }
    return market.campaign(campaign_id, **(plain | changes))


def n_asks(market: Market) -> int:
    with market.engine.connect() as conn:
        return int(conn.execute(select(func.coalesce(func.sum(asks.c.n), 0))).scalar_one())


def test_what_is_scarce_is_kept_for_those_who_are_still_to_come(days):
    first = days.play(shuffled(1))
    # Nobody is expected on the first day: it goes to whoever asks first.
    assert len(by_sms(first)) == N_SMS
    assert all(one.evidence.price_minor["sms"] == one.evidence.cost_minor["sms"] for one in first)
    days.play(shuffled(2))
    third = days.play(shuffled(3))
    chosen = {one.customer_id for one in by_sms(third)}
    assert 0.9 * N_SMS <= len(chosen) <= N_SMS
    best = sorted(third, key=lambda one: one.customer_id)[-N_SMS:]
    assert len(chosen & {one.customer_id for one in best}) >= 0.75 * N_SMS
    assert worth(third) > 1.15 * worth(first)
    assert n_asks(days.market) == 360


@on_sqlite
def test_a_decision_says_the_price_that_it_was_taken_at_and_is_replayed_with_it(days):
    days.play(shuffled(1))
    days.play(shuffled(2))
    price = days.pacing.prices_of("spring")["sms"]
    assert price > 0
    assert "email" not in days.pacing.prices_of("spring")
    request = DecisionRequest(campaign_id="spring", customer_id="c119")
    decided = days.service.decider.decide(request, days.market.now)
    kept = days.service.decider.recorded(decided.decision_id)
    assert kept.evidence.price_minor["sms"] == pytest.approx(kept.evidence.cost_minor["sms"] + price)
    uplift = kept.expected.uplift
    assert uplift is not None
    assert kept.expected.net_value_minor == pytest.approx(3_000.0 * uplift - kept.expected.cost_minor - price)
    # Somebody who is worth less by SMS than it is worth to others is told so.
    other = days.service.decider.decide(replace(request, customer_id="c050"), days.market.now)
    assert other.action is not None
    assert other.action.channel == "email"
    api = TestClient(create_app(days.service))
    told = api.get(f"/v1/decisions/{other.decision_id}").json()
    assert told["scarce"] == [{"channel": "sms", "shadow_price_minor": pytest.approx(price)}]
    (sentence,) = told["told"]["scarce"]
    assert sentence == (
        f"Messages by SMS were scarce: room for one more was worth {Currency().words(price)} to others, which is taken off "
        "here, beside the cost."
    )
    assert sentence in api.get(f"/decisions/{other.decision_id}").text
    with days.market.engine.connect() as conn:
        written = dict(conn.execute(select(decisions.c.decision_id, decisions.c.shadow_prices)).all())
    assert orjson.loads(written[decided.decision_id]) == {"sms": pytest.approx(price)}
    assert any(prices is None for prices in written.values())  # of the first day
    # What might have been is asked at the prices of the moment.
    compared = simulate(
        days.service.decider,
        days.service.snapshots.current,
        replace(request, dry_run=True),
        Overrides(),
        days.market.now,
        decided.decision_id,
    )
    assert compared.changed == ()
    assert compared.base.evidence.price_minor == kept.evidence.price_minor


@on_sqlite
def test_a_budget_lasts_until_the_campaign_closes(days):
    limit_sms(days.market, None)
    now, cost = days.market.now, 1.45
    closes = (now + timedelta(days=5)).replace(hour=0)
    window = SendWindow(starts_at=now - timedelta(days=1), ends_at=closes)
    campaign(days.market, send_window=window, budget_minor=1e6)
    days.service.snapshots.reload()
    days.play(shuffled(1))
    # From the second day on there is money for twelve SMS on each of the four days that are left.
    budget = 4 * N_SMS * cost
    with days.market.engine.begin() as conn:
        spent = conn.execute(select(resource_usage.c.used)).scalar_one()
    campaign(days.market, send_window=window, budget_minor=spent + budget)
    days.service.snapshots.reload()
    n_each_day = [len(by_sms(days.play(shuffled(day)))) for day in range(2, 6)]
    assert sum(n_each_day) >= 0.85 * 4 * N_SMS
    assert min(n_each_day) >= 0.6 * N_SMS
    assert max(n_each_day) <= 1.4 * N_SMS
    with days.market.engine.begin() as conn:
        assert conn.execute(select(resource_usage.c.used)).scalar_one() <= spent + budget + 1e-6


@on_sqlite
def test_who_brings_prices_or_only_looks_is_not_expected_again(days):
    days.pacing.work()
    days.play(PEOPLE[:20], dry_run=True)
    days.play(PEOPLE[:20], shadow_prices=())
    assert n_asks(days.market) == 0
    now = days.market.now
    with days.market.engine.begin() as conn:
        plan = Plan(
            plan_id="p1", campaign_id="spring", segment=None, starts=True,
            status=PlanStatus.FORECASTING, created_at=now,
        )  # fmt: skip
        add_plan(conn, plan)
    days.service.plans.stop()
    while days.service.plans.work():
        pass
    days.pacing.work()
    assert n_asks(days.market) == 0
    days.play(PEOPLE[:20])
    assert n_asks(days.market) == 20


@on_sqlite
def test_prices_do_not_change_what_a_plan_decides_at(days):
    days.play(shuffled(1))
    days.play(shuffled(2))
    assert days.pacing.prices_of("spring")["sms"] > 0
    for given, price in (((), 0.0), ((("sms", 2.5),), 2.5)):
        request = DecisionRequest(campaign_id="spring", customer_id="c001", dry_run=True, shadow_prices=given)
        decided = days.service.decider.decide(request, days.market.now)
        rest = decided.evidence.price_minor["sms"] - decided.evidence.cost_minor["sms"]
        assert rest == pytest.approx(price)


def test_where_nothing_can_run_out_nothing_is_counted(days):
    limit_sms(days.market, None)
    days.service.snapshots.reload()
    days.play(PEOPLE)
    assert n_asks(days.market) == 0
    assert days.pacing.current is not None
    assert days.pacing.current.prices == {}
    assert days.pacing.current.scarce == ()


def test_several_processes_and_one_that_was_started_again_have_the_same_prices(days):
    days.play(shuffled(1))
    days.play(shuffled(2))
    days.pacing.work()
    mine = days.pacing.current
    other = Pacing(days.market.engine, days.service.snapshots, lambda: days.market.now)
    other.work()
    assert other.current == mine
    assert mine is not None
    assert mine.prices["spring"]["sms"] > 0
    assert mine.n_expected["spring"] == pytest.approx(240, rel=0.1)


@on_sqlite
def test_prices_that_cannot_be_worked_out_anew_hold_for_a_while(days, monkeypatch):
    days.play(shuffled(1))
    days.play(shuffled(2))
    assert days.pacing.prices_of("spring")["sms"] > 0

    def unreachable(*_: object) -> None:
        raise StoreUnavailableError("gone")

    monkeypatch.setattr(pacing, "_left", unreachable)
    with pytest.raises(StoreUnavailableError):
        days.pacing.work()
    assert days.pacing.prices_of("spring")["sms"] > 0
    monkeypatch.setattr(pacing, "_HOLDS_SECONDS", 0.0)
    assert days.pacing.prices_of("spring") == {}
    monkeypatch.undo()
    days.pacing.work()
    assert days.pacing.prices_of("spring")["sms"] > 0


@on_sqlite
def test_what_nobody_looks_back_upon_is_deleted(days):
    days.play(PEOPLE[:30])
    days.market.now += timedelta(days=9)
    days.pacing.work()
    assert n_asks(days.market) == 0
    days.play(PEOPLE[:10])
    assert n_asks(days.market) == 10


def test_of_many_requests_some_are_looked_at_and_stand_for_all(days):
    days.pacing.work()
    now = days.market.now
    requests = [
        DecisionRequest(campaign_id="spring", customer_id=PEOPLE[number % len(PEOPLE)])
        for number in range(1_000)
    ]
    days.service.decider.decide_many(requests, now)
    days.pacing.work()
    with days.market.engine.connect() as conn:
        rows = conn.execute(select(asks.c.n)).scalars().all()
    assert 900 < sum(rows) <= 1_000
    # Each of the first sixty-four, and of those after them fewer and fewer.
    assert 64 * (1 + np.log(1_000 / 64)) == pytest.approx(len(rows), rel=0.15)
    assert max(rows) == pytest.approx(1_000 / 64, abs=2)


@on_sqlite
def test_the_holdout_is_counted_and_given_nothing_and_a_rule_takes_what_it_takes(days):
    half = Experiment(experiment_id="e", holdout_share=0.3, control_share=0.3)
    campaign(days.market, experiment=half, control_policy=PolicyName.CHEAPEST_FIRST)
    days.service.snapshots.reload()
    days.play(shuffled(1))
    days.play(shuffled(2))
    assert n_asks(days.market) == 240
    with days.market.engine.connect() as conn:
        found = conn.execute(select(asks.c.options)).scalars().all()
    nothing = sum(not options for options in found)
    assert nothing == pytest.approx(0.3 * 240, rel=0.3)
    ruled = [options for options in found if options and options[0][3] is None]
    assert len(ruled) == pytest.approx(0.3 * 240, rel=0.3)
    assert all(sum(option[4] for option in options) == pytest.approx(1.0) for options in ruled)


@on_sqlite
def test_campaigns_that_are_asked_together_count_once(days):
    campaign(days.market, "autumn")
    days.service.snapshots.reload()
    both = {"campaign_id": None, "campaigns": ("spring", "autumn")}
    days.play(shuffled(1), **both)
    days.play(shuffled(2), **both)
    third = days.play(shuffled(3), **both)
    assert n_asks(days.market) == 360
    assert 0.9 * N_SMS <= len(by_sms(third)) <= N_SMS
    now = days.pacing.current
    assert now is not None
    assert now.n_expected["spring"] == now.n_expected["autumn"]
    assert now.prices["spring"] == pytest.approx(now.prices["autumn"])


def test_a_channel_whose_day_is_full_is_open_to_messages_of_another_day(days):
    # At 22:00 UTC the slot of 07:30 in Taipei is still today's, at 23:45 tomorrow's.
    limit_sms(days.market, 1)
    days.service.snapshots.reload()
    midnight = days.market.now.replace(hour=0, minute=0)

    def asked(customer_id: str, at: datetime) -> Decision:
        request = DecisionRequest(campaign_id="spring", customer_id=customer_id)
        return days.service.decider.decide(request, at)

    early, late = midnight + timedelta(hours=22), midnight + timedelta(hours=23, minutes=45)
    assert len(by_sms([asked("c119", early)])) == 1
    refused = asked("c118", early)
    assert not by_sms([refused])
    assert ReasonCode.CAPACITY_EXHAUSTED in {one.reason for one in refused.exclusions}
    (tomorrow,) = by_sms([asked("c118", late)])
    assert tomorrow.action is not None
    assert tomorrow.action.send_at.astimezone(UTC).date() == (midnight + timedelta(days=1)).date()
    assert not by_sms([asked("c117", late)])


@on_sqlite
def test_the_interface_and_the_page_say_what_is_scarce(days):
    api = TestClient(create_app(days.service))
    nothing = api.get("/v1/shadow-prices").json()
    assert nothing == {"paced": True, "as_of": None, "n_expected": {}, "scarce": [], "prices": {}}
    assert "What is scarce" not in api.get("/?campaign=spring").text
    days.play(PEOPLE[:5])
    assert "it shows after a campaign's first day" in api.get("/?campaign=spring").text
    days.play(shuffled(1))
    days.play(shuffled(2))
    answered = api.get("/v1/shadow-prices").json()
    page = PAGE.read_text(encoding="utf-8")
    for name in ("n_expected", "scarce", "prices"):
        assert f"`{name}`" in page
    price = answered["prices"]["spring"]["sms"]
    assert price > 0
    today, tomorrow = answered["scarce"]
    assert (today["channel"], today["campaign_id"], today["day"]) == ("sms", None, "2026-03-03")
    assert (tomorrow["left"], tomorrow["day"]) == (N_SMS, "2026-03-04")
    shown = api.get("/?campaign=spring").text
    assert "What is scarce" in shown
    assert Currency().words(price) in shown
    assert f"{N_SMS} on 2026-03-04" in shown
    assert 'nextchannel_shadow_price_minor{campaign="spring",channel="sms"}' in api.get("/metrics").text


def test_without_pacing_whoever_asks_first_is_served_first(config, tmp_path):
    service = build(replace(config, paced=False, run_dispatcher=False))
    try:
        assert service.pacing is None
        api = TestClient(create_app(service))
        assert api.get("/v1/shadow-prices").json()["paced"] is False
    finally:
        service.engine.dispose()

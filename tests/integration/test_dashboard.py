from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from time import monotonic, sleep
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from features.history.append import append_interactions
from features.history.report import customer_sums
from features.history.sole import sole_holder
from models.domain.campaign import PolicyName
from models.domain.channel import DEFAULT_CHANNELS
from models.domain.experiment import Experiment
from models.domain.interaction import Interaction, InteractionKind
from serving.app import create_app
from serving.request import DecisionRequest

PEOPLE = [f"c{i:03d}" for i in range(200)]
SPLIT = Experiment(experiment_id="spring", holdout_share=0.3, control_share=0.2)


class Pages:
    """A client of the application, which starts with the first request: the market is furnished by then."""

    def __init__(self, market) -> None:
        self._market = market
        self._stack = ExitStack()

    @cached_property
    def client(self) -> TestClient:
        service = self._market.service(start=False)
        self._market.opened.remove(service)  # the application's lifespan stops it
        return self._stack.enter_context(TestClient(create_app(service)))

    def get(self, address: str, **more: Any) -> httpx.Response:
        return self.client.get(address, **more)

    def post(self, address: str, **more: Any) -> httpx.Response:
        return self.client.post(address, **more)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def pages(market) -> Iterator[Pages]:
    opened = Pages(market)
    yield opened
    opened.close()


@pytest.fixture
def busy(market):
    """200 customers decided for; one in four of the treatment and one in ten of the others converts."""
    market.customers(*PEOPLE)
    market.campaign(simulated=True, policy=PolicyName.GREEDY, experiment=SPLIT)
    service = market.service()
    made = service.decider.decide_many(
        [DecisionRequest(customer_id=person, campaign_id="spring") for person in PEOPLE], market.now
    )
    facts = []
    for i, decision in enumerate(made):
        about = {
            "source": "sim",
            "customer_id": decision.customer_id,
            "occurred_at": market.now + timedelta(days=1),
        }
        if decision.action:
            about |= {"decision_id": decision.decision_id, "channel": decision.action.channel}
            facts.append(Interaction(event_id=f"s{i}", kind=InteractionKind.SENT, **about))
            if i % 2 == 0:
                later = {"occurred_at": about["occurred_at"] + timedelta(minutes=5)}
                facts.append(Interaction(event_id=f"k{i}", kind=InteractionKind.CLICKED, **about | later))
        else:
            about |= {"campaign_id": "spring"}
        if i % (4 if decision.arm == "treatment" else 10) == 0:
            facts.append(
                Interaction(event_id=f"b{i}", kind=InteractionKind.CONVERTED, value_minor=2000.0, **about)
            )
    with market.engine.begin() as conn:
        append_interactions(conn, facts, market.now)
    market.now += timedelta(days=2)
    return made


def report_of(pages: Pages, campaign_id: str = "spring") -> dict:
    answer = pages.get("/v1/report", params={"campaign_id": campaign_id})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_report_adds_up(pages, busy):
    report = report_of(pages)
    contacts = [one for one in busy if one.action]
    assert (report["n_customers"], report["n_decisions"], report["n_contacts"]) == (200, 200, len(contacts))
    assert report["spend_minor"] == pytest.approx(sum(one.expected.cost_minor for one in contacts))
    rows = {row["channel"]: row for row in report["funnel"]}
    assert set(rows) == {"push", "sms"}
    for channel, row in rows.items():
        chosen = [one for one in contacts if one.action.channel == channel]
        clicked = [one for i, one in enumerate(busy) if i % 2 == 0 and one in chosen]
        assert (row["planned"], row["sent"], row["clicked"]) == (len(chosen), len(chosen), len(clicked))
        assert row["net_value_minor"] == pytest.approx(2000.0 * row["converted"] - row["cost_minor"])
    for arm in report["arms"]:
        members = [(i, one) for i, one in enumerate(busy) if one.arm == arm["arm"]]
        bought = sum(i % (4 if arm["arm"] == "treatment" else 10) == 0 for i, _ in members)
        assert arm["n_customers"] == len(members)
        assert arm["share_converted"] == pytest.approx(bought / len(members))
        cost = sum(one.expected.cost_minor for _, one in members)
        assert arm["mean_minor"] == pytest.approx((2000.0 * bought - cost) / len(members))
        assert arm["low_minor"] < arm["mean_minor"] < arm["high_minor"]


def test_the_value_beyond_doing_nothing_is_the_difference_to_the_holdout(pages, busy):
    report = report_of(pages)
    arms = {arm["arm"]: arm for arm in report["arms"]}
    one = next(d for d in report["differences"] if (d["arm"], d["other"]) == ("treatment", "holdout"))
    difference = one["difference"]
    assert difference["value"] == pytest.approx(
        arms["treatment"]["mean_minor"] - arms["holdout"]["mean_minor"]
    )
    n = arms["treatment"]["n_customers"]
    assert report["incremental_minor"] == pytest.approx(n * difference["value"])
    assert report["incremental_low_minor"] == pytest.approx(n * difference["low"])
    assert difference["always_low"] < difference["low"] < difference["high"] < difference["always_high"]
    assert {(d["arm"], d["other"]) for d in report["differences"]} == {
        ("treatment", "holdout"), ("treatment", "control"), ("control", "holdout"),
    }  # fmt: skip
    assert report["sample_ratio"]["sound"]


def test_the_page_shows_the_figures_of_the_report(pages, busy):
    report = report_of(pages)
    page = pages.get("/")
    assert page.status_code == 200
    html = page.text
    assert "simulated" in html
    assert report["verdict"] in html
    assert f"{report['spend_minor'] / 100:,.2f} USD" in html
    assert f"{report['net_value_minor'] / 100:,.2f} USD" in html
    assert f"{report['incremental_minor'] / 100:,.2f} USD" in html
    for row in report["funnel"]:
        assert f'<th scope="row">{row["channel"]}</th>' in html
        assert f">{row['planned']}<" in html
    assert html.count('<svg class="forest"') == 3
    assert html.count('class="fixed"') >= 7  # three arms, three differences, a channel that was chosen first
    for recent in report["recent"]:
        assert f'href="/decisions/{recent["decision_id"]}"' in html


def test_a_stage_that_a_channel_cannot_report_is_not_shown_as_zero(pages, market):
    sms = next(channel for channel in DEFAULT_CHANNELS if channel.name == "sms")
    market.channel(replace(sms, receipts=frozenset()))
    market.customers("ada")
    market.campaign(policy=PolicyName.GREEDY)
    pages.post("/v1/decisions", json={"customer_id": "ada", "campaign_id": "spring"})
    (row,) = report_of(pages)["funnel"]
    assert (row["planned"], row["sent"], row["delivered"], row["opened"], row["clicked"]) == (
        1,
        0,
        None,
        None,
        None,
    )
    assert pages.get("/").text.count("not reported</span>") == 3


def test_a_decision_page_shows_explanation_alternatives_and_exclusions(pages, market):
    market.customers("ada")
    market.campaign(pinned_channel="email")
    decision = pages.post("/v1/decisions", json={"customer_id": "ada", "campaign_id": "spring"}).json()
    html = pages.get(f"/decisions/{decision['decision_id']}").text
    assert decision["explanation"] in html
    assert html.count("<tr") == 1 + 1 + len(decision["alternatives"])
    assert html.count("channel_pinned") == 2
    assert "1 features" in html


def test_an_unknown_decision_or_campaign_is_a_page_that_says_so(pages, market):
    market.campaign()
    answer = pages.get("/decisions/01a2019c-ff02-74e0-82f9-fc1c4292b790")
    assert answer.status_code == 404
    assert "Nothing is recorded under this id" in answer.text
    assert pages.get("/", params={"campaign": "autumn"}).status_code == 404
    assert pages.get("/v1/report", params={"campaign_id": "autumn"}).status_code == 404


def test_an_installation_without_a_campaign_has_a_page(pages):
    assert "There is no campaign yet" in pages.get("/").text


def test_a_campaign_that_has_decided_nothing_has_a_page(pages, market):
    market.campaign()
    html = pages.get("/").text
    assert "Nobody has been decided for yet" in html
    assert "needs customers in holdout and treatment" in html


def test_all_text_is_escaped_and_nothing_is_loaded_from_elsewhere(pages, market):
    evil = '<script>alert("1")</script>'
    market.customers(evil)
    market.campaign(evil)
    decision = pages.post("/v1/decisions", json={"customer_id": evil, "campaign_id": evil}).json()
    for address in ("/", f"/decisions/{decision['decision_id']}"):
        answer = pages.get(address)
        assert answer.status_code == 200
        assert "<script" not in answer.text
        assert "&lt;script&gt;" in answer.text
        assert "http://" not in answer.text.replace("http://www.w3.org", "")
        assert "https://" not in answer.text
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert pages.get("/static/dashboard.css").status_code == 200
    assert pages.get("/static/icon.svg").headers["content-type"] == "image/svg+xml"


@pytest.mark.parametrize(
    ("holdout", "words"),
    [(0.0, "Without a holdout nobody can say what contact adds."), (0.5, "Cannot tell yet")],
)
def test_the_verdict_does_not_claim_what_the_data_cannot_carry(pages, market, holdout, words):
    people = [f"c{i}" for i in range(20)]
    market.customers(*people)
    market.campaign(experiment=Experiment(experiment_id="x", holdout_share=holdout))
    body = {"requests": [{"customer_id": person, "campaign_id": "spring"} for person in people]}
    assert pages.post("/v1/decisions/batch", json=body).status_code == 200
    assert report_of(pages)["verdict"].startswith(words)
    assert words in pages.get("/").text


def test_what_customers_did_before_is_taken_out_of_the_difference(pages, busy, market):
    """Half of what the first half of them spends in the campaign they spent before, so it is nobody's doing."""
    regulars = [
        Interaction(
            source="till",
            event_id=f"b{i}{when}",
            kind=InteractionKind.CONVERTED,
            customer_id=person,
            occurred_at=market.now + timedelta(days=days),
            value_minor=50_000.0 + 100.0 * (i % 7),
        )
        for i, person in enumerate(PEOPLE[:100])
        for when, days in (("before", -20), ("after", 2))
    ]
    with market.engine.begin() as conn:
        append_interactions(conn, regulars, market.now + timedelta(days=3))
    report = report_of(pages)
    assert report["pre_period"]["days"] == 90
    assert report["pre_period"]["explained"] > 0.95
    assert report["pre_period"]["narrower"] == pytest.approx(
        1 - (1 - report["pre_period"]["explained"]) ** 0.5
    )
    one = next(d for d in report["differences"] if (d["arm"], d["other"]) == ("treatment", "holdout"))
    assert one["difference"]["standard_error"] < 0.25 * one["unadjusted"]["standard_error"]
    arms = {arm["arm"]: arm for arm in report["arms"]}
    raw = arms["treatment"]["mean_minor"] - arms["holdout"]["mean_minor"]
    assert one["unadjusted"]["value"] == pytest.approx(raw)
    assert report["incremental_minor"] == pytest.approx(
        arms["treatment"]["n_customers"] * one["difference"]["value"]
    )
    assert "in the 90 days before they came in explains" in pages.get("/").text


def test_a_conversion_that_contact_brought_has_its_price(pages, busy):
    report = report_of(pages)
    arms = {arm["arm"]: arm for arm in report["arms"]}
    one = next(d for d in report["differences"] if (d["arm"], d["other"]) == ("treatment", "holdout"))
    more = arms["treatment"]["share_converted"] - arms["holdout"]["share_converted"]
    assert one["conversions"]["value"] == pytest.approx(more)
    assert more > 0
    cost = arms["treatment"]["cost_minor"] / arms["treatment"]["n_customers"]
    assert one["cost_per_conversion_minor"] == pytest.approx(cost / more)
    assert one["cost_per_conversion_low_minor"] < one["cost_per_conversion_minor"]
    html = pages.get("/").text
    assert "each more has cost" in html
    assert "explains next to nothing" in html


def test_a_channel_is_judged_by_those_for_whom_it_was_chosen_first(pages, busy):
    """Greedy chooses SMS for everybody: the arms are all who can be compared, and the difference is theirs."""
    report = report_of(pages)
    (one,) = report["first_choices"]
    assert one["channel"] == "sms"
    arms = {arm["arm"]: arm for arm in report["arms"]}
    for arm in ("treatment", "holdout"):
        assert one[arm] == pytest.approx(arms[arm])
    whole = next(d for d in report["differences"] if (d["arm"], d["other"]) == ("treatment", "holdout"))
    for name in ("difference", "conversions"):
        assert one[name] == pytest.approx(whole[name])
    html = pages.get("/").text
    assert "What each channel brings" in html
    assert "by the channel that was chosen first" in html
    answer = pages.get("/v1/experiments/spring/report").json()
    assert answer["reports"][0]["first_choices"] == report["first_choices"]


def test_without_a_holdout_the_page_does_not_say_what_a_channel_brings(pages, market):
    market.customers("ada")
    market.campaign(policy=PolicyName.GREEDY)
    pages.post("/v1/decisions", json={"customer_id": "ada", "campaign_id": "spring"})
    assert report_of(pages)["first_choices"] == []
    assert "it needs a holdout for whom it is recorded" in pages.get("/").text


def test_without_a_name_the_page_shows_the_campaign_that_decided_last(pages, busy, market):
    market.campaign("autumn")
    service = market.service()
    later = market.now + timedelta(hours=1)
    # An id of the caller's own, which in order of ids comes before all others.
    service.decider.decide(
        DecisionRequest(customer_id=PEOPLE[0], campaign_id="autumn", decision_id="0"), later
    )
    assert "<h1>autumn" in pages.get("/").text


def test_what_is_not_counted_yet_is_said(pages, busy, market, monkeypatch):
    assert "Still counting" not in pages.get("/?campaign=spring").text
    market.service().decider.decide(DecisionRequest(customer_id=PEOPLE[0], campaign_id="spring"), market.now)
    with (
        sole_holder(market.engine, "settlement"),
        monkeypatch.context() as impatient,
    ):  # somebody else is at it
        impatient.setattr("serving.service.SETTLING_SECONDS", 0.05)
        report = pages.get("/v1/report?campaign_id=spring").json()
        assert (report["up_to_date"], report["n_decisions"]) == (False, len(PEOPLE))
        assert "Still counting" in pages.get("/?campaign=spring").text
    # It is counted without anybody looking again.
    until = monotonic() + 20
    while monotonic() < until and _counted(market.engine) <= len(PEOPLE):
        sleep(0.05)
    assert _counted(market.engine) == len(PEOPLE) + 1
    report = pages.get("/v1/report?campaign_id=spring").json()
    assert (report["up_to_date"], report["n_waiting"], report["n_decisions"]) == (True, 0, len(PEOPLE) + 1)


def _counted(engine: Engine) -> int:
    with engine.connect() as conn:
        return sum(sums.n_decisions for sums in customer_sums(conn, "spring").arms.values())

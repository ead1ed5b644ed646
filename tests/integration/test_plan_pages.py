"""The pages of plans: made by a form, looked at, started, paused and cancelled by buttons; what they say is what is stored."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient

from features.history.tables import decisions, plans
from models.domain.campaign import PolicyName, SendWindow
from serving.app import create_app
from serving.plans import runner
from serving.plans.plan import PlanStatus
from serving.security.keys import Scope, create_key
from serving.security.protection import Protection
from serving.service import Service
from tests.integration.conftest import Market
from tests.integration.test_plans import (
    PEOPLE,
    Unlike,
    WorthByAge,
    limit_sms,
    loaded,
    made,
    moved,
    n_rows,
    worked_off,
)

OWN = {"Origin": "http://testserver", "Host": "testserver"}
ONE_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
NOWHERE = "01a2019c-ff02-74e0-82f9-fc1c4292b790"
CHROMIUM = shutil.which("chromium")


@dataclass
class Office:
    """The pages of a service whose plans are worked on turn by turn, as the tests ask it to."""

    service: Service
    client: TestClient

    def get(self, address: str, **more: Any) -> httpx.Response:
        return self.client.get(address, **more)

    def post(self, address: str, **fields: str) -> httpx.Response:
        return self.client.post(address, data=fields, headers=OWN)

    def made(self, **fields: str) -> str:
        """The plan that the form makes."""
        answer = self.post("/plans", **{"campaign_id": "spring", "segment": ""} | fields)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"].removeprefix("/plans/")

    def looked_at(self, **fields: str) -> str:
        """The same, with its forecast."""
        plan_id = self.made(**fields)
        worked_off(self.service.plans)
        return plan_id

    def press(self, plan_id: str, verb: str) -> str:
        """The page that a button leads to."""
        answer = self.post(f"/plans/{plan_id}/{verb}")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/plans/{plan_id}"), answer.text
        return self.get(f"/plans/{plan_id}").text


@pytest.fixture
def unlike(market: Market, monkeypatch) -> Market:
    """150 people who are worth differently much, decided for in parts of 50."""
    monkeypatch.setattr(runner, "LARGEST_GROUP", 50)
    market.features = Unlike()
    assert market.champion.model is not None
    market.champion.model = replace(market.champion.model, response=WorthByAge())
    market.customers(*PEOPLE)
    market.campaign(policy=PolicyName.GREEDY)
    return market


@contextmanager
def opened(market: Market) -> Iterator[Office]:
    service = market.service(start=False)
    market.opened.remove(service)  # the application's lifespan stops it
    with TestClient(create_app(service), raise_server_exceptions=False, follow_redirects=False) as client:
        service.plans.stop()
        yield Office(service, client)


@pytest.fixture
def office(unlike: Market) -> Iterator[Office]:
    with opened(unlike) as made_ready:
        yield made_ready


def buttons(html: str) -> list[str]:
    """What the buttons of the page itself say."""
    return re.findall(r"<button[^>]*>([^<]+)</button>", html)


def bar(html: str) -> float:
    """How far the bar of progress is, in percent."""
    (width,) = re.findall(r'progress large"[^>]*>.*?class="part" width="([\d.]+)"', html)
    return float(width)


def refreshes(html: str) -> bool:
    return '<meta http-equiv="refresh"' in html


def test_a_plan_is_made_by_the_form_looked_at_started_paused_and_goes_on(office, unlike):
    plan_id = office.made()
    page = office.get(f"/plans/{plan_id}").text
    assert "looking at the audience" in page
    assert refreshes(page)
    assert buttons(page) == ["Start when ready", "Cancel the plan"]
    worked_off(office.service.plans)
    page = office.get(f"/plans/{plan_id}").text
    assert "ready to start" in page
    assert not refreshes(page)
    assert buttons(page) == ["Start", "Cancel the plan"]
    assert bar(page) == 0
    assert n_rows(unlike, decisions) == 0

    page = office.press(plan_id, "start")
    assert refreshes(page)
    assert buttons(page) == ["Pause", "Cancel the plan"]
    office.service.plans.work()
    page = office.get(f"/plans/{plan_id}").text
    assert "50 of 150 members" in page
    assert bar(page) == 33.3

    page = office.press(plan_id, "pause")
    assert "Paused after 50 of 150 members" in page
    assert buttons(page) == ["Go on", "Cancel the plan"]
    office.service.plans.work()  # hears of it at its end
    assert not refreshes(office.get(f"/plans/{plan_id}").text)
    assert refreshes(office.press(plan_id, "start"))
    worked_off(office.service.plans)
    page = office.get(f"/plans/{plan_id}").text
    assert "All 150 members were decided for." in page
    assert buttons(page) == []
    assert bar(page) == 100
    assert n_rows(unlike, decisions) == 150


def test_a_cancelled_plan_says_so_and_has_no_buttons(office, unlike):
    plan_id = office.looked_at()
    office.press(plan_id, "start")
    office.service.plans.work()
    page = office.press(plan_id, "cancel")
    assert "Cancelled after 50 members. What was decided stays decided." in page
    assert buttons(page) == []
    assert loaded(unlike, plan_id).status is PlanStatus.CANCELLED
    again = office.post(f"/plans/{plan_id}/start")
    assert again.status_code == 409
    assert "is cancelled, so it cannot be running" in again.text


def test_the_forecast_is_on_the_page_in_words_figures_and_bars(office, unlike):
    limit_sms(unlike, 30)
    office.service.snapshots.reload()
    plan_id = office.looked_at()
    forecast = loaded(unlike, plan_id).forecast
    assert forecast is not None
    page = office.get(f"/plans/{plan_id}").text
    assert dict(forecast.contacts) == {"email": 120, "sms": 30}
    cells = re.findall(
        r'<th scope="row">(\w+)</th>.*?class="expected" y="0" width="([\d.]+)".*?class="decided" y="11" width="([\d.]+)"'
        r'.*?<td class="number">([\d,.]+)</td>\s*<td class="number">([\d,.]+)</td>',
        page,
        re.DOTALL,
    )
    assert cells == [("email", "100.0", "0.0", "120", "0"), ("SMS", "25.0", "0.0", "30", "0")]
    words = office.service.currency.words
    for amount in (forecast.cost_minor, forecast.net_value_minor, forecast.most_minor):
        assert f"<p>{words(amount)}</p>" in page
    assert "no allocation of what is left is expected to be worth more" in page
    price = words(forecast.shadow_prices["sms"])
    assert f"one more message by SMS would be worth about <strong>{price}</strong>" in page
    assert "one more message by email" not in page
    assert "Expected by the model, from all 150 members" in page
    assert "Nobody was contacted for it" in page

    office.press(plan_id, "start")
    worked_off(office.service.plans)
    plan = loaded(unlike, plan_id)
    page = office.get(f"/plans/{plan_id}").text
    assert f"<p>{words(plan.cost_minor)}</p>" in page
    assert f"<p>{words(plan.net_value_minor)}</p>" in page
    assert 'class="decided" y="11" width="25.0"' in page


def test_a_forecast_from_a_part_of_the_audience_says_so(office, unlike, monkeypatch):
    monkeypatch.setattr(runner, "MOST_SAMPLED", 60)
    plan_id = office.looked_at()
    assert "Expected by the model, from 60 of 150 members" in office.get(f"/plans/{plan_id}").text


def test_where_nothing_is_scarce_the_page_says_so(office):
    assert "Nothing: budgets and capacities suffice" in office.get(f"/plans/{office.looked_at()}").text


def test_without_a_model_what_it_is_worth_is_unknown(market):
    market.champion.model = None
    market.customers(*PEOPLE[:30])
    market.campaign()
    with opened(market) as office:
        page = office.get(f"/plans/{office.looked_at()}").text
        assert "<p>unknown</p>" in page
        assert "without a model nobody can say what a message is worth" in page
        assert "At most" not in page
        assert office.get("/plans").status_code == 200


def test_an_empty_audience_is_done(market):
    market.campaign()
    with opened(market) as office:
        plan_id = office.looked_at()
        office.press(plan_id, "start")
        worked_off(office.service.plans)
        page = office.get(f"/plans/{plan_id}").text
        assert "Nobody belonged to the audience." in page
        assert bar(page) == 100


def test_plans_are_listed_the_newest_first_by_pages_of_twenty(office, unlike):
    for number in range(23):
        made(unlike, f"00000000-0000-0000-0000-{number:012}")
        moved(unlike, PlanStatus.CANCELLED, f"00000000-0000-0000-0000-{number:012}")
        unlike.now += timedelta(minutes=1)
    plan_id = office.looked_at()
    first = office.get("/plans").text
    listed = re.findall(r'<a href="/plans/([\w-]{36})">', first)
    assert len(listed) == 20
    assert listed[:2] == [plan_id, "00000000-0000-0000-0000-000000000022"]
    assert '<a href="/?campaign=spring">spring</a>' in first
    assert "everybody" in first
    assert '<span class="badge ready">ready to start</span>' in first
    assert '<span class="badge cancelled">cancelled</span>' in first
    assert "0 of 150" in first
    assert re.search(r'<span class="chip">SMS [\d,]+</span>', first)
    (older,) = re.findall(r'<a href="(/plans\?cursor=[^"]+)">Older</a>', first)
    second = office.get(older).text
    assert len(re.findall(r'<a href="/plans/([\w-]{36})">', second)) == 4
    assert ">Older</a>" not in second
    assert '<a href="/plans">Newest</a>' in second


def test_the_list_is_shown_anew_while_a_plan_is_worked_on_and_takes_no_form_away(office):
    plan_id = office.looked_at()
    assert not refreshes(office.get("/plans").text)
    office.press(plan_id, "start")
    page = office.get("/plans").text
    assert refreshes(page)
    assert "<select" not in page
    still = office.get("/plans", params={"still": "true"}).text
    assert not refreshes(still)
    assert buttons(still) == ["Look first"]


def test_the_form_offers_open_campaigns_and_segments_and_a_segment_is_decided_for(office, unlike):
    window = SendWindow(starts_at=unlike.now - timedelta(days=9), ends_at=unlike.now - timedelta(days=1))
    unlike.campaign("gone", send_window=window)
    tags = [{"customer_id": one, "tag": "vip", "source": "crm"} for one in PEOPLE[:40]]
    office.client.post("/v1/tags", json={"tags": tags})
    office.client.put("/v1/segments/best", json={"condition": {"tag": "vip"}})
    office.service.snapshots.reload()
    page = office.get("/plans").text
    assert re.findall(r'<option value="([^"]*)">', page) == ["spring", "", "best"]
    plan_id = office.looked_at(segment="best")
    page = office.get(f"/plans/{plan_id}").text
    assert "segment best" in page
    assert "from all 40 members" in page
    refused = office.post("/plans", campaign_id="gone", segment="")
    assert refused.status_code == 409
    assert "send window has closed" in refused.text


@pytest.mark.parametrize(
    ("form", "status", "word"),
    [
        ({"campaign_id": "nowhere"}, 404, "campaign_id"),
        ({"campaign_id": "spring", "segment": "nobody"}, 404, "segment"),
        ({"campaign_id": "spring", "segment": "no spaces"}, 422, "segment"),
        ({"campaign_id": "spring", "segment": "nul\0"}, 422, "segment"),
        ({"campaign_id": "spring", "color": "red"}, 422, "color"),
        ({"campaign_id": "<script>"}, 404, "&lt;script&gt;"),
        ({}, 422, "campaign_id"),
    ],
)
def test_a_wrong_form_is_answered_with_what_is_wrong_and_nothing_is_kept(office, unlike, form, status, word):
    answer = office.post("/plans", **form)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert word in answer.text
    assert "<script>" not in answer.text
    assert n_rows(unlike, plans) == 0


def test_what_cannot_be_is_a_page_that_says_so(office):
    for answer in (
        office.get(f"/plans/{NOWHERE}"),
        *(office.post(f"/plans/{NOWHERE}/{verb}") for verb in ("start", "pause", "cancel")),
        office.get("/plans", params={"cursor": "WyJ4Il0"}),
    ):
        assert answer.status_code == 404
        assert "Nothing is recorded under this id" in answer.text
    assert office.get("/plans", params={"cursor": "?"}).status_code == 422
    plan_id = office.looked_at()
    early = office.post(f"/plans/{plan_id}/pause")
    assert early.status_code == 409
    assert "is ready, so it cannot be paused" in early.text


@ONE_SQLITE
@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.test"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}, {}]
)
def test_a_strangers_page_makes_and_moves_no_plan_even_where_no_key_is_needed(office, unlike, headers):
    plan_id = office.looked_at()
    for address in ("/plans", *(f"/plans/{plan_id}/{verb}" for verb in ("start", "cancel"))):
        answer = office.client.post(address, data={"campaign_id": "spring"}, headers=headers)
        assert answer.status_code == 403
        assert "not sent by this page" in answer.text
    assert n_rows(unlike, plans) == 1
    assert loaded(unlike, plan_id).status is PlanStatus.READY


def test_a_plan_that_stopped_says_why_and_can_be_tried_again(office, unlike):
    plan_id = office.looked_at()
    office.press(plan_id, "start")
    office.service.plans.work()
    unlike.now += timedelta(days=40)
    worked_off(office.service.plans)
    page = office.get(f"/plans/{plan_id}").text
    assert "It stopped after 50 members and can go on from there." in page
    assert "send window" in page
    assert buttons(page) == ["Try again", "Cancel the plan"]
    assert not refreshes(page)
    assert "stopped by a problem" in office.get("/plans").text


def test_all_text_is_escaped_and_nothing_is_loaded_from_elsewhere(market):
    evil = '<script>alert("1")</script>'
    market.customers(*PEOPLE[:3])
    market.campaign(evil)
    with opened(market) as office:
        plan_id = office.looked_at(campaign_id=evil)
        for address in ("/plans", f"/plans/{plan_id}"):
            answer = office.get(address)
            assert answer.status_code == 200
            assert "<script" not in answer.text
            assert "&lt;script&gt;" in answer.text
            assert '<a href="/?campaign=%3Cscript%3E' in answer.text
            assert "http://" not in answer.text
            assert "https://" not in answer.text
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@ONE_SQLITE
def test_who_may_only_read_sees_no_form_and_no_buttons(unlike):
    with unlike.engine.begin() as conn:
        reader = create_key(conn, "reader", [Scope.READ], unlike.now)
        manager = create_key(conn, "manager", [Scope.READ, Scope.DECIDE], unlike.now)
    with opened(unlike) as office:
        made(unlike, NOWHERE, starts=False)
        for key, said in ((reader, []), (manager, ["Start when ready", "Cancel the plan"])):
            by = {"Authorization": f"Bearer {key.text}"}
            assert buttons(office.get(f"/plans/{NOWHERE}", headers=by).text) == said
            page = office.get("/plans", headers=by, params={"still": "true"}).text
            assert ("<select" in page) == bool(said)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@ONE_SQLITE
def test_a_manager_looks_starts_pauses_and_sees_the_bar_move_in_a_browser(unlike, monkeypatch):
    from playwright.sync_api import sync_playwright

    monkeypatch.setattr("serving.dashboard.plans._REFRESH_SECONDS", 1)
    service = unlike.service(start=False, protection=Protection(requests_per_second=0))
    server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="critical", log_config=None))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    unlike.opened.remove(service)
    while not server.started:
        time.sleep(0.01)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page()
            refused: list[str] = []
            page.on("console", lambda line: line.type == "error" and refused.append(line.text))
            page.goto(f"http://127.0.0.1:{listening.getsockname()[1]}/plans")
            page.click("button:text-is('Look first')")
            page.wait_for_selector(".badge.ready")
            service.plans.stop()  # from here on turn by turn
            page.click("button:text-is('Start')")
            page.wait_for_selector(".badge.running")
            page.click("button:text-is('Pause')")
            page.wait_for_selector(".badge.paused")
            page.click("button:text-is('Go on')")
            page.wait_for_selector(".badge.running")
            service.plans.work()
            page.wait_for_selector('.large .part[width="33.3"]', state="attached")
            service.plans.start()
            page.wait_for_selector(".badge.finished")
            bar_width, whole = (
                page.locator(f".large .{part}").bounding_box()["width"]  # type: ignore[index]
                for part in ("part", "track")
            )
            assert bar_width == whole > 200
            assert refused == []
            page.set_viewport_size({"width": 360, "height": 640})
            for address in (page.url, page.url.rpartition("/")[0]):
                page.goto(address)
                assert page.evaluate("document.documentElement.scrollWidth") <= 360
            browser.close()
    finally:
        server.should_exit = True
        thread.join()

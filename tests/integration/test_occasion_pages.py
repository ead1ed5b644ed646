"""The pages of occasions: what each did, and who is due on the coming days."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient

from models.domain.campaign import SendWindow
from models.domain.errors import ConflictError
from serving.app import create_app
from serving.occasions.book import settle
from serving.occasions.occasion import Due
from serving.problems import problem_of
from serving.security.keys import Scope, create_key
from serving.security.protection import Protection
from tests.integration.conftest import NOW, Market
from tests.integration.test_occasions import BIRTHDAY, CARE, DAY, HOUR, describe, looks, people, stores

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ONE_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
EVIL = '<script>alert("1")</script>'


@pytest.fixture
def api(market: Market) -> Iterator[TestClient]:
    market.campaign(send_window=SendWindow(starts_at=NOW - DAY, ends_at=NOW + 60 * DAY))
    service = market.service(start=False)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        market.opened.remove(service)
        yield client


def columns(html: str) -> dict[str, int]:
    """What the columns of the chart say, by day."""
    return {day: int(n) for day, n in re.findall(r"<title>([\d-]{10}): (\d+)</title>", html)}


def tiles(html: str) -> dict[str, str]:
    return dict(re.findall(r'<div class="tile[^"]*"><h2>([^<]+)</h2><p>([^<]+)</p>', html))


def test_the_list_says_of_each_what_it_did_and_when_it_looked_last(api, market):
    people(market, {f"p{n}": {"birth_date": "1990-03-01"} for n in range(3)})
    people(market, {"late": {"birth_date": "1990-03-01"}}, zone="America/Los_Angeles")
    stores(api, BIRTHDAY)
    stores(api, CARE, "care")
    market.campaign("autumn", send_window=SendWindow(starts_at=NOW + 9 * DAY, ends_at=NOW + 60 * DAY))
    stores(api, {"campaign_id": "autumn", "referral": {}}, "thanks")
    market.now += 4 * HOUR
    assert looks(market).run_due() == 3
    page = api.get("/occasions").text
    assert re.findall(r'<strong><a href="/occasions/[^"]+">(\w+)</a></strong>', page) == [
        "birthday", "care", "thanks",
    ]  # fmt: skip
    rows = [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", row)).strip() for row in page.split("<tr>")[2:]]
    assert rows[0] == (
        "birthday decides spring on every anniversary of birth_date, at 09:00 by the customer&#39;s clock active "
        "Decided 3 Contacted 3 Dropped 0 Last look 1 Mar 10:00 UTC"
    )
    assert rows[1].startswith(
        "care decides spring 14 days after each purchase, unless a later fact takes it back: "
        "issue_raised with about = return or unsubscribed active Decided 0"
    )
    assert "campaign not open yet Decided 0 Contacted 0 Dropped 0 Last look none yet" in rows[2]


def test_a_page_shows_the_preview_by_day_as_columns_and_figures(api, market):
    day = lambda n: f"1990-{(NOW + n * DAY):%m-%d}"  # noqa: E731
    people(market, {"a": {"birth_date": day(2)}, "b": {"birth_date": day(2)}, "c": {"birth_date": day(5)}})
    people(market, {"d": {"birth_date": day(-1)}, "e": {"birth_date": EVIL}, "f": {}})
    stores(api, BIRTHDAY)
    page = api.get("/occasions/birthday").text
    ahead = api.get("/v1/occasions/birthday/preview").json()
    assert columns(page) == {one["day"]: one["n_due"] for one in ahead["days"]}
    assert {day: n for day, n in columns(page).items() if n} == {"2026-03-03": 2, "2026-03-06": 1}
    heights = re.findall(r'class="column"[^>]* height="([\d.]+)"><title>2026-03-0[36]', page)
    assert heights == ["180.0", "90.0"]
    assert tiles(page)["Due at once"] == "1"
    assert "4 customers have a date in birth_date." in page
    assert "1 has something else there" in page
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert '<a href="/?campaign=spring">its page</a>' in page


def test_a_page_says_what_was_decided_contacted_and_dropped_by_reason(api, market):
    born = {"birth_date": "1990-03-01"}
    people(market, {"ada": born, "bob": born})
    market.customers("cleo", consent=False)
    describe(market, {"cleo": born})
    stores(api, BIRTHDAY)
    market.now += 4 * HOUR
    assert looks(market).run_due() == 3
    dropped = [
        (Due(customer_id=one, occurrence="2026", due_at=NOW), ConflictError("of no account")) for one in "xy"
    ]
    with market.engine.begin() as conn:
        settle(conn, "birthday", dropped, NOW)
    page = api.get("/occasions/birthday").text
    figures = tiles(page)
    assert [figures[name] for name in ("Due at once", "Decided", "Contacted", "Dropped")] == list("0322")
    assert figures["Last look"] == "1 Mar 10:00 UTC"
    reason = problem_of(ConflictError("of no account"), "").title
    assert (
        f'<th scope="row" class="long">{reason}</th><td class="number"><span class="name">Occurrences</span>2</td>'
        in page
    )
    assert "of no account" not in page
    assert "Nobody, as far as it is known." in page
    assert f'2 <span class="quiet">{reason}</span>' in api.get("/occasions").text


@ONE_SQLITE
def test_a_campaign_that_has_closed_says_so(api, market):
    people(market, {"ada": {"birth_date": "1990-05-02"}})
    stores(api, BIRTHDAY)
    market.now += 61 * DAY
    page = api.get("/occasions/birthday").text
    assert '<span class="badge finished">campaign closed</span>' in page
    assert "The send window of the campaign has closed" in page
    assert "nothing is decided any more" in page


@ONE_SQLITE
def test_occasions_come_in_pages_of_twenty(api):
    assert "There is no occasion yet." in api.get("/occasions").text
    for number in range(23):
        stores(api, BIRTHDAY, f"o{number:02}")
    first = api.get("/occasions").text
    (more,) = re.findall(r'<a href="(/occasions\?cursor=[^"]+)">More</a>', first)
    second = api.get(more).text
    named = [re.findall(r"<strong><a[^>]*>(o\d\d)</a>", page) for page in (first, second)]
    assert [len(names) for names in named] == [20, 3]
    assert named[0] + named[1] == [f"o{number:02}" for number in range(23)]
    assert '<a href="/occasions">First</a>' in second


@pytest.mark.parametrize("name", ["nobody", "a%20b", "%3Cscript%3E", "%27", "x" * 65])
@ONE_SQLITE
def test_a_wrong_name_is_a_page_that_says_so(api, name):
    answer = api.get(f"/occasions/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "Nothing is recorded under this id" in answer.text
    assert "<script" not in answer.text
    assert api.get("/occasions", params={"cursor": "?"}).status_code == 422


@ONE_SQLITE
def test_a_deleted_occasion_is_a_page_that_says_so(api):
    stores(api, BIRTHDAY)
    assert api.get("/occasions/birthday").status_code == 200
    api.delete("/v1/occasions/birthday")
    assert api.get("/occasions/birthday").status_code == 404
    assert "There is no occasion yet." in api.get("/occasions").text


@ONE_SQLITE
def test_who_may_read_sees_the_pages_and_nobody_else(market):
    market.campaign()
    with market.engine.begin() as conn:
        reader = create_key(conn, "reader", [Scope.READ], market.now)
        shop = create_key(conn, "shop", [Scope.INGEST], market.now)
    service = market.service(start=False)
    with TestClient(create_app(service), follow_redirects=False) as client:
        market.opened.remove(service)
        for path, there in (("/occasions", 200), ("/occasions/birthday", 404)):
            asked = [
                client.get(path, headers={"Authorization": f"Bearer {key.text}"}) for key in (reader, shop)
            ]
            assert [answer.status_code for answer in asked] == [there, 403]
            assert client.get(path).status_code in (303, 401)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@ONE_SQLITE
def test_the_pages_fit_a_phone_and_the_chart_can_be_read_in_a_browser(market):
    from playwright.sync_api import sync_playwright

    market.campaign(send_window=SendWindow(starts_at=NOW - DAY, ends_at=NOW + 60 * DAY))
    people(
        market,
        {f"p{n}": {"birth_date": f"1990-{(NOW + n % 13 * DAY):%m-%d}"} for n in range(60)}
        | {"x": {"birth_date": "soon"}},
    )
    service = market.service(start=False, protection=Protection(requests_per_second=0))
    server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="critical", log_config=None))
    listening = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    market.opened.remove(service)
    while not server.started:
        time.sleep(0.01)
    try:
        with sync_playwright() as playwright, httpx.Client(base_url=address) as client:
            for name, occasion in (("birthday", BIRTHDAY), ("a-name-of-64-characters-" + "x" * 40, CARE)):
                assert client.put(f"/v1/occasions/{name}", json={"occasion": occasion}).is_success
            gone = [(Due(customer_id="y", occurrence="2026", due_at=NOW), ConflictError("gone"))]
            with market.engine.begin() as conn:
                settle(conn, "birthday", gone, NOW)
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page()
            refused: list[str] = []
            page.on("console", lambda line: line.type == "error" and refused.append(line.text))
            page.goto(address)
            page.click("nav >> text=Occasions")
            page.click("text=birthday")
            page.wait_for_selector(".columns")
            for width in (1280, 390):
                page.set_viewport_size({"width": width, "height": 800})
                for path in ("/occasions", "/occasions/birthday"):
                    page.goto(address + path)
                    assert page.evaluate("document.documentElement.scrollWidth") <= width
                    wide = page.eval_on_selector_all(
                        ".scroll", "all => all.map(e => e.scrollWidth - e.clientWidth)"
                    )
                    assert max(wide, default=0) == 0
                labels = page.locator(".columns text.tick")
                boxes = [labels.nth(n).bounding_box() for n in range(labels.count())]
                beside = sorted(
                    (box for box in boxes if box is not None and box["height"] > 0),
                    key=lambda box: (round(box["y"]), box["x"]),
                )
                for one, following in pairwise(beside):
                    if round(one["y"]) == round(following["y"]):
                        assert one["x"] + one["width"] <= following["x"]
            assert refused == []
            browser.close()
    finally:
        server.should_exit = True
        thread.join()

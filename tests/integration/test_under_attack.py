"""The application behind a real server: spoilt requests, its own description, and a browser.

The long versions are `make chaos NAME=malformed` and `make chaos NAME=schema`.
"""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
import uvicorn

from serving.app import create_app
from serving.security.keys import Scope, create_key
from serving.security.protection import Protection
from serving.service import Service
from tests.chaos._spoilt import seeds
from tests.chaos.malformed import Tally, attack
from tests.chaos.schema import run

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
PEOPLE = ("c-1001", *(f"c{number}" for number in range(20)))
CHROMIUM = shutil.which("chromium")


@dataclass
class Served:
    """A service on a port of this machine."""

    service: Service
    address: str
    port: int
    key: str


@pytest.fixture
def served(market) -> Iterator[Served]:
    market.customers(*PEOPLE)
    market.campaign()
    with market.engine.begin() as conn:
        key = create_key(conn, "attacker", list(Scope), market.now)
    service = market.service(start=False, protection=Protection(requests_per_second=0))
    server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="critical", log_config=None))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    market.opened.remove(service)
    while not server.started:
        time.sleep(0.01)
    port = listening.getsockname()[1]
    yield Served(service, f"http://127.0.0.1:{port}", port, key.text)
    server.should_exit = True
    thread.join()


def test_spoilt_requests_never_make_the_service_fail_or_hang(served):
    tally = Tally()
    attack(served, 800, 7, tally)
    assert tally.failed == []
    assert tally.hung == []
    # Neither all refused at the door nor all let through.
    assert {200, 400, 401, 404, 405, 415, 422} <= set(tally.statuses)
    assert httpx.get(f"{served.address}/healthz").status_code == 200


def test_every_route_is_attacked_with_the_body_that_it_takes(served):
    described = httpx.get(f"{served.address}/openapi.json").json()
    bodies = {(seed.method, seed.path): seed.body for seed in seeds(described)}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert ("requestBody" in operation) == (bodies[method.upper(), path] is not None)


def test_the_service_does_what_its_description_says(served, tmp_path):
    code, report = run(served.address, served.key, "examples", 5, 1, tmp_path, {"customer_id": [*PEOPLE]})
    assert code == 0, report[-4_000:]


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_pages_show_under_their_policy_in_a_browser(served):
    from playwright.sync_api import sync_playwright

    asked = {"requests": [{"customer_id": person, "campaign_id": "spring"} for person in PEOPLE]}
    headers = {"Authorization": f"Bearer {served.key}"}
    answered = httpx.post(f"{served.address}/v1/decisions/batch", json=asked, headers=headers).json()
    decision = answered["outcomes"][0]["decision"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        refused: list[str] = []
        hosts: set[str] = set()
        page.on("console", lambda line: line.type == "error" and refused.append(line.text))
        page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        page.goto(f"{served.address}/")
        assert page.url == f"{served.address}/sign-in?next=%2F"
        page.fill("#key", served.key)
        page.click("main button")
        page.wait_for_url(f"{served.address}/")
        forest = page.locator("svg.forest").first.bounding_box()
        assert forest is not None
        assert forest["width"] > 200
        assert (
            page.locator("main").evaluate("one => getComputedStyle(one).maxWidth") != "none"
        )  # the style sheet holds
        page.goto(f"{served.address}/decisions/{decision['decision_id']}")
        assert page.locator("svg").count() >= 1
        page.goto(f"{served.address}/docs")
        page.wait_for_selector(".opblock")
        page.locator(".opblock-summary").first.click()
        page.wait_for_selector(".opblock-body")
        assert refused == []
        assert hosts == {served.address.removeprefix("http://")}
        page.goto(f"{served.address}/sign-in")
        page.click("text=Sign out")
        page.wait_for_url(f"{served.address}/sign-in")
        page.goto(f"{served.address}/")
        assert "/sign-in" in page.url
        browser.close()

"""A campaign manager's way, as the how-to page tells it: three channels, preview, 500 people, and what came back."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import httpx
import pytest

from serving.channels.testing import HttpWire, SignedEvents
from tests.integration.channels.providers import Line, Twilio, line_event

if TYPE_CHECKING:
    from conftest import ServiceProcess

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/send-a-campaign.md").read_text(encoding="utf-8")
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"
CHROMIUM = shutil.which("chromium")
_SLOT_SECONDS = 8


class ServedWire:
    """A provider's end on a port of this machine."""

    def __init__(self, wire: HttpWire) -> None:
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = httpx.Request("POST", f"http://127.0.0.1{self.path}", headers=dict(self.headers), content=body)  # fmt: skip
                with lock:
                    answer = asyncio.run(wire.handle_async_request(request))
                self.send_response(answer.status_code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def providers() -> Iterator[tuple[Twilio, str, Line, str]]:
    twilio, line = Twilio(), Line()
    served = [ServedWire(twilio), ServedWire(line)]
    yield twilio, served[0].address, line, served[1].address
    for each in served:
        each.close()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def run(block: str, folder: Path, service: ServiceProcess) -> str:
    """As a person would type it, against the test's own service."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", block.replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")],
        cwd=folder,
        env=service.environment | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def eventually(check: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.2)
    raise AssertionError(f"nothing within {seconds} s")


def soon() -> dict[str, Any]:
    """The page's campaign, with a slot every few seconds and no quiet hours, so that nobody waits for the evening."""
    (text,) = blocks("json")
    document: dict[str, Any] = json.loads(text)
    now = datetime.now(UTC)
    moments = (now + timedelta(seconds=_SLOT_SECONDS * step) for step in range(90))
    document["campaign"]["slots"] = sorted(each.time().replace(microsecond=0).isoformat() for each in moments)
    document["campaign"]["quiet_hours"] = {"start": "00:00:00", "end": "00:00:00"}
    return document


def outcomes(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line)["decision"] for line in file.read_text().splitlines()]


def test_a_campaign_on_three_channels_goes_to_a_segment_of_500_and_its_receipts_arrive(
    service: ServiceProcess, providers: tuple[Twilio, str, Line, str], tmp_path: Path
) -> None:
    twilio, sms_address, line, line_address = providers
    service.settings = {
        "NEXTCHANNEL_ADAPTERS": '{"sms": "twilio", "line": "line"}',
        "NEXTCHANNEL_ADAPTER_SETTINGS": json.dumps(
            {
                "twilio": {
                    "account_sid": twilio.sid,
                    "auth_token": twilio.token,
                    "sender": "+15550199",
                    "webhook_url": twilio.webhook,
                    "base_url": sms_address,
                },
                "line": {
                    "channel_access_token": line.token,
                    "channel_secret": line.secret,
                    "base_url": line_address,
                },
            }
        ),
        "NEXTCHANNEL_REQUESTS_PER_SECOND": "0",
    }
    people, put, preview, segment, rehearse, send, plan, waiting, report = blocks("sh")
    service.start()
    assert "520" in run(people, tmp_path, service)
    (tmp_path / "spring.json").write_text(json.dumps(soon()))
    assert json.loads(run(put, tmp_path, service))["campaign"]["version"] == 1
    shown = {each["channel"]: each for each in json.loads(run(preview, tmp_path, service))["previews"]}
    assert shown["email"]["subject"] == "Tulips for Ada"
    assert shown["sms"]["body"] == "Ada: ten tulips for eight"
    assert all(each["fits"] for each in shown.values())
    assert '"n_members":500' in run(segment, tmp_path, service)
    assert run(rehearse, tmp_path, service).strip() == "500"
    assert not service.sink.received

    run(send, tmp_path, service)
    first = outcomes(tmp_path / "outcomes.ndjson")
    expected = {"email": 200, "line": 150, "sms": 150}
    assert Counter(each["action"]["channel"] for each in first) == expected
    run(send, tmp_path, service)  # the line broke, says the caller
    planned = run(plan, tmp_path, service)
    assert '"status":"ready"' in planned
    assert '"n_sampled":500' in planned
    assert '"status":"cancelled"' in planned
    assert outcomes(tmp_path / "outcomes.ndjson") == first
    eventually(lambda: (len(service.sink.received), len(line.taken), len(twilio.taken)) == (200, 150, 150))
    run(waiting, tmp_path, service)

    come_back(service, twilio, line)
    rows = eventually(lambda: settled(json.loads(run(report, tmp_path, service))["funnel"]))
    told = {
        row["channel"]: tuple(row[name] for name in ("planned", "sent", "delivered", "opened", "clicked"))
        for row in rows
    }
    assert told == {
        "email": (200, 200, None, 100, 20),
        "line": (150, 150, None, None, 40),
        "sms": (150, 150, 120, None, 0),
    }
    # Nobody got two, and each their own words.
    assert len({mail.recipients[0] for mail in service.sink.received}) == 200
    assert {parse_qs(one.content.decode())["Body"][0][:10] for one in twilio.taken} == {"friend: te"}
    if CHROMIUM is None:
        pytest.skip("sent and reported; the page was not looked at: Chromium is not installed")
    assert on_the_page(service) == {
        "email": ["200", "200", "not reported", "100", "20"],
        "line": ["150", "150", "not reported", "not reported", "40"],
        "sms": ["150", "150", "120", "not reported", "0"],
    }


def settled(rows: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The funnel, once everything that was reported is in it."""
    clicked = {row["channel"]: row["clicked"] for row in rows}
    return rows if (clicked.get("email"), clicked.get("line")) == (20, 40) else None


def come_back(service: ServiceProcess, twilio: Twilio, line: Line) -> None:
    """What people and providers do: opens, clicks, deliveries, failures, replies and farewells."""
    time.sleep(2.5)  # sooner, it would count as a scanner's
    with httpx.Client(base_url=service.address, headers={"User-Agent": BROWSER}) as client:
        mails = [mail.parsed.get_body(("html",)).get_content() for mail in service.sink.received]  # type: ignore[union-attr]
        for number, html in enumerate(mails[:100]):
            kinds = ("o", "c") if number < 20 else ("o",)
            for kind in kinds:
                address = re.search(rf"/t/{kind}/[\w.-]+", html)
                assert address is not None
                assert client.get(address.group()).status_code in (200, 302)
        for request in line.taken[:40]:
            link = re.search(r"/t/c/[\w.-]+", request.content.decode())
            assert link is not None
            assert client.get(link.group()).headers["location"] == "https://shop.example.com/tulips"

        def post(channel: str, signed: SignedEvents) -> None:
            answer = client.post(
                f"/v1/receipts/{channel}",
                content=signed.body,
                headers={name: value for name, value in signed.headers.items() if not name.startswith(":")},
            )
            assert answer.status_code == 200, answer.text

        for number in range(130):
            status = {"MessageStatus": "delivered"} if number < 120 else {"MessageStatus": "failed", "ErrorCode": "30006"}  # fmt: skip
            post("sms", twilio.callback(MessageSid=f"SM{number:032x}", **status))
        post("line", line.hook(*(line_event("unfollow", f"U{n}", n) for n in range(201, 206))))
        # A forged report changes nothing.
        forged = twilio.callback(MessageSid=f"SM{140:032x}", MessageStatus="delivered")
        wrong = client.post("/v1/receipts/sms", content=forged.body, headers={"x-twilio-signature": "AAAA"})
        assert wrong.status_code == 401


def on_the_page(service: ServiceProcess) -> dict[str, list[str]]:
    """The first columns of the funnel as a browser shows them, by channel."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{service.address}/")
        page.select_option("#campaign", "tulips")
        page.click("text=Show")
        page.wait_for_selector("section[aria-labelledby=funnel] tbody tr")
        rows = page.locator("section[aria-labelledby=funnel] tbody tr").all()
        shown = {row.locator("th").inner_text(): row.locator("td").all_inner_texts()[:5] for row in rows}
        browser.close()
    return {channel: [cell.strip() for cell in cells] for channel, cells in shown.items()}

"""LINE, Twilio and WhatsApp as their published descriptions say, served by Prism.

Skipped where the program `prism` (`make spec-servers`, or its path in NEXTCHANNEL_PRISM) or the descriptions are missing:
they are looked for in NEXTCHANNEL_SPECS_DIR, or in `shared/specs` beside the checkout.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from models.domain.campaign import Content
from models.domain.channel import ContentKind, IdentityKind
from serving.channels.contract import AdapterContext, ChannelAdapter, RetryLaterError
from serving.channels.line import LineAdapter
from serving.channels.testing import ExampleLinks, example_message
from serving.channels.twilio import TwilioAdapter
from serving.channels.whatsapp import WhatsAppAdapter

SPECS = {
    "line": "line/messaging-api.yml",
    "twilio": "twilio/twilio_api_v2010.yaml",
    "whatsapp": "meta/business-messaging-api_v23.0.yaml",
}
_ROOT = Path(__file__).parents[3]
_START_SECONDS = 90
_LISTENING = re.compile(r"Prism is listening on (http://\S+)")
LINKED = Content(subject="Tulips", body="Ten for eight", link_url="https://t.example/c/1")


def _prism() -> str:
    installed = _ROOT / ".spec-servers/node_modules/.bin/prism"
    found = os.environ.get("NEXTCHANNEL_PRISM") or shutil.which("prism")
    if not found and shutil.which("node") and installed.exists():
        found = str(installed)
    if not found:
        pytest.skip("prism is missing: make spec-servers, or set NEXTCHANNEL_PRISM")
    return found


def _specs() -> Path:
    for folder in (
        os.environ.get("NEXTCHANNEL_SPECS_DIR"),
        _ROOT.parent / "shared/specs",
        _ROOT.parents[1] / "shared/specs",
    ):
        if folder and all((Path(folder) / file).is_file() for file in SPECS.values()):
            return Path(folder)
    pytest.skip("the descriptions are missing: set NEXTCHANNEL_SPECS_DIR")


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where each provider's mock listens; they start at the same time."""
    prism, specs, logs = _prism(), _specs(), tmp_path_factory.mktemp("prism")
    with contextlib.ExitStack() as stack:
        for name, file in SPECS.items():
            log = stack.enter_context((logs / name).open("wb"))
            process = subprocess.Popen(
                [prism, "mock", "--port", "0", "--host", "127.0.0.1", str(specs / file)],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        yield {name: _address(logs / name) for name in SPECS}


def _address(log: Path) -> str:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if found := _LISTENING.search(log.read_text(errors="replace")):
            return found[1].removesuffix("/")
        time.sleep(0.1)
    pytest.fail(f"prism did not start:\n{log.read_text(errors='replace')[-2_000:]}")


class Recorder(httpx.AsyncBaseTransport):
    """The network, keeping what the provider answered."""

    def __init__(self) -> None:
        self.inner = httpx.AsyncHTTPTransport()
        self.statuses: list[int] = []
        self.violations: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        self.statuses.append(response.status_code)
        self.violations += filter(None, [response.headers.get("sl-violations", "")])
        return response

    async def aclose(self) -> None:
        await self.inner.aclose()


def line(address: str) -> tuple[LineAdapter, Recorder]:
    settings = {
        "channel_access_token": "t",
        "channel_secret": "s",
        "base_url": address,
        "video_preview_url": "https://shop.example/p.jpg",
    }
    recorder = Recorder()
    return LineAdapter.build(AdapterContext(links=ExampleLinks(), settings=settings), recorder), recorder


def twilio(address: str) -> tuple[TwilioAdapter, Recorder]:
    settings = {
        "account_sid": "AC" + "0" * 32,
        "auth_token": "t",
        "sender": "+15550199",
        "base_url": address,
        "webhook_url": "https://news.example/v1/receipts/sms",
    }
    recorder = Recorder()
    return TwilioAdapter.build(AdapterContext(links=ExampleLinks(), settings=settings), recorder), recorder


def whatsapp(address: str) -> tuple[WhatsAppAdapter, Recorder]:
    settings = {
        "access_token": "t",
        "app_secret": "s",
        "verify_token": "verify-me",
        "phone_number_id": "106540352242922",
        "template_name": "spring",
        "base_url": address,
        # The description has no biz_opaque_callback_data, which the documentation has.
        "callback_data": "false",
    }
    recorder = Recorder()
    return WhatsAppAdapter.build(AdapterContext(links=ExampleLinks(), settings=settings), recorder), recorder


def send(made: tuple[ChannelAdapter, Recorder], kind: ContentKind, content: Content, recipient: str):
    adapter, recorder = made

    async def play():
        try:
            message = example_message(
                channel=adapter.name,
                identity_kind=IdentityKind.PHONE,
                recipient=recipient,
                content_kind=kind,
                content=content,
            )
            return await adapter.send(message)
        finally:
            await adapter.aclose()

    receipt = asyncio.run(play())
    assert recorder.violations == []
    assert all(200 <= status < 300 for status in recorder.statuses)
    return receipt


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (ContentKind.TEXT, LINKED),
        (ContentKind.STICKER, Content(body="446/1988")),
        (ContentKind.IMAGE, Content(body="Tulips", media_url="https://shop.example/t.jpg")),
        (ContentKind.VIDEO, Content(body="Tulips", media_url="https://shop.example/t.mp4")),
        (ContentKind.TEMPLATE, LINKED),
        (ContentKind.CARD, LINKED),
    ],
)
def test_line_takes_every_kind_of_content(addresses, kind, content):
    send(line(addresses["line"]), kind, content, "U4af4980629")


def test_line_takes_a_multicast(addresses):
    adapter, recorder = line(addresses["line"])
    batch = [example_message(channel="line", recipient=f"U{n}", number=n) for n in range(3)]

    async def play() -> None:
        await adapter.send_batch(batch, "0f6a2a52-0d0e-5c6b-8c8e-3c1d7a1f9b44")
        await adapter.aclose()

    asyncio.run(play())
    assert recorder.statuses == [200]
    assert recorder.violations == []


def test_line_refuses_a_retry_key_that_is_no_uuid_and_we_would_say_so(addresses):
    answer = httpx.post(
        f"{addresses['line']}/v2/bot/message/push",
        json={"to": "U1", "messages": [{"type": "text", "text": "x"}]},
        headers={"authorization": "Bearer t", "x-line-retry-key": "no-uuid"},
    )
    assert answer.status_code == 400


@pytest.mark.parametrize("body", ["Ten tulips", "春" * 80])
def test_twilio_takes_a_message_and_names_it(addresses, body):
    receipt = send(twilio(addresses["twilio"]), ContentKind.TEXT, Content(body=body), "+15550100")
    assert receipt.provider_message_id


def test_twilio_answers_for_the_account(addresses):
    adapter, recorder = twilio(addresses["twilio"])

    async def play() -> None:
        await adapter.check_account()
        await adapter.aclose()

    asyncio.run(play())
    assert recorder.statuses == [200]


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (ContentKind.TEXT, LINKED),
        (ContentKind.TEMPLATE, LINKED),
        (ContentKind.IMAGE, Content(body="Tulips", media_url="https://shop.example/t.jpg")),
        (ContentKind.VIDEO, Content(body="Tulips", media_url="https://shop.example/t.mp4")),
    ],
)
def test_whatsapp_takes_every_kind_of_content(addresses, kind, content):
    receipt = send(whatsapp(addresses["whatsapp"]), kind, content, "15550100")
    assert receipt.provider_message_id


def test_a_missing_token_is_the_accounts_fault(addresses):
    adapter, _ = line(addresses["line"])
    del adapter._client.headers["authorization"]

    async def play() -> None:
        with pytest.raises(RetryLaterError, match="401"):
            await adapter.send(example_message(channel="line", recipient="U1"))
        await adapter.aclose()

    asyncio.run(play())

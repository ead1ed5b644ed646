"""Signed webhooks: who may be called, what is signed, how long it is valid."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from models.domain.channel import IdentityKind
from models.domain.errors import InvalidInputError
from models.domain.interaction import InteractionKind
from serving.channels.contract import FinalRefusalError, ForgedEventsError, RetryLaterError
from serving.channels.public_addresses import PublicOnlyTransport, is_public
from serving.channels.testing import example_message
from serving.channels.webhook import WebhookAdapter, WebhookSettings

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
SECRET = "whsec_" + "c2VjcmV0" * 5
FORBIDDEN = (
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1%eth0",
    "fc00::1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "not-an-address",
)


def message(recipient: str):
    return example_message(channel="webhook", identity_kind=IdentityKind.WEBHOOK, recipient=recipient)


class Net:
    """A name server and a network: what was connected to, and under which name."""

    def __init__(self, answer: httpx.Response | None = None, **names: list[str]) -> None:
        self.names = {name.replace("_", "."): list(found) for name, found in names.items()}
        self.connected: list[tuple[str, str, str]] = []
        self.answer = answer or httpx.Response(200)

    async def resolve(self, host: str, _port: int) -> list[str]:
        if host not in self.names:
            raise OSError("no such name")
        found = self.names[host]
        # A rebinding server gives another address each time it is asked.
        return [found.pop(0)] if len(found) > 1 and found[0] != found[-1] else list(found)

    def transport(self, **options: bool) -> PublicOnlyTransport:
        def serve(request: httpx.Request) -> httpx.Response:
            self.connected.append(
                (request.url.host, request.headers["host"], request.extensions["sni_hostname"])
            )
            return self.answer

        return PublicOnlyTransport(resolve=self.resolve, inner=httpx.MockTransport(serve), **options)


def opened(net: Net, clock=lambda: NOW, **settings: object) -> WebhookAdapter:
    return WebhookAdapter(WebhookSettings(secret=SECRET, **settings), net.transport(), clock)


@pytest.mark.parametrize("address", FORBIDDEN)
def test_an_address_that_is_not_public_is_refused_after_its_name_was_resolved(address):
    assert not is_public(address)
    net = Net(crm_example=[address])
    with pytest.raises(FinalRefusalError, match="must be a public address"):
        asyncio.run(opened(net).send(message("https://crm.example/in")))
    assert net.connected == []


def test_one_private_address_among_public_ones_is_enough_to_refuse():
    net = Net(crm_example=["93.184.216.34", "93.184.216.34"])
    net.names["crm.example"] = ["93.184.216.34", "10.0.0.1", "93.184.216.34"]
    with pytest.raises(FinalRefusalError):
        asyncio.run(opened(net).send(message("https://crm.example/in")))
    assert net.connected == []


def test_the_connection_goes_to_the_address_that_was_judged_under_the_name_that_was_asked():
    net = Net(crm_example=["93.184.216.34", "127.0.0.1"])  # the second answer would be private
    asyncio.run(opened(net).send(message("https://crm.example/in")))
    assert net.connected == [("93.184.216.34", "crm.example", "crm.example")]


@pytest.mark.parametrize(
    "recipient",
    ["http://crm.example/in", "file:///etc/passwd", "gopher://crm.example/", "crm.example", "https://", ""],
)
def test_what_is_no_https_address_is_refused(recipient):
    net = Net(crm_example=["93.184.216.34"])
    with pytest.raises((FinalRefusalError, RetryLaterError)):
        asyncio.run(opened(net).send(message(recipient)))
    assert net.connected == []


def test_a_redirect_is_not_followed():
    net = Net(
        httpx.Response(302, headers={"location": "http://169.254.169.254/"}), crm_example=["93.184.216.34"]
    )
    with pytest.raises(FinalRefusalError, match="302"):
        asyncio.run(opened(net).send(message("https://crm.example/in")))
    assert len(net.connected) == 1


def test_a_setting_opens_ones_own_network():
    net = Net(crm_example=["10.0.0.7"])
    adapter = WebhookAdapter(WebhookSettings(secret=SECRET), net.transport(allow_private=True), lambda: NOW)
    asyncio.run(adapter.send(message("https://crm.example/in")))
    assert net.connected[0][0] == "10.0.0.7"


def test_a_name_that_does_not_resolve_is_tried_later():
    with pytest.raises(RetryLaterError, match="cannot be resolved"):
        asyncio.run(opened(Net()).send(message("https://crm.example/in")))


def test_the_endless_answer_of_a_stranger_is_not_read():
    class Endless(httpx.AsyncByteStream):
        n_parts = 0

        async def __aiter__(self):
            while True:
                Endless.n_parts += 1
                yield b"x" * 65_536

    net = Net(httpx.Response(200, stream=Endless()), crm_example=["93.184.216.34"])
    asyncio.run(opened(net).send(message("https://crm.example/in")))
    assert Endless.n_parts <= 1


def report(adapter: WebhookAdapter, at: datetime = NOW, **change: object) -> tuple[bytes, dict[str, str]]:
    event = {"event_id": "e", "message_id": "m", "kind": "opened", "occurred_at": NOW.isoformat()} | change
    body = json.dumps({"events": [event]}).encode()
    return body, adapter.signed("d-1", body, at)


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_a_report_is_valid_for_five_minutes(seconds):
    adapter = opened(Net())
    (event,) = adapter.parse_events(*report(adapter, NOW + timedelta(seconds=seconds)))
    assert (event.kind, event.provider_message_id) == (InteractionKind.OPENED, "m")


@pytest.mark.parametrize("seconds", [-301, 301, 10**9])
def test_and_not_a_second_longer(seconds):
    adapter = opened(Net())
    with pytest.raises(ForgedEventsError, match="300 s"):
        adapter.parse_events(*report(adapter, NOW + timedelta(seconds=seconds)))


@pytest.mark.parametrize(
    "change",
    [{"kind": "converted"}, {"kind": "danced"}, {"occurred_at": "2026-03-02T09:00:00"}, {"occurred_at": 7}],
)
def test_a_signed_report_of_something_else_is_refused(change):
    adapter = opened(Net())
    with pytest.raises(ForgedEventsError):
        adapter.parse_events(*report(adapter, **change))


def test_the_signature_is_that_of_the_published_example():
    # https://github.com/standard-webhooks/standard-webhooks, the vector of its reference libraries.
    adapter = WebhookAdapter(WebhookSettings(secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
    made = adapter.signed(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', datetime.fromtimestamp(1614265330, UTC)
    )
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", ["whsec_c2hvcnQ=", "whsec_***", "plain words"])
def test_a_weak_secret_is_refused(secret):
    with pytest.raises(InvalidInputError, match=r"webhook.secret"):
        WebhookAdapter(WebhookSettings(secret=secret))

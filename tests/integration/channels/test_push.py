"""App and web push: tokens are bought once, APNs over real HTTP/2, browsers get what only they can read."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import jwt
import pytest

from models.domain.campaign import Content
from models.domain.channel import IdentityKind
from models.domain.errors import InvalidInputError
from models.domain.interaction import InteractionKind
from serving.channels.apns import ApnsAdapter, ApnsSettings
from serving.channels.contract import AdapterContext, FinalRefusalError, RetryLaterError
from serving.channels.fcm import FcmAdapter, FcmSettings
from serving.channels.testing import ExampleLinks, example_message
from serving.channels.web_push import WebPushAdapter, WebPushSettings
from tests.integration.channels.providers import Browser, Fcm, PushService
from tests.integration.channels.test_laws import make_keys

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
CONTENT = Content(subject="Spring", body="Ten tulips", link_url="https://t.example/c/1")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_keys(tmp_path_factory.mktemp("keys"))


def message(recipient: str, number: int = 0, channel: str = "push", **content: str):
    return example_message(
        channel=channel,
        identity_kind=IdentityKind.DEVICE,
        recipient=recipient,
        content=replace(CONTENT, **content),
        number=number,
    )


class TestFcm:
    def opened(self, keys, wire: Fcm, clock=lambda: NOW) -> FcmAdapter:
        settings = FcmSettings(service_account_file=str(keys["folder"] / "account.json"))
        return FcmAdapter(settings, ExampleLinks(), wire, clock)

    def test_a_hundred_messages_cost_one_token_and_an_hour_later_another(self, keys):
        wire, now = Fcm(keys["google"]), [NOW]

        async def play() -> None:
            adapter = self.opened(keys, wire, lambda: now[0])
            await asyncio.gather(*(adapter.send(message(f"device-{n}", n)) for n in range(100)))
            now[0] += timedelta(hours=1)
            await adapter.send(message("device-x"))

        asyncio.run(play())
        assert len(wire.taken) == 101
        assert [claims["iss"] for claims in wire.assertions] == ["sender@bulbs.example"] * 2
        assert wire.assertions[0]["scope"] == "https://www.googleapis.com/auth/firebase.messaging"

    def test_the_message_lives_as_long_as_the_offer_and_replaces_its_double(self, keys):
        wire = Fcm(keys["google"])
        asyncio.run(self.opened(keys, wire).send(message("device-1")))
        said = json.loads(wire.taken[0].content)["message"]
        own = message("device-1").message_id
        assert said["android"] == {"collapseKey": own, "ttl": "21600s"}
        assert said["data"] == {
            "message_id": own,
            "opened_url": f"https://links.example/t/o/{own}.gif",
            "link": "https://t.example/c/1",
        }

    def test_a_device_that_is_gone_is_final_and_a_long_message_is_not_sent(self, keys):
        wire = Fcm(keys["google"])
        wire.refuse("gone")
        with pytest.raises(FinalRefusalError, match="UNREGISTERED"):
            asyncio.run(self.opened(keys, wire).send(message("gone")))
        with pytest.raises(FinalRefusalError, match="4096"):
            asyncio.run(self.opened(keys, wire).send(message("device-1", body="春" * 1_300)))
        assert wire.taken == []

    def test_a_key_that_is_none_is_named(self, tmp_path: Path):
        (tmp_path / "key.json").write_text("{}")
        for file in ("key.json", "absent.json"):
            with pytest.raises(InvalidInputError, match=r"fcm\.service_account_file"):
                FcmAdapter(FcmSettings(service_account_file=str(tmp_path / file)), ExampleLinks())


class AppleServer:
    """APNs' end over real HTTP/2 (without TLS, on loopback); each request's headers and body are kept."""

    def __init__(self, status: int = 200, reason: str = "") -> None:
        self.status, self.reason = status, reason
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.n_connections = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.n_connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        conn.initiate_connection()
        sock.sendall(conn.data_to_send())
        streams: dict[int, tuple[dict[str, str], bytearray]] = {}
        while data := sock.recv(65_536):
            for event in conn.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    headers = {k.decode(): v.decode() for k, v in event.headers}
                    streams[event.stream_id] = (headers, bytearray())
                elif isinstance(event, h2.events.DataReceived):
                    streams[event.stream_id][1].extend(event.data)
                    conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    headers, body = streams.pop(event.stream_id)
                    self.requests.append((headers, bytes(body)))
                    answer = [(":status", str(self.status)), ("apns-id", headers["apns-id"])]
                    conn.send_headers(event.stream_id, answer)
                    words = json.dumps({"reason": self.reason}).encode() if self.reason else b""
                    conn.send_data(event.stream_id, words, end_stream=True)
            sock.sendall(conn.data_to_send())


@pytest.fixture
def apple() -> Iterator[AppleServer]:
    server = AppleServer()
    yield server
    server.close()


class TestApns:
    def opened(self, keys, server: AppleServer, clock=lambda: NOW) -> ApnsAdapter:
        settings = ApnsSettings(
            key_file=str(keys["folder"] / "key.p8"),
            key_id="KEY1234567",
            team_id="TEAM123456",
            topic="example.bulbs",
            base_url=server.url,
        )
        return ApnsAdapter(settings, ExampleLinks(), clock=clock)

    def test_messages_share_one_connection_and_one_token_for_forty_minutes(self, keys, apple):
        now = [NOW]

        async def play() -> None:
            adapter = self.opened(keys, apple, lambda: now[0])
            await adapter.send(message("ab" * 32))
            await asyncio.gather(*(adapter.send(message("cd" * 32, n)) for n in range(1, 20)))
            now[0] += timedelta(minutes=41)
            await adapter.send(message("ef" * 32))
            await adapter.aclose()

        asyncio.run(play())
        assert len(apple.requests) == 21
        assert apple.n_connections == 1
        tokens = list(dict.fromkeys(headers["authorization"] for headers, _ in apple.requests))
        assert len(tokens) == 2
        token = tokens[0].removeprefix("bearer ")
        claims = jwt.decode(token, keys["apple"], algorithms=["ES256"], options={"verify_iat": False})
        assert claims == {"iss": "TEAM123456", "iat": int(NOW.timestamp())}

    def test_the_request_says_what_apple_wants_to_know(self, keys, apple):
        async def play() -> None:
            adapter = self.opened(keys, apple)
            await adapter.send(message("ab" * 32))
            await adapter.aclose()

        asyncio.run(play())
        headers, body = apple.requests[0]
        own = message("x").message_id
        assert headers[":path"] == "/3/device/" + "ab" * 32
        assert (headers["apns-topic"], headers["apns-push-type"]) == ("example.bulbs", "alert")
        assert headers["apns-id"] == headers["apns-collapse-id"] == own
        assert headers["apns-expiration"] == str(int((NOW + timedelta(hours=6)).timestamp()))
        said = json.loads(body)
        assert said["aps"]["alert"] == {"title": "Spring", "body": "Ten tulips"}
        assert said["link"] == "https://t.example/c/1"

    @pytest.mark.parametrize(
        ("status", "reason", "error"),
        [
            (410, "Unregistered", FinalRefusalError),
            (400, "BadDeviceToken", FinalRefusalError),
            (403, "ExpiredProviderToken", RetryLaterError),
            (429, "TooManyRequests", RetryLaterError),
            (503, "Shutdown", RetryLaterError),
        ],
    )
    def test_a_reason_is_final_or_later(self, keys, apple, status, reason, error):
        apple.status, apple.reason = status, reason

        async def play() -> None:
            adapter = self.opened(keys, apple)
            with pytest.raises(error, match=reason):
                await adapter.send(message("ab" * 32))
            await adapter.aclose()

        asyncio.run(play())


class TestWebPush:
    def opened(self, keys, wire: PushService) -> WebPushAdapter:
        settings = WebPushSettings(private_key=keys["vapid_text"], subject="mailto:ops@shop.example")
        return WebPushAdapter(settings, ExampleLinks(), "https://news.example/v1/receipts/web_push", wire)

    def test_the_browser_alone_can_read_it_and_a_repeat_replaces_the_first(self, keys):
        browser = Browser()
        wire = PushService(keys["vapid"], browser)

        async def play() -> None:
            adapter = self.opened(keys, wire)
            for _ in range(2):
                await adapter.send(message(browser.subscription, channel="web_push"))

        asyncio.run(play())
        own = message("x").message_id
        said = json.loads(wire.opened[0])
        (event,) = self.opened(keys, wire).parse_events(said.pop("receipt").encode(), {})
        assert (event.kind, event.message_id) == (InteractionKind.DELIVERED, own)
        assert said == {
            "message_id": own,
            "title": "Spring",
            "body": "Ten tulips",
            "opened_url": f"https://links.example/t/o/{own}.gif",
            "link": "https://t.example/c/1",
            "receipt_url": "https://news.example/v1/receipts/web_push",
        }
        assert b"tulips" not in wire.taken[0].content
        assert wire.taken[0].content != wire.taken[1].content
        assert len(set(wire.topics)) == 1
        assert len(wire.topics[0]) <= 32

    def test_an_expired_subscription_and_a_broken_one_are_final(self, keys):
        browser = Browser()
        wire = PushService(keys["vapid"], browser)
        wire.refuse(browser.subscription)
        broken = json.loads(browser.subscription)
        short = json.dumps({**broken, "keys": {"p256dh": "AAAA", "auth": "AAAA"}})
        unsafe = json.dumps({**broken, "endpoint": "http://push.example/1"})
        for recipient in (browser.subscription, short, unsafe, "{}", "nonsense"):
            with pytest.raises(FinalRefusalError):
                asyncio.run(self.opened(keys, wire).send(message(recipient, channel="web_push")))
        assert wire.opened == []

    def test_a_push_service_inside_ones_own_network_is_not_called(self, keys):
        settings = {"private_key": keys["vapid_text"], "subject": "mailto:ops@shop.example"}
        adapter = WebPushAdapter.build(AdapterContext(links=ExampleLinks(), settings=settings))
        inside = Browser("https://127.0.0.1:9/push").subscription
        with pytest.raises(FinalRefusalError, match="must be a public address"):
            asyncio.run(adapter.send(message(inside, channel="web_push")))

"""Every adapter that ships passes the conformance kit against a provider that remembers."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from py_vapid import Vapid02

from features.history.engine import connect
from features.history.tables import agent_tasks
from models.domain.campaign import Content
from models.domain.channel import ContentKind, IdentityKind
from serving.calls import CallQueue
from serving.channels.apns import ApnsAdapter
from serving.channels.apprise_bridge import AppriseAdapter
from serving.channels.call import CallAdapter
from serving.channels.contract import AdapterContext, ChannelAdapter
from serving.channels.direct_mail import DirectMailAdapter
from serving.channels.fcm import FcmAdapter
from serving.channels.instagram import InstagramAdapter
from serving.channels.line import LineAdapter
from serving.channels.messenger import MessengerAdapter
from serving.channels.smpp import SmppAdapter
from serving.channels.testing import (
    AdapterLaws,
    ExampleLinks,
    HttpWire,
    Scene,
    SignedEvents,
    Wire,
    example_message,
)
from serving.channels.twilio import TwilioAdapter
from serving.channels.web_push import WebPushAdapter
from serving.channels.webhook import WebhookAdapter
from serving.channels.webhooks import utc_now
from serving.channels.wechat import WeChatAdapter
from serving.channels.whatsapp import WhatsAppAdapter
from tests.integration.channels import providers
from tests.integration.channels.message_centre import MessageCentre

PHONE = "+15550100"
LINKED = Content(subject="Spring", body="Ten tulips for eight.", link_url="https://shop.example/t")
PICTURE = Content(subject="Spring", body="Tulips", media_url="https://shop.example/t.jpg")


def build(kind: type[ChannelAdapter], transport: Any = None, **settings: str) -> ChannelAdapter:
    context = AdapterContext(links=ExampleLinks(), settings=settings, webhook_url=providers.Twilio.webhook)
    return kind.build(context, transport)


class TestTwilio(AdapterLaws):
    def open(self) -> Scene:
        wire = providers.Twilio()
        adapter = build(TwilioAdapter, wire, account_sid=wire.sid, auth_token=wire.token, sender="+15550199")
        events = wire.callback(MessageSid="SM1", MessageStatus="delivered", To=PHONE)
        message = example_message(channel="sms", identity_kind=IdentityKind.PHONE, recipient=PHONE)
        return Scene(adapter=adapter, wire=wire, message=message, events=events)


class TestSmpp(AdapterLaws):
    def open(self) -> Scene:
        wire = MessageCentre()
        adapter = build(
            SmppAdapter,
            host="127.0.0.1",
            port=str(wire.port),
            system_id="bulbs",
            password="secret",
            sender="BULBS",
            timeout_seconds="0.5",
        )
        message = example_message(channel="sms", identity_kind=IdentityKind.PHONE, recipient=PHONE)
        return Scene(adapter=adapter, wire=wire, message=message)


class TestLine(AdapterLaws):
    kind, content = ContentKind.TEXT, LINKED

    def open(self) -> Scene:
        wire = providers.Line()
        adapter = build(
            LineAdapter,
            wire,
            channel_access_token=wire.token,
            channel_secret=wire.secret,
            video_preview_url="https://shop.example/preview.jpg",
        )
        events = wire.hook(
            providers.line_event("follow", number=1),
            providers.line_event("message", number=2, message={"type": "text", "text": "Hi"}),
        )
        message = example_message(
            channel="line",
            identity_kind=IdentityKind.LINE,
            recipient="U4af4980629",
            content_kind=self.kind,
            content=self.content,
        )
        return Scene(adapter=adapter, wire=wire, message=message, events=events)


class TestLineTemplate(TestLine):
    kind = ContentKind.TEMPLATE


class TestLineCard(TestLine):
    kind = ContentKind.CARD


class TestLineSticker(TestLine):
    kind, content = ContentKind.STICKER, Content(body="446/1988")


class TestLineVideo(TestLine):
    kind, content = ContentKind.VIDEO, Content(body="Tulips", media_url="https://shop.example/t.mp4")


class TestWhatsApp(AdapterLaws):
    kind, content = ContentKind.TEXT, LINKED

    def open(self) -> Scene:
        wire = providers.Meta()
        adapter = build(
            WhatsAppAdapter,
            wire,
            access_token=wire.token,
            app_secret=wire.secret,
            verify_token=wire.verify,
            phone_number_id="106",
            template_name="spring",
        )
        statuses = [
            providers.whatsapp_status("wamid.1", "delivered"),
            providers.whatsapp_status("wamid.1", "read"),
        ]
        events = wire.hook(2, providers.whatsapp_entry(statuses=statuses))
        message = example_message(
            channel="whatsapp",
            identity_kind=IdentityKind.WHATSAPP,
            recipient="15550100",
            content_kind=self.kind,
            content=self.content,
        )
        return Scene(adapter=adapter, wire=wire, message=message, events=events)


class TestWhatsAppTemplate(TestWhatsApp):
    kind = ContentKind.TEMPLATE


class TestWhatsAppImage(TestWhatsApp):
    kind, content = ContentKind.IMAGE, PICTURE


class TestMessenger(AdapterLaws):
    adapter: type[ChannelAdapter] = MessengerAdapter
    kind, content = ContentKind.TEXT, LINKED

    def open(self) -> Scene:
        wire = providers.Meta()
        adapter = build(
            self.adapter,
            wire,
            access_token=wire.token,
            app_secret=wire.secret,
            verify_token=wire.verify,
        )
        said = {
            "sender": {"id": "psid-1"},
            "timestamp": 1_772_442_000_000,
            "message": {"mid": "m_7", "text": "Hi"},
        }
        message = example_message(
            channel=adapter.name,
            identity_kind=IdentityKind(adapter.name),
            recipient="psid-1",
            content_kind=self.kind,
            content=self.content,
        )
        return Scene(adapter=adapter, wire=wire, message=message, events=wire.hook(1, {"messaging": [said]}))


class TestMessengerTemplate(TestMessenger):
    kind = ContentKind.TEMPLATE


class TestMessengerImage(TestMessenger):
    kind, content = ContentKind.IMAGE, PICTURE


class TestInstagram(TestMessenger):
    adapter = InstagramAdapter


class TestWeChat(AdapterLaws):
    kind, content = ContentKind.TEMPLATE, LINKED

    def open(self) -> Scene:
        wire = providers.WeChat()
        adapter = build(
            WeChatAdapter,
            wire,
            app_id=wire.app_id,
            app_secret=wire.secret,
            token=wire.verify,
            encoding_aes_key=wire.aes_key,
            template_id="T1",
        )
        message = example_message(
            channel="wechat",
            identity_kind=IdentityKind.WECHAT,
            recipient="o-1",
            content_kind=self.kind,
            content=self.content,
        )
        events = wire.hook(providers.wechat_xml("event", Event="subscribe"))
        return Scene(adapter=adapter, wire=wire, message=message, events=events)


class TestWeChatText(TestWeChat):
    kind = ContentKind.TEXT


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Keys as Google and Apple hand them out, and a VAPID key."""
    return make_keys(tmp_path_factory.mktemp("keys"))


def make_keys(folder: Path) -> dict[str, Any]:
    google, apple = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
    pem = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "project_id": "bulbs",
        "private_key_id": "1",
        "private_key": google.private_bytes(*pem).decode(),
        "client_email": "sender@bulbs.example",
        "token_uri": "https://oauth2.example/token",
    }
    (folder / "account.json").write_text(json.dumps(account))
    (folder / "key.p8").write_bytes(apple.private_bytes(*pem))
    vapid = Vapid02()
    vapid.generate_keys()
    number = vapid.private_key.private_numbers().private_value
    return {
        "folder": folder,
        "google": google.public_key(),
        "apple": apple.public_key(),
        "vapid": vapid,
        "vapid_text": providers._base64url(number.to_bytes(32, "big")),
    }


class WithKeys(AdapterLaws):
    @pytest.fixture(autouse=True)
    def _keep_keys(self, keys: dict[str, Any]) -> None:
        self.keys = keys


class TestFcm(WithKeys):
    def open(self) -> Scene:
        wire = providers.Fcm(self.keys["google"])
        adapter = build(FcmAdapter, wire, service_account_file=str(self.keys["folder"] / "account.json"))
        message = example_message(
            channel="push", identity_kind=IdentityKind.DEVICE, recipient="device-1", content=LINKED
        )
        return Scene(adapter=adapter, wire=wire, message=message)


class TestApns(WithKeys):
    def open(self) -> Scene:
        wire = providers.Apns(self.keys["apple"])
        adapter = build(
            ApnsAdapter,
            wire,
            key_file=str(self.keys["folder"] / "key.p8"),
            key_id="KEY1234567",
            team_id="TEAM123456",
            topic="example.bulbs",
        )
        message = example_message(
            channel="push", identity_kind=IdentityKind.DEVICE, recipient="ab" * 32, content=LINKED
        )
        return Scene(adapter=adapter, wire=wire, message=message)


class TestWebPush(WithKeys):
    def open(self) -> Scene:
        browser = providers.Browser()
        wire = providers.PushService(self.keys["vapid"], browser)
        adapter = build(
            WebPushAdapter,
            wire,
            private_key=self.keys["vapid_text"],
            subject="mailto:ops@shop.example",
        )
        message = example_message(
            channel="web_push",
            identity_kind=IdentityKind.WEB_PUSH,
            recipient=browser.subscription,
            content=LINKED,
        )
        assert isinstance(adapter, WebPushAdapter)
        receipt = SignedEvents(body=adapter._receipt(message.message_id).encode(), signature="")
        return Scene(adapter=adapter, wire=wire, message=message, events=receipt)


class Receiver(HttpWire):
    """A customer's own system."""

    def recipient_of(self, request: Any) -> str | None:
        return str(request.url)

    def answer(self, request: Any) -> Any:
        return providers.httpx.Response(204 if request.content else 400)

    def refusing(self) -> Any:
        return providers.httpx.Response(410)


class TestWebhook(AdapterLaws):
    def open(self) -> Scene:
        wire = Receiver()
        adapter = build(WebhookAdapter, wire, secret="whsec_" + "c2VjcmV0" * 5)
        assert isinstance(adapter, WebhookAdapter)
        event = {
            "event_id": "e1",
            "message_id": "m1",
            "kind": "delivered",
            "occurred_at": "2026-03-02T09:00:00+00:00",
        }
        body = json.dumps({"events": [event]}).encode()
        events = SignedEvents(
            body=body, headers=adapter.signed("d1", body, utc_now()), signature="webhook-signature"
        )
        message = example_message(
            channel="webhook",
            identity_kind=IdentityKind.WEBHOOK,
            recipient="https://crm.example/in",
            content=LINKED,
        )
        return Scene(adapter=adapter, wire=wire, message=message, events=events)


class Printer(Wire):
    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp())

    def accepted(self) -> Sequence[bytes]:
        return [line for file in self.folder.glob("*.csv") for line in file.read_bytes().splitlines()[1:]]

    def close(self) -> None:
        shutil.rmtree(self.folder)


class TestDirectMail(AdapterLaws):
    def open(self) -> Scene:
        wire = Printer()
        message = example_message(
            channel="direct_mail",
            identity_kind=IdentityKind.ADDRESS,
            recipient="Ada\nHauptstr. 1\n10115 Berlin",
        )
        return Scene(adapter=build(DirectMailAdapter, wire.folder), wire=wire, message=message)


class Service(Wire):
    """A service of Apprise's: its JSON webhook, on loopback."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if outer.status == 200:
                    outer.received.append(body)
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def accepted(self) -> Sequence[bytes]:
        return list(self.received)

    def delay(self, recipient: str) -> bool:  # noqa: ARG002
        self.status = 503
        return True

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class TestApprise(AdapterLaws):
    def open(self) -> Scene:
        wire = Service()
        address = f"json://127.0.0.1:{wire.server.server_port}/{{recipient}}"
        message = example_message(channel="telegram", recipient="12345", content=LINKED)
        return Scene(adapter=build(AppriseAdapter, service=address), wire=wire, message=message)


class Queue(Wire):
    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.engine = connect(f"sqlite:///{self.folder / 'calls.db'}")
        agent_tasks.create(self.engine)

    def accepted(self) -> Sequence[bytes]:
        with self.engine.connect() as conn:
            return [repr(tuple(row)).encode() for row in conn.execute(agent_tasks.select())]

    def close(self) -> None:
        self.engine.dispose()
        shutil.rmtree(self.folder)


class TestCall(AdapterLaws):
    def open(self) -> Scene:
        wire = Queue()
        message = example_message(channel="call", identity_kind=IdentityKind.PHONE, recipient=PHONE)
        return Scene(adapter=build(CallAdapter, CallQueue(wire.engine)), wire=wire, message=message)

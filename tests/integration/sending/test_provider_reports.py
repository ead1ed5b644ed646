"""What providers post to `/v1/receipts/{channel}`: forged bodies leave no trace, true ones reach messages and people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from features.history.append import append_consents, append_identities
from features.history.query import load_customers
from features.history.tables import interactions, outbox, receipts
from models.domain.channel import DEFAULT_CHANNELS, IdentityKind
from models.domain.customer import Consent, ConsentStatus, Identity
from models.domain.message import Receipt, ReceiptStatus
from serving.app import create_app
from serving.channels.contract import AdapterContext
from serving.channels.instagram import InstagramAdapter
from serving.channels.line import LineAdapter
from serving.channels.messenger import MessengerAdapter
from serving.channels.testing import ExampleLinks, SignedEvents
from serving.channels.twilio import TwilioAdapter
from serving.channels.webhook import WebhookAdapter
from serving.channels.wechat import WeChatAdapter
from serving.channels.whatsapp import WhatsAppAdapter
from serving.store.endings import sent
from serving.store.outbox import claim, settle
from tests.integration.channels import providers

LINE, META, TWILIO, WECHAT = providers.Line(), providers.Meta(), providers.Twilio(), providers.WeChat()
GRAPH = {"access_token": META.token, "app_secret": META.secret, "verify_token": META.verify}
WEBHOOK = {"secret": "whsec_" + "c2VjcmV0" * 5}
SETTINGS = {
    "sms": (TwilioAdapter, {"account_sid": TWILIO.sid, "auth_token": TWILIO.token, "sender": "+15550199"}),
    "line": (LineAdapter, {"channel_access_token": LINE.token, "channel_secret": LINE.secret}),
    "whatsapp": (WhatsAppAdapter, {**GRAPH, "phone_number_id": "106"}),
    "messenger": (MessengerAdapter, GRAPH),
    "instagram": (InstagramAdapter, GRAPH),
    "webhook": (WebhookAdapter, WEBHOOK),
    "wechat": (
        WeChatAdapter,
        {
            "app_id": WECHAT.app_id,
            "app_secret": WECHAT.secret,
            "token": WECHAT.verify,
            "encoding_aes_key": WECHAT.aes_key,
        },
    ),
}


@dataclass
class Reports:
    client: TestClient
    shop: object
    market: object

    def post(self, channel: str, signed: SignedEvents) -> int:
        headers = {name: value for name, value in signed.headers.items() if not name.startswith(":")}
        path = signed.headers.get(":path", f"/v1/receipts/{channel}")
        return self.client.post(path, content=signed.body, headers=headers).status_code

    def rows(self) -> int:
        with self.shop.engine.connect() as conn:
            return sum(
                conn.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (receipts, interactions)
            )

    def kinds(self, customer_id: str) -> list[str]:
        return [fact["kind"] for fact in self.shop.facts() if fact["customer_id"] == customer_id]

    def send(self, channel: str, provider: str, number: int = 0) -> str:
        """A message that the provider took under the id `p-<number>`."""
        (message,) = self.shop.add_messages(1, first=number, channel=channel)
        now = self.market.now
        with self.shop.engine.begin() as conn:
            conn.execute(outbox.update().values(due_at=now))
            (claimed,) = claim(conn, now, 60, 1)
            receipt = Receipt(
                status=ReceiptStatus.ACCEPTED, provider=provider, provider_message_id=f"p-{number}"
            )
            settle(conn, [sent(claimed, now, receipt)])
        return message

    def link(self, kind: IdentityKind, value: str, customer_id: str = "c0") -> None:
        linked = Identity(
            customer_id=customer_id,
            kind=kind,
            value=value,
            linked_at=self.market.now - timedelta(days=9),
            source="t",
        )
        with self.shop.engine.begin() as conn:
            append_identities(conn, [linked])

    def reachable(self, kind: IdentityKind, customer_id: str = "c0") -> bool:
        with self.shop.engine.connect() as conn:
            return kind in load_customers(conn, [customer_id], self.market.now)[customer_id].identities


@pytest.fixture
def reports(market, shop) -> Iterator[Reports]:
    adapters = {
        channel: kind.build(
            AdapterContext(links=ExampleLinks(), settings=settings, webhook_url=TWILIO.webhook), LINE
        )
        for channel, (kind, settings) in SETTINGS.items()
    }
    service = market.service(start=False)
    market.opened.remove(service)
    with TestClient(create_app(replace(service, adapters=adapters))) as client:
        yield Reports(client, shop, market)


def messaged() -> SignedEvents:
    said = {
        "sender": {"id": "+15550000"},
        "timestamp": 1_772_442_000_000,
        "message": {"mid": "m", "text": "Hi"},
    }
    return META.hook(1, {"messaging": [said]})


def opened_webhook() -> SignedEvents:
    event = {
        "event_id": "e",
        "message_id": "p-0",
        "kind": "opened",
        "occurred_at": "2026-03-02T09:00:00+00:00",
    }
    body = json.dumps({"events": [event]}).encode()
    adapter = WebhookAdapter.build(AdapterContext(links=ExampleLinks(), settings=WEBHOOK), LINE)
    return SignedEvents(
        body=body, headers=adapter.signed("p-0", body, datetime.now(UTC)), signature="webhook-signature"
    )


ONE_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
TRUE_REPORTS = {
    "sms": lambda: TWILIO.callback(MessageSid="p-0", MessageStatus="delivered"),
    "line": lambda: LINE.hook(providers.line_event("follow", "+15550000")),
    "whatsapp": lambda: META.hook(
        1, providers.whatsapp_entry(statuses=[providers.whatsapp_status("p-0", "delivered")])
    ),
    "messenger": messaged,
    "instagram": messaged,
    "webhook": opened_webhook,
    "wechat": lambda: WECHAT.hook(
        providers.wechat_xml("event", Event="TEMPLATESENDJOBFINISH", MsgID="p-0", Status="success")
    ),
}


def forgeries(true: SignedEvents, n: int, rng: Random) -> Iterator[SignedEvents]:
    """Reports that somebody could post who has seen a true one and has not the secret."""
    head, covered, tail = true.body.partition(true.covered or true.body)
    signed = true.headers[true.signature]
    begins = signed.index("signature=") + len("signature=") if true.signature == ":path" else 0
    for number in range(n):
        place, bits = rng.randrange(len(covered)), 1 + rng.randrange(255)
        at = rng.randrange(begins, len(signed))
        match number % 5:
            case 0:  # other words under the signature
                body = covered[:place] + bytes([covered[place] ^ bits]) + covered[place + 1 :]
                yield replace(true, body=head + body + tail)
            case 1:  # fewer
                yield replace(true, body=head + covered[:place] + tail)
            case 2:  # more
                yield replace(true, body=head + covered + b"x" * bits + tail)
            case 3:  # the same under another signature
                other = signed[:at] + ("A" if signed[at] != "A" else "B") + signed[at + 1 :]
                yield replace(true, headers={**true.headers, true.signature: other})
            case _:  # and under a part of it
                yield replace(true, headers={**true.headers, true.signature: signed[:at]})


@ONE_SQLITE
@pytest.mark.parametrize("channel", TRUE_REPORTS)
def test_a_thousand_forged_reports_are_refused_and_leave_no_row_and_the_true_one_is_taken(reports, channel):
    reports.send(channel, SETTINGS[channel][0].name)
    before, true = reports.rows(), TRUE_REPORTS[channel]()
    answers = Counter(reports.post(channel, forged) for forged in forgeries(true, 1_000, Random(3)))
    assert answers == {401: 1_000}
    assert reports.rows() == before
    assert reports.post(channel, true) == 200
    assert reports.rows() > before


@ONE_SQLITE
@pytest.mark.parametrize("channel", TRUE_REPORTS)
def test_a_report_without_a_signature_is_refused(reports, channel):
    bare = replace(TRUE_REPORTS[channel](), headers={})
    assert reports.post(channel, bare) == 401
    assert reports.client.post("/v1/receipts/email", content=b"{}").status_code == 404
    assert reports.client.post("/v1/receipts/pigeon", content=b"{}").status_code == 404


def test_a_delivery_reaches_its_message_once_however_often_it_is_reported(reports):
    message = reports.send("sms", "twilio")
    report = TWILIO.callback(MessageSid="p-0", MessageStatus="delivered")
    for _ in range(5):
        assert reports.post("sms", report) == 200
    assert reports.kinds("c0") == ["sent", "delivered"]
    assert reports.shop.row(message)["receipt"] == "delivered"


def test_a_status_names_our_own_id_even_where_the_providers_was_never_written(reports):
    (message,) = reports.shop.add_messages(1, channel="whatsapp")
    status = providers.whatsapp_status("wamid.9", "read", biz_opaque_callback_data=message)
    assert reports.post("whatsapp", META.hook(1, providers.whatsapp_entry(statuses=[status]))) == 200
    assert "opened" in reports.kinds("c0")


def test_a_watermark_covers_what_was_sent_until_then_and_nothing_later(reports):
    reports.send("messenger", "messenger", 0)
    reports.market.now += timedelta(hours=1)
    early = int((reports.market.now - timedelta(minutes=30)).timestamp() * 1_000)
    reports.link(IdentityKind.MESSENGER, "psid-0")

    def read(watermark: int) -> SignedEvents:
        said = {"sender": {"id": "psid-0"}, "timestamp": watermark, "read": {"watermark": watermark}}
        return META.hook(1, {"messaging": [said]})

    reports.send("messenger", "messenger", 1)
    reports.link(IdentityKind.MESSENGER, "psid-1", "c1")
    for _ in range(2):
        assert reports.post("messenger", read(early)) == 200
    assert reports.kinds("c0").count("opened") == 1
    assert reports.kinds("c1").count("opened") == 0


def test_who_unfollows_cannot_be_reached_until_they_follow_again_in_whatever_order_it_is_told(reports):
    reports.shop.add_messages(1)
    reports.link(IdentityKind.LINE, "U1")
    base = int((reports.market.now - timedelta(days=1)).timestamp() * 1_000)

    def told(kind: str, minute: int) -> None:
        event = providers.line_event(kind, "U1", minute) | {"timestamp": base + minute * 60_000}
        assert reports.post("line", LINE.hook(event)) == 200

    told("unfollow", 2)
    assert not reports.reachable(IdentityKind.LINE)
    told("follow", 1)
    assert not reports.reachable(IdentityKind.LINE)
    told("follow", 3)
    assert reports.reachable(IdentityKind.LINE)
    assert reports.reachable(IdentityKind.EMAIL)


def test_a_tap_names_its_message_and_a_reply_its_person(reports):
    reports.send("line", "line")
    with reports.shop.engine.connect() as conn:
        message = conn.execute(select(outbox.c.message_id)).scalar_one()
    tap = providers.line_event(
        "postback", "+15550000", 1, postback={"data": f"choice=red&message_id={message}"}, replyToken="r"
    )
    reply = providers.line_event(
        "message", "+15550000", 2, message={"type": "text", "text": "Which colours?"}
    )
    assert reports.post("line", LINE.hook(tap, reply)) == 200
    facts = {fact["kind"]: fact for fact in reports.shop.facts() if fact["source"] == "receipt:line"}
    assert facts["clicked"]["decision_id"] == "d0"
    assert facts["replied"]["decision_id"] == "d0"  # it answers the last message
    assert facts["replied"]["attributes"] == {"text": "Which colours?"}


def test_stop_by_sms_withdraws_the_consent_of_that_channel_alone(reports):
    reports.send("sms", "twilio")
    agreed = Consent(
        customer_id="c0",
        channel="email",
        purpose="marketing",
        status=ConsentStatus.GRANTED,
        since=reports.market.now,
        source="t",
    )
    with reports.shop.engine.begin() as conn:
        append_consents(conn, [agreed])
    assert reports.post("sms", TWILIO.callback(MessageSid="SM7", From="+15550000", Body="STOP")) == 200
    with reports.shop.engine.connect() as conn:
        consents = load_customers(conn, ["c0"], reports.market.now + timedelta(days=999))["c0"].consents
    assert consents["sms", "marketing"] is ConsentStatus.UNSUBSCRIBED
    assert consents["email", "marketing"] is ConsentStatus.GRANTED


@ONE_SQLITE
def test_a_stranger_leaves_no_trace(reports):
    before = reports.rows()
    assert reports.post("line", LINE.hook(providers.line_event("follow", "U-nobody"))) == 200
    assert reports.rows() == before


@ONE_SQLITE
def test_the_handshake_is_answered_to_who_knows_the_token(reports):
    asked = {"hub.mode": "subscribe", "hub.challenge": "1158201444"}
    good = reports.client.get("/v1/receipts/whatsapp", params={**asked, "hub.verify_token": META.verify})
    assert (good.status_code, good.text) == (200, "1158201444")
    assert good.headers["content-type"].startswith("text/plain")
    bad = reports.client.get("/v1/receipts/whatsapp", params={**asked, "hub.verify_token": "guess"})
    assert bad.status_code == 401
    stamp = {"timestamp": "1", "nonce": "2", "echostr": "echo"}
    wechat = reports.client.get(
        "/v1/receipts/wechat", params={**stamp, "signature": WECHAT.signature("1", "2")}
    )
    assert (wechat.status_code, wechat.text) == (200, "echo")
    assert reports.client.get("/v1/receipts/sms").status_code == 404


@ONE_SQLITE
def test_a_body_beyond_a_mebibyte_is_refused(reports):
    large = reports.client.post("/v1/receipts/line", content=b"x" * (1024 * 1024 + 1))
    assert (large.status_code, large.json()["type"]) == (413, "/problems/payload-too-large")


def test_every_channel_of_these_tests_is_a_default_channel():
    assert set(SETTINGS) <= {channel.name for channel in DEFAULT_CHANNELS}

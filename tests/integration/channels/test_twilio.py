"""SMS by Twilio: billed segments, signed callbacks, who leaves."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from hmac import digest
from urllib.parse import parse_qs, urlencode

import pytest

from models.domain.campaign import Content
from models.domain.channel import IdentityKind
from models.domain.errors import InvalidInputError
from models.domain.interaction import InteractionKind
from serving.channels.contract import AdapterContext, FinalRefusalError, ForgedEventsError
from serving.channels.testing import ExampleLinks, example_message
from serving.channels.twilio import TwilioAdapter
from tests.integration.channels.providers import Twilio

SETTINGS = {"account_sid": Twilio.sid, "auth_token": Twilio.token, "sender": "+15550199"}


def opened(wire: Twilio, **settings: str) -> TwilioAdapter:
    context = AdapterContext(links=ExampleLinks(), settings=SETTINGS | settings, webhook_url=Twilio.webhook)
    return TwilioAdapter.build(context, wire)


def said(body: str, link_url: str | None = None):
    return example_message(
        channel="sms",
        identity_kind=IdentityKind.PHONE,
        recipient="+15550100",
        content=Content(body=body, link_url=link_url),
    )


@pytest.mark.parametrize(
    ("body", "segments"), [("a" * 160, 1), ("a" * 161, 2), ("春" * 70, 1), ("春" * 71, 2)]
)
def test_the_receipt_counts_the_segments_that_are_billed(body, segments):
    wire = Twilio()
    receipt = asyncio.run(opened(wire).send(said(body)))
    assert receipt.n_units == segments


def test_the_message_asks_for_callbacks_and_carries_its_link():
    wire = Twilio()
    asyncio.run(opened(wire).send(said("Tulips", "https://t.example/c/1")))
    form = parse_qs(wire.taken[0].content.decode())
    assert form["Body"] == ["Tulips\nhttps://t.example/c/1"]
    assert form["StatusCallback"] == [Twilio.webhook]
    assert form["From"] == ["+15550199"]


def test_a_text_that_only_its_link_makes_too_long_is_refused():
    with pytest.raises(FinalRefusalError, match="1618"):
        asyncio.run(opened(Twilio()).send(said("a" * 1_590, "https://t.example/c/abcdefg")))


@pytest.mark.parametrize(
    ("status", "kind"),
    [("delivered", InteractionKind.DELIVERED), ("undelivered", InteractionKind.FAILED), ("queued", None)],
)
def test_a_status_becomes_an_event(status, kind):
    wire = Twilio()
    signed = wire.callback(MessageSid="SM1", MessageStatus=status, ErrorCode="30005")
    events = opened(wire).parse_events(signed.body, signed.headers)
    assert [event.kind for event in events] == ([kind] if kind else [])


@pytest.mark.parametrize("text", ["STOP", "stop", " Unsubscribe. ", "退訂"])
def test_a_word_of_leaving_is_an_unsubscription_and_other_words_are_a_reply(text):
    wire = Twilio()
    adapter = opened(wire)
    form = {"MessageSid": "SM2", "From": "15550100"}
    for body, kind in ((text, InteractionKind.UNSUBSCRIBED), ("STOP it already", InteractionKind.REPLIED)):
        covered = wire.webhook + "".join(
            name + value for name, value in sorted({"AccountSid": wire.sid, **form, "Body": body}.items())
        )
        signature = b64encode(digest(wire.token.encode(), covered.encode(), "sha1")).decode()
        (event,) = adapter.parse_events(
            urlencode({"AccountSid": wire.sid, **form, "Body": body}).encode(),
            {"x-twilio-signature": signature},
        )
        assert (event.kind, event.identity) == (kind, "15550100")


def test_the_signature_covers_the_query_of_the_address():
    wire = Twilio()
    signed = wire.callback(query="shop=1", MessageSid="SM1", MessageStatus="delivered")
    assert opened(wire).parse_events(signed.body, signed.headers)
    with pytest.raises(ForgedEventsError):
        opened(wire).parse_events(signed.body, {**signed.headers, ":path": "/v1/receipts/sms?shop=2"})


def test_a_parameter_cannot_be_made_of_two_by_losing_its_equals_sign():
    # Twilio signs names and values without anything between them.
    wire = Twilio()
    signed = wire.callback(MessageSid="SM1", MessageStatus="delivered", ErrorCode="30005")
    with pytest.raises(ForgedEventsError):
        opened(wire).parse_events(signed.body.replace(b"ErrorCode=", b"ErrorCode"), signed.headers)


def test_the_account_can_be_asked():
    assert asyncio.run(opened(Twilio()).check_account()) == "Bulb Shop, active"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"account_sid": "AC1"}, "twilio.account_sid"),
        ({"sender": ""}, "twilio.sender"),
        ({"messaging_service_sid": "MG1"}, "twilio.sender"),
        ({"api_key_sid": "SK1"}, "twilio.api_key_secret"),
        ({"base_url": "http://api.twilio.com"}, "twilio.base_url"),
        ({"timeout_seconds": "0"}, "twilio.timeout_seconds"),
        ({"tokn": "x"}, "twilio.tokn"),
    ],
)
def test_a_wrong_setting_is_named(change, field):
    with pytest.raises(InvalidInputError) as caught:
        opened(Twilio(), **change)
    assert caught.value.field == field

"""LINE: retry keys, every kind of content, multicast and reply."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from models.domain.campaign import Content
from models.domain.channel import ContentKind, IdentityKind
from serving.channels.contract import AdapterContext, FinalRefusalError, ForgedEventsError, QuotaError
from serving.channels.line import LineAdapter
from serving.channels.testing import ExampleLinks, example_message
from serving.channels.webhooks import hmac_base64
from tests.integration.channels.providers import Line, line_event

SETTINGS = {"channel_access_token": Line.token, "channel_secret": Line.secret, "button_label": "Buy"}


def opened(wire: Line) -> LineAdapter:
    return LineAdapter.build(AdapterContext(links=ExampleLinks(), settings=SETTINGS), wire)


def message(kind: ContentKind, number: int = 0, **content: str):
    return example_message(
        channel="line",
        identity_kind=IdentityKind.LINE,
        recipient=f"U{number}",
        content_kind=kind,
        content=Content(**{"body": "", **content}),
        number=number,
    )


def sent_by(kind: ContentKind, **content: str) -> list[dict]:
    wire = Line()
    asyncio.run(opened(wire).send(message(kind, **content)))
    return json.loads(wire.taken[0].content)["messages"]


def test_a_lost_answer_is_made_good_by_the_same_key():
    wire = Line()

    async def play() -> None:
        adapter = opened(wire)
        first = message(ContentKind.TEXT, body="Tulips")
        receipts = [await adapter.send(first) for _ in range(5)]
        assert {receipt.provider_message_id for receipt in receipts} == {first.message_id}

    asyncio.run(play())
    assert len(wire.taken) == 1
    assert wire.keys == {message(ContentKind.TEXT).message_id}


def test_plain_text_becomes_buttons_with_the_link():
    (made,) = sent_by(
        ContentKind.TEMPLATE, subject="Tulips", body="Ten for eight", link_url="https://t.example/c"
    )
    assert made == {
        "type": "template",
        "altText": "Tulips",
        "template": {
            "type": "buttons",
            "title": "Tulips",
            "text": "Ten for eight",
            "actions": [{"type": "uri", "label": "Buy", "uri": "https://t.example/c"}],
        },
    }


@pytest.mark.parametrize("kind", ["confirm", "carousel"])
def test_a_template_of_ones_own_goes_out_with_its_postbacks_marked(kind):
    actions = [
        {"type": "postback", "label": "Yes", "data": "yes"},
        {"type": "message", "label": "No", "text": "No"},
    ]
    template = {"type": kind, "text": "Come?", "actions": actions}
    if kind == "carousel":
        template = {"type": kind, "columns": [{"text": "Come?", "actions": actions}]}
    (made,) = sent_by(ContentKind.TEMPLATE, subject="S", body=json.dumps({"line": template, "wechat": {}}))
    own = message(ContentKind.TEMPLATE).message_id
    assert f'"data": "yes&message_id={own}"' in json.dumps(made)
    assert made["altText"] == "S"


def test_a_card_of_plain_text_is_a_flex_bubble():
    (made,) = sent_by(
        ContentKind.CARD,
        subject="Tulips",
        body="Ten for eight",
        media_url="https://shop.example/t.jpg",
        link_url="https://t.example/c",
    )
    assert made["type"] == "flex"
    assert made["contents"]["hero"]["url"] == "https://shop.example/t.jpg"
    assert made["contents"]["footer"]["contents"][0]["action"]["uri"] == "https://t.example/c"


def test_a_location_goes_out_as_a_card_of_its_own():
    place = {"type": "location", "title": "Shop", "address": "1 Road", "latitude": 1.0, "longitude": 2.0}
    assert sent_by(ContentKind.CARD, body=json.dumps({"line": place})) == [place]


def test_a_picture_is_followed_by_its_words_and_a_sticker_stands_alone():
    picture = sent_by(ContentKind.IMAGE, body="Tulips", media_url="https://shop.example/t.jpg")
    assert [each["type"] for each in picture] == ["image", "text"]
    assert sent_by(ContentKind.STICKER, body="446/1988") == [
        {"type": "sticker", "packageId": "446", "stickerId": "1988"}
    ]


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        (ContentKind.STICKER, {"body": "happy"}, "446/1988"),
        (ContentKind.VIDEO, {"body": "", "media_url": "https://shop.example/t.mp4"}, "video_preview_url"),
        (ContentKind.IMAGE, {"body": "", "media_url": "http://shop.example/t.jpg"}, "https"),
        (ContentKind.TEMPLATE, {"body": "a" * 161, "link_url": "https://t.example"}, "161"),
        (ContentKind.TEMPLATE, {"body": "no link"}, "link_url"),
        (ContentKind.TEMPLATE, {"body": '{"wechat": {}}'}, "no part for line"),
        (ContentKind.TEMPLATE, {"body": '{"line": '}, "no JSON"),
        (ContentKind.TEMPLATE, {"body": '{"line": {"type": "poem"}}'}, "must be one of"),
        (ContentKind.CARD, {"body": '{"line": {"type": "poem"}}'}, "must be a flex"),
        (ContentKind.TEXT, {"body": "\U0001f34e" * 2_501}, "5002"),
    ],
)
def test_content_that_makes_no_line_message_is_refused_before_it_is_sent(kind, content, words):
    wire = Line()
    with pytest.raises(FinalRefusalError, match=words):
        asyncio.run(opened(wire).send(message(kind, **content)))
    assert wire.taken == []


BATCH = "0f6a2a52-0d0e-5c6b-8c8e-3c1d7a1f9b44"


def test_a_multicast_reaches_five_hundred_in_one_request_and_once():
    wire = Line()
    batch = [message(ContentKind.TEXT, n, body="Tulips") for n in range(500)]

    async def play() -> None:
        adapter = opened(wire)
        for _ in range(2):
            receipts = await adapter.send_batch(batch, BATCH)
            assert [receipt.provider_message_id for receipt in receipts] == [
                each.message_id for each in batch
            ]
        with pytest.raises(FinalRefusalError, match="501"):
            await adapter.send_batch([*batch, message(ContentKind.TEXT, 500, body="Tulips")], BATCH)
        other = replace(batch[1], content=Content(body="Roses"))
        with pytest.raises(FinalRefusalError, match="say the same"):
            await adapter.send_batch([batch[0], other], BATCH)

    asyncio.run(play())
    assert len(wire.taken) == 1
    assert len(json.loads(wire.taken[0].content)["to"]) == 500


def test_a_reply_goes_out_under_its_token_and_without_a_key():
    wire = Line()
    asyncio.run(opened(wire).reply("r-1", message(ContentKind.TEXT, body="Red")))
    (request,) = wire.seen
    assert request.url.path == "/v2/bot/message/reply"
    assert json.loads(request.content)["replyToken"] == "r-1"
    assert "x-line-retry-key" not in request.headers


def test_the_monthly_quota_is_the_accounts():
    wire = Line(quota=0)
    with pytest.raises(QuotaError, match="monthly"):
        asyncio.run(opened(wire).send(message(ContentKind.TEXT, body="Tulips")))
    assert asyncio.run(opened(Line(quota=7)).check_account()) == "Bulb Shop, 0 of 7 sent"


def test_a_signed_body_that_is_no_report_is_refused():
    wire = Line()
    adapter = opened(wire)
    assert adapter.parse_events(*_parts(wire.hook())) == []
    for broken in ({"events": 7}, {"events": [7]}, {"events": [{"type": "follow", "source": 1}]}, []):
        body = json.dumps(broken).encode()
        signed = replace(wire.hook(), body=body)
        headers = {"x-line-signature": _signature(body)}
        with pytest.raises(ForgedEventsError):
            adapter.parse_events(signed.body, headers)
    event = line_event("follow") | {"timestamp": "soon"}
    with pytest.raises(ForgedEventsError):
        adapter.parse_events(*_parts(wire.hook(event)))


def _parts(signed):
    return signed.body, signed.headers


def _signature(body: bytes) -> str:
    return hmac_base64(Line.secret, body, "sha256")

"""WhatsApp, Messenger, Instagram and WeChat: windows, templates, tokens, and what they tell."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from models.domain.campaign import Content
from models.domain.channel import ContentKind, IdentityKind
from models.domain.errors import InvalidInputError
from models.domain.interaction import InteractionKind
from serving.channels.contract import (
    AdapterContext,
    FinalRefusalError,
    ForgedEventsError,
    QuotaError,
    RetryLaterError,
    UnknownOutcomeError,
)
from serving.channels.instagram import InstagramAdapter
from serving.channels.messenger import MessengerAdapter
from serving.channels.testing import ExampleLinks, example_message
from serving.channels.wechat import WeChatAdapter, WeChatSettings
from serving.channels.whatsapp import WhatsAppAdapter
from tests.integration.channels.providers import (
    Meta,
    WeChat,
    graph_error,
    problem,
    wechat_xml,
    whatsapp_entry,
    whatsapp_status,
)

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
GRAPH = {"access_token": Meta.token, "app_secret": Meta.secret, "verify_token": Meta.verify}
TEXT = Content(subject="Spring", body="Ten tulips", link_url="https://t.example/c/1")


def opened(kind, wire, **settings: str):
    needed = {"phone_number_id": "106"} if kind is WhatsAppAdapter else {}
    return kind.build(AdapterContext(links=ExampleLinks(), settings=GRAPH | needed | settings), wire)


def message(recipient: str, kind: ContentKind = ContentKind.TEXT, content: Content = TEXT):
    return example_message(
        channel="whatsapp",
        identity_kind=IdentityKind.WHATSAPP,
        recipient=recipient,
        content_kind=kind,
        content=content,
    )


def sent(wire, number: int = 0) -> dict:
    return json.loads(wire.taken[number].content)


class TestWhatsApp:
    def test_outside_the_window_a_text_is_refused_for_good_and_a_template_goes_out(self):
        wire = Meta()
        adapter = opened(WhatsAppAdapter, wire, template_name="spring")
        with pytest.raises(FinalRefusalError, match="131047"):
            asyncio.run(adapter.send(message("+15550177")))
        asyncio.run(adapter.send(message("+15550177", ContentKind.TEMPLATE)))
        assert sent(wire)["template"] == {
            "name": "spring",
            "language": {"policy": "deterministic", "code": "en"},
            "components": [
                {"type": "body", "parameters": [{"type": "text", "text": "Ten tulips https://t.example/c/1"}]}
            ],
        }
        assert (sent(wire)["to"], sent(wire)["biz_opaque_callback_data"]) == (
            "15550177",
            message("x").message_id,
        )

    def test_an_approved_template_of_ones_own_is_named_in_json(self):
        wire = Meta()
        body = json.dumps({"whatsapp": {"name": "sale", "language": "zh_TW", "components": []}})
        asyncio.run(
            opened(WhatsAppAdapter, wire).send(message("15550100", ContentKind.TEMPLATE, Content(body=body)))
        )
        assert sent(wire)["template"]["name"] == "sale"
        for wrong in ("plain", '{"whatsapp": {"name": "sale"}}', '{"line": {}}'):
            with pytest.raises(FinalRefusalError):
                asyncio.run(
                    opened(WhatsAppAdapter, wire).send(
                        message("15550100", ContentKind.TEMPLATE, Content(body=wrong))
                    )
                )
        assert len(wire.taken) == 1

    @pytest.mark.parametrize(
        ("code", "status", "error"),
        [
            (131026, 400, FinalRefusalError),
            (131049, 400, FinalRefusalError),
            (130429, 400, QuotaError),
            (131056, 400, QuotaError),
            (131000, 500, RetryLaterError),
            (190, 401, RetryLaterError),
            (999999, 400, FinalRefusalError),
            (999999, 500, RetryLaterError),
            (999999, 504, UnknownOutcomeError),
        ],
    )
    def test_a_code_of_graph_is_final_later_or_quota(self, code, status, error):
        wire = Meta()
        wire._answers["15550100"] = graph_error(status, code, "words")
        with pytest.raises(error, match="words"):
            asyncio.run(opened(WhatsAppAdapter, wire).send(message("15550100")))

    def test_statuses_replies_and_preferences_are_read(self):
        wire = Meta()
        failed = whatsapp_status("wamid.2", "failed", errors=[{"code": 131026, "title": "Undeliverable"}])
        entries = (
            whatsapp_entry(
                statuses=[whatsapp_status("wamid.1", "sent"), failed, whatsapp_status("w", "deleted")]
            ),
            whatsapp_entry(
                messages=[
                    {
                        "from": "15550100",
                        "id": "a",
                        "timestamp": "1772442000",
                        "type": "text",
                        "text": {"body": "Red"},
                    },
                    {
                        "from": "15550100",
                        "id": "b",
                        "timestamp": "1772442001",
                        "type": "interactive",
                        "interactive": {"type": "button_reply", "button_reply": {"id": "1", "title": "Stop"}},
                    },
                ]
            ),
            whatsapp_entry(
                user_preferences=[
                    {
                        "wa_id": "15550100",
                        "category": "marketing_messages",
                        "value": "stop",
                        "timestamp": 1772442002,
                    }
                ]
            ),
        )
        signed = wire.hook(0, *entries)
        events = opened(WhatsAppAdapter, wire).parse_events(signed.body, signed.headers)
        assert [event.kind for event in events] == [
            InteractionKind.SENT,
            InteractionKind.FAILED,
            InteractionKind.REPLIED,
            InteractionKind.UNSUBSCRIBED,
            InteractionKind.UNSUBSCRIBED,
        ]
        assert events[1].detail == "131026 Undeliverable"
        assert events[2].attributes == {"text": "Red"}
        assert len({event.event_id for event in events}) == 5

    @pytest.mark.parametrize("value", [7, [], {"statuses": [7]}, {"messages": [{"type": "text"}]}])
    def test_a_signed_body_of_another_form_is_refused(self, value):
        wire = Meta()
        signed = wire.hook(0, {"changes": [{"value": value}]})
        with pytest.raises(ForgedEventsError):
            opened(WhatsAppAdapter, wire).parse_events(signed.body, signed.headers)


class TestPages:
    def test_the_closed_window_is_final(self):
        for kind in (MessengerAdapter, InstagramAdapter):
            with pytest.raises(FinalRefusalError, match="2018278"):
                asyncio.run(opened(kind, Meta()).send(message("psid-2")))

    def test_a_template_of_plain_text_is_a_button_or_a_card(self):
        wire = Meta()
        adapter = opened(MessengerAdapter, wire, button_label="Buy")
        asyncio.run(adapter.send(message("psid-1", ContentKind.TEMPLATE)))
        asyncio.run(adapter.send(message("psid-1", ContentKind.TEMPLATE, replace(TEXT, subject=""))))
        card = sent(wire, 0)["message"]["attachment"]["payload"]
        button = {"type": "web_url", "url": "https://t.example/c/1", "title": "Buy"}
        assert card == {
            "template_type": "generic",
            "elements": [{"title": "Spring", "subtitle": "Ten tulips", "buttons": [button]}],
        }
        words = sent(wire, 1)["message"]["attachment"]["payload"]
        assert words == {"template_type": "button", "text": "Ten tulips", "buttons": [button]}

    def test_reads_are_watermarks_on_messenger_and_name_their_message_on_instagram(self):
        wire = Meta()
        at = {"sender": {"id": "psid-1"}, "timestamp": 1_772_442_000_000}
        signed = wire.hook(1, {"messaging": [{**at, "read": {"watermark": 1_772_441_000_000}}]})
        (read,) = opened(MessengerAdapter, wire).parse_events(signed.body, signed.headers)
        assert (read.kind, read.identity) == (InteractionKind.OPENED, "psid-1")
        assert read.up_to == datetime.fromtimestamp(1_772_441_000, UTC)
        signed = wire.hook(1, {"messaging": [{**at, "read": {"mid": "m_1"}}]})
        (seen,) = opened(InstagramAdapter, wire).parse_events(signed.body, signed.headers)
        assert (seen.provider, seen.provider_message_id, seen.up_to) == ("instagram", "m_1", None)

    def test_an_echo_of_our_own_message_is_no_event_and_a_tap_names_its_message(self):
        wire = Meta()
        at = {"sender": {"id": "psid-1"}, "timestamp": 1_772_442_000_000}
        echo = {**at, "message": {"mid": "m_1", "text": "Ten tulips", "is_echo": True}}
        tap = {**at, "postback": {"mid": "m_2", "payload": "red&message_id=own-1"}}
        signed = wire.hook(1, {"messaging": [echo, tap]})
        (event,) = opened(MessengerAdapter, wire).parse_events(signed.body, signed.headers)
        assert (event.kind, event.message_id) == (InteractionKind.CLICKED, "own-1")

    def test_an_instagram_text_is_measured_in_bytes(self):
        with pytest.raises(FinalRefusalError, match="1002 bytes"):
            asyncio.run(
                opened(InstagramAdapter, Meta()).send(message("psid-1", content=Content(body="春" * 334)))
            )


class TestWeChat:
    settings = WeChatSettings(
        app_id=WeChat.app_id,
        app_secret=WeChat.secret,
        token=WeChat.verify,
        encoding_aes_key=WeChat.aes_key,
        template_id="T1",
    )

    def test_a_token_is_fetched_once_and_again_when_it_is_old_or_stale(self):
        wire, now = WeChat(), [NOW]
        adapter = WeChatAdapter(self.settings, wire, lambda: now[0])

        async def play() -> None:
            await asyncio.gather(*(adapter.send(message("o-1")) for _ in range(10)))
            assert wire.tokens == 1
            wire.tokens = 7  # somebody else has fetched one: ours is stale
            await adapter.send(message("o-1"))
            now[0] += timedelta(hours=2)
            await adapter.send(message("o-1"))

        asyncio.run(play())
        assert len(wire.taken) == 12
        assert {request.url.params["access_token"] for request in wire.taken} == {"token-1", "token-8"}

    def test_a_wrong_secret_keeps_messages_for_later(self):
        adapter = WeChatAdapter(replace(self.settings, app_secret="wrong"), WeChat(), lambda: NOW)
        with pytest.raises(RetryLaterError, match="40125"):
            asyncio.run(adapter.send(message("o-1")))

    @pytest.mark.parametrize(
        ("code", "error"),
        [(43004, FinalRefusalError), (45015, FinalRefusalError), (45009, QuotaError), (-1, RetryLaterError)],
    )
    def test_a_code_inside_an_answer_of_200_is_final_later_or_quota(self, code, error):
        wire = WeChat()
        wire._answers["o-1"] = problem(200, errcode=code, errmsg="words")
        with pytest.raises(error, match="words"):
            asyncio.run(WeChatAdapter(self.settings, wire, lambda: NOW).send(message("o-1")))

    @pytest.mark.parametrize(
        ("xml", "kind", "named"),
        [
            (wechat_xml("event", Event="subscribe"), InteractionKind.FOLLOWED, ""),
            (wechat_xml("event", Event="unsubscribe"), InteractionKind.UNFOLLOWED, ""),
            (wechat_xml("event", Event="CLICK", EventKey="menu"), InteractionKind.CLICKED, ""),
            (wechat_xml("text", Content="Red", MsgId="9"), InteractionKind.REPLIED, ""),
            (
                wechat_xml("event", Event="TEMPLATESENDJOBFINISH", MsgID="5", Status="success"),
                InteractionKind.DELIVERED,
                "5",
            ),
            (
                wechat_xml("event", Event="TEMPLATESENDJOBFINISH", MsgID="5", Status="failed:user block"),
                InteractionKind.FAILED,
                "5",
            ),
            (wechat_xml("event", Event="LOCATION"), None, ""),
        ],
    )
    def test_a_sealed_report_is_read(self, xml, kind, named):
        wire = WeChat()
        signed = wire.hook(xml)
        events = WeChatAdapter(self.settings, wire).parse_events(signed.body, signed.headers)
        assert [(event.kind, event.provider_message_id) for event in events] == (
            [(kind, named)] if kind else []
        )

    def test_a_body_in_plain_mode_is_refused_even_with_a_right_signature(self):
        wire = WeChat()
        body = wechat_xml("event", Event="unsubscribe").encode()
        path = f"/v1/receipts/wechat?timestamp=1&nonce=2&signature={wire.signature('1', '2')}"
        with pytest.raises(ForgedEventsError):
            WeChatAdapter(self.settings, wire).parse_events(body, {":path": path})

    def test_a_report_for_another_account_and_one_with_entities_are_refused(self):
        wire, other = WeChat(), WeChat()
        other.app_id = "wxffffffffffffffff"
        adapter = WeChatAdapter(self.settings, wire)
        signed = other.hook(wechat_xml("event", Event="subscribe"))
        with pytest.raises(ForgedEventsError, match="another account"):
            adapter.parse_events(signed.body, signed.headers)
        bomb = b'<!DOCTYPE x [<!ENTITY a "b">]><xml><Encrypt>&a;</Encrypt></xml>'
        with pytest.raises(ForgedEventsError, match="document type"):
            adapter.parse_events(bomb, {})
        with pytest.raises(ForgedEventsError):
            adapter.parse_events(bomb.decode().encode("utf-16"), {})

    def test_a_template_names_its_recipient_and_carries_our_key(self):
        wire = WeChat()
        asyncio.run(
            WeChatAdapter(self.settings, wire, lambda: NOW).send(message("o-1", ContentKind.TEMPLATE))
        )
        assert sent(wire) == {
            "template_id": "T1",
            "data": {"thing1": {"value": "Ten tulips"}},
            "url": "https://t.example/c/1",
            "touser": "o-1",
            "client_msg_id": message("o-1").message_id.replace("-", ""),
        }

    def test_a_wrong_key_is_named(self):
        with pytest.raises(InvalidInputError, match=r"wechat\.encoding_aes_key"):
            replace(self.settings, encoding_aes_key="short")

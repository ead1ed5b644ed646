"""The dispatcher with real adapters over providers that remember."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from models.domain.channel import ContentKind
from serving.channels.contract import AdapterContext, ChannelAdapter
from serving.channels.line import LineAdapter
from serving.channels.twilio import TwilioAdapter
from serving.dispatch_settings import DispatchSettings
from serving.dispatcher import Dispatcher
from tests.integration.channels.providers import Line, Twilio

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ONE_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def dispatcher(shop, channel: str, adapter: ChannelAdapter) -> Dispatcher:
    return Dispatcher(shop.engine, {channel: adapter}, shop.links, DispatchSettings(), Random(0))


def line(shop, wire: Line) -> LineAdapter:
    settings = {"channel_access_token": wire.token, "channel_secret": wire.secret}
    return LineAdapter.build(AdapterContext(links=shop.links, settings=settings), wire)


def twilio(shop, wire: Twilio) -> TwilioAdapter:
    settings = {"account_sid": wire.sid, "auth_token": wire.token, "sender": "+15550199"}
    return TwilioAdapter.build(AdapterContext(links=shop.links, settings=settings), wire)


def test_a_line_message_whose_answer_was_lost_is_sent_once(shop):
    shop.add_campaign(channels=("email", "line"))
    messages, wire = shop.add_messages(20, channel="line"), Line()
    for number in range(20):
        wire.go_silent(f"+1555{number:04}")

    async def play() -> None:
        sender = dispatcher(shop, "line", line(shop, wire))
        lost = await sender.run_once(NOON)
        assert (lost.sent, lost.later) == (0, lost.claimed)
        wire._silent.clear()
        for hours in range(1, 6):
            await sender.run_once(NOON + timedelta(hours=hours))

    asyncio.run(play())
    assert {shop.row(each)["status"] for each in messages} == {"sent"}
    assert len(wire.taken) == 20
    assert wire.keys == set(messages)


@ONE_SQLITE
def test_the_links_of_a_message_are_tracked_on_every_channel(shop):
    shop.add_campaign(channels=("email", "line"))
    shop.add_messages(1, channel="line", content_kind=ContentKind.TEXT)
    wire = Line()
    asyncio.run(dispatcher(shop, "line", line(shop, wire)).run_once(NOON))
    (said,) = json.loads(wire.taken[0].content)["messages"]
    assert said["text"].count("https://news.example/t/c/") == 2
    assert "shop.example" not in said["text"]


@ONE_SQLITE
def test_a_number_that_opted_out_is_a_dead_letter_and_a_busy_provider_is_not(shop):
    shop.add_campaign(channels=("email", "sms"))
    gone, busy, fine = shop.add_messages(3, channel="sms")
    wire = Twilio()
    wire.refuse("+15550000")
    wire.exhaust_quota("+15550001")
    adapter = twilio(shop, wire)
    asyncio.run(dispatcher(shop, "sms", adapter).run_once(NOON))
    assert (shop.row(gone)["status"], shop.row(busy)["status"]) == ("failed", "pending")
    assert shop.row(fine)["status"] == "sent"
    assert shop.row(fine)["provider_message_id"].startswith("SM")
    assert "21610" in shop.row(gone)["detail"]


@ONE_SQLITE
def test_the_history_says_how_many_segments_were_sent(shop):
    shop.add_campaign(channels=("email", "sms"))
    shop.add_messages(1, channel="sms")
    asyncio.run(dispatcher(shop, "sms", twilio(shop, Twilio())).run_once(NOON))
    (fact,) = shop.facts("sent")
    # Two tracked links of 75 characters each: more than the 160 of one segment.
    assert fact["attributes"]["n_units"] == "2"

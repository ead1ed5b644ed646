"""Chats: what people write is answered once, in order, by the real adapters."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from random import Random
from time import monotonic, sleep
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError

from features.history.channels import load_channels
from features.history.members import merge
from features.history.tables import chat_lines, chats, customers, interactions, outbox, receipts, rewards
from models.domain.channel import IdentityKind
from serving.channels.line import LineAdapter
from serving.chat.lines import claim
from serving.chat.sender import ChatSender
from serving.dispatch_settings import ChatSettings, UnknownPolicy
from serving.provider_events import record_provider_events
from serving.sending import SendingThread
from tests.integration.sending.chat_office import (
    HOURS,
    OFFICE,
    ORDERS,
    RETURNS,
    TREE,
    Desk,
    opened_desk,
    whatsapp,
)

SECOND = timedelta(seconds=1)
ONE_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture
def desk(market, shop) -> Iterator[Desk]:
    with opened_desk(market, shop) as opened:
        yield opened


def test_a_keyword_is_answered_by_reply_in_the_persons_words(desk):
    desk.answers()
    desk.person()
    with desk.shop.engine.begin() as conn:
        conn.execute(update(customers).values(attributes={"first_name": "Ada", "locale": "ja-JP"}))
    desk.hears("  ＨＯＵＲＳ！ ")  # noqa: RUF001 - as Japanese keyboards write it
    desk.hears("Orders")
    desk.hears("返品")
    assert desk.sends() == 3
    ways = [way for way, _ in desk.said()]
    assert ways == ["reply"] * 3
    assert desk.texts() == [
        "9時から18時です。",
        "About orders:\n- 返品\n- Status\n- Menu",
        "Dear Ada, thirty days.",
    ]
    buttons = [each["action"]["text"] for each in desk.said()[1][1]["quickReply"]["items"]]
    assert buttons == ["返品", "Status", "Menu"]
    assert [json.loads(each.content)["replyToken"] for each in desk.line.seen] == [
        "token-1",
        "token-2",
        "token-3",
    ]
    assert desk.line.taken == []
    assert desk.line.keys == set()
    assert desk.lines("speaker", "status", "version")[1] == ("rules", "sent", 1)


def test_where_a_person_stands_wins_over_the_top_until_half_an_hour_has_passed(desk):
    near = {"keywords": ["hours"], "content": {"body": "Of the courier: eight to eight."}}
    desk.answers(groups=[HOURS, ORDERS | {"groups": [near, RETURNS]}], fields={"first_name": "x"})
    desk.person()
    for text in ("Orders", "hours", "menu", "hours"):
        desk.hears(text)
    desk.hears("Orders")
    desk.market.now += timedelta(minutes=30)
    desk.hears("hours")
    desk.sends()
    assert [text.partition("\n")[0] for text in desk.texts()] == [
        "About orders:",
        "Of the courier: eight to eight.",
        "Please choose:",
        "Nine to six.",
        "About orders:",
        "Nine to six.",
    ]


def test_any_other_text_shows_the_menu_and_a_postback_says_its_word(desk):
    desk.answers()
    desk.person()
    desk.hears("what?\nand more")
    tapped = desk.event("") | {"type": "postback", "postback": {"data": "say=Opening+hours"}}
    assert desk.post(desk.line.hook(tapped)) == 200
    desk.sends()
    assert desk.texts() == ["Please choose:\n- Opening hours\n- Orders", "Nine to six."]
    assert desk.lines("text")[0] == ("what?\nand more",)


def test_a_stale_token_is_not_tried_and_one_that_line_refuses_is_followed_by_a_push(desk):
    desk.answers()
    desk.person()
    desk.hears("hours")
    desk.market.now += 51 * SECOND
    desk.sends()
    assert [way for way, _ in desk.said()] == ["push"]
    desk.hears("hours", token="used-by-another-system")
    desk.line.spent.add("used-by-another-system")
    desk.sends()
    assert [way for way, _ in desk.said()] == ["push", "reply", "push"]
    assert len(desk.line.taken) == 2
    assert [status for _, status in desk.lines("speaker", "status")] == ["heard", "sent"] * 2
    assert desk.lines("reply_token")[1] == (None,)


def test_a_report_that_is_delivered_five_times_is_answered_once(desk):
    desk.answers()
    desk.person()
    report = desk.line.hook(desk.event("hours"))
    assert [desk.post(report) for _ in range(5)] == [200] * 5
    desk.sends()
    assert desk.post(report) == 200
    desk.sends()
    assert desk.texts() == ["Nine to six."]


def test_the_same_report_at_the_same_time_from_many_is_answered_once(desk):
    desk.answers()
    desk.person()
    adapter = desk.adapters["line"]
    signed = [desk.line.hook(desk.event("hours")), desk.line.hook(desk.event("Orders"))]
    reports = [adapter.parse_events(each.body, each.headers) for each in signed]
    ready = threading.Barrier(8)

    def post(number: int) -> None:
        ready.wait()
        with desk.shop.engine.begin() as conn:
            channel = load_channels(conn)["line"]
            record_provider_events(conn, channel, reports[number % 2], desk.market.now)

    threads = [threading.Thread(target=post, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    desk.sends()
    assert sorted(text.partition("\n")[0] for text in desk.texts()) == ["About orders:", "Nine to six."]
    with desk.shop.engine.connect() as conn:
        assert conn.scalar(select(func.count()).select_from(chats)) == 1


def test_texts_in_quick_succession_are_answered_in_order_even_where_the_first_must_wait(desk):
    desk.answers()
    desk.person()
    first, second = desk.event("hours"), desk.event("Orders")
    assert desk.post(desk.line.hook(second, first)) == 200  # in one report, in the wrong order
    desk.line.delay(None)
    assert desk.sends() == 1
    desk.line._answers.clear()
    assert desk.sends() == 0  # the second waits for the first
    desk.market.now += 3 * SECOND
    desk.sends()
    assert [text.partition("\n")[0] for text in desk.texts()] == ["Nine to six.", "About orders:"]


def taken(desk: Desk) -> Any:
    """A claim of a sender that then stops."""
    with desk.shop.engine.begin() as conn:
        within = {"line": LineAdapter.reply_within}
        return claim(conn, desk.market.now, 25, 9, ["line", "whatsapp"], within, {"line"})


@pytest.mark.parametrize("sent", [False, True], ids=["killed before it sent", "killed after it sent"])
@pytest.mark.parametrize("later", [26, 300], ids=["token fresh", "token stale"])
def test_a_sender_that_is_killed_leaves_one_answer(desk, sent, later):
    desk.answers()
    desk.person()
    desk.hears("hours")
    (line,) = taken(desk)
    assert line.token is not None
    if sent:
        desk.line.spent.add("token-1")
    desk.market.now += 24 * SECOND
    assert desk.sends() == 0  # its lease holds
    desk.market.now += (later - 24) * SECOND
    policy = UnknownPolicy.PARK_UNKNOWN if later > 50 else UnknownPolicy.AT_LEAST_ONCE
    desk.sends(ChatSettings(unknown_outcome=policy))
    (ending,) = [status for speaker, status in desk.lines("speaker", "status") if speaker == "rules"]
    accepted = sum("replyToken" in json.loads(each.content) for each in desk.line.seen)
    if later == 26:
        assert (ending, accepted, desk.line.taken) == ("sent", 1, [])
    else:  # nobody can know: the policy leaves it to people
        assert (ending, accepted) == ("unknown", 0)


def test_a_push_whose_answer_is_lost_is_taken_once_by_its_key(desk):
    desk.answers()
    desk.person()
    desk.hears("hours")
    desk.market.now += 60 * SECOND
    desk.line.go_silent("U1")
    assert desk.sends() == 1
    desk.line._silent.clear()
    desk.market.now += 5 * SECOND
    assert desk.sends() == 1
    assert len(desk.line.seen) == 2
    assert len(desk.line.taken) == 1
    assert desk.lines("status")[1] == ("sent",)


def test_a_reply_whose_answer_is_lost_is_found_out_by_its_token(desk):
    desk.answers()
    desk.person()
    desk.hears("hours")
    desk.line.go_silent(None)
    desk.sends()
    desk.line._silent.clear()
    desk.market.now += 5 * SECOND
    desk.sends()
    assert desk.line.taken == []
    assert desk.lines("status", "detail")[1] == (
        "sent",
        "an earlier attempt was taken",
    )


@pytest.mark.parametrize("status", [500, 503])
def test_a_reply_that_line_takes_and_then_fails_with_is_not_pushed_once_more(desk, monkeypatch, status):
    desk.answers()
    desk.person()
    desk.hears("hours")
    whole = desk.line.answer
    with monkeypatch.context() as failing:
        failing.setattr(desk.line, "answer", lambda request: (whole(request), httpx.Response(status))[1])
        desk.sends()
    assert desk.line.spent == {"token-1"}
    desk.market.now += 5 * SECOND
    desk.sends()
    assert [way for way, _ in desk.said()] == ["reply", "reply"]
    assert desk.lines("status", "detail")[1] == ("sent", "an earlier attempt was taken")


def test_a_stranger_is_answered_from_anywhere_in_the_tree_and_nothing_is_kept(desk):
    desk.answers(**TREE, office=OFFICE)
    report = desk.line.hook(desk.event("returns", "U-stranger"), desk.event("hello", "U-stranger"))
    for _ in range(3):
        assert desk.post(report) == 200
    desk.sends()
    assert desk.texts()[:2] == [
        "Dear customer, thirty days.",
        "Please choose:\n- Opening hours\n- Orders",
    ]
    assert len(desk.line.spent) == 2
    assert desk.line.taken == []
    with desk.shop.engine.connect() as conn:
        for table in (chats, chat_lines, receipts, interactions):
            assert conn.scalar(select(func.count()).select_from(table)) == 0


def test_another_channel_lists_its_menu_as_text_and_keeps_to_the_providers_window(desk):
    desk.answers("whatsapp")
    desk.person("c0", "+15550100", IdentityKind.WHATSAPP)
    assert desk.post(whatsapp(desk, "Orders"), "whatsapp") == 200
    desk.sends()
    (request,) = desk.meta.taken
    said = json.loads(request.content)
    assert said["text"]["body"] == "About orders:\n- Returns\n- Status\n- Menu"
    assert desk.post(whatsapp(desk, "hours"), "whatsapp") == 200
    desk.market.now += timedelta(hours=24)
    desk.sends()
    assert len(desk.meta.taken) == 1
    assert desk.lines("status", "detail")[-1] == ("suppressed", "expired")


@pytest.mark.parametrize(
    ("policy", "status", "n_sent"), [("at_least_once", "sent", 2), ("park_unknown", "unknown", 1)]
)
def test_where_neither_key_nor_token_tells_the_policy_decides(desk, policy, status, n_sent):
    desk.answers("whatsapp")
    desk.person("c0", "+15550100", IdentityKind.WHATSAPP)
    assert desk.post(whatsapp(desk, "hours"), "whatsapp") == 200
    desk.meta.go_silent("15550100")
    settings = ChatSettings(unknown_outcome=UnknownPolicy(policy))
    desk.sends(settings)
    desk.meta._silent.clear()
    desk.market.now += 5 * SECOND
    desk.sends(settings)
    assert len(desk.meta.taken) == n_sent
    assert desk.lines("status")[1] == (status,)


def test_two_reports_of_the_same_people_at_the_same_time_never_wait_for_each_other(desk):
    desk.answers()
    desk.shop.add_messages(1, first=1)
    desk.person()
    desk.person("c1", "V1")
    adapter, ready, failures = desk.adapters["line"], threading.Barrier(6), []

    def post(number: int) -> None:
        first, second = ("U1", "V1") if number % 2 else ("V1", "U1")
        for _ in range(5):
            with lock:
                signed = desk.line.hook(desk.event("hours", first), desk.event("hours", second))
            events = adapter.parse_events(signed.body, signed.headers)
            ready.wait()
            try:
                with desk.shop.engine.begin() as conn:
                    channel = load_channels(conn)["line"]
                    record_provider_events(conn, channel, events, desk.market.now)
            except DBAPIError as exc:
                failures.append(exc)

    lock = threading.Lock()
    threads = [threading.Thread(target=post, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(desk.lines("status")) == 2 * 2 * 5 * 6


def test_an_answer_is_no_contact_is_not_learned_from_and_needs_no_consent(desk):
    desk.answers()
    desk.person()
    with desk.shop.engine.begin() as conn:
        conn.execute(outbox.delete())
    unfollowed = desk.event("") | {"type": "unfollow"}
    assert desk.post(desk.line.hook(unfollowed)) == 200
    desk.hears("hours")
    desk.sends()
    assert desk.texts() == ["Nine to six."]
    with desk.shop.engine.connect() as conn:
        assert conn.scalar(select(func.count()).select_from(outbox)) == 0
        assert conn.scalar(select(func.count()).select_from(rewards)) == 0
        kinds = [row.kind for row in conn.execute(select(interactions.c.kind))]
    assert sorted(kinds) == ["replied", "unfollowed"]
    entries = desk.client.get("/v1/customers/c0/history").json()["entries"]
    told = [(each["type"], each["kind"], each["attributes"].get("text")) for each in entries]
    assert ("chat", "answered", "Nine to six.") in told


def test_it_is_in_the_persons_export_follows_a_merge_and_goes_with_an_erasure(desk):
    desk.answers()
    desk.person()
    desk.shop.add_messages(1, first=1)
    desk.hears("hours")
    with desk.shop.engine.begin() as conn:
        merge(conn, "c0", "c1", desk.market.now)
    desk.hears("Orders")
    desk.sends()
    exported = desk.client.get("/v1/customers/c0/export").json()
    assert [row["text"].partition("\n")[0] for row in exported["chat_lines"]] == [
        "hours",
        "Nine to six.",
        "Orders",
        "About orders:",
    ]
    assert len(exported["chats"]) == 1
    assert desk.client.post("/v1/customers/c0/erase", json={}).status_code in (200, 202)
    with desk.shop.engine.connect() as conn:
        for table in (chats, chat_lines):
            assert conn.scalar(select(func.count()).select_from(table)) == 0


@pytest.mark.parametrize("text", ["two\nlines", "x" * 900, "half \ud800", "nul\0"])
def test_what_people_write_is_recorded_whatever_it_holds(desk, text):
    desk.person()
    desk.hears(text)  # without answers nothing is said, and no chat is kept
    assert desk.lines("text") == []
    desk.answers()
    desk.hears(text)
    assert len(desk.lines("text")) == 2


def test_a_sender_that_runs_answers_soon_and_stops_when_it_is_told(desk):
    desk.answers()
    desk.person()
    sender = ChatSender(desk.shop.engine, desk.adapters, ChatSettings(), Random(0))
    thread = SendingThread((sender,), (), lambda: desk.market.now)
    thread.start()
    try:
        desk.hears("hours")
        desk.hears("Orders")
        until = monotonic() + 5
        while len(desk.line.seen) < 2 and monotonic() < until:
            sleep(0.01)
    finally:
        thread.stop()
    assert [text.partition("\n")[0] for text in desk.texts()] == ["Nine to six.", "About orders:"]
    assert monotonic() < until - 2
    assert {status for (status,) in desk.lines("status")} == {"heard", "sent"}


@ONE_SQLITE
def test_a_provider_that_is_down_is_left_alone_and_then_tried_with_one_line(desk):
    desk.answers()
    for number in range(1, 31):
        desk.shop.add_messages(1, first=number)
        desk.person(f"c{number}", f"U{number}")
        desk.hears("hours", f"U{number}")
    desk.line.delay(None)
    sender = ChatSender(desk.shop.engine, desk.adapters, ChatSettings(), Random(0))
    n_tried = [asyncio.run(sender.run_once(desk.market.now)) for _ in range(4)]
    assert n_tried[-1] == 0
    desk.market.now += timedelta(seconds=31)
    assert asyncio.run(sender.run_once(desk.market.now)) == 1

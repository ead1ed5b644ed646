"""Chats that were handed over: when rules are silent, who may answer, and the pages and routes by which people do."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from features.history.append import append_identities
from models.domain.channel import IdentityKind
from models.domain.customer import Identity
from models.domain.errors import ConflictError
from serving.chat.desk import say, take_chat
from serving.dashboard.chat_labels import CHAT_LABELS
from serving.explain.catalogue import Language
from tests.integration.sending.chat_office import OFFICE, TREE, Desk, opened_desk, whatsapp

OWN = {"Origin": "http://testserver", "Host": "testserver"}
ONE_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
HELD = "Thank you. A colleague will answer you here."


@pytest.fixture
def desk(market, shop) -> Iterator[Desk]:
    with opened_desk(market, shop) as opened:
        opened.answers(**TREE, office=OFFICE)
        opened.person()
        yield opened


def ask(desk: Desk, verb: str, agent: str = "Mei", status: int = 200, **more: object) -> dict[str, Any]:
    answer = desk.client.post(f"/v1/chats/{desk.chat_id()}/{verb}", json={"agent": agent, **more})
    assert answer.status_code == status, answer.text
    return answer.json()


def queue(desk: Desk) -> list[str]:
    return [each["customer_id"] for each in desk.client.get("/v1/chats").json()["chats"]]


def test_what_is_no_keyword_is_handed_over_and_rules_are_silent_until_it_is_ended(desk):
    desk.hears("hours")
    assert queue(desk) == []
    desk.hears("my parcel is wet")
    desk.hears("hours")
    desk.sends()
    assert desk.texts() == ["Nine to six.", HELD]
    assert queue(desk) == ["c0"]
    ask(desk, "take")
    chat = ask(desk, "say", text="I am sorry.\nWe send another one.")
    desk.sends()
    assert desk.texts()[-1] == "I am sorry.\nWe send another one."
    assert [(each["speaker"], each["agent"], each["status"]) for each in chat["lines"]][-2:] == [
        ("customer", None, "heard"),
        ("agent", "Mei", "pending"),
    ]
    assert ask(desk, "end")["state"] == "automatic"
    assert queue(desk) == []
    desk.hears("hours")
    desk.sends()
    assert desk.texts()[-1] == "Nine to six."


def test_after_hours_without_a_word_rules_answer_again_and_the_chat_still_waits(desk):
    desk.hears("my parcel is wet")
    desk.market.now += timedelta(hours=11)
    desk.hears("hello?")  # a word: twelve hours begin anew
    desk.market.now += timedelta(hours=11, minutes=59)
    desk.hears("hello??")
    desk.market.now += timedelta(hours=12)
    desk.hears("hours")
    desk.sends()
    assert desk.texts() == ["Nine to six."]  # the first line was no answer any more by then
    assert queue(desk) == ["c0"]


def test_while_the_office_is_closed_rules_answer_and_what_was_asked_waits_for_the_morning(desk):
    desk.market.now = datetime(2026, 3, 2, 12, tzinfo=UTC)  # 20:00 in Taipei
    desk.hears("my parcel is wet")
    desk.hears("hours")
    desk.sends()
    closed = "Nobody is here at the moment. We will answer you from Tue 3 Mar 09:00 on."
    assert desk.texts() == [f"{closed}\n- Opening hours\n- Orders\n- Talk to a person", "Nine to six."]
    assert queue(desk) == []
    desk.market.now = datetime(2026, 3, 3, 1, tzinfo=UTC)
    assert queue(desk) == ["c0"]
    desk.hears("hours")
    desk.sends()
    assert len(desk.texts()) == 2  # from nine on a person answers


def test_one_agent_holds_a_chat_and_alone_may_answer_in_it(desk):
    desk.hears("hours")
    ask(desk, "take", status=409)  # nobody asked for a person
    desk.hears("talk to a person")
    ask(desk, "say", text="Hello", status=409)
    ask(desk, "take")
    ask(desk, "take")  # again, by the same
    assert "held by Mei" in ask(desk, "take", "Jun", 409)["detail"]
    ask(desk, "say", "Jun", 409, text="Hello")
    ask(desk, "end", "Jun", 409)
    desk.market.now += timedelta(minutes=29)
    ask(desk, "say", text="Hello")
    desk.market.now += timedelta(minutes=29)
    ask(desk, "take", "Jun", 409)
    desk.market.now += timedelta(minutes=1)
    ask(desk, "take", "\U00036327 Jun")  # any letter, also one that Unicode has not given away yet
    ask(desk, "end", "\U00036327 Jun")
    desk.hears("talk to a person")
    ask(desk, "take", "Jun")
    ask(desk, "end", "Jun")
    ask(desk, "end", "Jun", 409)


def test_a_chat_is_not_ended_over_a_word_that_the_agent_has_not_seen(desk):
    desk.hears("my parcel is wet")
    ask(desk, "take")
    seen = ask(desk, "say", text="We send another one.")["lines"][-1]["line_id"]
    desk.hears("and the vase is broken")
    assert "and the vase is broken" in ask(desk, "end", status=409, seen=seen)["detail"]
    page = desk.client.get(f"/chats/{desk.chat_id()}", params={"agent": "Mei"}).text
    shown = re.search(r'name="seen" value="([^"]+)"', page)
    assert shown is not None
    assert press(desk, "end", agent="Mei", seen=seen).status_code == 409
    ask(desk, "say", text="And a vase.")  # the agent's own word is no reason
    assert press(desk, "end", agent="Mei", seen=shown[1]).status_code == 303
    assert queue(desk) == []


@pytest.mark.parametrize(
    "seen", ["no line", "5d39af5c-0a3c-4a4e-9c1e-3a1d5a0b7c11", "x" * 9_000, "\0"], ids=lambda seen: seen[:7]
)
def test_what_was_seen_is_a_line_of_the_chat(desk, seen):
    desk.hears("my parcel is wet")
    ask(desk, "take")
    refused = ask(desk, "end", status=422, seen=seen)
    assert [error["field"] for error in refused["errors"]] == ["seen"]
    assert press(desk, "end", agent="Mei", seen=seen).status_code == 422
    assert ask(desk, "end")["state"] == "automatic"


def test_of_many_who_take_a_chat_at_the_same_time_one_holds_it(desk):
    desk.hears("my parcel is wet")
    name, ready, took = desk.chat_id(), threading.Barrier(6), []

    def take(agent: str) -> None:
        ready.wait()
        try:
            with desk.shop.engine.begin() as conn:
                take_chat(conn, name, agent, desk.market.now)
            took.append(agent)
        except ConflictError:
            pass

    threads = [threading.Thread(target=take, args=(f"agent {n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(took) == 1


def test_an_answer_that_is_asked_for_twice_is_said_once(desk):
    desk.hears("my parcel is wet")
    ask(desk, "take")
    path = f"/v1/chats/{desk.chat_id()}/say"
    posted = {"agent": "Mei", "text": "Hello"}
    answers = [
        desk.client.post(path, json=posted, headers={"Idempotency-Key": "say-hello-1"}) for _ in range(3)
    ]
    assert {answer.content for answer in answers} == {answers[0].content}
    name = desk.chat_id()
    with desk.shop.engine.begin() as conn:  # and where the answer was lost with the key's own row
        say(conn, name, "Mei", "Hello", desk.market.now, "Mei/say-hello-1")
    assert [line for line in desk.lines("speaker", "text") if line[0] == "agent"] == [("agent", "Hello")]


def test_outside_the_providers_window_an_agent_is_told_and_nothing_is_sent(desk):
    desk.answers("whatsapp", **TREE, office=OFFICE)
    linked = Identity(
        customer_id="c0",
        kind=IdentityKind.WHATSAPP,
        value="+15550100",
        linked_at=desk.market.now - timedelta(days=9),
        source="t",
    )
    with desk.shop.engine.begin() as conn:
        append_identities(conn, [linked])
    assert desk.post(whatsapp(desk, "my parcel is wet"), "whatsapp") == 200
    desk.market.now += timedelta(hours=23, minutes=59)
    ask(desk, "take")
    assert ask(desk, "say", text="On its way")["answerable"]
    desk.market.now += timedelta(minutes=1)
    desk.sends()
    assert desk.meta.taken == []
    chat = desk.client.get(f"/v1/chats/{desk.chat_id()}").json()
    assert not chat["answerable"]
    assert (chat["lines"][-1]["status"], chat["lines"][-1]["detail"]) == ("suppressed", "provider_window")
    assert "86400 s after" in ask(desk, "say", status=409, text="Hello?")["detail"]


def test_the_queue_comes_in_pages_who_has_waited_longest_first(desk):
    for number in range(1, 5):
        desk.shop.add_messages(1, first=number)
        desk.person(f"c{number}", f"V{number}")
        desk.market.now += timedelta(minutes=1)
        desk.hears("my parcel is wet", f"V{number}")
    found, cursor = [], None
    while True:
        query = {"limit": 2} | ({} if cursor is None else {"cursor": cursor})
        page = desk.client.get("/v1/chats", params=query).json()
        found += [each["customer_id"] for each in page["chats"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert found == ["c1", "c2", "c3", "c4"]
    assert desk.client.get("/v1/chats", params={"cursor": "bm9uZQ"}).status_code == 422


@ONE_SQLITE
@pytest.mark.parametrize(
    ("verb", "posted", "field"),
    [
        ("take", {"agent": ""}, "agent"),
        ("take", {"agent": "a\u0007b"}, "agent"),
        ("take", {"agent": "Mei\n"}, "agent"),
        ("say", {"agent": "Mei", "text": ""}, "text"),
        ("say", {"agent": "Mei", "text": " \n "}, "text"),
        ("say", {"agent": "Mei", "text": "a\0b"}, "text"),
        ("say", {"agent": "Mei", "text": "x" * 5_001}, "text"),
        ("say", {"agent": "Mei", "text": "\U0001f34e" * 2_501}, "text"),
        ("say", {"agent": "Mei", "text": "x", "to": "everybody"}, "to"),
    ],
)
def test_a_wrong_request_is_refused_with_its_field(desk, verb, posted, field):
    desk.hears("my parcel is wet")
    ask(desk, "take")
    answer = desk.client.post(f"/v1/chats/{desk.chat_id()}/{verb}", json=posted)
    assert answer.status_code == 422
    assert field in [error["field"].rpartition(".")[2] for error in answer.json()["errors"]]
    for other in ("take", "say", "end"):
        gone = desk.client.post(
            f"/v1/chats/{uuid4()}/{other}",
            json={"agent": "Mei", "text": "x"} if other == "say" else {"agent": "Mei"},
        )
        assert gone.status_code == 404


def test_answers_are_stored_in_versions_tried_and_taken_away(desk):
    address = "/v1/channels/line/answers"
    first = desk.client.get(address).json()
    assert first["version"] == 1
    again = desk.client.put(address, json={"answers": first["answers"]})
    assert (again.status_code, again.json()) == (200, first)
    changed = desk.client.put(address, json={"answers": TREE}).json()
    assert (changed["version"], changed["answers"]["office"]) == (2, None)
    tried = desk.client.post(
        f"{address}/try", json={"text": "RETURNS.", "position": ["Orders"], "customer_id": "c0"}
    ).json()
    assert (tried["why"], tried["path"], tried["version"]) == ("keyword", ["Orders", "Returns"], 2)
    assert tried["says"]["text"] == "Dear customer, thirty days."
    assert (
        desk.client.post(f"{address}/try", json={"text": "hours", "locale": "ja"}).json()["says"]["text"]
        == "9時から18時です。"
    )
    assert desk.client.post(f"{address}/try", json={"text": "x", "customer_id": "nobody"}).status_code == 404
    assert desk.lines("text") == []
    assert desk.client.delete(address).status_code == 204
    assert desk.client.get(address).status_code == desk.client.delete(address).status_code == 404
    desk.hears("hours")
    assert desk.lines("text") == []
    assert desk.client.put(address, json={"answers": TREE}).json()["version"] == 4
    assert desk.client.put("/v1/channels/pigeon/answers", json={"answers": TREE}).status_code == 404


@ONE_SQLITE
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"groups": []}, "groups"),
        ({"groups": 7}, "answers.groups"),
        ({"position_seconds": 10**30}, "answers.position_seconds"),
        ({"fields": {"first_name": "a\0"}}, "answers.fields.first_name"),
        ({"fields": {"first name": "x"}}, "fields.first name"),
        ({"colour": "red"}, "answers.colour"),
        ({"office": {"time_zone": "Mars", "hours": {"mon": []}}}, "office.time_zone"),
        ({"office": {"time_zone": "UTC", "hours": {"mon": [{"opens": "25:00", "closes": "1"}]}}}, None),
    ],
)
def test_answers_that_cannot_be_given_are_refused_with_their_place(desk, change, field):
    refused = desk.client.put("/v1/channels/line/answers", json={"answers": TREE | change})
    assert refused.status_code == 422, refused.text
    told = [error["field"] for error in refused.json()["errors"]]
    assert field is None or field in told, told


def press(desk: Desk, verb: str, **fields: str) -> httpx.Response:
    return desk.client.post(
        f"/chats/{desk.chat_id()}/{verb}", data=fields, headers=OWN, follow_redirects=False
    )


def test_an_agent_works_a_chat_off_by_the_pages(desk):
    assert "Nobody waits" in desk.client.get("/chats").text
    desk.hears("my parcel <b>is</b> wet\nand late")
    listed = desk.client.get("/chats", params={"agent": "Mei"}).text
    assert "1 to answer now" in listed
    assert f"/chats/{desk.chat_id()}?agent=Mei" in listed
    address = f"/chats/{desk.chat_id()}"
    page = desk.client.get(address, params={"agent": "Mei"}).text
    assert "my parcel &lt;b&gt;is&lt;/b&gt; wet\nand late" in page
    assert "<textarea" not in page
    took = press(desk, "take", agent="Mei", language="ja")
    assert (took.status_code, took.headers["location"]) == (303, f"{address}?agent=Mei&language=ja")
    page = desk.client.get(took.headers["location"]).text
    key = re.search(r'name="key" value="([^"]+)"', page)
    assert key is not None
    for _ in range(2):  # pressed twice
        said = press(desk, "say", agent="Mei", text="We send\r\nanother one.", key=key[1])
        assert said.status_code == 303, said.text
    desk.sends()
    assert desk.texts()[-1] == "We send\nanother one."
    assert len([line for line in desk.lines("speaker") if line == ("agent",)]) == 1
    assert "sent" in desk.client.get(address, params={"agent": "Mei"}).text
    assert "<textarea" not in desk.client.get(address, params={"agent": "Jun"}).text
    assert press(desk, "say", agent="Jun", text="Hi").status_code == 409
    ended = press(desk, "end", agent="Mei")
    assert (ended.status_code, ended.headers["location"]) == (303, "/chats?agent=Mei&language=en")
    assert "Answered automatically" in desk.client.get(address).text


@ONE_SQLITE
def test_a_form_of_another_page_changes_nothing(desk):
    desk.hears("my parcel is wet")
    for verb in ("take", "say", "end"):
        answer = desk.client.post(
            f"/chats/{desk.chat_id()}/{verb}",
            data={"agent": "Mei", "text": "x"},
            headers={"Origin": "https://elsewhere.example", "Host": "testserver"},
        )
        assert answer.status_code == 403
    assert desk.client.get(f"/v1/chats/{desk.chat_id()}").json()["held_by"] is None
    assert desk.client.get(f"/chats/{uuid4()}").status_code == 404


@ONE_SQLITE
@pytest.mark.parametrize("language", Language)
def test_the_pages_speak_every_language(desk, language):
    desk.hears("my parcel is wet")
    labels = CHAT_LABELS[language]
    page = desk.client.get("/chats", params={"language": language}).text
    assert f'<html lang="{language}">' in page
    assert labels.waiting.format(n=1) in page
    ask(desk, "take")
    page = desk.client.get(f"/chats/{desk.chat_id()}", params={"language": language, "agent": "Mei"}).text
    for label in (labels.said, labels.send, labels.end, labels.is_held_by.format(who="Mei")):
        assert label in page


@ONE_SQLITE
def test_the_longest_answer_of_the_page_fits_into_its_form(desk):
    desk.hears("my parcel is wet")
    ask(desk, "take")
    page = desk.client.get(f"/chats/{desk.chat_id()}", params={"agent": "Mei"}).text
    longest = re.search(r'maxlength="(\d+)" rows', page)
    assert longest is not None
    assert press(desk, "say", agent="Mei", text="鬱" * int(longest[1]), key=str(uuid4())).status_code == 303

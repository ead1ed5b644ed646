"""Answers by keywords and office hours: the law of a match, where a person stands, clocks that jump, and what is refused."""
# ruff: noqa: RUF001 - full-width forms are what the law is about

from __future__ import annotations

import json
import re
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.domain.campaign import Content
from models.domain.channel import DEFAULT_CHANNELS
from models.domain.errors import InvalidInputsError
from serving.chat.check import (
    DEEPEST,
    LONGEST_KEYWORD,
    MOST_BESIDE,
    MOST_GROUPS,
    MOST_KEYWORDS,
    check_answers,
)
from serving.chat.document import from_document, to_document
from serving.chat.hours import OpeningSpan, Timetable, Weekday
from serving.chat.reaction import Why, react, react_to_stranger, standing_at
from serving.chat.tree import KeywordGroup, match, match_anywhere, normalised
from serving.content import Person

LINE = next(channel for channel in DEFAULT_CHANNELS if channel.name == "line")
SMS = next(channel for channel in DEFAULT_CHANNELS if channel.name == "sms")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("ＨＯＵＲＳ", "hours"),
        ("  Opening \n hours?! ", "opening hours"),
        ("営業時間。", "営業時間"),
        ("ｶﾞｲﾄﾞ", "ガイド"),
        ("Straße", "STRASSE"),
        ("e\u0301t\u00e9", "ÉTÉ"),
        ("\u200bhello\ufeff", "Hello"),
    ],
)
def test_texts_that_people_take_for_the_same_are_the_same(text, same):
    assert normalised(text) == normalised(same) != ""


@pytest.mark.parametrize(
    ("text", "other"), [("hour", "hours"), ("opening-hours", "opening hours"), ("C", "C+")]
)
def test_a_part_of_a_keyword_or_another_word_is_not_the_same(text, other):
    assert normalised(text) != normalised(other)


@given(st.text(max_size=30))
@example("\u0345\u0300")
@example("!\u0301a")
def test_what_is_normal_stays_as_it_is_and_knows_no_case_nor_width(text):
    once = normalised(text)
    assert normalised(once) == once
    assert normalised(f"  {text}\n") == once


WORDS = st.sampled_from(["a", "b", "c", "d"])


def trees(depth: int) -> st.SearchStrategy[list[KeywordGroup]]:
    """Groups beside each other with different words; the same words come again further down."""
    below = trees(depth - 1) if depth else st.just([])

    def group(word: str) -> st.SearchStrategy[KeywordGroup]:
        return below.map(
            lambda groups: KeywordGroup(keywords=(word,), content=Content(body="x"), groups=tuple(groups))
        )

    return st.lists(WORDS, unique=True, min_size=1, max_size=3).flatmap(
        lambda words: st.tuples(*map(group, words)).map(list)
    )


def found_at(groups: list[KeywordGroup], path: tuple[str, ...]) -> KeywordGroup | None:
    level, found = groups, None
    for word in path:
        found = next((each for each in level if each.keywords[0] == word), None)
        if found is None:
            return None
        level = list(found.groups)
    return found


@given(trees(3), st.lists(WORDS, max_size=4).map(tuple), WORDS)
def test_the_nearest_keyword_between_where_one_stands_and_the_top_wins(groups, position, word):
    reached = position
    while reached and ((at := found_at(groups, reached)) is None or not at.groups):
        reached = reached[:-1]
    expected = next(
        (
            (*reached[:n], word)
            for n in range(len(reached), -1, -1)
            if found_at(groups, (*reached[:n], word)) is not None
        ),
        None,
    )
    found = match(groups, position, f" {word.upper()}!")
    assert (None if found is None else found.path) == expected
    if found is not None:
        assert found.group is found_at(groups, found.path)
        assert found.position == (found.path if found.group.groups else found.path[:-1])


@given(trees(3), WORDS)
def test_who_stands_nowhere_gets_the_group_nearest_to_the_top(groups, word):
    paths: list[tuple[str, ...]] = [()]
    for path in paths:
        at = found_at(groups, path)
        paths += [(*path, each.keywords[0]) for each in (groups if at is None else at.groups)]
    expected = next((path for path in paths[1:] if path[-1] == word), None)
    found = match_anywhere(groups, word)
    assert (None if found is None else found.path) == expected


def weekly(zone: str, *spans: tuple[str, str], days=tuple(Weekday), closed=()) -> Timetable:
    made = tuple(
        OpeningSpan(opens=time.fromisoformat(opens), closes=time.fromisoformat(closes))
        for opens, closes in spans
    )
    return Timetable(zone=ZoneInfo(zone), hours=dict.fromkeys(days, made), closed_on=frozenset(closed))


def open_hours(timetable: Timetable, day: date) -> float:
    """Hours open on a local date, by asking every five minutes."""
    at = datetime.combine(day, time(), timetable.zone).astimezone(UTC)
    end = datetime.combine(day + timedelta(days=1), time(), timetable.zone).astimezone(UTC)
    n = 0
    while at < end:
        n += timetable.is_open(at)
        at += timedelta(minutes=5)
    return n / 12


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 28), 24),
        ("Europe/Berlin", date(2026, 3, 29), 23),  # the clock jumps from 2 to 3
        ("Europe/Berlin", date(2026, 10, 25), 25),  # and back from 3 to 2
        ("Asia/Tokyo", date(2026, 3, 29), 24),
    ],
)
def test_an_office_that_never_closes_is_open_for_as_long_as_the_day_lasts(zone, day, hours):
    assert open_hours(weekly(zone, ("00:00", "00:00")), day) == hours


@pytest.mark.parametrize(
    ("span", "day", "hours"),
    [
        (("01:00", "05:00"), date(2026, 3, 28), 4),
        (("01:00", "05:00"), date(2026, 3, 29), 3),
        (("01:00", "05:00"), date(2026, 10, 25), 5),
        (("01:00", "02:30"), date(2026, 10, 25), 2.5),  # until the second half past two
        (("02:30", "05:00"), date(2026, 3, 29), 1.5),  # half past two is half past three
    ],
)
def test_spans_over_a_change_of_the_clock_last_as_long_as_the_clock_shows_them(span, day, hours):
    assert open_hours(weekly("Europe/Berlin", span), day) == hours


def test_a_span_over_midnight_belongs_to_the_day_on_which_it_begins():
    night = weekly("Asia/Tokyo", ("22:00", "02:00"), days=(Weekday.FRIDAY,), closed=[date(2026, 3, 13)])
    friday = datetime(2026, 3, 6, 22, tzinfo=ZoneInfo("Asia/Tokyo"))
    assert not night.is_open(friday - timedelta(seconds=1))
    assert night.is_open(friday)
    assert night.is_open(friday + timedelta(hours=4, seconds=-1))
    assert not night.is_open(friday + timedelta(hours=4))
    assert night.next_opening(friday + timedelta(seconds=1)) == friday + timedelta(
        weeks=2
    )  # 13 March is closed


SPAN = st.tuples(st.times(), st.times()).map(lambda span: OpeningSpan(opens=span[0], closes=span[1]))


@given(
    st.dictionaries(st.sampled_from(Weekday), st.lists(SPAN, min_size=1, max_size=3).map(tuple), min_size=1),
    st.sampled_from(["Europe/Berlin", "Asia/Taipei", "America/St_Johns", "Australia/Lord_Howe", "UTC"]),
    st.lists(st.dates(date(2026, 3, 1), date(2026, 4, 20)), max_size=30),
    st.integers(0, 275 * 1_440).map(lambda minutes: NOON + timedelta(minutes=minutes)),
    st.integers(1, 1_000),
)
def test_the_office_opens_when_it_says_and_not_before(hours, zone, closed, now, part):
    timetable = Timetable(zone=ZoneInfo(zone), hours=hours, closed_on=frozenset(closed))
    opens_at = timetable.next_opening(now)
    assert opens_at is not None
    assert opens_at >= now
    assert opens_at.astimezone(timetable.zone).date() not in closed
    if not timetable.is_open(now):
        assert not timetable.is_open(now + (opens_at - now) * (part / 1_001))


OFFICE = {
    "time_zone": "Asia/Taipei",
    "hours": {"mon": [{"opens": "09:00", "closes": "12:00"}, {"opens": "13:00", "closes": "18:00"}]},
}
DOCUMENT: dict[str, Any] = {
    "groups": [
        {"keywords": ["Hours"], "content": {"body": "Nine to six."}},
        {
            "keywords": ["Orders"],
            "groups": [{"keywords": ["Returns"], "link_url": "https://shop.example/returns"}],
        },
    ]
}
ADA = Person("c0", {"locale": "zh-TW"})


def reaction(text: str, now: datetime, person: Person = ADA, **more: object):
    return react(from_document(DOCUMENT | more), text, (), now, "line", person)


def test_a_person_answers_in_office_hours_and_afterwards_it_is_said_when_in_the_persons_language():
    open_, closed = datetime(2026, 3, 2, 2, tzinfo=UTC), datetime(2026, 3, 2, 11, tzinfo=UTC)
    handed = reaction("help", open_, office=OFFICE)
    assert (handed.why, handed.due_at) == (Why.HANDED_OVER, open_)
    assert "客服人員" in handed.says.text
    late = reaction("help", closed, office=OFFICE)
    assert (late.why, late.due_at) == (Why.CLOSED, datetime(2026, 3, 9, 1, tzinfo=UTC))
    assert late.says.content.body == "目前非服務時間，我們將於 3 月 9 日（週一）09:00 起回覆您。"
    assert late.says.choices == ("Hours", "Orders", "Talk to a person")
    lunch = reaction("help", datetime(2026, 3, 2, 4, 30, tzinfo=UTC), office=OFFICE)
    assert lunch.due_at == datetime(2026, 3, 2, 5, tzinfo=UTC)
    assert reaction("真人客服", open_, office=OFFICE).why is Why.HANDED_OVER
    assert reaction("hours", closed, office=OFFICE).why is Why.KEYWORD
    assert reaction("help", closed).why is Why.MENU
    assert reaction("MENU", open_, office=OFFICE).why is Why.BACK


def test_a_link_is_answered_with_its_word_and_a_stranger_is_never_handed_over():
    answers = from_document(DOCUMENT | {"office": OFFICE})
    says = react(answers, "returns", ("Orders",), NOON, "line", ADA).says
    assert (says.content.body, says.content.link_url) == ("Returns", "https://shop.example/returns")
    assert react_to_stranger(answers, "returns", "line").path == ("Orders", "Returns")
    met = react_to_stranger(answers, "talk to a person", "line")
    assert (met.why, met.says.choices, met.due_at) == (Why.MENU, ("Hours", "Orders"), None)


def test_after_a_while_one_stands_at_the_top():
    answers = from_document(DOCUMENT)
    assert standing_at(answers, ["Orders"], NOON, NOON + timedelta(seconds=1_799)) == ("Orders",)
    assert standing_at(answers, ["Orders"], NOON, NOON + timedelta(seconds=1_800)) == ()
    assert standing_at(answers, ["Orders"], None, NOON) == ()


def test_the_document_is_the_same_when_it_was_stored():
    answers = from_document(DOCUMENT | {"office": OFFICE | {"closed_on": ["2027-01-01"]}})
    check_answers(answers, LINE)
    assert from_document(to_document(answers)) == answers


def chain(n: int) -> dict[str, Any]:
    group: dict[str, Any] = {"keywords": [f"k{n}"], "content": {"body": "end"}}
    for depth in range(n - 1, 0, -1):
        group = {"keywords": [f"k{depth}"], "groups": [group]}
    return group


def group(*keywords: str, **more: object) -> dict[str, Any]:
    return {"keywords": list(keywords), "content": {"body": "x"}} | more


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"groups": []}, "groups", "at least one"),
        ({"groups": [group("A"), group("b", " ａ!")]}, "groups.1.keywords.1", "groups.0.keywords.0"),
        ({"groups": [group("A", "a")]}, "groups.0.keywords.1", "mean the same"),
        ({"groups": [{"keywords": ["A"]}]}, "groups.0", "must lead to"),
        ({"groups": [group("A", link_url="https://x.example")]}, "groups.0.link_url", "without `content`"),
        ({"groups": [{"keywords": ["A"], "link_url": "ftp://x"}]}, "groups.0.link_url", "web address"),
        ({"groups": [group()]}, "groups.0.keywords", "1 to"),
        ({"groups": [group("?!")]}, "groups.0.keywords.0", "letter"),
        ({"groups": [group("A\nB")]}, "groups.0.keywords.0", "one line"),
        ({"groups": [group("menu")]}, "groups.0.keywords.0", "`back`"),
        ({"groups": [group("A", labels={"ja": "B"})]}, "groups.0.labels.ja", "one of the group's"),
        ({"groups": [group("A", kind="html")]}, "groups.0.content", "line carries"),
        ({"groups": [group("A", content={"body": " "})]}, "groups.0.content.body", "say something"),
        ({"groups": [group("A", content={"body": "x" * 5_001})]}, "groups.0.content.body", "short enough"),
        ({"groups": [group("A", content={"body": "{{ name }}"})]}, "groups.0.content.body", "channel"),
        (
            {"groups": [group("A", content={"body": "{{ n }}" + "x" * 4_700})], "fields": {"n": "you"}},
            "groups.0.content.body",
            "personal words",
        ),
        ({"groups": [group(str(n)) for n in range(MOST_BESIDE + 1)]}, "groups", f"{MOST_BESIDE} beside"),
        (
            {"groups": [chain(DEEPEST + 1)]},
            ".".join(["groups.0"] * DEEPEST) + ".groups",
            f"{DEEPEST} deep",
        ),
        ({"position_seconds": 5}, "position_seconds", "[60"),
        ({"fields": {"opens_at": "x"}}, "fields.opens_at", "must not"),
        ({"menu": {"body": "{{ opens_at }}"}}, "menu.body", "must be one of"),
        ({"office": OFFICE | {"time_zone": "Mars/Base"}}, "office.time_zone", "IANA"),
        ({"office": OFFICE | {"hours": {}}}, "office.hours", "open on some day"),
        (
            {"office": OFFICE | {"hours": {"mon": [{"opens": "09:00+09:00", "closes": "10:00"}]}}},
            "office.hours.mon.0.opens",
            "own clock",
        ),
        ({"office": OFFICE | {"person_words": ["menu"]}}, "office.person_words", "`back`"),
        ({"office": OFFICE | {"silence_seconds": 1}}, "office.silence_seconds", "[60"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_its_place(changes, field, words):
    with pytest.raises(InvalidInputsError) as refused:
        check_answers(from_document(deepcopy(DOCUMENT) | changes), LINE)
    told = {finding.field: finding.bound for finding in refused.value.findings}
    assert words in told[field], told


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"grups": []}, "grups"),
        ({"groups": [group("A", colour="red")]}, "groups.0.colour"),
        ({"groups": [group("A", kind="poem")]}, "groups.0.kind"),
        ({"office": {"time_zone": "UTC", "hours": {"someday": []}}}, "office.hours.someday.[key]"),
        ({"office": {"time_zone": "UTC", "hours": {}, "closed_on": [946684800]}}, "office.closed_on.0"),
        ({"office": {"time_zone": "UTC", "hours": {}, "silence_seconds": True}}, "office.silence_seconds"),
    ],
)
def test_a_document_of_another_form_is_refused_with_its_place(changes, field):
    with pytest.raises(InvalidInputsError) as refused:
        from_document(DOCUMENT | changes)
    assert field in {finding.field for finding in refused.value.findings}


def test_what_a_channel_does_not_carry_is_refused_for_it_alone():
    answers = from_document({"groups": [group("A", kind="sticker", content={"body": "446/1988"})]})
    check_answers(answers, LINE)
    with pytest.raises(InvalidInputsError, match="sms carries: text"):
        check_answers(answers, SMS)
    check_answers(answers, replace(SMS, content_kinds=LINE.content_kinds))


def test_the_how_to_shows_answers_that_line_gives():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "answer-in-chat.md").read_text(encoding="utf-8")
    (document,) = re.findall(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    answers = from_document(json.loads(document))
    check_answers(answers, LINE)
    nobody = Person("", {})
    assert react(answers, "  HOURS?! ", (), NOON, "line", nobody).path == ("Opening hours",)
    assert react(answers, "returns", ("Orders",), NOON, "line", nobody).path == ("Orders", "Returns")
    assert f"{MOST_BESIDE} groups beside each other" in page
    assert f"{DEEPEST} deep, {MOST_GROUPS} in all, {MOST_KEYWORDS} keywords of {LONGEST_KEYWORD}" in page
    assert "`position_seconds`\n  (1,800)" in page
    assert answers.position_seconds == 1_800
    assert answers.office is not None
    assert answers.office.silence_seconds == 43_200

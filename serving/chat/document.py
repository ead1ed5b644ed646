"""What a channel answers by itself: one document, in versions."""
# ruff: noqa: RUF001 - full-width punctuation is the languages' own

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError, with_config

from features.json_types import Whole
from models.domain.campaign import Content
from models.domain.errors import InvalidInputError, InvalidInputsError
from serving.chat.hours import OpeningSpan, Timetable, Weekday
from serving.chat.tree import KeywordGroup
from serving.routes.fields import AS_TEXT

MENU = Content(
    body="Please choose:",
    locales={"zh": Content(body="請選擇："), "ja": Content(body="お選びください：")},
)
HANDED_OVER = Content(
    body="Thank you. A colleague will answer you here.",
    locales={
        "zh": Content(body="謝謝您，客服人員會在此回覆您。"),
        "ja": Content(body="ありがとうございます。担当者がここでお答えします。"),
    },
)
CLOSED = Content(
    body="Nobody is here at the moment. We will answer you from {{ opens_at }} on.",
    locales={
        "zh": Content(body="目前非服務時間，我們將於 {{ opens_at }} 起回覆您。"),
        "ja": Content(body="ただいま営業時間外です。{{ opens_at }} より順にお答えします。"),
    },
)

SILENCE_SECONDS = 43_200


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """Who answers when, where rules do not.

    Attributes:
        time_zone: IANA name, of the hours and dates.
        hours: Spans by the weekday on which they begin.
        closed_on: Dates on which none begins.
        person_words: Whoever says one of these is handed over to a person; the first stands in the top menu.
        handed_over: Said when a person will answer.
        closed: Said when nobody is there; `opens_at` is when somebody is.
        silence_seconds: Rules say nothing in a chat that was handed over until nobody has said a word for so long.
    """

    time_zone: str
    hours: Mapping[Weekday, tuple[OpeningSpan, ...]]
    closed_on: tuple[Annotated[date, AS_TEXT], ...] = ()
    person_words: tuple[str, ...] = ("Talk to a person", "真人客服", "オペレーター")
    handed_over: Content = HANDED_OVER
    closed: Content = CLOSED
    silence_seconds: Whole = SILENCE_SECONDS

    @property
    def timetable(self) -> Timetable:
        """When it is open."""
        return Timetable(zone=ZoneInfo(self.time_zone), hours=self.hours, closed_on=frozenset(self.closed_on))


@with_config(extra="forbid")  # what lies within it, too
@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a channel answers to whoever writes to it.

    Attributes:
        groups: The tree of keywords; its top is the menu that any other text shows.
        menu: Text above that menu.
        back: Words that lead to it from anywhere; the first stands in every menu below.
        position_seconds: After so long a person stands at the top again.
        fields: Attributes of customers that texts may name, each with what to say without it.
        office: When people answer what no keyword does; None: nobody does, and the menu is shown.
    """

    groups: tuple[KeywordGroup, ...]
    menu: Content = MENU
    back: tuple[str, ...] = ("Menu", "選單", "メニュー")
    position_seconds: Whole = 1_800
    fields: Mapping[str, str] = field(default_factory=dict)
    office: Office | None = None


_ANSWERS: TypeAdapter[Answers] = TypeAdapter(Answers)


def to_document(answers: Answers) -> dict[str, Any]:
    """As JSON can hold it."""
    document: dict[str, Any] = _ANSWERS.dump_python(answers, mode="json")
    return document


def from_document(document: object) -> Answers:
    """The inverse of `to_document`, also of documents that people write.

    Raises:
        InvalidInputsError: it has another form.
    """
    try:
        return _ANSWERS.validate_python(document)
    except ValidationError as exc:
        raise InvalidInputsError(
            [
                InvalidInputError(
                    ".".join(map(str, each["loc"])), str(each["input"])[:100], each["msg"].lower()
                )
                for each in exc.errors(include_url=False, include_context=False)
            ]
        ) from exc

"""Field types that several requests share."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    GetPydanticSchema,
    StringConstraints,
)

from features.history.documents import to_document
from models.domain.campaign import Campaign
from models.domain.channel import Channel
from models.domain.interaction import FIRST_MOMENT, LAST_MOMENT, LONGEST_ID, LONGEST_NAME, LONGEST_TEXT


def _is_text(moment: object) -> object:
    # A number, also one in text, would be read as seconds or milliseconds since 1970, whichever looks likelier.
    if (moment[4:5] != "-") if isinstance(moment, str) else not isinstance(moment, datetime):
        raise ValueError("must be text, ISO 8601 with an offset")
    return moment


Name = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ID, pattern=r"^[^\x00-\x1f\x7f]+$")]
ShortName = Annotated[
    str, StringConstraints(min_length=1, max_length=LONGEST_NAME, pattern=r"^[^\x00-\x1f\x7f]+$")
]
LongText = Annotated[
    str, StringConstraints(min_length=1, max_length=LONGEST_TEXT, pattern=r"^[^\x00-\x1f\x7f]+$")
]
# Bounds before the function: pydantic then compares by itself, which halves the cost of a moment.
Moment = Annotated[AwareDatetime, Field(ge=FIRST_MOMENT, lt=LAST_MOMENT), BeforeValidator(_is_text)]


def text_of(words: type[StrEnum]) -> GetPydanticSchema:
    """For `Annotated[str, ...]`: one of the words, described as that enumeration and given as plain text.

    A row of the history holds the text; ten thousand rows need no look at each to turn it back.
    """
    as_text = Annotated[words, AfterValidator(attrgetter("_value_"))]  # type: ignore[valid-type]
    return GetPydanticSchema(lambda _source, handler: handler(as_text))


NO_NUL = "must not hold the character NUL: no database stores it"


def nul_in(noun: Campaign | Channel) -> list[str]:
    """The texts of a campaign or channel that hold the character NUL, shortened."""
    found: list[str] = []

    def look(part: object) -> None:
        if isinstance(part, str) and "\0" in part:
            found.append(part[:40])
        elif isinstance(part, dict):
            for name, inner in part.items():
                look(name)
                look(inner)
        elif isinstance(part, list):
            for inner in part:
                look(inner)

    look(to_document(noun))
    return found

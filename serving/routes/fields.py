"""Field types that several requests share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from math import isfinite
from operator import attrgetter
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    GetPydanticSchema,
    StringConstraints,
)

from models.domain.customer import ZONE_FORM
from models.domain.errors import InvalidInputError
from models.domain.interaction import KNOWN_TIME, LONGEST_ID, LONGEST_NAME, LONGEST_TEXT


def _is_text(moment: object) -> object:
    # A number, also one in text, would be read as seconds or milliseconds since 1970, whichever looks likelier.
    if (moment[4:5] != "-") if isinstance(moment, str) else not isinstance(moment, datetime):
        raise ValueError("must be text, ISO 8601")
    return moment


NO_CONTROLS = r"^[^\x00-\x1f\x7f]+$"
"""The pattern of a text of one line or word: without control characters."""
Name = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ID, pattern=NO_CONTROLS)]
ShortName = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME, pattern=NO_CONTROLS)]
LongText = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TEXT, pattern=NO_CONTROLS)]
AS_TEXT = BeforeValidator(_is_text)
"""For a moment or a date: given as text, never as a number."""
# Bounds before the function: pydantic then compares by itself, which halves the cost of a moment.
Moment = Annotated[
    AwareDatetime,
    Field(ge=KNOWN_TIME.first, lt=KNOWN_TIME.end),
    KNOWN_TIME,
    AS_TEXT,
]
# `zone` refuses a name in better words than a pattern would.
TimeZone = Annotated[ShortName, Field(json_schema_extra={"pattern": ZONE_FORM})]


def either(one: str, other: str, *, both: bool = False) -> dict[str, Any]:
    """For a schema: one of two properties is given, and is not null.

    Args:
        one: Name of a property.
        other: Of the other.
        both: Whether both may be given.
    """
    null, given = {"type": "null"}, {"not": {"type": "null"}}

    def alone(name: str, without: str) -> dict[str, Any]:
        properties = {name: given} if both else {name: given, without: null}
        return {"required": [name], "properties": properties}

    return {"anyOf" if both else "oneOf": [alone(one, other), alone(other, one)]}


def text_of(words: type[StrEnum]) -> GetPydanticSchema:
    """For `Annotated[str, ...]`: one of the words, described as that enumeration and given as plain text.

    A row of the history holds the text; ten thousand rows need no look at each to turn it back.
    """
    as_text = Annotated[words, AfterValidator(attrgetter("_value_"))]  # type: ignore[valid-type]
    return GetPydanticSchema(lambda _source, handler: handler(as_text))


_NO_TEXT = "must not hold the character NUL, nor one half of a surrogate pair: no database stores them"
_LARGEST = 2**63 - 1
_NO_NUMBER = "must be a finite number"
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""What no database stores of a text."""


def unstorable_in(noun: object, prefix: str) -> list[InvalidInputError]:
    """The texts of what is to be stored that no database stores, and the numbers that JSON cannot write, with their places.

    Args:
        noun: To be stored.
        prefix: Stands before the paths.
    """
    found: list[InvalidInputError] = []

    def refuse(path: str, value: object, bound: str) -> None:
        found.append(InvalidInputError(path.removesuffix("."), value, bound))

    def look(part: object, path: str) -> None:
        if isinstance(part, float) and not isfinite(part):
            refuse(path, part, _NO_NUMBER)
        elif isinstance(part, int) and abs(part) > _LARGEST:
            refuse(path, str(part)[:40], f"must be in [-{_LARGEST}, {_LARGEST}]")
        elif isinstance(part, str) and UNSTORABLE.search(part):
            refuse(path, part[:40], _NO_TEXT)
        elif is_dataclass(part):
            for each in fields(part):
                look(getattr(part, each.name), f"{path}{each.name}.")
        elif isinstance(part, Mapping):
            for name, inner in part.items():
                look(name, path)
                look(inner, f"{path}{name}.")
        elif isinstance(part, frozenset | tuple | list):
            # A set's members have the places that they have in the document.
            for index, inner in enumerate(sorted(part) if isinstance(part, frozenset) else part):
                look(inner, f"{path}{index}.")

    look(noun, prefix)
    return found

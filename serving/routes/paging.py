"""Lists in pages: a cursor names the last row that was given, so that rows added meanwhile shift nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

import orjson
from fastapi import Query

from models.domain.errors import InvalidInputError

LARGEST_PAGE = 200
USUAL_PAGE = 50
_LONGEST_CURSOR = 1_024
# Of a number in a cursor: in microseconds since 1970 the year 2255.
_LARGEST = 2**53

T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Most rows of this page.")]
Cursor = Annotated[
    str | None,
    Query(max_length=_LONGEST_CURSOR, description="`next_cursor` of the page before; absent for the first."),
]


def to_cursor(*key: str | int) -> str:
    """The key of a row as a cursor: URL-safe, and of no meaning to the caller."""
    return base64.urlsafe_b64encode(orjson.dumps(key)).decode().rstrip("=")


def from_cursor(cursor: str, *kinds: type[str] | type[int]) -> tuple[str | int, ...]:
    """The key that `to_cursor` was given.

    Args:
        cursor: From a caller.
        kinds: Types of the parts of the key.

    Raises:
        InvalidInputError: no page of this list ended with it.
    """
    try:
        key = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        key = None
    if not isinstance(key, list) or [type(part) for part in key] != list(kinds) or not all(map(_sane, key)):
        raise InvalidInputError("cursor", cursor, "must be the `next_cursor` of a page of this list")
    return tuple(key)


def page_of(rows: Sequence[T], limit: int, cursor_of: Callable[[T], str]) -> tuple[list[T], str | None]:
    """The page and the cursor of the next one.

    Args:
        rows: Up to `limit + 1` rows; one too many means that there is another page.
        limit: Rows of a page.
        cursor_of: The cursor that a row stands for.
    """
    page = list(rows[:limit])
    return page, cursor_of(page[-1]) if len(rows) > limit else None


def _sane(part: str | int) -> bool:
    """Whether a database can compare it."""
    return "\0" not in part if isinstance(part, str) else 0 <= part < _LARGEST

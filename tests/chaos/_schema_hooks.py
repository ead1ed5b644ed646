"""What Schemathesis must be told of this service.

How a stream of requests is written and answered, which moments are taken, and names of what is there: a made-up id meets
nothing but 404.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import orjson
import schemathesis
from hypothesis import strategies as st

from models.domain.interaction import KNOWN_TIME

_MOST_OFFSET_MINUTES = 14 * 60
# By the name of a field, what is there under it.
_KNOWN: dict[str, list[str]] = json.loads(os.environ.get("SCHEMA_KNOWN", "{}"))


@schemathesis.serializer("application/x-ndjson")
def as_lines(_context: Any, value: Any) -> bytes:
    """One JSON document a line."""
    documents = value if isinstance(value, list) else [value]
    return b"".join(orjson.dumps(document, default=str) + b"\n" for document in documents)


@schemathesis.hook
def filter_case(_context: Any, case: schemathesis.Case) -> bool:
    """Leave out wrong streams: each line gets an answer of its own, so a stream with wrong lines is a 200."""
    wrong = case.meta is not None and case.meta.generation.mode.is_negative
    return not (wrong and case.media_type == "application/x-ndjson")


@schemathesis.hook
def before_call(_context: Any, case: schemathesis.Case, _kwargs: dict[str, Any]) -> None:
    """Name what is there in three of four right requests."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    # What is set anew is judged anew: a body of null, of which nothing changes, would count as wrong.
    for part in ("path_parameters", "query", "body"):
        given = getattr(case, part)
        if (named := _named(given)) != given:
            setattr(case, part, named)


def _named(value: Any) -> Any:
    """The same with known names, chosen by the made-up ones: a seed gives the same requests again."""
    if isinstance(value, list):
        return [_named(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {key: _known(key, one) if isinstance(one, str) else _named(one) for key, one in value.items()}


def _known(field: str, made_up: str) -> str:
    known = _KNOWN.get(field)
    if known is None:
        return made_up
    draw = int.from_bytes(sha256(made_up.encode("utf-8", "surrogatepass")).digest()[:8])
    return made_up if draw % 4 == 0 else known[draw // 4 % len(known)]


def _as_text(moment: datetime, offset_minutes: int) -> str:
    return moment.astimezone(timezone(timedelta(minutes=offset_minutes))).isoformat()


# The description bounds moments by `formatMinimum` and `formatExclusiveMaximum`, which Schemathesis does not read.
schemathesis.openapi.format(
    "date-time",
    st.builds(
        _as_text,
        st.datetimes(
            KNOWN_TIME.first.replace(tzinfo=None),
            (KNOWN_TIME.end - timedelta.resolution).replace(tzinfo=None),
            timezones=st.just(UTC),
        ),
        st.integers(-_MOST_OFFSET_MINUTES, _MOST_OFFSET_MINUTES),
    ),
)

"""What Schemathesis must be told of this service: how a stream of requests is written and answered, and which moments are taken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import schemathesis
from hypothesis import strategies as st

from models.domain.interaction import KNOWN_TIME

_MOST_OFFSET_MINUTES = 14 * 60


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

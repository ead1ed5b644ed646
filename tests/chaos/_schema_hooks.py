"""What Schemathesis must be told of this service: how a stream of requests is written, and how it is answered."""

from __future__ import annotations

from typing import Any

import orjson
import schemathesis


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

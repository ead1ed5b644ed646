"""What Schemathesis must be told of this service: how a stream of requests is written."""

from __future__ import annotations

from typing import Any

import orjson
import schemathesis


@schemathesis.serializer("application/x-ndjson")
def as_lines(_context: Any, value: Any) -> bytes:
    """One JSON document a line."""
    documents = value if isinstance(value, list) else [value]
    return b"".join(orjson.dumps(document, default=str) + b"\n" for document in documents)

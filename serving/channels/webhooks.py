"""What webhooks share: signatures over raw bytes, JSON that was signed, event ids of bounded length."""

from __future__ import annotations

import hmac
import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from serving.channels.contract import ForgedEventsError

Clock = Callable[[], datetime]
_LONGEST_EVENT_ID = 128
# Words by which people leave, as carriers and messengers know them; the whole text, whatever its case.
_OPT_OUT_WORDS = frozenset(
    {"stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit", "退訂", "停止", "配信停止"}
)


def utc_now() -> datetime:
    """The present, for providers that do not say when something happened."""
    return datetime.now(UTC)


def require_equal(expected: str, given: str | None) -> None:
    """Refuse a signature that differs; takes the same time wherever it differs.

    Raises:
        ForgedEventsError: they differ, or none is given.
    """
    if not hmac.compare_digest(expected.encode(), (given or "").encode("utf-8", "replace")):
        raise ForgedEventsError("the signature is missing or wrong")


def hmac_base64(secret: str, body: bytes, digest: str) -> str:
    """HMAC of the body in base64."""
    return b64encode(hmac.digest(secret.encode(), body, digest)).decode()


def hmac_hex(secret: str, body: bytes, digest: str) -> str:
    """HMAC of the body in lower-case hexadecimal digits."""
    return hmac.digest(secret.encode(), body, digest).hex()


def signed_json(body: bytes) -> dict[str, Any]:
    """The JSON object of a body whose signature is right.

    Raises:
        ForgedEventsError: it is no JSON object.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise ForgedEventsError(f"the signed body is no JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise ForgedEventsError("the signed body is no JSON object")
    return document


@contextmanager
def readable() -> Iterator[None]:
    """A signed body that is built otherwise than the provider says is refused like a forged one."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as exc:
        raise ForgedEventsError(f"the signed body cannot be read: {exc!r}") from exc


def event_id(*parts: object) -> str:
    """The parts joined by slashes; their digest where that is longer than ids may be."""
    joined = "/".join(str(part) for part in parts)
    return joined if len(joined) <= _LONGEST_EVENT_ID else sha256(joined.encode()).hexdigest()


def moment(seconds: object, *, divide_by: int = 1) -> datetime:
    """A moment given as seconds since 1970, or as a fraction of them.

    Raises:
        ForgedEventsError: it is no such moment.
    """
    try:
        return datetime.fromtimestamp(float(str(seconds)) / divide_by, UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise ForgedEventsError(f"{seconds!r} is no moment") from exc


def query_of(path: str) -> dict[str, str]:
    """The query of `:path`, the last of repeated names."""
    return dict(parse_qsl(urlsplit(path).query, keep_blank_values=True))


def is_opt_out(text: str) -> bool:
    """Whether the whole text is a word by which people leave."""
    return text.strip().strip(".!").casefold() in _OPT_OUT_WORDS

"""A browser's sign-in: a signed cookie that names a key and when it ends.

The cookie is worth what its key is worth, and nothing once the key is revoked or has expired. Nothing is stored.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

COOKIE = "nextchannel_session"
LASTS = timedelta(hours=12)
_PURPOSE = b"nextchannel session v1"


class Sessions:
    """Makes and reads cookies.

    Args:
        secret: Of the installation; the same on every replica.
    """

    def __init__(self, secret: str) -> None:
        self._key = hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256)

    def issue(self, key_id: str, now: datetime) -> str:
        """The cookie's value: `<key id>.<end, seconds since 1970>.<signature>`."""
        signed = f"{key_id}.{int((now + LASTS).timestamp())}"
        return f"{signed}.{self._signature(signed)}"

    def read(self, value: str, now: datetime) -> str | None:
        """The key id that it names; None where it was forged, altered or has ended."""
        signed, _, signature = value.rpartition(".")
        if not hmac.compare_digest(self._signature(signed).encode(), signature.encode(errors="replace")):
            return None
        key_id, _, ends_at = signed.partition(".")
        return key_id if now < datetime.fromtimestamp(int(ends_at), UTC) else None

    def _signature(self, signed: str) -> str:
        made = hmac.digest(self._key, signed.encode(errors="replace"), hashlib.sha256)
        return base64.urlsafe_b64encode(made).rstrip(b"=").decode()


def cookie_of(header: bytes) -> str | None:
    """The session in a Cookie header."""
    for part in header.decode("latin-1").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return None


def from_own_page(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a page of this service made the request.

    Browsers state it (`Sec-Fetch-Site`, else `Origin`) and pages cannot alter it. A request that states neither is
    taken for a stranger's.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site == b"same-origin"
    origin = headers.get(b"origin")
    if origin is None:
        return False
    return urlsplit(origin.decode("latin-1")).netloc == headers.get(b"host", b"").decode("latin-1")


def safe_next(path: str) -> str:
    """Where to go after the sign-in: a path of this service, whatever was asked for."""
    ours = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if ours else "/"

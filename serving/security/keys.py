"""API keys: made, listed, rotated and revoked; only their hash is kept.

A key reads `nck_<key id>_<secret>`. The key id is public and finds the row; the secret has 256 random bits, so a
plain SHA-256 at rest is enough (there is nothing to guess, and no password to stretch).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection, Row, insert, select, update

from features.history.tables import api_keys
from models.domain.errors import ConflictError, NotFoundError, require

PREFIX = "nck"
LIVE_KEYS_A_NAME = 2
LONGEST_KEY = 128
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ID_CHARACTERS = "abcdefghijkmnpqrstuvwxyz23456789"
_ID_LENGTH = 10
_SECRET_BYTES = 32


class Scope(StrEnum):
    """What a key is good for; `admin` includes every other."""

    DECIDE = "decide"
    INGEST = "ingest"
    SEND = "send"
    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One key, as it is stored.

    Attributes:
        key_id: Its public part.
        name: Who calls.
        digest: SHA-256 of the whole key, hexadecimal.
        expires_at: None for a key that does not expire.
        last_used_at: To the minute; None before the first use.
    """

    key_id: str
    name: str
    digest: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def live(self, now: datetime) -> bool:
        """Whether it opens anything at that moment."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def allows(self, scope: Scope) -> bool:
        """Whether it is good for that."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at the only moment at which its text is known."""

    key: ApiKey
    text: str


def digest(text: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def key_id_of(text: str) -> str | None:
    """The public part of a key; None for what does not look like one."""
    parts = text.split("_", 2)
    if len(text) > LONGEST_KEY or len(parts) != 3 or parts[0] != PREFIX:
        return None
    return parts[1]


def create_key(
    conn: Connection,
    name: str,
    scopes: Collection[Scope],
    now: datetime,
    expires_at: datetime | None = None,
) -> NewKey:
    """Make the first key of a name.

    Raises:
        InvalidInputError: the name or the scopes are not usable, or the key would be expired already.
        ConflictError: the name has a live key; `rotate_key` gives it the next one.
    """
    require(
        _NAME.fullmatch(name) is not None,
        "name",
        name,
        "must be 1 to 64 letters, digits, '.', '_' or '-', and begin with a letter or digit",
    )
    require(bool(scopes), "scope", [], f"must be at least one of {', '.join(Scope)}")
    require(expires_at is None or expires_at > now, "expires_at", expires_at, "must be after now")
    if _live(conn, name, now):
        raise ConflictError(f"{name} has a live key; rotate it, or revoke it first")
    return _insert(conn, name, frozenset(scopes), now, expires_at)


def rotate_key(conn: Connection, name: str, now: datetime, overlap: timedelta) -> NewKey:
    """Make the next key of a name with the same scopes; the present one lives on for `overlap`.

    Raises:
        NotFoundError: the name has no live key.
        ConflictError: it has two already, so a rotation is under way.
    """
    require(overlap >= timedelta(0), "overlap", str(overlap), "must be >= 0")
    present = _live(conn, name, now)
    if not present:
        raise NotFoundError("name", name)
    if len(present) >= LIVE_KEYS_A_NAME:
        raise ConflictError(f"{name} has {len(present)} live keys; revoke the old one first")
    old = present[0]
    ends_at = now + overlap
    if old.expires_at is None or ends_at < old.expires_at:
        conn.execute(update(api_keys).where(api_keys.c.key_id == old.key_id).values(expires_at=ends_at))
    return _insert(conn, name, old.scopes, now, None)


def revoke_key(conn: Connection, name_or_id: str, now: datetime) -> Sequence[str]:
    """End a key at once, or every live key of a name; the ids of those that were ended.

    Raises:
        NotFoundError: no live key has that name or id.
    """
    ended = [key.key_id for key in list_keys(conn) if key.live(now) and name_or_id in (key.key_id, key.name)]
    if not ended:
        raise NotFoundError("key", name_or_id)
    conn.execute(update(api_keys).where(api_keys.c.key_id.in_(ended)).values(revoked_at=now))
    return ended


def list_keys(conn: Connection) -> list[ApiKey]:
    """Every key that was ever made, by name and age."""
    rows = conn.execute(select(api_keys).order_by(api_keys.c.name, api_keys.c.created_at, api_keys.c.key_id))
    return [_from_row(row) for row in rows]


def note_use(conn: Connection, key_ids: Collection[str], now: datetime) -> None:
    """Remember that these keys were used."""
    conn.execute(update(api_keys).where(api_keys.c.key_id.in_(key_ids)).values(last_used_at=now))


def _live(conn: Connection, name: str, now: datetime) -> list[ApiKey]:
    # Locked, so that two rotations of a name wait for each other.
    rows = conn.execute(
        select(api_keys)
        .where(api_keys.c.name == name)
        .order_by(api_keys.c.created_at, api_keys.c.key_id)
        .with_for_update()
    )
    return [key for key in map(_from_row, rows) if key.live(now)]


def _insert(
    conn: Connection, name: str, scopes: frozenset[Scope], now: datetime, expires_at: datetime | None
) -> NewKey:
    key_id = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
    text = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    key = ApiKey(
        key_id=key_id,
        name=name,
        digest=digest(text),
        scopes=scopes,
        created_at=now,
        expires_at=expires_at,
    )
    conn.execute(
        insert(api_keys).values(
            key_id=key.key_id,
            name=key.name,
            digest=key.digest,
            scopes=sorted(key.scopes),
            created_at=key.created_at,
            expires_at=key.expires_at,
        )
    )
    return NewKey(key, text)


def _from_row(row: Row[tuple[object, ...]]) -> ApiKey:
    return ApiKey(
        key_id=row.key_id,
        name=row.name,
        digest=row.digest,
        scopes=frozenset(Scope(one) for one in row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )

"""The keys in memory: looked up without the database, read anew every second."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Engine

from features.history.engine import read_only
from serving.background import Repeating
from serving.security.keys import ApiKey, digest, key_id_of, list_keys, note_use

REFRESH_SECONDS = 1.0
_NOTE_EVERY = timedelta(minutes=1)
# Compared with where the key id is unknown, so that a guess takes as long as a miss.
_NOBODY = "0" * 64


class KeyRing:
    """Finds the key that a caller presents.

    A key that is made or revoked counts on every replica within `REFRESH_SECONDS` and the time of one query. While
    the database does not answer, the keys that were read last stay.

    Args:
        engine: Where keys are stored.
        clock: Gives `now`, aware.
    """

    def __init__(self, engine: Engine, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._clock = clock
        self._keys: dict[str, ApiKey] = {}
        self._used: dict[str, datetime] = {}
        self._noted: dict[str, datetime] = {}
        self._thread = Repeating("keys", self.refresh, REFRESH_SECONDS)

    def start(self) -> None:
        """Read the keys, then go on reading them in the background."""
        self.refresh()
        self._thread.start()

    def stop(self) -> None:
        """End after the turn under way."""
        self._thread.stop()

    @property
    def empty(self) -> bool:
        """Whether no key was ever made."""
        return not self._keys

    def find(self, text: str) -> ApiKey | None:
        """The live key of that text, or None; takes the same time for a wrong secret and an unknown key."""
        key = self._keys.get(key_id_of(text) or "")
        expected = _NOBODY if key is None else key.digest
        if not hmac.compare_digest(digest(text), expected) or key is None:
            return None
        return self._used_now(key)

    def by_id(self, key_id: str) -> ApiKey | None:
        """The live key of that id: for whoever has proved before that they hold it."""
        key = self._keys.get(key_id)
        return None if key is None else self._used_now(key)

    def refresh(self) -> None:
        """Read every key, and write down which were used."""
        with read_only(self._engine).connect() as conn:
            self._keys = {key.key_id: key for key in list_keys(conn)}
        due = {
            key_id: at
            for key_id, at in list(self._used.items())
            if key_id not in self._noted or at - self._noted[key_id] >= _NOTE_EVERY
        }
        if due:
            with self._engine.begin() as conn:
                note_use(conn, list(due), max(due.values()))
            self._noted |= due

    def _used_now(self, key: ApiKey) -> ApiKey | None:
        now = self._clock()
        if not key.live(now):
            return None
        self._used[key.key_id] = now
        return key

"""One answer an idempotency key: requests that are repeated are not executed again.

    (no row) --claim--> executing --complete--> answered     the answer is given again for a day
                          |    ^
                          +----+ claim, once the lease has run out: the executor died

A claim is a lease with a fencing token, as for messages. Every claim of the same key has the same `execution`,
from which the ids of what the request creates are derived: an execution that is started again after a crash finds
what the first one created.

A single decision needs no claim of its own: its key is written in the decision's transaction, by `remember`.

The caller owns the transaction.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4, uuid5

from sqlalchemy import ColumnElement, Connection, Engine, and_, bindparam, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from features.history.prepared import Prepared
from features.history.tables import idempotency_keys as keys
from features.history.tables import moment_from
from models.domain.errors import InProgressError, KeyReusedError, require

LIFETIME = timedelta(hours=24)
# Longer than any request takes; after a crash the same key waits this long.
LEASE = timedelta(seconds=60)
LONGEST_KEY = 255
# A space at either end is lost on the way: it is no part of a header's value.
KEY_FORM = r"^[!-~]([ -~]*[!-~])?$"

# What every decision with a key runs.
_KNOWN = Prepared(
    select(keys.c.request, keys.c.decision_id, keys.c.expires_at).where(
        keys.c.caller == bindparam("caller"), keys.c.idempotency_key == bindparam("word")
    )
)
_REMEMBER = Prepared(
    insert(keys),
    (
        "caller",
        "idempotency_key",
        "request",
        "execution",
        "fencing_token",
        "decision_id",
        "expires_at",
    ),
)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key as it came with a request.

    Attributes:
        caller: Digest of the caller's credential, so that callers never see each other's answers; or empty.
        key: The caller's own word for this request.
        request: Digest of the request, so that another one under the same key is noticed.
    """

    caller: str
    key: str
    request: str

    @classmethod
    def of(cls, key: str, credential: str, *request: bytes) -> IdempotencyKey:
        """Make one.

        Args:
            key: Value of the header `Idempotency-Key`.
            credential: Value of the header `Authorization`, or empty.
            request: Method, path and body.

        Raises:
            InvalidInputError: the key is empty, too long, or holds what is no visible ASCII character.
        """
        require(
            len(key) <= LONGEST_KEY and re.fullmatch(KEY_FORM, key) is not None,
            "Idempotency-Key",
            key,
            f"must be 1 to {LONGEST_KEY} printable ASCII characters",
        )
        digest = hashlib.sha256()
        for part in request:
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        caller = hashlib.sha256(credential.encode()).hexdigest() if credential else ""
        return cls(caller, key, digest.hexdigest())


@dataclass(frozen=True, slots=True)
class Execution:
    """The right to execute a request.

    Attributes:
        execution: The same for every attempt at the request.
        fencing_token: Of this attempt.
    """

    execution: str
    fencing_token: int

    def derived_id(self, index: int) -> str:
        """Id of the index-th thing that the request creates: the same at every attempt."""
        return str(uuid5(UUID(self.execution), str(index)))


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The answer that was given before."""

    status: int
    content_type: str
    body: bytes


def claim(conn: Connection, key: IdempotencyKey, now: datetime) -> Execution | KeptAnswer:
    """Take the right to execute, or get the answer of who did.

    Raises:
        KeyReusedError: the key belongs to another request.
        InProgressError: somebody is executing it at this moment.
    """
    into = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    _forget_expired(conn, key, now)
    fresh = Execution(str(uuid4()), 1)
    statement = into(keys).values(
        caller=key.caller,
        idempotency_key=key.key,
        request=key.request,
        execution=fresh.execution,
        fencing_token=fresh.fencing_token,
        lease_until=now + LEASE,
        expires_at=now + LIFETIME,
    )
    added = conn.execute(
        statement.on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    ).rowcount
    if added:
        return fresh
    row = conn.execute(select(keys).where(_is(key)).with_for_update()).one()
    _same_request(row.request, key)
    if row.status is not None:
        return KeptAnswer(row.status, row.content_type, zlib.decompress(row.answer))
    if row.decision_id is not None or row.lease_until > now:
        raise InProgressError(f"the request with the key {key.key!r} is being executed; ask again")
    conn.execute(
        update(keys).where(_is(key)).values(lease_until=now + LEASE, fencing_token=row.fencing_token + 1)
    )
    return Execution(row.execution, row.fencing_token + 1)


def complete(conn: Connection, key: IdempotencyKey, execution: Execution, answer: KeptAnswer) -> bool:
    """Keep the answer; False where somebody else has taken over since, whose answer then counts."""
    changed = conn.execute(
        update(keys)
        .where(_is(key), keys.c.fencing_token == execution.fencing_token, keys.c.status.is_(None))
        .values(
            lease_until=None,
            status=answer.status,
            content_type=answer.content_type,
            answer=zlib.compress(answer.body, 1),
        )
    )
    return changed.rowcount == 1


def give_up(
    conn: Connection, key: IdempotencyKey, execution: Execution, *, forget: bool, now: datetime
) -> None:
    """End an execution without an answer.

    Args:
        conn: A connection whose transaction the caller commits.
        key: Whose.
        execution: Which attempt.
        forget: Nothing was created, so that the key is free again; otherwise only its lease ends.
        now: Aware.
    """
    mine = and_(_is(key), keys.c.fencing_token == execution.fencing_token, keys.c.status.is_(None))
    if forget:
        conn.execute(delete(keys).where(mine))
    else:
        conn.execute(update(keys).where(mine).values(lease_until=now))


def decision_of(conn: Connection, key: IdempotencyKey, now: datetime) -> str | None:
    """The decision that answers the key, or None where there is none; a key whose day is over is forgotten.

    Raises:
        KeyReusedError: the key belongs to another request.
    """
    for request, decision_id, expires_at in _KNOWN.rows(conn, caller=key.caller, word=key.key):
        if moment_from(expires_at) <= now:
            _forget_expired(conn, key, now)
            return None
        _same_request(request, key)
        known: str | None = decision_id
        return known
    return None


def remember(conn: Connection, made: Sequence[tuple[IdempotencyKey, str, datetime]]) -> None:
    """Write keys with the decisions that answer them and the moments at which these were taken.

    Raises:
        sqlalchemy.exc.IntegrityError: somebody else wrote one of the keys a moment ago.
    """
    _REMEMBER.run_all(
        conn,
        [
            {
                "caller": key.caller,
                "idempotency_key": key.key,
                "request": key.request,
                "execution": decision_id,
                "fencing_token": 1,
                "decision_id": decision_id,
                "expires_at": decided_at + LIFETIME,
            }
            for key, decision_id, decided_at in made
        ],
    )


def forget_expired(engine: Engine, now: datetime) -> int:
    """Delete the keys whose day is over; how many."""
    with engine.begin() as conn:
        return conn.execute(delete(keys).where(keys.c.expires_at <= now)).rowcount


def _forget_expired(conn: Connection, key: IdempotencyKey, now: datetime) -> None:
    conn.execute(delete(keys).where(_is(key), keys.c.expires_at <= now))


def _same_request(request: str, key: IdempotencyKey) -> None:
    if request != key.request:
        raise KeyReusedError(
            f"the key {key.key!r} belongs to another request: use a new key for a new request"
        )


def _is(key: IdempotencyKey) -> ColumnElement[bool]:
    return and_(keys.c.caller == key.caller, keys.c.idempotency_key == key.key)

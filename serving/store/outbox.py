"""Messages on their way, and every statement that moves one from state to state.

    pending --claim--> claimed --settle--> sent          the provider took it
       ^                  |                failed        a dead letter: never tried again by itself
       |                  |                suppressed    must not be sent any more
       |                  |                unknown       perhaps sent; a person decides
       +------settle------+                pending       later

    held --activate--> sent          the caller of the decision sends; see `serving.store.handover`
    held, pending --cancel--> cancelled
    held --expire--> cancelled

A claim is a lease: when the claimant dies, the message can be claimed again once the lease has expired.
Every claim raises the message's fencing token, and each later move names the token of its claim, so that a
claimant which was paused past its lease, while another one took over, changes nothing.

The caller owns the transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, select, update

from features.history.append import append_interactions
from features.history.tables import outbox
from features.identity.normalise import redact
from models.domain.channel import ContentKind
from models.domain.interaction import Interaction, InteractionKind
from models.domain.message import Receipt
from serving.store.release import release

SOURCE = "outbox"
_LONGEST_WORDS = 256


class OutboxStatus(StrEnum):
    """Where a message stands."""

    HELD = "held"
    PENDING = "pending"
    CLAIMED = "claimed"
    SENT = "sent"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"


# What the history is told; of a message that was perhaps sent it is told nothing.
_FACTS = {
    OutboxStatus.SENT: InteractionKind.SENT,
    OutboxStatus.FAILED: InteractionKind.FAILED,
    OutboxStatus.SUPPRESSED: InteractionKind.SUPPRESSED,
}


_REACHED_NOBODY = (OutboxStatus.FAILED, OutboxStatus.SUPPRESSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedMessage:
    """A message that the claimant alone may send until the lease expires.

    Attributes:
        attempts: Attempts to send, this one included.
        fencing_token: Of this claim; grows with every claim.
        abandoned: Whether an earlier claimant let its lease expire: it may have sent the message.
    """

    message_id: str
    decision_id: str
    customer_id: str
    campaign_id: str
    offer_id: str
    channel: str
    content_kind: ContentKind
    send_at: datetime
    expires_at: datetime
    attempts: int
    fencing_token: int
    abandoned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a claim ended; made by `sent`, `failed`, `suppressed`, `unknown` and `later`.

    Attributes:
        at: When it ended, aware UTC.
        detail: The provider's words, or our reason.
        receipt: Where the provider took it.
        due_at: Where it is to be tried again.
        attempted: Whether anything was tried; otherwise no attempt is counted.
    """

    claimed: ClaimedMessage
    status: OutboxStatus
    at: datetime
    detail: str
    receipt: Receipt | None = None
    due_at: datetime | None = None
    attempted: bool = True


def sent(claimed: ClaimedMessage, at: datetime, receipt: Receipt) -> Ending:
    """The provider took it."""
    return Ending(claimed=claimed, status=OutboxStatus.SENT, at=at, detail=receipt.detail, receipt=receipt)


def failed(claimed: ClaimedMessage, at: datetime, detail: str) -> Ending:
    """It will never be taken: a dead letter."""
    return Ending(claimed=claimed, status=OutboxStatus.FAILED, at=at, detail=detail)


def suppressed(claimed: ClaimedMessage, at: datetime, reason: str) -> Ending:
    """It must not be sent any more; nothing was tried."""
    return Ending(claimed=claimed, status=OutboxStatus.SUPPRESSED, at=at, detail=reason, attempted=False)


def unknown(claimed: ClaimedMessage, at: datetime, detail: str) -> Ending:
    """Perhaps it was sent; it is not tried again."""
    return Ending(claimed=claimed, status=OutboxStatus.UNKNOWN, at=at, detail=detail)


def later(
    claimed: ClaimedMessage, at: datetime, due_at: datetime, detail: str, *, attempted: bool = True
) -> Ending:
    """Not sent; due again at `due_at`."""
    return Ending(
        claimed=claimed,
        status=OutboxStatus.PENDING,
        at=at,
        detail=detail,
        due_at=due_at,
        attempted=attempted,
    )


def claim(
    conn: Connection,
    now: datetime,
    lease_seconds: float,
    limit: int,
    channels: Iterable[str] | None = None,
) -> list[ClaimedMessage]:
    """Take due messages, abandoned ones first, then by `due_at`.

    Claimants at work at the same time get different messages: PostgreSQL skips rows that another
    transaction has locked; SQLite has one writer at a time.

    Args:
        conn: In a transaction; the claim holds from its commit on.
        now: Aware.
        lease_seconds: How long nobody else gets them; must be longer than sending can take.
        limit: At most this many.
        channels: Only these; None for all.
    """
    lease_until = now + timedelta(seconds=lease_seconds)
    of_channels = [] if channels is None else [outbox.c.channel.in_(sorted(channels))]
    expired = and_(outbox.c.status == OutboxStatus.CLAIMED, outbox.c.lease_until <= now, *of_channels)
    due = and_(outbox.c.status == OutboxStatus.PENDING, outbox.c.due_at <= now, *of_channels)
    taken = _take(conn, expired, lease_until, limit, abandoned=True)
    if len(taken) < limit:
        taken += _take(conn, due, lease_until, limit - len(taken), abandoned=False)
    return taken


def _take(
    conn: Connection, condition: ColumnElement[bool], lease_until: datetime, limit: int, *, abandoned: bool
) -> list[ClaimedMessage]:
    due = (
        select(outbox.c.message_id)
        .where(condition)
        .order_by(outbox.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)  # says nothing on SQLite
        .cte("due")
    )
    rows = conn.execute(
        update(outbox)
        .where(outbox.c.message_id.in_(select(due.c.message_id)))
        .values(
            status=OutboxStatus.CLAIMED,
            lease_until=lease_until,
            attempts=outbox.c.attempts + 1,
            fencing_token=outbox.c.fencing_token + 1,
        )
        .returning(outbox)
    ).all()
    return [
        ClaimedMessage(
            message_id=row.message_id,
            decision_id=row.decision_id,
            customer_id=row.customer_id,
            campaign_id=row.campaign_id,
            offer_id=row.offer_id,
            channel=row.channel,
            content_kind=ContentKind(row.content_kind),
            send_at=row.send_at,
            expires_at=row.expires_at,
            attempts=row.attempts,
            fencing_token=row.fencing_token,
            abandoned=abandoned,
        )
        for row in sorted(rows, key=lambda row: (row.due_at, row.message_id))
    ]


def settle(conn: Connection, endings: Sequence[Ending]) -> list[Ending]:
    """Write how claims ended, with a `sent`, `failed` or `suppressed` interaction in the same transaction.

    What a message that reaches nobody had reserved of budgets and capacities is given back.

    Returns:
        The stale ones: somebody else has claimed or settled the message since, so nothing was changed.
    """
    holding = _lock_claims(conn, [ending.claimed for ending in endings])
    moved = [ending for ending in endings if _claim_key(ending.claimed) in holding]
    if moved:
        conn.execute(_MOVE, [_move_values(ending) for ending in moved])
    lost = [ending for ending in moved if ending.status in _REACHED_NOBODY]
    if lost:
        release(conn, [ending.claimed.decision_id for ending in lost], max(ending.at for ending in lost))
    facts = [_fact(ending, _FACTS[ending.status]) for ending in moved if ending.status in _FACTS]
    if facts:
        append_interactions(conn, facts, max(fact.occurred_at for fact in facts))
    return [ending for ending in endings if _claim_key(ending.claimed) not in holding]


def cancel(conn: Connection, customer_ids: Sequence[str], at: datetime, reason: str) -> int:
    """Suppress every message of these customers that is not settled, claimed ones too; how many there were.

    A claimant that comes back finds its claim stale. What was handed to a provider already cannot be recalled.
    """
    rows = conn.execute(
        select(outbox)
        .where(
            outbox.c.customer_id.in_(customer_ids),
            outbox.c.status.in_((OutboxStatus.PENDING, OutboxStatus.CLAIMED)),
        )
        .order_by(outbox.c.message_id)
        .with_for_update()
    ).all()
    if not rows:
        return 0
    conn.execute(
        update(outbox)
        .where(outbox.c.message_id.in_([row.message_id for row in rows]))
        .values(
            status=OutboxStatus.SUPPRESSED,
            detail=reason,
            settled_at=at,
            lease_until=None,
            fencing_token=outbox.c.fencing_token + 1,
        )
    )
    release(conn, [row.decision_id for row in rows], at)
    facts = [
        Interaction(
            source=SOURCE,
            event_id=f"{row.message_id}/{InteractionKind.SUPPRESSED}",
            customer_id=row.customer_id,
            kind=InteractionKind.SUPPRESSED,
            occurred_at=at,
            channel=row.channel,
            campaign_id=row.campaign_id,
            offer_id=row.offer_id,
            decision_id=row.decision_id,
            attributes={"detail": reason},
        )
        for row in rows
    ]
    append_interactions(conn, facts, at)
    return len(rows)


def counts(conn: Connection) -> dict[OutboxStatus, int]:
    """Number of messages by status, every status named."""
    rows = conn.execute(select(outbox.c.status, func.count().label("n")).group_by(outbox.c.status))
    found: dict[str, int] = {row.status: row.n for row in rows}
    return {status: found.get(status, 0) for status in OutboxStatus}


# One statement for every ending, made once: it runs for each message that is sent.
_MOVE = (
    update(outbox)
    .where(outbox.c.message_id == bindparam("of_message"))
    .values(
        status=bindparam("status"),
        detail=bindparam("detail"),
        attempts=bindparam("attempts"),
        due_at=func.coalesce(bindparam("due_at", type_=outbox.c.due_at.type), outbox.c.due_at),
        settled_at=bindparam("settled_at"),
        provider=bindparam("provider"),
        provider_message_id=bindparam("provider_message_id"),
        lease_until=None,
    )
)


def _move_values(ending: Ending) -> dict[str, object]:
    claimed, receipt = ending.claimed, ending.receipt
    return {
        "of_message": claimed.message_id,
        "status": ending.status,
        "detail": _storable(ending.detail),
        "attempts": claimed.attempts if ending.attempted else claimed.attempts - 1,
        "due_at": ending.due_at,
        "settled_at": None if ending.status is OutboxStatus.PENDING else ending.at,
        "provider": receipt.provider if receipt else None,
        "provider_message_id": _plain(receipt.provider_message_id)[:_LONGEST_WORDS] if receipt else None,
    }


def _lock_claims(conn: Connection, claims: Sequence[ClaimedMessage]) -> set[tuple[str, int]]:
    """Those of the claims that still hold, locked until the transaction ends."""
    rows = conn.execute(
        select(outbox.c.message_id, outbox.c.fencing_token)
        .where(
            outbox.c.message_id.in_([claimed.message_id for claimed in claims]),
            outbox.c.status == OutboxStatus.CLAIMED,
        )
        .with_for_update()
    )
    current = {(row.message_id, row.fencing_token) for row in rows}
    return current & {_claim_key(claimed) for claimed in claims}


def _claim_key(claimed: ClaimedMessage) -> tuple[str, int]:
    return claimed.message_id, claimed.fencing_token


def _fact(ending: Ending, kind: InteractionKind) -> Interaction:
    """`sent` carries the message's id; the others add their kind, since a dead letter may be sent after all."""
    claimed = ending.claimed
    return Interaction(
        source=SOURCE,
        event_id=claimed.message_id if kind is InteractionKind.SENT else f"{claimed.message_id}/{kind}",
        customer_id=claimed.customer_id,
        kind=kind,
        occurred_at=ending.at,
        channel=claimed.channel,
        campaign_id=claimed.campaign_id,
        offer_id=claimed.offer_id,
        decision_id=claimed.decision_id,
        attributes={"detail": _storable(ending.detail)} if ending.detail else {},
    )


def _storable(words: str) -> str:
    """A provider's words as every database takes them: no NUL, no lone surrogate, of bounded length.

    Providers repeat the address that they refuse: it is masked.
    """
    return redact(_plain(words))[:_LONGEST_WORDS]


def _plain(words: str) -> str:
    return words.encode("utf-8", "replace").decode("utf-8").replace("\0", "")

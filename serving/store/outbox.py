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

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    func,
    literal,
    or_,
    select,
    update,
)

from features.history.append import append_interactions
from features.history.tables import interactions, outbox
from features.identity.normalise import redact
from models.domain.channel import ContentKind
from models.domain.interaction import Interaction, InteractionKind
from models.domain.message import Receipt
from serving.followups.conversation import SettledMessage
from serving.store.release import release, reserve_again

SOURCE = "outbox"
_LONGEST_WORDS = 256
_REPORTED = "the provider reported on it"
_DROPPED = "dropped; "


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
        lease_until: From then on anybody may claim it.
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
    lease_until: datetime | None
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


def settled_message(ending: Ending) -> SettledMessage:
    """The same as conversations see it."""
    claimed = ending.claimed
    return SettledMessage(
        decision_id=claimed.decision_id,
        customer_id=claimed.customer_id,
        channel=claimed.channel,
        sent=ending.status is OutboxStatus.SENT,
        at=ending.at,
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
    expired, due = _claimable(now, channels)
    taken = _take(conn, expired, lease_until, limit, abandoned=True)
    if len(taken) < limit:
        taken += _take(conn, due, lease_until, limit - len(taken), abandoned=False)
    return taken


def any_due(conn: Connection, now: datetime, channels: Iterable[str]) -> bool:
    """Whether `claim` would find anything; a read, so that who has nothing to send holds up no writer."""
    return any(
        conn.execute(select(outbox.c.message_id).where(condition).limit(1)).first() is not None
        for condition in _claimable(now, channels)
    )


def _claimable(
    now: datetime, channels: Iterable[str] | None
) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """What an earlier claimant let expire, and what is due."""
    of_channels = [] if channels is None else [outbox.c.channel.in_(sorted(channels))]
    return (
        and_(outbox.c.status == OutboxStatus.CLAIMED, outbox.c.lease_until <= now, *of_channels),
        and_(outbox.c.status == OutboxStatus.PENDING, outbox.c.due_at <= now, *of_channels),
    )


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
        _claimed_message(row, abandoned=abandoned)
        for row in sorted(rows, key=lambda row: (row.due_at, row.message_id))
    ]


def _claimed_message(row: Row[Any], *, abandoned: bool) -> ClaimedMessage:
    return ClaimedMessage(
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
        lease_until=row.lease_until,
        abandoned=abandoned,
    )


def settle(
    conn: Connection,
    endings: Sequence[Ending],
    then: Callable[[Sequence[Ending]], None] = lambda _: None,
) -> list[Ending]:
    """Write how claims ended, with a `sent`, `failed` or `suppressed` interaction in the same transaction.

    What a message that reaches nobody had reserved of budgets and capacities is given back.

    Args:
        conn: In the caller's transaction.
        endings: Of any claims.
        then: Called with those that hold, once they are written and while their rows are locked.

    Returns:
        The stale ones: somebody else has claimed or settled the message since, so nothing was changed.
    """
    holding = _lock_claims(conn, [ending.claimed for ending in endings])
    moved = [ending for ending in endings if _claim_key(ending.claimed) in holding]
    if moved:
        conn.execute(_MOVE, [_move_values(ending) for ending in moved])
    facts = [_fact(ending, _FACTS[ending.status]) for ending in moved if ending.status in _FACTS]
    if facts:
        append_interactions(conn, facts, max(fact.occurred_at for fact in facts))
    then(moved)
    lost = [ending for ending in moved if ending.status in _REACHED_NOBODY]
    if lost:
        release(conn, [ending.claimed.decision_id for ending in lost], max(ending.at for ending in lost))
    return [ending for ending in endings if _claim_key(ending.claimed) not in holding]


def list_messages(
    conn: Connection, statuses: Collection[OutboxStatus], limit: int, channel: str | None = None
) -> list[Row[Any]]:
    """Rows of the outbox in those states, the one that was to go out first at the top.

    Args:
        conn: Only read.
        statuses: For example failed: dead letters, with the reason in `detail`.
        limit: At most this many.
        channel: Only of this channel; None for all.
    """
    query = select(outbox).where(outbox.c.status.in_(sorted(statuses)))
    if channel is not None:
        query = query.where(outbox.c.channel == channel)
    return list(conn.execute(query.order_by(outbox.c.send_at, outbox.c.message_id).limit(limit)))


def retry(conn: Connection, message_ids: Collection[str], now: datetime) -> list[str]:
    """Send dead letters and messages of unknown outcome after all, at once, with all attempts before them.

    A dead letter takes its reservations again, whatever is left of them, and its `failed` fact is taken back: it was
    the outbox's own word, and it no longer holds. A message whose time has passed will be suppressed as expired.

    Returns:
        Which of them were dead letters or unknown; the others are left alone.
    """
    rows = _lock(conn, message_ids, (OutboxStatus.FAILED, OutboxStatus.UNKNOWN))
    dead = [row for row in rows if row.status == OutboxStatus.FAILED]
    if dead:
        conn.execute(
            delete(interactions).where(
                interactions.c.source == SOURCE,
                interactions.c.event_id.in_([f"{row.message_id}/{InteractionKind.FAILED}" for row in dead]),
            )
        )
        reserve_again(conn, [row.decision_id for row in dead])
    moved = [row.message_id for row in rows]
    conn.execute(
        update(outbox)
        .where(outbox.c.message_id.in_(moved))
        .values(status=OutboxStatus.PENDING, attempts=0, due_at=now, settled_at=None)
    )
    return moved


def drop(conn: Connection, message_ids: Collection[str], now: datetime) -> list[str]:
    """Never send these: pending ones, dead letters and messages of unknown outcome become suppressed.

    Returns:
        Which of them were; a message that is under way or sent is left alone.
    """
    rows = _lock(conn, message_ids, (OutboxStatus.PENDING, OutboxStatus.FAILED, OutboxStatus.UNKNOWN))
    if not rows:
        return []
    moved = [row.message_id for row in rows]
    conn.execute(
        update(outbox)
        .where(outbox.c.message_id.in_(moved))
        .values(
            status=OutboxStatus.SUPPRESSED,
            settled_at=now,
            detail=func.substr(literal(_DROPPED) + func.coalesce(outbox.c.detail, ""), 1, _LONGEST_WORDS),
        )
    )
    release(conn, [row.decision_id for row in rows], now)
    endings = [suppressed(_claimed_message(row, abandoned=False), now, _DROPPED) for row in rows]
    append_interactions(conn, [_fact(ending, InteractionKind.SUPPRESSED) for ending in endings], now)
    return moved


def _lock(
    conn: Connection, message_ids: Collection[str], statuses: Collection[OutboxStatus]
) -> Sequence[Row[Any]]:
    return conn.execute(
        select(outbox)
        .where(outbox.c.message_id.in_(sorted(message_ids)), outbox.c.status.in_(sorted(statuses)))
        .order_by(outbox.c.message_id)
        .with_for_update()
    ).all()


def cancel(conn: Connection, customer_ids: Sequence[str], at: datetime, reason: str) -> int:
    """Suppress every message of these customers that is not settled, claimed ones too; how many there were.

    A claimant that comes back finds its claim stale. What was handed to a provider already cannot be recalled.
    """
    rows = conn.execute(
        select(outbox)
        .where(
            outbox.c.customer_id.in_(customer_ids),
            outbox.c.status.in_((OutboxStatus.HELD, OutboxStatus.PENDING, OutboxStatus.CLAIMED)),
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


def evidently_sent(conn: Connection, seen: Mapping[str, tuple[str, datetime]]) -> list[Ending]:
    """Settle as sent what a provider has reported on and no sender knows of: nobody sends it again.

    A message that is claimed is left to its claimant.

    Args:
        conn: In the caller's transaction.
        seen: Provider and moment of the report, by message id.

    Returns:
        How those ended that were settled by it.
    """
    rows = conn.execute(
        select(outbox)
        .where(
            outbox.c.message_id.in_(sorted(seen)),
            or_(
                outbox.c.status == OutboxStatus.UNKNOWN,
                and_(outbox.c.status == OutboxStatus.PENDING, outbox.c.attempts > 0),
            ),
        )
        .order_by(outbox.c.message_id)
        .with_for_update()
    ).all()
    endings = []
    for row in rows:
        provider, at = seen[row.message_id]
        conn.execute(
            update(outbox)
            .where(outbox.c.message_id == row.message_id)
            .values(
                status=OutboxStatus.SENT,
                provider=provider,
                provider_message_id=func.coalesce(outbox.c.provider_message_id, row.message_id),
                settled_at=at,
                detail=_REPORTED,
            )
        )
        claimed = _claimed_message(row, abandoned=True)
        endings.append(Ending(claimed=claimed, status=OutboxStatus.SENT, at=at, detail=_REPORTED))
    facts = [_fact(ending, InteractionKind.SENT) for ending in endings]
    if facts:
        append_interactions(conn, facts, max(fact.occurred_at for fact in facts))
    return endings


def counts(conn: Connection) -> dict[OutboxStatus, int]:
    """Number of messages by status, every status named."""
    rows = conn.execute(select(outbox.c.status, func.count().label("n")).group_by(outbox.c.status))
    found: dict[str, int] = {row.status: row.n for row in rows}
    return {status: found.get(status, 0) for status in OutboxStatus}


def storable(words: str) -> str:
    """A provider's words as every database takes them: no NUL, no lone surrogate, of bounded length.

    Providers repeat the address that they refuse: it is masked.
    """
    return redact(_plain(words))[:_LONGEST_WORDS]


def _plain(words: str) -> str:
    return words.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


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
        "detail": storable(ending.detail),
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
        .order_by(outbox.c.message_id)  # as receipts do, so that the two never wait for each other
        .with_for_update()
    )
    current = {(row.message_id, row.fencing_token) for row in rows}
    return current & {_claim_key(claimed) for claimed in claims}


def _claim_key(claimed: ClaimedMessage) -> tuple[str, int]:
    return claimed.message_id, claimed.fencing_token


def _fact(ending: Ending, kind: InteractionKind) -> Interaction:
    """`sent` carries the message's id; the others add their kind, since a dead letter may be sent after all."""
    claimed, receipt = ending.claimed, ending.receipt
    attributes = {"detail": storable(ending.detail)} if ending.detail else {}
    if receipt is not None and receipt.n_units > 1:
        attributes["n_units"] = str(receipt.n_units)
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
        attributes=attributes,
    )

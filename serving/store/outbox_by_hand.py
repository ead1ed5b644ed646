"""Moves of messages that no sender makes: by a person, by an erasure, by a provider's report.

The caller owns the transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, literal, or_, select, update

from features.history.tables import interactions, outbox
from models.domain.channel import ContentKind
from models.domain.interaction import InteractionKind
from serving.store.endings import ClaimedMessage, Ending, OutboxStatus, suppressed
from serving.store.outbox import SOURCE, tell
from serving.store.release import release, reserve_again

_LONGEST_WORDS = 256
_REPORTED = "the provider reported on it"
_DROPPED = "dropped; "


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


def counts(conn: Connection) -> dict[OutboxStatus, int]:
    """Number of messages by status, every status named."""
    rows = conn.execute(select(outbox.c.status, func.count().label("n")).group_by(outbox.c.status))
    found: dict[str, int] = {row.status: row.n for row in rows}
    return {status: found.get(status, 0) for status in OutboxStatus}


def retry(conn: Connection, message_ids: Collection[str], now: datetime) -> list[str]:
    """Send dead letters and messages of unknown outcome after all, at once, with all attempts before them.

    A dead letter takes its reservations again, whatever is left of them, and its `failed` fact is taken back: it was
    the outbox's own word, and it no longer holds. A message whose time has passed will be suppressed as expired. What
    went out in a batch goes alone: the rest of the batch may be retried later, or never.

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
        .values(status=OutboxStatus.PENDING, attempts=0, due_at=now, settled_at=None, batch_id=None)
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
    tell(conn, [suppressed(_held(row), now, _DROPPED) for row in rows])
    return moved


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
    tell(conn, [suppressed(_held(row), at, reason) for row in rows])
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
        endings.append(Ending(claimed=_held(row), status=OutboxStatus.SENT, at=at, detail=_REPORTED))
    tell(conn, endings)
    return endings


def _lock(
    conn: Connection, message_ids: Collection[str], statuses: Collection[OutboxStatus]
) -> Sequence[Row[Any]]:
    return conn.execute(
        select(outbox)
        .where(outbox.c.message_id.in_(sorted(message_ids)), outbox.c.status.in_(sorted(statuses)))
        .order_by(outbox.c.message_id)
        .with_for_update()
    ).all()


def _held(row: Row[Any]) -> ClaimedMessage:
    """The message as if somebody had claimed it."""
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
        abandoned=False,
    )

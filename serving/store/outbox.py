"""Messages on their way, and the statements by which senders move them from state to state.

    pending --claim--> claimed --settle--> sent          the provider took it
       ^                  |                failed        a dead letter: never tried again by itself
       |                  |                suppressed    must not be sent any more
       |                  |                unknown       perhaps sent; a person decides
       +------settle------+                pending       later

    failed, unknown --retry--> pending         by a person; see `serving.store.outbox_by_hand`
    pending, failed, unknown --drop--> suppressed
    held --activate--> sent          the caller of the decision sends; see `serving.store.handover`
    held, pending --cancel--> cancelled
    held --expire--> cancelled

A claim is a lease: when the claimant dies, the message can be claimed again once the lease has expired.
Every claim raises the message's fencing token, and each later move names the token of its claim, so that a
claimant which was paused past its lease, while another one took over, changes nothing.

The caller owns the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, exists, func, or_, select, update

from features.history.append import append_fact_rows
from features.history.facts import FactRow
from features.history.prepared import Prepared, one_of
from features.history.tables import moment_from, outbox
from features.identity.normalise import redact
from models.domain.channel import ContentKind
from models.domain.interaction import InteractionKind
from serving.store.endings import ClaimedMessage, Ending, OutboxStatus
from serving.store.release import release

SOURCE = "outbox"
_LONGEST_WORDS = 256
# What the history is told; of a message that was perhaps sent it is told nothing.
_FACTS = {
    OutboxStatus.SENT: InteractionKind.SENT,
    OutboxStatus.FAILED: InteractionKind.FAILED,
    OutboxStatus.SUPPRESSED: InteractionKind.SUPPRESSED,
}
_REACHED_NOBODY = (OutboxStatus.FAILED, OutboxStatus.SUPPRESSED)


# The statements that run for every message, made once. First what an earlier claimant let expire, then what is due.
_CLAIMABLE: tuple[tuple[ColumnElement[bool], ColumnElement[bool]], ...] = (
    (
        outbox.c.status == OutboxStatus.CLAIMED,
        outbox.c.lease_until <= bindparam("now", type_=outbox.c.due_at.type),
    ),
    (
        outbox.c.status == OutboxStatus.PENDING,
        outbox.c.due_at <= bindparam("now", type_=outbox.c.due_at.type),
    ),
)
_OPEN = (OutboxStatus.PENDING, OutboxStatus.CLAIMED)
_EARLIER = outbox.alias("earlier")
# A batch is claimed by its first open message, which brings the others with it: no two senders share one.
_LEADS = or_(
    outbox.c.batch_id.is_(None),
    ~exists().where(
        _EARLIER.c.batch_id == outbox.c.batch_id,
        _EARLIER.c.status.in_(_OPEN),
        _EARLIER.c.message_id < outbox.c.message_id,
    ),
)
_TAKEN = (
    outbox.c.due_at,
    outbox.c.message_id,
    outbox.c.decision_id,
    outbox.c.customer_id,
    outbox.c.campaign_id,
    outbox.c.offer_id,
    outbox.c.channel,
    outbox.c.content_kind,
    outbox.c.send_at,
    outbox.c.expires_at,
    outbox.c.attempts,
    outbox.c.fencing_token,
    outbox.c.batch_id,
)


def _take(*condition: ColumnElement[bool]) -> Prepared:
    return _taking(
        select(outbox.c.message_id)
        .where(*condition, _LEADS)
        .order_by(outbox.c.due_at)
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)  # says nothing on SQLite
    )


def _taking(which: Select[tuple[str]]) -> Prepared:
    due = which.cte("due")
    return Prepared(
        update(outbox)
        .where(outbox.c.message_id.in_(select(due.c.message_id)))
        .values(
            status=OutboxStatus.CLAIMED,
            lease_until=bindparam("until", type_=outbox.c.lease_until.type),
            attempts=outbox.c.attempts + 1,
            fencing_token=outbox.c.fencing_token + 1,
        )
        .returning(*_TAKEN)
    )


_OF_CHANNELS = one_of(outbox.c.channel, "channels")
_TAKE = tuple(_take(*condition) for condition in _CLAIMABLE)
_TAKE_OF_CHANNELS = tuple(_take(*condition, _OF_CHANNELS) for condition in _CLAIMABLE)
# SQLite would look through everything that is open: it must not enter by the index of states.
_STATUS_LAST = outbox.c.status + ""
_TAKE_THE_REST = _taking(
    select(outbox.c.message_id)
    .where(one_of(outbox.c.batch_id, "batches"), _STATUS_LAST.in_(_OPEN), ~one_of(outbox.c.message_id, "ids"))
    .order_by(outbox.c.message_id)
    .with_for_update()
)
_ANY_OF_CHANNELS = tuple(
    Prepared(select(outbox.c.message_id).where(*condition, _OF_CHANNELS).limit(1)) for condition in _CLAIMABLE
)
_LOCK_CLAIMS = Prepared(
    select(outbox.c.message_id, outbox.c.fencing_token)
    .where(one_of(outbox.c.message_id, "ids"), outbox.c.status == OutboxStatus.CLAIMED)
    .order_by(outbox.c.message_id)  # as receipts do, so that the two never wait for each other
    .with_for_update()
)
_MOVE = Prepared(
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
        batch_id=bindparam("batch_id"),
        lease_until=None,
    )
)
_JOIN = Prepared(
    update(outbox).where(one_of(outbox.c.message_id, "ids")).values(batch_id=bindparam("batch_id"))
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
    until = now + timedelta(seconds=lease_seconds)
    take_expired, take_due = _TAKE if channels is None else _TAKE_OF_CHANNELS
    given = {"now": now, "until": until, "channels": sorted(channels or ())}
    expired = take_expired.rows(conn, **given, most=limit)
    due = take_due.rows(conn, **given, most=limit - len(expired)) if len(expired) < limit else ()
    return [
        _claimed_message(row, until, abandoned=abandoned)
        for rows, abandoned in ((expired, True), (due, False))
        for row in sorted([*rows, *_rest_of_batches(conn, rows, now, until)], key=itemgetter(0, 1))
    ]


def _rest_of_batches(
    conn: Connection, rows: Sequence[Sequence[Any]], now: datetime, until: datetime
) -> Sequence[Sequence[Any]]:
    batches = sorted({row[-1] for row in rows if row[-1] is not None})
    if not batches:
        return ()
    ids = [row[1] for row in rows]
    return _TAKE_THE_REST.rows(conn, now=now, until=until, batches=batches, ids=ids)


def join_batch(conn: Connection, claims: Sequence[ClaimedMessage], batch_id: str) -> list[ClaimedMessage]:
    """Let these go out in one call, under that key; the same claims, in the batch.

    Args:
        conn: In the transaction of their claim.
        claims: In no batch yet.
        batch_id: A UUID that no other batch has.
    """
    _JOIN.run_all(conn, [{"ids": sorted(each.message_id for each in claims), "batch_id": batch_id}])
    return [replace(each, batch_id=batch_id) for each in claims]


def any_due(conn: Connection, now: datetime, channels: Iterable[str]) -> bool:
    """Whether `claim` would find anything; a read, so that who has nothing to send holds up no writer."""
    named = sorted(channels)
    return any(statement.rows(conn, now=now, channels=named) for statement in _ANY_OF_CHANNELS)


def _claimed_message(row: Sequence[Any], lease_until: datetime, *, abandoned: bool) -> ClaimedMessage:
    _, message_id, decision_id, customer_id, campaign_id, offer_id, channel, kind, *rest = row
    send_at, expires_at, attempts, fencing_token, batch_id = rest
    return ClaimedMessage(
        message_id=message_id,
        decision_id=decision_id,
        customer_id=customer_id,
        campaign_id=campaign_id,
        offer_id=offer_id,
        channel=channel,
        content_kind=ContentKind(kind),
        send_at=moment_from(send_at),
        expires_at=moment_from(expires_at),
        attempts=attempts,
        fencing_token=fencing_token,
        lease_until=lease_until,
        abandoned=abandoned,
        batch_id=batch_id,
        was_in_batch=batch_id is not None,
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
    ids = sorted(ending.claimed.message_id for ending in endings)
    holding = {(message_id, token) for message_id, token in _LOCK_CLAIMS.rows(conn, ids=ids)}
    moved = [ending for ending in endings if _claim_key(ending) in holding]
    _MOVE.run_all(conn, [_move_values(ending) for ending in moved])
    tell(conn, moved)
    then(moved)
    lost = [ending for ending in moved if ending.status in _REACHED_NOBODY]
    if lost:
        release(conn, [ending.claimed.decision_id for ending in lost], max(ending.at for ending in lost))
    return [ending for ending in endings if _claim_key(ending) not in holding]


def tell(conn: Connection, endings: Sequence[Ending]) -> None:
    """Append to the history what it is told of these endings."""
    told = [ending for ending in endings if ending.status in _FACTS]
    if told:
        append_fact_rows(conn, [_fact_row(ending) for ending in told], max(ending.at for ending in told))


def storable(words: str) -> str:
    """A provider's words as every database and the history take them: one line of bounded length.

    Providers repeat the address that they refuse: it is masked.
    """
    return redact(one_line(words))[:_LONGEST_WORDS]


def one_line(words: str) -> str:
    """Without lone surrogates, line breaks and other control characters."""
    words = words.encode("utf-8", "replace").decode("utf-8")
    return words if words.isprintable() else words.translate(_NO_CONTROLS)


_NO_CONTROLS = dict.fromkeys((*range(1, 32), 127), " ") | {0: ""}


def _move_values(ending: Ending) -> dict[str, object]:
    claimed, receipt = ending.claimed, ending.receipt
    return {
        "of_message": claimed.message_id,
        "status": ending.status,
        "detail": storable(ending.detail),
        "attempts": claimed.attempts if ending.attempted else claimed.attempts - 1,
        "due_at": ending.due_at,
        "settled_at": None if ending.status is OutboxStatus.PENDING else ending.at,
        "batch_id": claimed.batch_id
        if ending.in_doubt or ending.status is not OutboxStatus.PENDING
        else None,
        "provider": receipt.provider if receipt else None,
        "provider_message_id": one_line(receipt.provider_message_id)[:_LONGEST_WORDS] if receipt else None,
    }


def _claim_key(ending: Ending) -> tuple[str, int]:
    return ending.claimed.message_id, ending.claimed.fencing_token


def _fact_row(ending: Ending) -> FactRow:
    """`sent` carries the message's id; the others add their kind, since a dead letter may be sent after all."""
    claimed, receipt, kind = ending.claimed, ending.receipt, _FACTS[ending.status]
    attributes = {"detail": storable(ending.detail)} if ending.detail else {}
    if receipt is not None and receipt.n_units > 1:
        attributes["n_units"] = str(receipt.n_units)
    return {
        "source": SOURCE,
        "event_id": claimed.message_id if kind is InteractionKind.SENT else f"{claimed.message_id}/{kind}",
        "customer_id": claimed.customer_id,
        "kind": kind.value,
        "occurred_at": ending.at,
        "channel": claimed.channel,
        "campaign_id": claimed.campaign_id,
        "offer_id": claimed.offer_id,
        "decision_id": claimed.decision_id,
        "attributes": attributes,
    }

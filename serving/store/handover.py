"""Messages that the caller of a decision sends: held until they went out, or will not.

    held --activate--> sent         the caller says that it went out
    held --cancel----> cancelled    it will not; what was reserved is given back
    held --expire----> cancelled    nobody said anything until it had expired
    held --answer----> cancelled    a follow-up of silence that was broken before it went out
    pending --cancel-> cancelled    a message of ours that no sender has claimed yet

States only go forward; to ask twice for the same state changes nothing. The caller owns the transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, or_, select, update

from features.history.append import append_interactions
from features.history.channels import load_channels
from features.history.decisions import load_decision
from features.history.tables import follow_ups, outbox
from models.domain.errors import ConflictError, StateError
from models.domain.interaction import Interaction, InteractionKind
from serving.followups.conversation import CALLER, SettledMessage, answered, begin, campaigns_of
from serving.store.endings import OutboxStatus
from serving.store.outbox import SOURCE
from serving.store.release import release

_CANCELLED_WORDS = "cancelled by the caller"
_EXPIRED_WORDS = "expired: nobody said that it went out"
_ANSWERED_WORDS = "answered before anybody said that it went out"
_AT_A_TIME = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """Where the message of a decision stands.

    Attributes:
        settled_at: When it came to its last state; None while it is held or on its way.
    """

    decision_id: str
    message_id: str
    state: OutboxStatus
    channel: str
    send_at: datetime
    expires_at: datetime
    settled_at: datetime | None


def activate(
    conn: Connection, decision_id: str, now: datetime, provider_message_id: str | None = None
) -> Handover:
    """The caller has sent the message: it counts as sent, and outcomes can follow.

    Args:
        conn: In a transaction.
        decision_id: Whose message.
        now: Aware.
        provider_message_id: The id that the caller's provider gave it.

    Raises:
        NotFoundError: there is no such decision.
        ConflictError: the decision makes no contact, or went out as another message of the provider.
        StateError: the message is cancelled, has expired, or is ours to send.
    """
    row = _locked(conn, decision_id)
    if row.status == OutboxStatus.SENT and row.provider == CALLER:
        known = row.provider_message_id
        if provider_message_id is not None and known is None:  # it is told later
            conn.execute(
                update(outbox)
                .where(outbox.c.message_id == row.message_id)
                .values(provider_message_id=provider_message_id)
            )
        elif provider_message_id not in (None, known):
            raise ConflictError(
                f"decision {decision_id} went out as the provider's message {known}, not {provider_message_id}"
            )
        return _handover(row)
    if row.status != OutboxStatus.HELD or now >= row.expires_at:
        state = "expired" if row.status == OutboxStatus.HELD else row.status
        raise StateError(decision_id, state, OutboxStatus.SENT)
    moved = conn.execute(
        update(outbox)
        .where(outbox.c.message_id == row.message_id)
        .values(
            status=OutboxStatus.SENT,
            settled_at=now,
            attempts=1,
            provider=CALLER,
            provider_message_id=provider_message_id,
        )
        .returning(outbox)
    ).one()
    _tell(conn, row, InteractionKind.SENT, row.message_id, now, "")
    _begin_conversation(conn, row, now)
    return _handover(moved)


def _begin_conversation(conn: Connection, row: Row[Any], now: datetime) -> None:
    """What follows silence or an answer follows it whoever sent the message."""
    message = SettledMessage(
        decision_id=row.decision_id, customer_id=row.customer_id, channel=row.channel, sent=True, at=now
    )
    campaign = campaigns_of(conn, [row.decision_id])[row.decision_id]
    if campaign.follow_ups:
        channel = load_channels(conn)[row.channel]
        begin(
            conn, [(message, campaign)], {row.channel} if channel.reports(InteractionKind.DELIVERED) else ()
        )


def cancel(conn: Connection, decision_id: str, now: datetime) -> Handover:
    """The message will not go out: budget and capacity are given back, it counts against no cap and earns nothing.

    Raises:
        NotFoundError: there is no such decision.
        ConflictError: the decision makes no contact.
        StateError: it went out, or a sender has claimed it.
    """
    row = _locked(conn, decision_id)
    if row.status == OutboxStatus.CANCELLED:
        return _handover(row)
    if row.status not in (OutboxStatus.HELD, OutboxStatus.PENDING):
        raise StateError(decision_id, row.status, OutboxStatus.CANCELLED)
    return _cancel(conn, row, now, _CANCELLED_WORDS)


def cancel_overtaken(engine: Engine, now: datetime) -> int:
    """Cancel the held messages that have expired, and follow-ups that an answer has overtaken; how many."""
    n_cancelled, last = 0, ""
    while True:
        with engine.begin() as conn:
            rows = conn.execute(_overtakable(now, last)).all()
            late = answered(conn, [row.decision_id for row in rows if row.expires_at > now])
            overtaken = [row for row in rows if row.expires_at <= now or row.decision_id in late]
            for row in overtaken:
                _cancel(conn, row, now, _ANSWERED_WORDS if row.decision_id in late else _EXPIRED_WORDS)
        n_cancelled += len(overtaken)
        if len(rows) < _AT_A_TIME:
            return n_cancelled
        last = rows[-1].message_id


def _overtakable(now: datetime, last: str) -> Select[Any]:
    """Held messages behind that one that have expired or are of follow-ups."""
    is_follow_up = select(follow_ups.c.follow_up_id).where(follow_ups.c.follow_up_id == outbox.c.decision_id)
    return (
        select(outbox)
        .where(
            outbox.c.status == OutboxStatus.HELD,
            or_(outbox.c.expires_at <= now, is_follow_up.exists()),
            outbox.c.message_id > last,
        )
        .order_by(outbox.c.message_id)
        .limit(_AT_A_TIME)
        .with_for_update(skip_locked=True, of=outbox)
    )


def _locked(conn: Connection, decision_id: str) -> Row[Any]:
    row = conn.execute(
        select(outbox)
        .where(outbox.c.decision_id == decision_id)
        .order_by(outbox.c.message_id)
        .with_for_update()
    ).first()
    if row is None:
        load_decision(conn, decision_id)  # or else it is not found
        raise ConflictError(f"decision {decision_id} makes no contact: there is no message")
    return row


def _cancel(conn: Connection, row: Row[Any], now: datetime, words: str) -> Handover:
    moved = conn.execute(
        update(outbox)
        .where(outbox.c.message_id == row.message_id)
        .values(status=OutboxStatus.CANCELLED, settled_at=now, detail=words)
        .returning(outbox)
    ).one()
    release(conn, [row.decision_id], now)
    kind = InteractionKind.SUPPRESSED
    _tell(conn, row, kind, f"{row.message_id}/{kind}", now, words)
    return _handover(moved)


def _tell(
    conn: Connection, row: Row[Any], kind: InteractionKind, event_id: str, now: datetime, words: str
) -> None:
    """What the history hears, in the words in which it hears of messages that we send."""
    fact = Interaction(
        source=SOURCE,
        event_id=event_id,
        customer_id=row.customer_id,
        kind=kind,
        occurred_at=now,
        channel=row.channel,
        campaign_id=row.campaign_id,
        offer_id=row.offer_id,
        decision_id=row.decision_id,
        attributes={"detail": words} if words else {},
    )
    append_interactions(conn, [fact], now)


def _handover(row: Row[Any]) -> Handover:
    return Handover(
        decision_id=row.decision_id,
        message_id=row.message_id,
        state=OutboxStatus(row.status),
        channel=row.channel,
        send_at=row.send_at,
        expires_at=row.expires_at,
        settled_at=row.settled_at,
    )

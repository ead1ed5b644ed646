"""What providers report about messages: written once, and what follows from it, in one transaction.

A receipt is a row of `receipts`, unique by (provider, event id) and never rewritten. From its kind a message's
furthest receipt moves forward only, through

    sent < delivered < failed < bounced < opened < clicked < replied < converted < unsubscribed < complained

so that receipts in any order, any number of times, end in the same state. Who opened did get the message, so a
bounce that comes late does not undo it.

Every transaction that reports an outcome takes its locks in this order, so that no two wait for each other: the
message's row of the outbox, then its conversation. The caller owns the transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Row, and_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from features.history.append import append_interactions
from features.history.tables import channels, hard_bounces, outbox, receipts
from models.domain.interaction import Interaction, InteractionKind
from serving.channels.contract import DeliveryEvent
from serving.store.outbox import evidently_sent, storable

_LONGEST_EVENT_ID = 128
_ROWS_A_STATEMENT = 1_000
# A provider may report before the sender has written the provider's id of the message; later than this it speaks
# of something that was never sent from here.
_ADOPTION_TIME = timedelta(days=3)

# Kinds of receipts, in the order in which a message moves through them.
FORWARD = (
    InteractionKind.SENT,
    InteractionKind.DELIVERED,
    InteractionKind.FAILED,
    InteractionKind.BOUNCED,
    InteractionKind.OPENED,
    InteractionKind.CLICKED,
    InteractionKind.REPLIED,
    InteractionKind.CONVERTED,
    InteractionKind.UNSUBSCRIBED,
    InteractionKind.COMPLAINED,
)
_RANK = {kind: rank for rank, kind in enumerate(FORWARD)}
# A message that met one of these was certainly taken by the provider.
_TAKEN = frozenset(FORWARD) - {InteractionKind.FAILED}


@dataclass(frozen=True, slots=True)
class Recorded:
    """How many receipts were new, how many known, and how many of the new speak of no message that is known yet."""

    n_new: int
    n_repeated: int
    n_unmatched: int


def record_events(conn: Connection, events: Sequence[DeliveryEvent], received_at: datetime) -> Recorded:
    """Write what a provider reports and all that follows from it.

    An event whose message is not known yet waits for `adopt`.

    Args:
        conn: In the caller's transaction.
        events: Of any providers, in any order, with any repeats.
        received_at: When they arrived, aware.
    """
    by_key = {(event.provider, _short(event.event_id)): event for event in events}
    messages = _find_messages(conn, list(by_key.values()))
    rows = [
        {
            "provider": provider,
            "event_id": event_id,
            "provider_message_id": event.provider_message_id[:256],
            "kind": event.kind,
            "occurred_at": event.occurred_at,
            "received_at": received_at,
            "detail": storable(event.detail),
            "message_id": None if (found := messages.get(_key(event))) is None else found.message_id,
        }
        # In one order, so that two transactions with the same events never wait for each other.
        for (provider, event_id), event in sorted(by_key.items(), key=lambda item: item[0])
    ]
    new = _insert_new(conn, rows)
    reported = [
        (by_key[key], messages[_key(by_key[key])]) for key in sorted(new) if _key(by_key[key]) in messages
    ]
    _apply(conn, reported, received_at)
    return Recorded(len(new), len(events) - len(new), len(new) - len(reported))


def adopt(conn: Connection, now: datetime) -> int:
    """Give receipts that came early to the messages that have become known since; how many."""
    waiting = conn.execute(
        select(receipts, outbox.c.message_id.label("known_as"))
        .join(
            outbox,
            and_(
                outbox.c.provider == receipts.c.provider,
                outbox.c.provider_message_id == receipts.c.provider_message_id,
            ),
        )
        .where(receipts.c.message_id.is_(None), receipts.c.received_at > now - _ADOPTION_TIME)
        .order_by(receipts.c.provider, receipts.c.event_id)
        .limit(_ROWS_A_STATEMENT)
    ).all()
    if not waiting:
        return 0
    for row in waiting:
        conn.execute(
            update(receipts)
            .where(receipts.c.provider == row.provider, receipts.c.event_id == row.event_id)
            .values(message_id=row.known_as)
        )
    events = [
        DeliveryEvent(
            provider=row.provider,
            event_id=row.event_id,
            provider_message_id=row.provider_message_id,
            kind=InteractionKind(row.kind),
            occurred_at=row.occurred_at,
            detail=row.detail,
        )
        for row in waiting
    ]
    messages = _find_messages(conn, events)
    _apply(conn, [(event, messages[_key(event)]) for event in events], now)
    return len(events)


def advance(conn: Connection, facts: Sequence[Interaction]) -> None:
    """Move messages forward by facts that were appended in this transaction.

    For whoever appends outcomes: receipts, tracked links, `POST /v1/interactions`. A machine-made fact moves
    nothing.
    """
    furthest: dict[str, InteractionKind] = {}
    for fact in facts:
        if fact.decision_id is None or fact.machine_made or fact.kind not in _RANK:
            continue
        known = furthest.get(fact.decision_id)
        if known is None or _RANK[fact.kind] > _RANK[known]:
            furthest[fact.decision_id] = fact.kind
    if not furthest:
        return
    rows = conn.execute(
        select(outbox.c.message_id, outbox.c.decision_id, outbox.c.receipt)
        .where(outbox.c.decision_id.in_(sorted(furthest)))
        .order_by(outbox.c.message_id)
        .with_for_update()
    ).all()
    for row in rows:
        kind = furthest[row.decision_id]
        if row.receipt is None or _RANK[InteractionKind(row.receipt)] < _RANK[kind]:
            conn.execute(update(outbox).where(outbox.c.message_id == row.message_id).values(receipt=kind))


def _apply(
    conn: Connection, reported: Sequence[tuple[DeliveryEvent, Row[Any]]], received_at: datetime
) -> None:
    """Facts, consents, dead contact points and the message's own state."""
    if not reported:
        return
    facts = [_fact(event, message) for event, message in reported]
    append_interactions(conn, facts, received_at)
    taken = {message.message_id: event for event, message in reported if event.kind in _TAKEN}
    if taken:
        evidently_sent(conn, {name: (event.provider, event.occurred_at) for name, event in taken.items()})
    bounced = [(event, message) for event, message in reported if event.kind is InteractionKind.BOUNCED]
    if bounced:
        _bury(conn, bounced)
    advance(conn, facts)


def _bury(conn: Connection, bounced: Sequence[tuple[DeliveryEvent, Row[Any]]]) -> None:
    """The contact point that bounced for good is dead, until the customer gives another one."""
    kinds: dict[str, str] = {
        row.name: row.kind
        for row in conn.execute(
            select(channels.c.name, channels.c.document["identity_kind"].as_string().label("kind")).where(
                channels.c.name.in_(sorted({message.channel for _, message in bounced}))
            )
        )
    }
    latest: dict[tuple[str, str], datetime] = {}
    for event, message in bounced:
        if message.channel in kinds:
            key = message.customer_id, kinds[message.channel]
            # An address given after the message went out is not the one that bounced.
            dead_since = min(event.occurred_at, message.settled_at or event.occurred_at)
            latest[key] = max(dead_since, latest.get(key, dead_since))
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    for (customer_id, kind), bounced_at in sorted(latest.items()):
        statement = insert(hard_bounces).values(customer_id=customer_id, kind=kind, bounced_at=bounced_at)
        conn.execute(
            statement.on_conflict_do_update(
                index_elements=["customer_id", "kind"],
                set_={"bounced_at": statement.excluded.bounced_at},
                where=hard_bounces.c.bounced_at < statement.excluded.bounced_at,
            )
        )


def _find_messages(conn: Connection, events: Sequence[DeliveryEvent]) -> Mapping[tuple[str, str], Row[Any]]:
    """The messages that the events speak of, locked, by provider and the provider's id."""
    found: dict[tuple[str, str], Row[Any]] = {}
    for start in range(0, len(events), _ROWS_A_STATEMENT):
        chunk = events[start : start + _ROWS_A_STATEMENT]
        ids: dict[str, set[str]] = {}
        for event in chunk:
            ids.setdefault(event.provider, set()).add(event.provider_message_id)
        rows = conn.execute(
            select(outbox)
            .where(
                or_(
                    *(
                        and_(outbox.c.provider == provider, outbox.c.provider_message_id.in_(sorted(known)))
                        for provider, known in sorted(ids.items())
                    ),
                    # Adapters that send our own id report it even where the sender died before it wrote so.
                    outbox.c.message_id.in_(sorted({event.provider_message_id for event in chunk})),
                )
            )
            .order_by(outbox.c.message_id)
            .with_for_update()
        ).all()
        by_own_id = {row.message_id: row for row in rows}
        by_their_id = {(row.provider, row.provider_message_id): row for row in rows}
        for event in chunk:
            row = by_their_id.get(_key(event)) or by_own_id.get(event.provider_message_id)
            if row is not None:
                found[_key(event)] = row
    return found


def _insert_new(conn: Connection, rows: Sequence[dict[str, Any]]) -> set[tuple[str, str]]:
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    new: set[tuple[str, str]] = set()
    for start in range(0, len(rows), _ROWS_A_STATEMENT):
        inserted = conn.execute(
            insert(receipts)
            .values(list(rows[start : start + _ROWS_A_STATEMENT]))
            .on_conflict_do_nothing()
            .returning(receipts.c.provider, receipts.c.event_id)
        )
        new |= {(row.provider, row.event_id) for row in inserted}
    return new


def _fact(event: DeliveryEvent, message: Row[Any]) -> Interaction:
    return Interaction(
        source=f"receipt:{event.provider}"[:64],
        event_id=_short(event.event_id),
        customer_id=message.customer_id,
        kind=event.kind,
        occurred_at=event.occurred_at,
        channel=message.channel,
        campaign_id=message.campaign_id,
        offer_id=message.offer_id,
        decision_id=message.decision_id,
        attributes={"detail": storable(event.detail)} if event.detail else {},
    )


def _key(event: DeliveryEvent) -> tuple[str, str]:
    return event.provider, event.provider_message_id


def _short(event_id: str) -> str:
    """The provider's id as the tables take it; a longer one, or one with NUL, by its digest."""
    if len(event_id) <= _LONGEST_EVENT_ID and event_id.isprintable():
        return event_id
    return sha256(event_id.encode("utf-8", "surrogatepass")).hexdigest()

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
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Row, and_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from features.history.among import among
from features.history.append import append_interactions
from features.history.channels import load_channels
from features.history.facts import FactRow
from features.history.query import find_customer_id
from features.history.tables import channels, hard_bounces, outbox, receipts
from models.domain.channel import IdentityKind
from models.domain.interaction import LONGEST_TEXT, Interaction, InteractionKind
from serving.channels.contract import DeliveryEvent
from serving.followups.conversation import ANSWERING, CONCERNING_PERSON, begin, campaigns_of, note
from serving.store.endings import Ending, OutboxStatus, settled_message
from serving.store.outbox import one_line, storable
from serving.store.outbox_by_hand import evidently_sent

_LONGEST_EVENT_ID = 128
_ROWS_A_STATEMENT = 1_000
# A provider may report before the sender has written the provider's id of the message; later than this it speaks
# of something that was never sent from here.
_ADOPTION_TIME = timedelta(days=3)
# A reply, or a watermark, speaks of messages that are no older than this.
_ANSWER_TIME = timedelta(days=30)

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
_CONCERNING_MESSAGE = frozenset(FORWARD) | ANSWERING
# A message that met one of these was certainly taken by the provider.
_TAKEN = frozenset(FORWARD) - {InteractionKind.FAILED}


@dataclass(frozen=True, slots=True)
class Recorded:
    """How many receipts were new, how many known, and how many of the new speak of no message that is known yet.

    Attributes:
        of_people: New events and whom each concerns, in the order in which they were reported; none of watermarks.
    """

    n_new: int
    n_repeated: int
    n_unmatched: int
    of_people: tuple[tuple[str, DeliveryEvent], ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class _Report:
    """An event, and whom it concerns.

    Attributes:
        messages: Of which it speaks: one, or, under a watermark, any number.
        customer_id: Who did it, where it speaks of no message; None where nobody knows them.
    """

    event: DeliveryEvent
    messages: tuple[Row[Any], ...] = ()
    customer_id: str | None = None

    @property
    def matched(self) -> bool:
        return bool(self.messages) or self.customer_id is not None

    @property
    def concerns(self) -> str:
        """Whose it is, of a report that is matched."""
        return self.customer_id or str(self.messages[0].customer_id)


def record_events(
    conn: Connection, events: Sequence[DeliveryEvent], received_at: datetime, channel: str = ""
) -> Recorded:
    """Write what a provider reports and all that follows from it.

    An event that names a message which is not known yet waits for `adopt`. A reply that names no message answers the
    last one that went to that contact point.

    Args:
        conn: In the caller's transaction.
        events: Of any providers, in any order, with any repeats.
        received_at: When they arrived, aware.
        channel: Whose events these are; needed for those that name a contact point.
    """
    by_key = {(event.provider, _short(event.event_id)): event for event in events}
    # In one order, so that two transactions with the same events never wait for each other.
    reports = {key: by_key[key] for key in sorted(by_key)}
    known = _find(conn, list(reports.values()), channel)
    rows = [
        {
            "provider": provider,
            "event_id": event_id,
            "provider_message_id": (event.provider_message_id or event.message_id)[:256],
            "kind": event.kind,
            "occurred_at": event.occurred_at,
            "received_at": received_at,
            "detail": storable(event.detail),
            "message_id": report.messages[0].message_id if len(report.messages) == 1 else None,
        }
        for ((provider, event_id), event), report in zip(reports.items(), known, strict=True)
    ]
    new = _insert_new(conn, rows)
    reported = [report for key, report in zip(reports, known, strict=True) if key in new and report.matched]
    _apply(conn, reported, received_at, channel)
    concerned = {id(report.event): report.concerns for report in reported if report.event.up_to is None}
    return Recorded(
        len(new),
        len(events) - len(new),
        len(new) - len(reported),
        tuple((concerned[id(event)], event) for event in events if id(event) in concerned),
    )


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
        .where(
            receipts.c.message_id.is_(None),
            receipts.c.received_at > now - _ADOPTION_TIME,
            receipts.c.provider_message_id != "",
        )
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
    _apply(conn, [report for report in _find(conn, events, "") if report.matched], now, "")
    return len(events)


def advance(conn: Connection, facts: Sequence[Interaction], now: datetime) -> None:
    """What follows from facts that were appended in this transaction: messages move forward, follow-ups are set off.

    For whoever appends outcomes: receipts, tracked links, `POST /v1/interactions`. A machine-made fact moves
    nothing.
    """
    _move_forward(conn, facts)
    note(conn, facts, now)


def facts_that_move(conn: Connection, rows: Sequence[FactRow]) -> list[FactRow]:
    """Those of the facts that `advance` has anything to do with: the others need not be handed to it.

    A fact about a message counts where the message is in the outbox.
    """
    named = {
        decision_id
        for row in rows
        if (decision_id := row.get("decision_id")) is not None and row["kind"] in _CONCERNING_MESSAGE
    }
    ours: set[str] = set()
    if named:
        ours = set(conn.scalars(select(outbox.c.decision_id).where(among(conn, outbox.c.decision_id, named))))
    return [
        row
        for row in rows
        if row["kind"] in CONCERNING_PERSON
        or (row.get("decision_id") in ours and row["kind"] in _CONCERNING_MESSAGE)
    ]


def _move_forward(conn: Connection, facts: Sequence[Interaction]) -> None:
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


def _apply(conn: Connection, reports: Sequence[_Report], received_at: datetime, channel: str) -> None:
    """Facts, consents, dead contact points and the messages' own states."""
    facts = [fact for report in reports for fact in _facts(report, channel)]
    if not facts:
        return
    append_interactions(conn, facts, received_at)
    pairs = [(report.event, message) for report in reports for message in report.messages]
    taken = {message.message_id: event for event, message in pairs if event.kind in _TAKEN}
    if taken:
        seen = {name: (event.provider, event.occurred_at) for name, event in taken.items()}
        _begin_conversations(conn, evidently_sent(conn, seen))
    bounced = [(event, message) for event, message in pairs if event.kind is InteractionKind.BOUNCED]
    if bounced:
        _bury(conn, bounced)
    advance(conn, facts, received_at)


def _begin_conversations(conn: Connection, settled: Sequence[Ending]) -> None:
    if not settled:
        return
    campaigns = campaigns_of(conn, [ending.claimed.decision_id for ending in settled])
    reporting = {name for name, one in load_channels(conn).items() if one.reports(InteractionKind.DELIVERED)}
    begin(
        conn,
        [(settled_message(ending), campaigns[ending.claimed.decision_id]) for ending in settled],
        reporting,
    )


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
                index_elements=["customer_id", "recorded_as", "kind"],
                set_={"bounced_at": statement.excluded.bounced_at},
                where=hard_bounces.c.bounced_at < statement.excluded.bounced_at,
            )
        )


def _find(conn: Connection, events: Sequence[DeliveryEvent], channel: str) -> list[_Report]:
    """Whom each event concerns; the messages are locked."""
    found = _find_messages(conn, [event for event in events if event.message_id or event.provider_message_id])
    reports = []
    for event in events:
        message = (
            found.get(event.message_id)
            or found.get((event.provider, event.provider_message_id))
            or found.get(event.provider_message_id)
        )
        if message is not None:
            reports.append(_Report(event, (message,)))
        elif event.identity and not (event.message_id or event.provider_message_id):
            reports.append(_find_person(conn, event, channel))
        else:
            reports.append(_Report(event))
    return reports


def _find_person(conn: Connection, event: DeliveryEvent, channel: str) -> _Report:
    kind = conn.scalar(
        select(channels.c.document["identity_kind"].as_string()).where(channels.c.name == channel)
    )
    customer_id = None if kind is None else find_customer_id(conn, IdentityKind(kind), event.identity)
    if customer_id is None:
        return _Report(event)
    if event.up_to is None and event.kind is not InteractionKind.REPLIED:
        return _Report(event, customer_id=customer_id)
    sent_to_them = select(outbox).where(
        outbox.c.customer_id == customer_id,
        outbox.c.channel == channel,
        outbox.c.status == OutboxStatus.SENT,
        outbox.c.settled_at <= (event.up_to or event.occurred_at),
        outbox.c.settled_at > event.occurred_at - _ANSWER_TIME,
    )
    if event.up_to is None:
        concerned = sent_to_them.order_by(outbox.c.settled_at.desc(), outbox.c.message_id).limit(1)
    else:
        concerned = sent_to_them.order_by(outbox.c.message_id)
    return _Report(event, tuple(conn.execute(concerned.with_for_update())), customer_id)


def _find_messages(
    conn: Connection, events: Sequence[DeliveryEvent]
) -> Mapping[str | tuple[str, str], Row[Any]]:
    """The messages that the events name, locked, by our own id and by provider and the provider's id."""
    found: dict[str | tuple[str, str], Row[Any]] = {}
    for start in range(0, len(events), _ROWS_A_STATEMENT):
        chunk = events[start : start + _ROWS_A_STATEMENT]
        theirs: dict[str, set[str]] = {}
        for event in chunk:
            if event.provider_message_id:
                theirs.setdefault(event.provider, set()).add(event.provider_message_id)
        # Adapters that send our own id may report it even where the sender died before it wrote so.
        own = {event.message_id or event.provider_message_id for event in chunk}
        rows = conn.execute(
            select(outbox)
            .where(
                or_(
                    *(
                        and_(outbox.c.provider == provider, outbox.c.provider_message_id.in_(sorted(ids)))
                        for provider, ids in sorted(theirs.items())
                    ),
                    outbox.c.message_id.in_(sorted(own)),
                )
            )
            .order_by(outbox.c.message_id)
            .with_for_update()
        ).all()
        found |= {row.message_id: row for row in rows}
        found |= {(row.provider, row.provider_message_id): row for row in rows if row.provider_message_id}
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


def _facts(report: _Report, channel: str) -> list[Interaction]:
    """One fact a message, or one of the person alone."""
    event = report.event
    # What people write has line breaks, and may be longer than an attribute.
    attributes = {name: one_line(text)[:LONGEST_TEXT] for name, text in event.attributes.items()}
    if event.detail:
        attributes["detail"] = storable(event.detail)
    if not report.messages:
        assert report.customer_id is not None, "the report is matched"
        if event.up_to is not None:  # a watermark under which nothing was sent
            return []
        return [
            Interaction(
                source=_source(event),
                event_id=_short(event.event_id),
                customer_id=report.customer_id,
                kind=event.kind,
                occurred_at=event.occurred_at,
                channel=channel,
                attributes=attributes,
            )
        ]
    return [
        Interaction(
            source=_source(event),
            event_id=_short(
                event.event_id if event.up_to is None else f"{event.event_id}/{message.message_id}"
            ),
            customer_id=message.customer_id,
            kind=event.kind,
            occurred_at=event.occurred_at,
            channel=message.channel,
            campaign_id=message.campaign_id,
            offer_id=message.offer_id,
            decision_id=message.decision_id,
            attributes=attributes,
        )
        for message in report.messages
    ]


def _source(event: DeliveryEvent) -> str:
    return f"receipt:{event.provider}"[:64]


def _short(event_id: str) -> str:
    """The provider's id as the tables take it; a longer one, or one with NUL, by its digest."""
    if len(event_id) <= _LONGEST_EVENT_ID and event_id.isprintable():
        return event_id
    return sha256(event_id.encode("utf-8", "surrogatepass")).hexdigest()

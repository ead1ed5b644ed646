"""What a channel's provider reports, made ready for the one state machine of `serving.receipts`.

A watermark becomes one event for every message that it covers. An event that names a message which is none of ours is
about the person alone. Of strangers nothing is kept. What people say is heard, and answered, in their chat. Who
unfollows cannot be reached there until they come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from features.history.query import find_customer_id
from features.history.tables import hard_bounces, interactions, outbox
from models.domain.channel import Channel, IdentityKind
from models.domain.interaction import InteractionKind
from serving.channels.contract import DeliveryEvent
from serving.chat.hearing import hear, hear_stranger
from serving.receipts import Recorded, record_events
from serving.store.endings import OutboxStatus

# What people do, whether or not it answers a message that we know.
_OF_PEOPLE = frozenset(
    {
        InteractionKind.CLICKED,
        InteractionKind.REPLIED,
        InteractionKind.FOLLOWED,
        InteractionKind.UNFOLLOWED,
        InteractionKind.UNSUBSCRIBED,
        InteractionKind.COMPLAINED,
    }
)
_PHONES = frozenset({IdentityKind.PHONE, IdentityKind.WHATSAPP})
_FRIENDSHIP = (InteractionKind.FOLLOWED, InteractionKind.UNFOLLOWED)
# A watermark says nothing new of older messages.
_COVERED = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What became of the events of one report.

    Attributes:
        recorded: As the state machine counts.
        n_strangers: Events of contact points that belong to no customer.
        customer_ids: Whose features are out of date now.
    """

    recorded: Recorded
    n_strangers: int
    customer_ids: tuple[str, ...]


def record_provider_events(
    conn: Connection, channel: Channel, events: Sequence[DeliveryEvent], received_at: datetime
) -> Told:
    """Write what the provider of a channel reports and all that follows from it.

    Args:
        conn: In the caller's transaction.
        channel: Over which the provider reports.
        events: In any order, with any repeats.
        received_at: When they arrived, aware.
    """
    known = _known_messages(conn, events)
    ready: list[DeliveryEvent] = []
    touched: set[str] = set()
    friends: set[str] = set()
    n_strangers = 0
    for event in events:
        of = known.get(event.message_id) or known.get(event.provider_message_id)
        if of is not None:
            touched.add(of)
            ready.append(event)
        elif not event.identity or (event.provider_message_id and event.kind not in _OF_PEOPLE):
            ready.append(event)  # it waits until its message is known
        elif (person := _find_person(conn, channel, event.identity)) is None:
            n_strangers += 1
            hear_stranger(conn, channel, event, received_at)
        else:
            identity, customer_id = person
            touched.add(customer_id)
            if event.up_to is not None:
                ready += _covered(conn, channel.name, customer_id, event)
                continue
            ready.append(replace(event, provider_message_id="", message_id="", identity=identity))
            if event.kind in _FRIENDSHIP:
                friends.add(customer_id)
    recorded = record_events(conn, ready, received_at, channel.name)
    for customer_id in sorted(friends):
        _settle_friendship(conn, channel, customer_id)
    hear(conn, channel, recorded.of_people, received_at)
    return Told(recorded=recorded, n_strangers=n_strangers, customer_ids=tuple(sorted(touched)))


def _known_messages(conn: Connection, events: Sequence[DeliveryEvent]) -> dict[str, str]:
    """Customer by the provider's or our own id of each message that the events name and we know."""
    named = sorted(
        {name for event in events for name in (event.provider_message_id, event.message_id) if name}
    )
    if not named:
        return {}
    providers = sorted({event.provider for event in events})
    rows = conn.execute(
        select(outbox.c.message_id, outbox.c.provider_message_id, outbox.c.customer_id).where(
            or_(
                outbox.c.message_id.in_(named),
                outbox.c.provider.in_(providers) & outbox.c.provider_message_id.in_(named),
            )
        )
    ).all()
    return {
        name: row.customer_id for row in rows for name in (row.message_id, row.provider_message_id) if name
    }


def _find_person(conn: Connection, channel: Channel, identity: str) -> tuple[str, str] | None:
    """The contact point as we write it, and whose it is; providers write numbers with and without the plus."""
    spellings = [identity]
    if channel.identity_kind in _PHONES:
        spellings = [f"+{identity.lstrip('+')}", identity.lstrip("+")]
    for spelling in spellings:
        if found := find_customer_id(conn, channel.identity_kind, spelling):
            return spelling, found
    return None


def _covered(conn: Connection, channel: str, customer_id: str, event: DeliveryEvent) -> list[DeliveryEvent]:
    """The watermark as one event a message and kind: a later watermark covers the same messages again."""
    assert event.up_to is not None
    rows = conn.execute(
        select(outbox.c.message_id)
        .where(
            outbox.c.customer_id == customer_id,
            outbox.c.channel == channel,
            outbox.c.status == OutboxStatus.SENT,
            outbox.c.settled_at <= event.up_to,
            outbox.c.settled_at > event.up_to - _COVERED,
        )
        .order_by(outbox.c.message_id)
    ).all()
    return [
        replace(
            event,
            event_id=f"{row.message_id}/{event.kind}",
            message_id=row.message_id,
            identity="",
            up_to=None,
        )
        for row in rows
    ]


def _settle_friendship(conn: Connection, channel: Channel, customer_id: str) -> None:
    """Who left last cannot be reached there; who came back can. Whatever the order of the reports."""
    latest = conn.execute(
        select(interactions.c.kind, interactions.c.occurred_at)
        .where(
            interactions.c.customer_id == customer_id,
            interactions.c.channel == channel.name,
            interactions.c.kind.in_(_FRIENDSHIP),
        )
        .order_by(interactions.c.occurred_at.desc(), interactions.c.interaction_id.desc())
        .limit(1)
    ).one()
    dead = hard_bounces.c.customer_id == customer_id, hard_bounces.c.kind == channel.identity_kind
    conn.execute(delete(hard_bounces).where(*dead))
    if latest.kind == InteractionKind.UNFOLLOWED:
        insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
        conn.execute(
            insert(hard_bounces).values(
                customer_id=customer_id, kind=channel.identity_kind, bounced_at=latest.occurred_at
            )
        )

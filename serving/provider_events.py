"""What a channel's provider reports, put where it belongs: on a message, or on the person who did something.

Reports about messages go through the one state machine of `serving.receipts`. A watermark becomes one report for
every message that it covers. What a person did (replied, followed, left) becomes a fact of the customer to whom the
contact point belongs; of a stranger nothing is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from features.history.append import append_interactions
from features.history.query import find_customer_id
from features.history.tables import hard_bounces, interactions, outbox
from models.domain.channel import Channel, IdentityKind
from models.domain.interaction import Interaction, InteractionKind
from serving.channels.contract import DeliveryEvent
from serving.receipts import Recorded, record_events
from serving.store.outbox import OutboxStatus

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
        receipts: Those about messages.
        n_of_people: New facts about people.
        n_strangers: Events of contact points that belong to no customer.
        customer_ids: Whose features are out of date now.
    """

    receipts: Recorded
    n_of_people: int
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
    of_messages: list[DeliveryEvent] = []
    facts: list[Interaction] = []
    people: dict[str, str | None] = {}
    n_strangers = 0
    for event in events:
        named = event.provider_message_id
        if named and (named in known or event.kind not in _OF_PEOPLE or not event.identity):
            of_messages.append(event)
            continue
        if event.identity not in people:
            people[event.identity] = _customer_of(conn, channel, event.identity)
        customer_id = people[event.identity]
        if customer_id is None:
            n_strangers += 1
        elif event.up_to is not None:
            of_messages += _covered(conn, channel.name, customer_id, event)
        else:
            facts.append(_fact(channel.name, customer_id, event))
    receipts = record_events(conn, of_messages, received_at)
    appended = append_interactions(conn, facts, received_at)
    for customer_id in sorted({fact.customer_id for fact in facts if fact.kind in _FRIENDSHIP}):
        _settle_friendship(conn, channel, customer_id)
    touched = {fact.customer_id for fact in facts} | {
        known[e.provider_message_id] for e in of_messages if e.provider_message_id in known
    }
    return Told(
        receipts=receipts,
        n_of_people=appended.n_new,
        n_strangers=n_strangers,
        customer_ids=tuple(sorted(touched)),
    )


def _customer_of(conn: Connection, channel: Channel, identity: str) -> str | None:
    """Whose contact point it is; providers write phone numbers with and without the plus."""
    spellings = [identity]
    if channel.identity_kind in _PHONES:
        spellings = [f"+{identity.lstrip('+')}", identity.lstrip("+")]
    for spelling in spellings:
        if found := find_customer_id(conn, channel.identity_kind, spelling):
            return found
    return None


def _known_messages(conn: Connection, events: Sequence[DeliveryEvent]) -> dict[str, str]:
    """Customer by the provider's or our own id of each message that the events name and we know."""
    named = sorted({event.provider_message_id for event in events if event.provider_message_id})
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


def _covered(conn: Connection, channel: str, customer_id: str, event: DeliveryEvent) -> list[DeliveryEvent]:
    """The watermark as one event a message."""
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
        # One event a message and kind: a later watermark covers the same messages again.
        replace(
            event,
            event_id=f"{row.message_id}/{event.kind}",
            provider_message_id=row.message_id,
            identity="",
            up_to=None,
        )
        for row in rows
    ]


def _fact(channel: str, customer_id: str, event: DeliveryEvent) -> Interaction:
    return Interaction(
        source=f"receipt:{event.provider}"[:64],
        event_id=event.event_id,
        customer_id=customer_id,
        kind=event.kind,
        occurred_at=event.occurred_at,
        channel=channel,
        attributes={
            name: _storable(text)
            for name, text in {"detail": event.detail, **event.attributes}.items()
            if text and name != "reply_token"
        },
    )


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


def _storable(words: str) -> str:
    return words.encode("utf-8", "replace").decode("utf-8").replace("\0", "")[:1_000]

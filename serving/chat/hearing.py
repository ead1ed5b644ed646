"""What customers write: heard into their chat, and answered, in the transaction in which it is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, select, update
from sqlalchemy.dialects import postgresql, sqlite

from features.history.query import customer_attributes
from features.history.tables import chats
from models.domain.channel import Channel
from models.domain.errors import NotFoundError
from models.domain.interaction import InteractionKind
from serving.channels.contract import REPLY_TOKEN, SAID, DeliveryEvent
from serving.chat.lines import ReplyToken, add_heard, add_line, line_id
from serving.chat.reaction import Reaction, Why, react, react_to_stranger, standing_at
from serving.chat.store import StoredAnswers, find_answers
from serving.content import Person
from serving.routes.fields import UNSTORABLE

_SPOKEN = frozenset({InteractionKind.REPLIED, InteractionKind.CLICKED})
# What was said longer ago is heard, and not answered any more: providers repeat what we could not take.
_ANSWERED_WITHIN = timedelta(hours=24)
_LONGEST_HEARD = 5_000
AUTOMATIC, HANDED_OVER = "automatic", "handed_over"


def hear(
    conn: Connection, channel: Channel, events: Sequence[tuple[str, DeliveryEvent]], now: datetime
) -> None:
    """Hear and answer what customers said.

    Args:
        conn: In the caller's transaction, which has recorded the events.
        channel: Where they said it.
        events: New ones, each with its customer, in the order in which they were reported.
        now: When they arrived, aware.
    """
    spoken = [(who, event) for who, event in events if event.kind in _SPOKEN and event.attributes.get(SAID)]
    if not spoken:
        return
    found = find_answers(conn, channel.name)
    # Chats are locked in one order, so that two reports of the same people never wait for each other.
    for customer_id, event in sorted(spoken, key=lambda each: (each[0], each[1].occurred_at)):
        _hear_one(conn, channel, found, customer_id, event, now)


def hear_stranger(conn: Connection, channel: Channel, event: DeliveryEvent, now: datetime) -> None:
    """Answer somebody who is no customer, where their event can be replied to; nothing is kept of them."""
    token, text = event.attributes.get(REPLY_TOKEN), event.attributes.get(SAID)
    if not token or not text or event.kind not in _SPOKEN or not channel.enabled:
        return
    found = find_answers(conn, channel.name)
    if found is None:
        return
    reaction = react_to_stranger(found.answers, text, channel.name)
    assert reaction.says is not None, "strangers are always answered"
    add_line(
        conn,
        str(uuid4()),
        reaction.says,
        channel.name,
        now,
        chat=None,
        token=ReplyToken(token=token, came_at=now),
    )


def open_chat(conn: Connection, chat_id: str) -> Row[Any]:
    """A chat, locked until the transaction ends.

    Raises:
        NotFoundError: there is no such chat.
    """
    row = conn.execute(select(chats).where(chats.c.chat_id == chat_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFoundError("chat_id", chat_id)
    return row


def is_silent(chat: Row[Any], now: datetime) -> bool:
    """Whether a person answers in a chat, so that rules say nothing."""
    if chat.state != HANDED_OVER or chat.silent_until is None:
        return False
    held = chat.taken_until is not None and chat.taken_until > now
    return bool(held or chat.due_at <= now < chat.silent_until)


def _hear_one(
    conn: Connection,
    channel: Channel,
    found: StoredAnswers | None,
    customer_id: str,
    event: DeliveryEvent,
    now: datetime,
) -> None:
    if found is None and not _has_chat(conn, channel.name, customer_id):
        return
    text = UNSTORABLE.sub("\ufffd", event.attributes[SAID])[:_LONGEST_HEARD]
    chat = _chat_of(conn, channel.name, customer_id, event.occurred_at)
    said = line_id("heard", event.provider, event.event_id)
    if not add_heard(conn, chat, said, text, event.occurred_at):
        return
    changes: dict[str, object] = {"heard_at": max(chat.heard_at, event.occurred_at)}
    if found is not None:
        reaction = _reaction(conn, channel, found, chat, text, now)
        changes |= _changes(found, reaction, chat, now)
        if reaction.says is not None and channel.enabled and event.occurred_at > now - _ANSWERED_WITHIN:
            token = event.attributes.get(REPLY_TOKEN)
            add_line(
                conn,
                line_id("answer", said),
                reaction.says,
                channel.name,
                now,
                chat=chat,
                version=found.version,
                why=reaction.why,
                token=ReplyToken(token=token, came_at=now) if token else None,
            )
    conn.execute(update(chats).where(chats.c.chat_id == chat.chat_id).values(**changes))


def _reaction(
    conn: Connection, channel: Channel, found: StoredAnswers, chat: Row[Any], text: str, now: datetime
) -> Reaction:
    if is_silent(chat, now):
        return Reaction(why=Why.SILENT)
    try:
        attributes = customer_attributes(conn, chat.customer_id)
    except NotFoundError:
        attributes = {}
    position = standing_at(found.answers, chat.position, chat.position_at, now)
    person = Person(chat.customer_id, attributes)
    return react(found.answers, text, position, now, channel.name, person)


def _changes(found: StoredAnswers, reaction: Reaction, chat: Row[Any], now: datetime) -> dict[str, object]:
    """What of the chat follows from a reaction."""
    office = found.answers.office
    if reaction.why is Why.SILENT:
        return {} if office is None else {"silent_until": now + timedelta(seconds=office.silence_seconds)}
    changes: dict[str, object] = {"position": list(reaction.position), "position_at": now}
    if reaction.due_at is not None:
        assert office is not None, "only an office answers"
        # Who has waited since before keeps that place; from `due_at` on rules say nothing.
        waits = chat.state == HANDED_OVER and chat.due_at < reaction.due_at <= now
        changes |= {
            "state": HANDED_OVER,
            "due_at": chat.due_at if waits else reaction.due_at,
            "silent_until": reaction.due_at + timedelta(seconds=office.silence_seconds),
        }
    return changes


def _has_chat(conn: Connection, channel: str, customer_id: str) -> bool:
    return conn.execute(_chats_of(channel, customer_id)).first() is not None


def _chat_of(conn: Connection, channel: str, customer_id: str, heard_at: datetime) -> Row[Any]:
    """The customer's chat, locked; a new one where they have none.

    Of several, which two people had before they turned out to be one, the one that was handed over last.
    """
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    found = conn.execute(_chats_of(channel, customer_id).with_for_update()).first()
    if found is None:
        conn.execute(
            insert(chats)
            .values(
                chat_id=str(uuid4()),
                customer_id=customer_id,
                channel=channel,
                position=[],
                heard_at=heard_at,
                state=AUTOMATIC,
            )
            .on_conflict_do_nothing()
        )
        found = conn.execute(_chats_of(channel, customer_id).with_for_update()).one()
    return found


def _chats_of(channel: str, customer_id: str) -> Any:
    return (
        select(chats)
        .where(chats.c.channel == channel, chats.c.customer_id == customer_id)
        .order_by(chats.c.state.desc(), chats.c.heard_at.desc(), chats.c.chat_id)
        .limit(1)
    )

"""The desk: chats that were handed over to people, who holds which, and what they answer.

    handed over --take--> held by an agent for a while --end--> automatic again
        ^                      |
        +---- its time ends ---+

Whoever holds a chat alone may answer in it and end it. Until it is ended, or nobody has said a word for long, rules say
nothing in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, or_, select, update

from features.history.channels import load_channels
from features.history.tables import chat_lines, chats
from models.domain.campaign import Content
from models.domain.channel import Channel, ContentKind
from models.domain.errors import ConflictError, NotFoundError, require
from serving.calls import require_agent
from serving.chat.document import SILENCE_SECONDS
from serving.chat.hearing import AUTOMATIC, HANDED_OVER, open_chat
from serving.chat.lines import Speaker, add_line, line_id
from serving.chat.reaction import Saying
from serving.chat.sender import in_window
from serving.chat.store import find_answers

HOLD_TIME = timedelta(minutes=30)
LONGEST_TEXT = 5_000
_MOST_LINES = 200
_UNSAYABLE = re.compile("[\0-\x09\x0b-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLine:
    """One line of a thread.

    Attributes:
        agent: Who said it, where an agent did.
        status: `heard` of the customer's; else where it stands on its way: `pending`, `claimed`, `sent`, `failed`,
            `suppressed` or `unknown`.
        detail: Why it was not sent.
        version: Of the answers that said it.
    """

    line_id: str
    speaker: Speaker
    agent: str | None
    said_at: datetime
    text: str
    status: str
    detail: str
    version: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A chat as an agent sees it.

    Attributes:
        due_at: Since when, or from when on, it waits for a person; None where it waits for none.
        held_by: The agent who holds it now.
        answerable: Whether the provider takes a text now.
        lines: The latest, oldest first; none in a list of chats.
    """

    chat_id: str
    customer_id: str
    channel: str
    state: str
    heard_at: datetime
    due_at: datetime | None
    held_by: str | None
    answerable: bool
    lines: Sequence[ChatLine] = ()


def waiting_chats(
    conn: Connection, now: datetime, limit: int, after: tuple[datetime, str] | None = None
) -> list[Chat]:
    """Chats that wait for a person or are held by one, who has waited longest first.

    Args:
        conn: Only read.
        now: Aware; chats that are due later are left out.
        limit: At most this many.
        after: Only those behind this one, by (due_at, chat_id).
    """
    query = select(chats).where(chats.c.state == HANDED_OVER, chats.c.due_at <= now)
    if after is not None:
        at, last = after
        query = query.where(or_(chats.c.due_at > at, and_(chats.c.due_at == at, chats.c.chat_id > last)))
    rows = conn.execute(query.order_by(chats.c.due_at, chats.c.chat_id).limit(limit)).all()
    channels = load_channels(conn) if rows else {}
    return [_shown(row, channels, now) for row in rows]


def find_chat(conn: Connection, chat_id: str, now: datetime) -> Chat:
    """One chat with its latest 200 lines.

    Raises:
        NotFoundError: there is none.
    """
    row = conn.execute(select(chats).where(chats.c.chat_id == chat_id)).one_or_none()
    if row is None:
        raise NotFoundError("chat_id", chat_id)
    lines = conn.execute(
        select(chat_lines)
        .where(chat_lines.c.chat_id == chat_id)
        .order_by(chat_lines.c.line_no.desc())
        .limit(_MOST_LINES)
    ).all()
    return _shown(row, load_channels(conn), now, [_line(line) for line in reversed(lines)])


def take_chat(conn: Connection, chat_id: str, agent: str, now: datetime) -> None:
    """Hold a chat for half an hour, so that nobody else answers in it; each answer begins the half hour anew.

    Raises:
        NotFoundError: there is none.
        ConflictError: somebody else holds it, or it was not handed over.
    """
    require_agent(agent)
    chat = open_chat(conn, chat_id)
    held_by = _held_by(chat, now)
    if chat.state != HANDED_OVER:
        raise ConflictError(f"chat {chat_id} was not handed over, or has ended")
    if held_by not in (None, agent):
        raise ConflictError(f"chat {chat_id} is held by {held_by}")
    _hold(conn, chat, agent, now)


def say(conn: Connection, chat_id: str, agent: str, text: str, now: datetime, key: str) -> str:
    """Answer in a chat that the agent holds; the id of the line.

    Args:
        conn: In the caller's transaction.
        chat_id: Of the chat.
        agent: Who holds it.
        text: What to say; lines end with a line feed.
        now: Aware.
        key: Of this answer: the same key again says it once.

    Raises:
        InvalidInputError: the text is empty, or longer than the channel takes.
        ConflictError: the agent does not hold the chat, or the provider takes no text any more.
    """
    chat = _held(conn, chat_id, agent, now)
    text = text.replace("\r\n", "\n").strip()
    require(0 < len(text) <= LONGEST_TEXT, "text", text[:100], f"must have 1 to {LONGEST_TEXT} characters")
    require(not _UNSAYABLE.search(text), "text", text[:100], "must have no control characters")
    channel = load_channels(conn).get(chat.channel)
    if channel is None:
        raise ConflictError(f"the channel {chat.channel} is gone")
    require(
        channel.takes(ContentKind.TEXT, text), "text", text[:100], f"must be short enough for {channel.name}"
    )
    if not in_window(channel, ContentKind.TEXT, chat.heard_at, now):
        raise ConflictError(
            f"{channel.name} takes no text later than {channel.provider_window_seconds} s after the "
            f"customer's last word, which came at {chat.heard_at.isoformat()}"
        )
    name = line_id("agent", chat_id, key)
    if conn.scalar(select(chat_lines.c.line_no).where(chat_lines.c.line_id == name)) is None:
        saying = Saying(kind=ContentKind.TEXT, content=Content(body=text))
        add_line(conn, name, saying, channel.name, now, chat=chat, agent=agent)
    _hold(conn, chat, agent, now)
    return name


def end_chat(conn: Connection, chat_id: str, agent: str, now: datetime, seen: str | None = None) -> None:
    """Give a chat that the agent holds back to the rules, which begin at the top.

    Args:
        conn: In the caller's transaction.
        chat_id: Of the chat.
        agent: Who holds it.
        now: Aware.
        seen: The last line that the agent has seen; None where they do not say.

    Raises:
        InvalidInputError: it is no line of the chat.
        ConflictError: the agent does not hold it, or the customer has said something since the line that was seen.
    """
    chat = _held(conn, chat_id, agent, now)
    if seen is not None:
        _refuse_unseen(conn, chat.chat_id, seen)
    conn.execute(
        update(chats)
        .where(chats.c.chat_id == chat.chat_id)
        .values(
            state=AUTOMATIC,
            position=[],
            position_at=None,
            due_at=None,
            silent_until=None,
            taken_by=None,
            taken_until=None,
        )
    )


def _refuse_unseen(conn: Connection, chat_id: str, seen: str) -> None:
    """What the customer said after that line nobody would answer: neither the agent, nor rules that were silent then."""
    of_chat = chat_lines.c.chat_id == chat_id
    line_no = conn.scalar(select(chat_lines.c.line_no).where(of_chat, chat_lines.c.line_id == seen))
    require(line_no is not None, "seen", seen, f"must be a line of chat {chat_id}")
    later = select(chat_lines.c.text).where(
        of_chat, chat_lines.c.line_no > line_no, chat_lines.c.speaker == Speaker.CUSTOMER
    )
    text = conn.scalar(later.order_by(chat_lines.c.line_no).limit(1))
    if text is not None:
        raise ConflictError(f"the customer has said something since then, which has no answer: {text[:100]}")


def _held(conn: Connection, chat_id: str, agent: str, now: datetime) -> Row[Any]:
    require_agent(agent)
    chat = open_chat(conn, chat_id)
    if chat.state != HANDED_OVER or _held_by(chat, now) != agent:
        raise ConflictError(f"chat {chat_id} is not held by {agent}")
    return chat


def _hold(conn: Connection, chat: Row[Any], agent: str, now: datetime) -> None:
    found = find_answers(conn, chat.channel)
    office = None if found is None else found.answers.office
    silence = timedelta(seconds=SILENCE_SECONDS if office is None else office.silence_seconds)
    conn.execute(
        update(chats)
        .where(chats.c.chat_id == chat.chat_id)
        .values(taken_by=agent, taken_until=now + HOLD_TIME, silent_until=now + silence)
    )


def _held_by(chat: Row[Any], now: datetime) -> str | None:
    held = chat.taken_until is not None and chat.taken_until > now
    return str(chat.taken_by) if held else None


def _shown(
    row: Row[Any], channels: dict[str, Channel], now: datetime, lines: Sequence[ChatLine] = ()
) -> Chat:
    channel = channels.get(row.channel)
    return Chat(
        chat_id=row.chat_id,
        customer_id=row.customer_id,
        channel=row.channel,
        state=row.state,
        heard_at=row.heard_at,
        due_at=row.due_at,
        held_by=_held_by(row, now),
        answerable=channel is not None and in_window(channel, ContentKind.TEXT, row.heard_at, now),
        lines=lines,
    )


def _line(row: Row[Any]) -> ChatLine:
    return ChatLine(
        line_id=row.line_id,
        speaker=Speaker(row.speaker),
        agent=row.agent,
        said_at=row.said_at,
        text=row.text,
        status=row.status,
        detail=row.detail or "",
        version=row.version,
    )

"""The lines of chats: what was heard, and the queue of what is to be sent.

    pending --claim--> claimed --settle--> sent | failed | suppressed | unknown
       ^                  |
       +---- later -------+      a lease that expires is claimed again, under a new fencing token

Of a chat only the first line that is open can be claimed, so that texts are answered in order. What was answered to a
stranger goes as soon as it is settled.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid5

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)

from features.history.tables import chat_lines, chats
from models.domain.campaign import Content
from models.domain.channel import ContentKind
from serving.chat.reaction import Saying, Why
from serving.store.endings import OutboxStatus
from serving.store.outbox import storable

# Namespace of the lines' ids; fixed for ever, or a repeated report would be answered twice.
_LINES = UUID("1d3a7c52-9f04-5c1e-8a76-b1b0a4f0c0de")
# An answer that comes later than this is none any more.
_ANSWER_TIME = timedelta(hours=24)
HEARD = "heard"
_OPEN = (OutboxStatus.PENDING, OutboxStatus.CLAIMED)


class Speaker(StrEnum):
    """Who says a line."""

    CUSTOMER = "customer"
    RULES = "rules"
    AGENT = "agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyToken:
    """What a provider takes for a reply to one event, and when it came."""

    token: str
    came_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedLine:
    """A line that the claimant alone may send until the lease expires.

    Attributes:
        chat_id: None where a stranger is answered, by the token alone.
        heard_at: The customer's last word; None of a stranger.
        token: To reply by; None where it is too old, or the adapter cannot.
        in_doubt: Whether an earlier attempt perhaps was taken, and no key tells.
        attempts: This one included.
    """

    line_no: int
    line_id: str
    chat_id: str | None
    customer_id: str | None
    channel: str
    content_kind: ContentKind
    content: Content
    choices: tuple[str, ...]
    said_at: datetime
    expires_at: datetime
    heard_at: datetime | None
    token: str | None
    in_doubt: bool
    attempts: int
    fencing_token: int
    lease_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LineEnding:
    """How a claim ended.

    Attributes:
        due_at: When it is tried again, where it stays pending.
        attempted: Whether anything was tried; otherwise no attempt is counted.
        in_doubt: Whether perhaps it was taken.
        drops_token: Whether the token is of no use any more.
    """

    status: OutboxStatus
    detail: str = ""
    due_at: datetime | None = None
    attempted: bool = True
    in_doubt: bool = False
    drops_token: bool = False


def line_id(*parts: str) -> str:
    """The id of a line, the same whenever it is made of the same parts."""
    return str(uuid5(_LINES, "/".join(parts)))


def add_heard(
    conn: Connection, chat: Row[tuple[object, ...]], key: str, text: str, said_at: datetime
) -> bool:
    """Write what the customer said; False where it is written already."""
    if conn.scalar(select(chat_lines.c.line_no).where(chat_lines.c.line_id == key)) is not None:
        return False
    conn.execute(
        insert(chat_lines).values(
            line_id=key,
            chat_id=chat.chat_id,
            customer_id=chat.customer_id,
            channel=chat.channel,
            speaker=Speaker.CUSTOMER,
            said_at=said_at,
            text=text,
            status=HEARD,
        )
    )
    return True


def add_line(
    conn: Connection,
    key: str,
    saying: Saying,
    channel: str,
    now: datetime,
    *,
    chat: Row[tuple[object, ...]] | None,
    agent: str | None = None,
    version: int | None = None,
    why: Why | None = None,
    token: ReplyToken | None = None,
) -> None:
    """Put what is said into the queue.

    Args:
        conn: In the caller's transaction, in which the chat is locked.
        key: Its id, and the provider's key of it.
        saying: What.
        channel: Where.
        now: Aware.
        chat: In which chat; None to a stranger.
        agent: Who says it; None for the rules.
        version: Of the answers that say it.
        why: Why they do.
        token: To reply by.
    """
    conn.execute(
        insert(chat_lines).values(
            line_id=key,
            chat_id=None if chat is None else chat.chat_id,
            customer_id=None if chat is None else chat.customer_id,
            channel=channel,
            speaker=Speaker.RULES if agent is None else Speaker.AGENT,
            agent=agent,
            said_at=now,
            text=saying.text,
            content_kind=saying.kind,
            content=asdict(saying.content) | {"locales": {}},
            choices=list(saying.choices),
            version=version,
            why=why,
            reply_token=None if token is None else token.token,
            token_at=None if token is None else token.came_at,
            status=OutboxStatus.PENDING,
            due_at=now,
            expires_at=now + _ANSWER_TIME,
        )
    )


def due_channels(conn: Connection, now: datetime, channels: Collection[str]) -> frozenset[str]:
    """The channels of which `claim` would find anything; a read, which holds up no writer."""
    due = select(chat_lines.c.channel).distinct().where(*_is_due(now, channels))
    return frozenset(conn.scalars(due))


def claim(
    conn: Connection,
    now: datetime,
    lease_seconds: float,
    limit: int,
    channels: Collection[str],
    reply_within: Mapping[str, timedelta],
    keyed: Collection[str],
) -> list[ClaimedLine]:
    """Take due lines, the oldest first, at most one of a chat.

    Args:
        conn: In a transaction; the claim holds from its commit on.
        now: Aware.
        lease_seconds: How long nobody else gets them; longer than sending can take.
        limit: At most this many.
        channels: Only these.
        reply_within: How long a token is of use, by channel; none where the adapter takes none.
        keyed: Channels whose provider sends once what is pushed twice.
    """
    numbers = conn.scalars(_due(now, channels, limit).with_for_update(skip_locked=True, of=chat_lines)).all()
    if not numbers:
        return []
    rows = conn.execute(
        select(chat_lines, chats.c.heard_at)
        .outerjoin(chats, chats.c.chat_id == chat_lines.c.chat_id)
        .where(chat_lines.c.line_no.in_(numbers))
        .order_by(chat_lines.c.line_no)
    ).all()
    until = now + timedelta(seconds=lease_seconds)
    claimed = []
    for row in rows:
        within = reply_within.get(row.channel)
        fresh = within is not None and row.reply_token is not None and row.token_at + within > now
        claimed.append(
            ClaimedLine(
                line_no=row.line_no,
                line_id=row.line_id,
                chat_id=row.chat_id,
                customer_id=row.customer_id,
                channel=row.channel,
                content_kind=ContentKind(row.content_kind),
                content=Content(**row.content),
                choices=tuple(row.choices),
                said_at=row.said_at,
                expires_at=row.expires_at,
                heard_at=row.heard_at,
                token=row.reply_token if fresh else None,
                in_doubt=row.in_doubt,
                attempts=row.attempts + 1,
                fencing_token=row.fencing_token + 1,
                lease_until=until,
            )
        )
        conn.execute(
            update(chat_lines)
            .where(chat_lines.c.line_no == row.line_no)
            .values(
                status=OutboxStatus.CLAIMED,
                lease_until=until,
                attempts=row.attempts + 1,
                fencing_token=row.fencing_token + 1,
                # Until it is settled: whoever dies in between leaves it so.
                in_doubt=row.in_doubt or fresh or row.channel not in keyed,
            )
        )
    return claimed


def settle(conn: Connection, line: ClaimedLine, ending: LineEnding, now: datetime) -> bool:
    """Write how a claim ended; False where somebody else has claimed the line since."""
    held = and_(
        chat_lines.c.line_no == line.line_no,
        chat_lines.c.fencing_token == line.fencing_token,
        chat_lines.c.status == OutboxStatus.CLAIMED,
    )
    again = ending.status is OutboxStatus.PENDING
    if line.chat_id is None and not again:
        return conn.execute(delete(chat_lines).where(held)).rowcount == 1
    changes: dict[str, object] = {
        "status": ending.status,
        "detail": storable(ending.detail),
        "lease_until": None,
        "in_doubt": ending.in_doubt,
        "attempts": line.attempts if ending.attempted else line.attempts - 1,
    }
    changes |= {"due_at": ending.due_at} if again else {"settled_at": now}
    if ending.drops_token or not again:
        changes |= {"reply_token": None}
    return conn.execute(update(chat_lines).where(held).values(**changes)).rowcount == 1


def _due(now: datetime, channels: Collection[str], limit: int) -> Select[tuple[int]]:
    return (
        select(chat_lines.c.line_no)
        .where(*_is_due(now, channels))
        .order_by(chat_lines.c.line_no)
        .limit(limit)
    )


def _is_due(now: datetime, channels: Collection[str]) -> tuple[ColumnElement[bool], ...]:
    return chat_lines.c.channel.in_(sorted(channels)), _claimable(now), ~_behind_another()


def _claimable(now: datetime) -> ColumnElement[bool]:
    due = and_(chat_lines.c.status == OutboxStatus.PENDING, chat_lines.c.due_at <= now)
    return or_(due, and_(chat_lines.c.status == OutboxStatus.CLAIMED, chat_lines.c.lease_until <= now))


def _behind_another() -> ColumnElement[bool]:
    earlier = chat_lines.alias("earlier")
    return exists().where(
        earlier.c.chat_id == chat_lines.c.chat_id,
        earlier.c.line_no < chat_lines.c.line_no,
        earlier.c.status.in_(_OPEN),
    )

"""What a person did, what was decided for them and what was answered to them, page by page, the latest first."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import Connection, and_, or_, select

from features.history.members import person_of
from features.history.tables import chat_lines, decisions, interactions, occurrences
from models.domain.errors import InvalidInputError

_MADE = select(decisions, occurrences.c.name.label("occasion")).outerjoin_from(
    decisions, occurrences, occurrences.c.decision_id == decisions.c.decision_id
)


class EntryType(StrEnum):
    """What an entry of the history is."""

    INTERACTION = "interaction"
    DECISION = "decision"
    CHAT = "chat"


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One line of a person's history.

    Attributes:
        kind: Of an interaction; `contact` or `no_contact` of a decision; `answered` of what was said in a chat.
    """

    type: EntryType
    entry_id: str
    at: datetime
    kind: str
    channel: str | None
    campaign_id: str | None
    offer: str | None
    decision_id: str | None
    value_minor: float | None
    source: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """Entries, the latest first, and where the next page begins; None at the end."""

    entries: tuple[HistoryEntry, ...]
    next_cursor: str | None


def load_history(conn: Connection, customer_id: str, limit: int, cursor: str | None = None) -> HistoryPage:
    """Interactions, decisions and answers in chats of a person, the latest first.

    A cursor names the last entry that was seen, not a position: whatever arrives between two pages, no entry
    comes twice and none that was there is left out.

    Args:
        conn: Only read.
        customer_id: Any of the person's ids.
        limit: Entries on a page, >= 1.
        cursor: Of the page before; None for the first page.

    Raises:
        NotFoundError: there is no such customer.
        InvalidInputError: the cursor is none of ours.
    """
    person = person_of(conn, customer_id)
    facts = select(interactions).where(interactions.c.customer_id == person)
    made = _MADE.where(decisions.c.customer_id == person)
    # What the person said in a chat is an interaction already.
    said = select(chat_lines).where(chat_lines.c.customer_id == person, chat_lines.c.speaker != "customer")
    if cursor is not None:
        at, kind, last = _read_cursor(cursor)
        if kind is EntryType.INTERACTION:
            facts = facts.where(
                _before(interactions.c.occurred_at, at, interactions.c.interaction_id, int(last))
            )
            made = made.where(decisions.c.decided_at <= at)
            said = said.where(chat_lines.c.said_at <= at)
        elif kind is EntryType.DECISION:
            facts = facts.where(interactions.c.occurred_at < at)
            made = made.where(_before(decisions.c.decided_at, at, decisions.c.decision_id, last))
            said = said.where(chat_lines.c.said_at <= at)
        else:
            facts = facts.where(interactions.c.occurred_at < at)
            made = made.where(decisions.c.decided_at < at)
            said = said.where(_before(chat_lines.c.said_at, at, chat_lines.c.line_no, int(last)))
    found = [
        HistoryEntry(
            type=EntryType.INTERACTION,
            entry_id=str(row.interaction_id),
            at=row.occurred_at,
            kind=row.kind,
            channel=row.channel,
            campaign_id=row.campaign_id,
            offer=row.offer_id,
            decision_id=row.decision_id,
            value_minor=row.value_minor,
            source=row.source,
            attributes=row.attributes,
        )
        for row in conn.execute(
            facts.order_by(interactions.c.occurred_at.desc(), interactions.c.interaction_id.desc()).limit(
                limit + 1
            )
        )
    ]
    found += [
        HistoryEntry(
            type=EntryType.DECISION,
            entry_id=row.decision_id,
            at=row.decided_at,
            kind="no_contact" if row.channel is None else "contact",
            channel=row.channel,
            campaign_id=row.campaign_id,
            offer=row.offer_id,
            decision_id=row.decision_id,
            value_minor=None,
            source="nextchannel",
            attributes={"arm": row.arm, "policy": row.policy}
            | ({} if row.occasion is None else {"occasion": row.occasion}),
        )
        for row in conn.execute(
            made.order_by(decisions.c.decided_at.desc(), decisions.c.decision_id.desc()).limit(limit + 1)
        )
    ]
    found += [
        HistoryEntry(
            type=EntryType.CHAT,
            entry_id=str(row.line_no),
            at=row.said_at,
            kind="answered",
            channel=row.channel,
            campaign_id=None,
            offer=None,
            decision_id=None,
            value_minor=None,
            source=row.agent or row.speaker,
            attributes={"text": row.text, "status": row.status}
            | ({} if row.version is None else {"version": str(row.version)}),
        )
        for row in conn.execute(
            said.order_by(chat_lines.c.said_at.desc(), chat_lines.c.line_no.desc()).limit(limit + 1)
        )
    ]
    # Python's sort is stable: within a moment interactions come before decisions and those before chats, each in its
    # own order.
    found.sort(key=lambda entry: entry.at, reverse=True)
    page = tuple(found[:limit])
    return HistoryPage(entries=page, next_cursor=_cursor(page[-1]) if len(found) > limit else None)


def _before(moment: Any, at: datetime, key: Any, last: int | str) -> Any:
    return or_(moment < at, and_(moment == at, key < last))


def _cursor(entry: HistoryEntry) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([entry.at.isoformat(), entry.type, entry.entry_id])).decode()


def _read_cursor(cursor: str) -> tuple[datetime, EntryType, str]:
    try:
        at, kind, last = orjson.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
        read = datetime.fromisoformat(at), EntryType(kind), str(last)
        if read[0].tzinfo is None or (read[1] is not EntryType.DECISION and not 0 < int(last) < 2**63):
            raise ValueError(cursor)
    except (ValueError, TypeError, binascii.Error) as exc:
        raise InvalidInputError("cursor", cursor, "must be the `next_cursor` of an earlier page") from exc
    return read

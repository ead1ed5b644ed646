"""Answers of channels in their versions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from features.history.channels import load_channels, lock_channel
from features.history.tables import answers as table
from models.domain.errors import NotFoundError
from serving.chat.check import check_answers
from serving.chat.document import Answers, from_document, to_document


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswers:
    """Answers as they are stored; a version is never changed, nor its number used again."""

    channel: str
    version: int
    created_at: datetime
    answers: Answers


def find_answers(conn: Connection, channel: str) -> StoredAnswers | None:
    """The present answers of a channel; None where it has none, or none any more."""
    row = conn.execute(
        select(table).where(table.c.channel == channel).order_by(table.c.version.desc()).limit(1)
    ).one_or_none()
    if row is None or row.document is None:
        return None
    return StoredAnswers(
        channel=channel,
        version=row.version,
        created_at=row.created_at,
        answers=from_document(row.document),
    )


def load_answers(conn: Connection, channel: str) -> StoredAnswers:
    """The present answers of a channel.

    Raises:
        NotFoundError: it has none.
    """
    found = find_answers(conn, channel)
    if found is None:
        raise NotFoundError("channel", channel)
    return found


def save_answers(conn: Connection, channel: str, answers: Answers, now: datetime) -> StoredAnswers:
    """Store answers as a new version, unless they say what the present ones say.

    Raises:
        NotFoundError: there is no such channel.
        InvalidInputsError: the channel cannot give them.
    """
    lock_channel(conn, channel)
    channels = load_channels(conn)
    if channel not in channels:
        raise NotFoundError("channel", channel)
    check_answers(answers, channels[channel])
    before = find_answers(conn, channel)
    if before is not None and before.answers == answers:
        return before
    version = _add_version(conn, channel, answers, now)
    return StoredAnswers(channel=channel, version=version, created_at=now, answers=answers)


def remove_answers(conn: Connection, channel: str, now: datetime) -> None:
    """From now on the channel answers nothing by itself.

    Raises:
        NotFoundError: it has no answers.
    """
    lock_channel(conn, channel)
    load_answers(conn, channel)
    _add_version(conn, channel, None, now)


def _add_version(conn: Connection, channel: str, answers: Answers | None, now: datetime) -> int:
    latest = conn.scalar(
        select(table.c.version).where(table.c.channel == channel).order_by(table.c.version.desc()).limit(1)
    )
    version: int = (latest or 0) + 1
    document = None if answers is None else to_document(answers)
    conn.execute(insert(table).values(channel=channel, version=version, document=document, created_at=now))
    return version

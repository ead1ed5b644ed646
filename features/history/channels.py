"""Channels as they are configured."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, select, update

from features.history.documents import from_document, to_document
from features.history.tables import channels
from models.domain.channel import DEFAULT_CHANNELS, Channel


def load_channels(conn: Connection) -> dict[str, Channel]:
    """Every configured channel by name, in order of name."""
    rows = conn.execute(select(channels.c.document).order_by(channels.c.name))
    found = [from_document(Channel, document) for (document,) in rows]
    return {channel.name: channel for channel in found}


def save_channel(conn: Connection, channel: Channel, now: datetime) -> None:
    """Add the channel, or replace the one of its name; `updated_at` grows, whatever the clock says."""
    before: datetime | None = conn.scalar(
        select(channels.c.updated_at).where(channels.c.name == channel.name).with_for_update()
    )
    if before is None:
        conn.execute(
            insert(channels).values(name=channel.name, document=to_document(channel), updated_at=now)
        )
        return
    conn.execute(
        update(channels)
        .where(channels.c.name == channel.name)
        .values(document=to_document(channel), updated_at=max(now, before + timedelta(microseconds=1)))
    )


def lock_channel(conn: Connection, name: str) -> None:
    """Keep others from changing the channel until the transaction ends; SQLite has one writer anyway."""
    conn.execute(select(channels.c.name).where(channels.c.name == name).with_for_update())


def seed_channels(conn: Connection, now: datetime) -> None:
    """Add those of `DEFAULT_CHANNELS` that are absent."""
    present = set(conn.scalars(select(channels.c.name)))
    for channel in DEFAULT_CHANNELS:
        if channel.name not in present:
            save_channel(conn, channel, now)

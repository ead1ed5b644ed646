"""Campaigns in their versions: stored, looked up and listed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, tuple_

from features.history.documents import from_document, to_document
from features.history.tables import campaigns
from features.history.unsettled import note_campaign
from models.domain.campaign import Campaign
from models.domain.errors import NotFoundError


def load_campaign(conn: Connection, campaign_id: str, version: int | None = None) -> Campaign:
    """A campaign in one version, by default the latest.

    Raises:
        NotFoundError: there is no such campaign, or no such version of it.
    """
    query = select(campaigns.c.document).where(campaigns.c.campaign_id == campaign_id)
    if version is not None:
        query = query.where(campaigns.c.version == version)
    document = conn.scalar(query.order_by(campaigns.c.version.desc()).limit(1))
    if document is None:
        raise NotFoundError(
            "campaign_id", campaign_id if version is None else f"{campaign_id} (version {version})"
        )
    return from_document(Campaign, document)


def save_campaign(conn: Connection, campaign: Campaign, now: datetime) -> Campaign:
    """Store the campaign as a new version, unless it says what the latest version says.

    Returns:
        The campaign as it is stored; its version is the history's, not the caller's.
    """
    latest = latest_campaigns(conn, [campaign.campaign_id])
    version = latest[0].version if latest else 0
    if latest and replace(campaign, version=version) == latest[0]:
        return latest[0]
    stored = replace(campaign, version=version + 1)
    conn.execute(
        insert(campaigns).values(
            campaign_id=stored.campaign_id,
            version=stored.version,
            document=to_document(stored),
            created_at=now,
        )
    )
    # Its end, its conversions and their worth may be others now.
    note_campaign(conn, stored.campaign_id)
    return stored


def list_campaigns(conn: Connection) -> list[Campaign]:
    """The latest version of every campaign, in order of id."""
    return latest_campaigns(conn, None)


def latest_campaigns(conn: Connection, campaign_ids: Sequence[str] | None) -> list[Campaign]:
    """The latest versions of those campaigns that exist (None: of all), in order of id."""
    newest = select(campaigns.c.campaign_id, func.max(campaigns.c.version)).group_by(campaigns.c.campaign_id)
    if campaign_ids is not None:
        newest = newest.where(campaigns.c.campaign_id.in_(campaign_ids))
    return _in_versions(conn, newest)


def page_of_campaigns(conn: Connection, after: str | None, limit: int) -> list[Campaign]:
    """The latest version of campaigns, in order of id.

    Args:
        conn: Only read.
        after: Only ids behind this one; None from the first.
        limit: At most this many.
    """
    newest = (
        select(campaigns.c.campaign_id, func.max(campaigns.c.version))
        .group_by(campaigns.c.campaign_id)
        .order_by(campaigns.c.campaign_id)
        .limit(limit)
    )
    if after is not None:
        newest = newest.where(campaigns.c.campaign_id > after)
    return _in_versions(conn, [tuple(row) for row in conn.execute(newest)])


def campaign_versions(
    conn: Connection, campaign_id: str, before: int | None, limit: int
) -> list[tuple[Campaign, datetime]]:
    """Versions of a campaign with the moment at which each was stored, the newest first.

    Args:
        conn: Only read.
        campaign_id: Which campaign.
        before: Only versions below this one; None from the newest.
        limit: At most this many.

    Raises:
        NotFoundError: there is no such campaign.
    """
    query = select(campaigns.c.document, campaigns.c.created_at).where(campaigns.c.campaign_id == campaign_id)
    if before is not None:
        query = query.where(campaigns.c.version < before)
    rows = conn.execute(query.order_by(campaigns.c.version.desc()).limit(limit)).all()
    if not rows and before is None:
        raise NotFoundError("campaign_id", campaign_id)
    return [(from_document(Campaign, document), created_at) for document, created_at in rows]


def _in_versions(conn: Connection, which: Select[Any] | Sequence[tuple[Any, ...]]) -> list[Campaign]:
    """Campaigns by id and version, in order of id."""
    rows = conn.execute(
        select(campaigns.c.document)
        .where(tuple_(campaigns.c.campaign_id, campaigns.c.version).in_(which))
        .order_by(campaigns.c.campaign_id)
    )
    return [from_document(Campaign, document) for (document,) in rows]

"""Campaigns as they are listed: in order of id, and one through its versions."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select, tuple_

from features.history.documents import from_document
from features.history.tables import campaigns
from models.domain.campaign import Campaign
from models.domain.errors import NotFoundError


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
    keys = [tuple(row) for row in conn.execute(newest)]
    rows = conn.execute(
        select(campaigns.c.document)
        .where(tuple_(campaigns.c.campaign_id, campaigns.c.version).in_(keys))
        .order_by(campaigns.c.campaign_id)
    )
    return [from_document(Campaign, document) for (document,) in rows]


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

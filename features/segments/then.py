"""Who belonged to a segment before a campaign could change it, and whether that can be told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from features.feature_list import FeatureList
from features.history.tables import decisions
from features.segments.language import OfAttribute, OfFeature, Segment, parts

_JUST_BEFORE = timedelta(microseconds=1)


def before_campaign(conn: Connection, campaign_id: str) -> datetime | None:
    """The moment just before the campaign's first decision; None where it has none."""
    first: datetime | None = conn.scalar(
        select(func.min(decisions.c.decided_at)).where(decisions.c.campaign_id == campaign_id)
    )
    return None if first is None else first - _JUST_BEFORE


def known_now_only(segment: Segment, features: FeatureList | None) -> list[str]:
    """The parts of the condition that cannot be told as of a past moment, in words, each once, in order.

    Facts, tags, permissions and accounts carry the moment since which they hold, and features are worked out anew from
    them. The customer register does not: attributes are as they are now, and one that was learned first during a campaign
    counts as having been so always.
    """
    return sorted(set(_known_now_only(segment, features)))


def _known_now_only(segment: Segment, features: FeatureList | None) -> Iterator[str]:
    of_register = () if features is None else features.columns
    for part in parts(segment.condition):
        if isinstance(part, OfAttribute):
            yield f"attribute {part.attribute}"
        elif isinstance(part, OfFeature) and part.feature in of_register:
            yield f"feature {part.feature}"

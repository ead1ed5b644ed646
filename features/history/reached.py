"""Whether a decision's message reached, or may still reach, its customer."""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists

from features.history.tables import decisions, interactions, reservations
from models.domain.interaction import NOT_REACHED


def released() -> ColumnElement[bool]:
    """SQL condition on a row of `decisions`: it was cancelled, and its reservation released."""
    return exists().where(
        reservations.c.decision_id == decisions.c.decision_id, reservations.c.released_at.is_not(None)
    )


def reached() -> ColumnElement[bool]:
    """SQL condition on a row of `decisions`.

    False once the decision was cancelled (its reservation released), or its message was suppressed, failed
    for good or bounced. Such a decision counts against no cap, costs nothing and earns no reward.
    """
    refused = exists().where(
        interactions.c.decision_id == decisions.c.decision_id,
        interactions.c.kind.in_(sorted(NOT_REACHED)),
    )
    return ~(released() | refused)

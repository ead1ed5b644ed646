"""Whether the service lives, whether it can decide, and what it lacks."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from features.history.engine import read_only
from features.history.tables import decisions
from serving.service import Service

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What keeps the service from deciding, and what makes its decisions simpler.

    Attributes:
        reasons: Why it cannot decide; empty when it can.
        degraded: What is missing although it can.
        keys_required: Whether callers need a key; if not, only this machine is answered.
    """

    reasons: tuple[str, ...]
    degraded: tuple[str, ...]
    keys_required: bool


def readiness(service: Service) -> Readiness:
    """Look at every part that a decision needs."""
    reasons, degraded = [], []
    try:
        with read_only(service.engine).connect() as conn:
            conn.execute(select(decisions.c.decision_id).limit(1)).all()
    except SQLAlchemyError:  # unreachable, or without its tables: the reason says so, the log says why
        logger.exception("the database does not answer")
        reasons.append("the database does not answer or has no tables")
    if not service.writer.running:
        reasons.append("decisions cannot be recorded: the writer is not running")
    if not service.snapshots.loaded:
        reasons.append("campaigns and channels are not loaded yet")
    else:
        snapshot = service.snapshots.current
        if not snapshot.campaigns:
            degraded.append("there is no campaign yet")
        if snapshot.model is None:
            degraded.append("there is no champion model: rules decide")
    if service.snapshots.model_error is not None:
        degraded.append("the champion model cannot be loaded; the log says why")
    if service.rehearsal is not None:
        degraded.append(f"this is a rehearsal: its clock stands at {service.clock().isoformat()}")
    return Readiness(
        reasons=tuple(reasons),
        degraded=tuple(degraded),
        keys_required=service.protection.keys_required(service.key_ring.empty),
    )

"""What is read at a scrape: outbox, budgets, queues, ages."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from features.history.engine import read_only
from features.history.tables import outbox, resource_usage
from serving.observability.metrics import MOST_NAMES
from serving.service import Service
from serving.snapshot import Snapshot
from serving.store.endings import OutboxStatus
from serving.store.resources import Resource

logger = logging.getLogger(__name__)

# Settled messages only grow in number; the funnel counts them.
_WAITING = (OutboxStatus.PENDING, OutboxStatus.CLAIMED, OutboxStatus.UNKNOWN)


def read_gauges(service: Service) -> Sequence[GaugeMetricFamily]:
    """Every gauge as of now; those of the database are left out while it does not answer."""
    now = service.clock()
    found = [
        _gauge("writer_queue", "Recordings that wait for the writer.", service.writer.n_waiting),
        _gauge("features_due", "Customers whose features wait to be refreshed.", service.refresher.n_due),
        _gauge("model_loaded", "1 where a champion model is loaded.", _has_model(service)),
    ]
    found += _prices(service)
    age = service.snapshots.age_seconds
    if age is not None:
        found.append(_gauge("snapshot_age_seconds", "Since campaigns and model were last looked at.", age))
    up = 1.0
    try:
        found += _of_database(service, now)
    except SQLAlchemyError:
        logger.exception("the figures of the database cannot be read")
        up = 0.0
    found.append(_gauge("database_up", "1 where the database answers.", up))
    return found


def _prices(service: Service) -> list[GaugeMetricFamily]:
    """What one message takes of what is scarce; nothing before it was worked out."""
    pace = None if service.pacing is None else service.pacing.current
    if pace is None:
        return []
    price = GaugeMetricFamily(
        "nextchannel_shadow_price_minor",
        f"What one message takes of budgets and capacities, minor units; of the {MOST_NAMES} dearest.",
        labels=("campaign", "channel"),
    )
    each = [(one, campaign, name) for campaign, prices in pace.prices.items() for name, one in prices.items()]
    for one, campaign, name in sorted(each, key=lambda row: (-row[0], row[1:]))[:MOST_NAMES]:
        price.add_metric((campaign, name), one)
    return [price]


def _has_model(service: Service) -> float:
    return float(service.snapshots.loaded and service.snapshots.current.model is not None)


def _of_database(service: Service, now: datetime) -> list[GaugeMetricFamily]:
    depth = GaugeMetricFamily("nextchannel_outbox_messages", "Messages not yet settled.", labels=("status",))
    left = GaugeMetricFamily(
        "nextchannel_budget_left_minor",
        f"Budget not yet reserved, minor units; of the {MOST_NAMES} scarcest.",
        labels=("campaign",),
    )
    with read_only(service.engine).connect() as conn:
        for status in _WAITING:
            count = select(func.count()).select_from(outbox).where(outbox.c.status == status)
            depth.add_metric((status.value,), conn.execute(count).scalar_one())
        oldest = conn.execute(
            select(func.min(outbox.c.due_at)).where(outbox.c.status == OutboxStatus.PENDING)
        ).scalar_one()
        budgets = _budgets(service.snapshots.current) if service.snapshots.loaded else {}
        names = {Resource(campaign_id).name: campaign_id for campaign_id in budgets}
        used = {
            names[row.resource]: row.used
            for row in conn.execute(
                select(resource_usage.c.resource, resource_usage.c.used).where(
                    resource_usage.c.resource.in_(list(names))
                )
            )
        }
    rests = {campaign_id: budget - used.get(campaign_id, 0.0) for campaign_id, budget in budgets.items()}
    for campaign_id in sorted(rests, key=lambda one: rests[one])[:MOST_NAMES]:
        left.add_metric((campaign_id,), rests[campaign_id])
    age = 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())
    return [
        depth,
        left,
        _gauge("outbox_oldest_due_seconds", "By how much the oldest message that is due is late.", age),
    ]


def _budgets(snapshot: Snapshot) -> dict[str, float]:
    return {
        campaign_id: campaign.budget_minor
        for campaign_id, campaign in snapshot.campaigns.items()
        if campaign.budget_minor is not None
    }


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"nextchannel_{name}", words, value=value)

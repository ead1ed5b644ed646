"""From drawn outcomes to facts: only what the channel can report reaches the history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from models.domain.channel import Channel
from models.domain.interaction import DISCOUNTED, FULL_PRICE, PRICE, Interaction
from models.domain.interaction import InteractionKind as Kind
from training.simulator.outcomes import Outcomes, Reading
from training.simulator.people import SOURCE, customer_id
from training.simulator.presets import Preset

# Margin over price: what a purchase amounts to, from its margin.
AMOUNT_OVER_MARGIN = 2.5
_DELIVERY_SECONDS = 5.0
_MACHINE_OPENED = "machine_opened"


def moment(seconds: float) -> datetime:
    """Aware UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def interactions(
    preset: Preset,
    channels: Sequence[Channel],
    outcomes: Outcomes,
    decision_ids: Sequence[str],
    campaign_id: str,
) -> list[Interaction]:
    """Facts of some outcomes.

    A message gives `sent`, and what its channel reports of `delivered`, `failed` or `bounced`, `opened`
    (flagged where a machine made it) and `clicked`. Leaving is always a fact. A purchase gives `converted`
    with its margin and `purchased` with its amount; it names the decision only where a click led to it.

    Args:
        preset: The market.
        channels: Of the preset, in its order.
        outcomes: Of n decisions.
        decision_ids: Theirs, shape (n,).
        campaign_id: Theirs.
    """
    offers = [offer.offer_id for offer in preset.offers]
    found: list[Interaction] = []
    for c, channel in enumerate(channels):
        at = np.flatnonzero(outcomes.channel == c)
        found += messages(
            channel,
            row=outcomes.row[at],
            start_at=outcomes.start_at[at],
            reading=Reading(
                failed=outcomes.failed[at],
                opened_at=outcomes.opened_at[at],
                machine_opened_at=outcomes.machine_opened_at[at],
                clicked_at=outcomes.clicked_at[at],
            ),
            event_ids=[decision_ids[i] for i in at.tolist()],
            decision_ids=[decision_ids[i] for i in at.tolist()],
            campaign_id=campaign_id,
            offer_ids=[offers[offer] for offer in outcomes.offer[at].tolist()],
        )
    found += _leavings(channels, outcomes, decision_ids, campaign_id)
    found += _purchases(preset, outcomes, decision_ids, campaign_id)
    return found


def messages(
    channel: Channel,
    *,
    row: NDArray[np.int64],
    start_at: NDArray[np.float64],
    reading: Reading,
    event_ids: Sequence[str],
    decision_ids: Sequence[str | None],
    campaign_id: str,
    offer_ids: Sequence[str | None],
) -> Iterator[Interaction]:
    """`sent`, and what the channel reports of arrival, opens and clicks, for messages on one channel."""
    arrived_at = np.where(reading.failed, np.nan, start_at + _DELIVERY_SECONDS)
    failed_at = np.where(reading.failed, start_at + _DELIVERY_SECONDS, np.nan)
    failure = Kind.BOUNCED if channel.reports(Kind.BOUNCED) else Kind.FAILED
    happened: list[tuple[Kind, str, NDArray[np.float64]]] = [
        (Kind.SENT, "sent", start_at),
        (Kind.DELIVERED, "delivered", arrived_at),
        (failure, "failed", failed_at),
        (Kind.OPENED, _MACHINE_OPENED, reading.machine_opened_at),
        (Kind.OPENED, "opened", reading.opened_at),
        (Kind.CLICKED, "clicked", reading.clicked_at),
    ]
    for kind, word, at in happened:
        if kind is not Kind.SENT and not channel.reports(kind):
            continue
        for i in np.flatnonzero(~np.isnan(at)).tolist():
            yield Interaction(
                source=SOURCE,
                event_id=f"{event_ids[i]}:{word}",
                customer_id=customer_id(int(row[i])),
                kind=kind,
                occurred_at=moment(at[i]),
                channel=channel.name,
                campaign_id=campaign_id,
                offer_id=offer_ids[i],
                decision_id=decision_ids[i],
                machine_made=word == _MACHINE_OPENED,
            )


def _leavings(
    channels: Sequence[Channel], outcomes: Outcomes, decision_ids: Sequence[str], campaign_id: str
) -> Iterator[Interaction]:
    for i in np.flatnonzero(~np.isnan(outcomes.unsubscribed_at)).tolist():
        kind = Kind.COMPLAINED if outcomes.complained[i] else Kind.UNSUBSCRIBED
        yield Interaction(
            source=SOURCE,
            event_id=f"{decision_ids[i]}:{kind}",
            customer_id=customer_id(int(outcomes.row[i])),
            kind=kind,
            occurred_at=moment(outcomes.unsubscribed_at[i]),
            channel=channels[outcomes.channel[i]].name,
            campaign_id=campaign_id,
            decision_id=decision_ids[i],
        )


def _purchases(
    preset: Preset, outcomes: Outcomes, decision_ids: Sequence[str], campaign_id: str
) -> Iterator[Interaction]:
    for i in np.flatnonzero(~np.isnan(outcomes.converted_at)).tolist():
        at = outcomes.converted_at[i]
        clicked = outcomes.clicked_at[i] <= at
        yield from purchase(
            event_id=decision_ids[i],
            row=int(outcomes.row[i]),
            at=at,
            margin_minor=float(outcomes.value_minor[i]),
            in_shop=bool(outcomes.in_shop[i]),
            discounted=bool(outcomes.discounted[i]),
            decision_id=decision_ids[i] if clicked else None,
            campaign_id=campaign_id if clicked else None,
            offer_id=preset.offers[outcomes.offer[i]].offer_id if clicked else None,
        )


def purchase(
    *,
    event_id: str,
    row: int,
    at: float,
    margin_minor: float,
    in_shop: bool,
    discounted: bool = False,
    decision_id: str | None = None,
    campaign_id: str | None = None,
    offer_id: str | None = None,
) -> Iterator[Interaction]:
    """A purchase as two facts: `converted` with its margin, `purchased` with its amount."""
    attributes = {"place": "shop" if in_shop else "web", PRICE: DISCOUNTED if discounted else FULL_PRICE}
    values = {Kind.CONVERTED: margin_minor, Kind.PURCHASED: AMOUNT_OVER_MARGIN * margin_minor}
    for kind, value in values.items():
        yield Interaction(
            source=SOURCE,
            event_id=f"{event_id}:{kind}",
            customer_id=customer_id(row),
            kind=kind,
            occurred_at=moment(at),
            campaign_id=campaign_id,
            offer_id=offer_id,
            decision_id=decision_id,
            value_minor=round(value, 2),
            attributes=attributes,
        )

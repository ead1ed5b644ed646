"""What customers do when nobody decides anything: visits, carts, purchases, newsletters of old.

This is all that a learner can see of the latent traits before the first decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from models.domain.channel import Channel
from models.domain.customer import zone
from models.domain.interaction import Interaction
from models.domain.interaction import InteractionKind as Kind
from models.domain.slots import next_send_times
from training.simulator.facts import messages, moment, purchase
from training.simulator.outcomes import COVERED_DAYS, draw_reading
from training.simulator.people import SOURCE, customer_id
from training.simulator.population import Population
from training.simulator.presets import SLOTS, Preset
from training.simulator.response import Response
from training.simulator.state import DAY, GRANTED, State

# Visits a day of the average customer, and what raises them: (youth, digital, affluence, loyalty).
_VISITS_A_DAY = 0.06
_VISIT_TRAITS = np.array([0.1, 0.5, 0.0, 0.3], dtype=np.float32)
_VISITS_BY_LIFECYCLE = np.array([1.3, 1.3, 0.7, 0.3])
_P_CART = 0.25
# A third of the visits falls anywhere in the day, the rest around the best hour.
_RANDOM_HOURS = 1 / 3
_VISIT_HOUR_SD = 2.5
# Newsletters went out on these channels in turn, at the two hours that people who write them like.
_NEWSLETTER_CHANNELS = ("email", "push", "line")
_NEWSLETTER_SLOTS = (1, 4)


def everyday(
    preset: Preset,
    population: Population,
    response: Response,
    state: State,
    start: datetime,
    days: int,
    rng: np.random.Generator,
) -> list[Interaction]:
    """Visits, carts and purchases from `start` on for some days.

    Purchases within the time that decisions have covered were drawn with them and are not repeated.
    """
    n = len(population)
    lifecycle = state.lifecycle
    origin = start.timestamp()
    rate = _VISITS_A_DAY * np.exp(population.traits @ _VISIT_TRAITS) * _VISITS_BY_LIFECYCLE[lifecycle]
    visitor = np.repeat(np.arange(n), rng.poisson(rate * days))
    visit_at = _within_days(preset, population, response, visitor, start, days, rng)
    carted = rng.random(len(visitor)) < _P_CART

    p_base = response.p_base(np.arange(n), lifecycle)
    buyer = np.repeat(np.arange(n), rng.poisson(p_base / COVERED_DAYS * days))
    bought_at = origin + rng.random(len(buyer)) * days * DAY
    own = bought_at >= state.covered_until[buyer]
    buyer, bought_at = buyer[own], bought_at[own]
    margin = preset.margin_minor * population.spend[buyer] * np.exp(rng.normal(-0.08, 0.4, len(buyer)))
    in_shop = rng.random(len(buyer)) < population.shop_share[buyer]

    day = f"{SOURCE}-{start:%Y%m%dT%H%M%S}"
    found = [
        Interaction(
            source=SOURCE,
            event_id=f"{day}-{i}:visited",
            customer_id=customer_id(row),
            kind=Kind.VISITED,
            occurred_at=moment(at),
        )
        for i, (row, at) in enumerate(zip(visitor.tolist(), visit_at.tolist(), strict=True))
    ]
    found += [
        Interaction(
            source=SOURCE,
            event_id=f"{day}-{i}:carted",
            customer_id=customer_id(int(visitor[i])),
            kind=Kind.CARTED,
            occurred_at=moment(visit_at[i] + 240),
        )
        for i in np.flatnonzero(carted).tolist()
    ]
    for i, row in enumerate(buyer.tolist()):
        found += purchase(
            event_id=f"{day}-{i}",
            row=row,
            at=float(bought_at[i]),
            margin_minor=float(margin[i]),
            in_shop=bool(in_shop[i]),
        )
    return found


def _within_days(
    preset: Preset,
    population: Population,
    response: Response,
    rows: NDArray[np.int64],
    start: datetime,
    days: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Moments within the days, around each customer's best hour in local time, seconds since 1970."""
    best = population.best_hour[rows] + response.truth.hours_shift
    hour = np.where(
        rng.random(len(rows)) < _RANDOM_HOURS,
        rng.uniform(7, 24, len(rows)),
        rng.normal(best, _VISIT_HOUR_SD),
    )
    # Local midnight of the first day by zone; a change of the clocks within the days is neglected here.
    offset = np.array([_utc_offset(name, start) for name in preset.time_zones])
    local = (hour % 24) * 3600 - offset[population.zone[rows]]
    of_day = (local - start.timestamp()) % DAY
    day = rng.integers(0, days, len(rows))
    return np.asarray(start.timestamp() + day * DAY + of_day)


def _utc_offset(name: str, at: datetime) -> float:
    offset = at.astimezone(zone(name)).utcoffset()
    assert offset is not None
    return offset / timedelta(seconds=1)


def newsletter(
    preset: Preset,
    population: Population,
    response: Response,
    state: State,
    channels: Sequence[Channel],
    start: datetime,
    week: int,
    rng: np.random.Generator,
) -> list[Interaction]:
    """One newsletter, sent to all who agreed, and what its channel reports; it sells nothing.

    Args:
        preset: The market.
        population: The people.
        response: The truth about them.
        state: Not changed.
        channels: Of the preset, in its order.
        start: Sent within the day that follows.
        week: Number of the newsletter: channels take turns, and so do the two hours.
        rng: Source of chance.
    """
    name = _NEWSLETTER_CHANNELS[week % len(_NEWSLETTER_CHANNELS)]
    slot = _NEWSLETTER_SLOTS[week % len(_NEWSLETTER_SLOTS)]
    column = list(preset.channels).index(name)
    rows = np.flatnonzero(state.consent[:, column] == GRANTED)
    send_at = np.array([next_send_times((SLOTS[slot],), z, start)[0].timestamp() for z in preset.time_zones])
    start_at = send_at[population.zone[rows]]
    reading = draw_reading(
        preset,
        population,
        response,
        rows,
        state.lifecycle[rows],
        state.pressure_of(rows, start_at),
        np.full(len(rows), column),
        np.full(len(rows), slot),
        start_at,
        rng,
    )
    campaign_id = f"newsletter_{start:%Y%m%d}"
    return list(
        messages(
            channels[column],
            row=rows,
            start_at=start_at,
            reading=reading,
            event_ids=[f"{campaign_id}-{customer_id(row)}" for row in rows.tolist()],
            decision_ids=[None] * len(rows),
            campaign_id=campaign_id,
            offer_ids=[None] * len(rows),
        )
    )

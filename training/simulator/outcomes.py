"""What came of a batch of decisions, drawn from the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.simulator.population import ACTIVE, Population
from training.simulator.presets import Preset
from training.simulator.response import COMPLAINT_SHARE, Response
from training.simulator.state import COMPLAINED, DAY, UNSUBSCRIBED, State

Bools = NDArray[np.bool_]
Seconds = NDArray[np.float64]
Rows = NDArray[np.int64]

# Purchases without contact are drawn for this long after a decision: the usual attribution window.
COVERED_DAYS = 7.0
# Spread of the logarithm of one basket around the customer's mean.
_BASKET_SD = 0.4
# A proxy opens what it receives within minutes.
_MACHINE_DELAY = 300.0
_CLICK_DELAY = 120.0
_LEAVING_DELAY = 6 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """What followed n decisions; moments are seconds since 1970, NaN where nothing happened.

    `opened_at`, `clicked_at` and `converted_at` are what people did, whether or not the channel can
    report it; `Market.interactions` gives only what it can.

    Attributes:
        row: Customer, shape (n,).
        offer: Index into the preset's offers, -1 for no contact, shape (n,).
        channel: Index into the preset's channels, -1 for no contact, shape (n,).
        start_at: Send time, or time of decision for no contact.
        failed: Whether the message reached nobody.
        opened_at: First human open.
        machine_opened_at: Open by a privacy proxy.
        clicked_at: First click.
        converted_at: Purchase, caused or not; may lie after the attribution window.
        caused: Whether contact caused it.
        in_shop: Whether it was made in a shop.
        discounted: Whether it was made at the offer's margin.
        value_minor: Its margin, minor units, 0 where there was none.
        cost_minor: Cost of the contact, minor units.
        unsubscribed_at: Withdrawal of consent.
        complained: Whether that was a complaint.
    """

    row: Rows
    offer: Rows
    channel: Rows
    start_at: Seconds
    failed: Bools
    opened_at: Seconds
    machine_opened_at: Seconds
    clicked_at: Seconds
    converted_at: Seconds
    caused: Bools
    in_shop: Bools
    discounted: Bools
    value_minor: Seconds
    cost_minor: Seconds
    unsubscribed_at: Seconds
    complained: Bools

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Which of n messages were read: the part of `Outcomes` that comes before any purchase."""

    failed: Bools
    opened_at: Seconds
    machine_opened_at: Seconds
    clicked_at: Seconds


def draw_reading(
    preset: Preset,
    population: Population,
    response: Response,
    rows: Rows,
    lifecycle: NDArray[np.int8],
    pressure: NDArray[np.float32],
    channel: Rows,
    slot: Rows,
    start_at: Seconds,
    rng: np.random.Generator,
) -> Reading:
    """Draw arrivals, opens and clicks; nothing happens where `channel` is -1."""
    n = len(rows)
    truths = tuple(preset.channels.values())
    c, s = np.maximum(channel, 0), np.maximum(slot, 0)
    failed = (channel >= 0) & (rng.random(n) < response.p_fail[c])
    arrived = (channel >= 0) & ~failed
    opened = arrived & (rng.random(n) < response.p_open(rows, lifecycle, pressure)[np.arange(n), c, s])
    delay = np.array([truth.open_delay_hours for truth in truths])[c] * 3600
    opened_at = np.where(opened, start_at + rng.exponential(1.0, n) * delay, np.nan)
    clicked = opened & (rng.random(n) < np.array([truth.p_click for truth in truths])[c])
    clicked_at = np.where(clicked, opened_at + rng.exponential(_CLICK_DELAY, n), np.nan)
    proxied = arrived & population.machine[rows, c]
    machine_opened_at = np.where(proxied, start_at + rng.uniform(1, _MACHINE_DELAY, n), np.nan)
    return Reading(
        failed=failed, opened_at=opened_at, machine_opened_at=machine_opened_at, clicked_at=clicked_at
    )


def draw_outcomes(
    preset: Preset,
    population: Population,
    response: Response,
    state: State,
    *,
    rows: Rows,
    offer: Rows,
    channel: Rows,
    slot: Rows,
    start_at: Seconds,
    rng: np.random.Generator,
) -> Outcomes:
    """Draw what follows and move the state on: contacts, consent, lifecycle, covered time.

    Args:
        preset: The market.
        population: The people.
        response: The truth about them.
        state: Changed in place.
        rows: Customers, each at most once, shape (n,).
        offer: Index into the preset's offers, -1 for no contact.
        channel: Index into the preset's channels, -1 for no contact.
        slot: Index of the slot, -1 for no contact.
        start_at: Send time, or time of decision for no contact, seconds since 1970.
        rng: Source of chance.
    """
    n = len(rows)
    contacted = channel >= 0
    o, c = np.maximum(offer, 0), np.maximum(channel, 0)
    lifecycle = state.lifecycle[rows]
    pressure = state.pressure_of(rows, start_at)

    reading = draw_reading(
        preset, population, response, rows, lifecycle, pressure, channel, slot, start_at, rng
    )
    failed, opened_at, clicked_at = reading.failed, reading.opened_at, reading.clicked_at
    arrived = contacted & ~failed
    opened, clicked = ~np.isnan(opened_at), ~np.isnan(clicked_at)

    # One purchase at most: the customer's own first, then what the contact adds, on one uniform draw.
    uncovered_from = np.maximum(start_at, state.covered_until[rows])
    until = start_at + COVERED_DAYS * DAY
    share = np.clip((until - uncovered_from) / (COVERED_DAYS * DAY), 0.0, 1.0)
    p_base = response.p_base(rows, lifecycle)
    via_open, via_arrival = (effect[np.arange(n), o, c] for effect in response.effects(rows, lifecycle))
    added = np.where(arrived, via_arrival, 0.0) + np.where(opened, via_open, 0.0)
    own = (p_base + np.minimum(added, 0.0)) * share
    draw = rng.random(n)
    bought = draw < own + np.maximum(added, 0.0)
    caused = bought & (draw >= own)
    own_at = uncovered_from + rng.random(n) * np.maximum(until - uncovered_from, 0.0)
    caused_at = np.where(opened, opened_at, start_at) + rng.exponential(preset.delay_days * DAY, n)
    converted_at = np.where(bought, np.where(caused, caused_at, own_at), np.nan)

    # The discount moves some purchases that would have been made anyway: out of the shop, to less margin.
    moved = bought & ~caused & opened & (rng.random(n) < response.p_take_discount[o])
    cheaper = response.offer_margin[o] < preset.margin_minor
    discounted = cheaper & (moved | caused)
    in_shop = bought & ~moved & ~clicked & (rng.random(n) < population.shop_share[rows])
    basket = np.exp(_BASKET_SD * rng.standard_normal(n) - _BASKET_SD**2 / 2)
    margin = np.where(caused | moved, response.offer_margin[o], preset.margin_minor)
    value = np.where(bought, margin * population.spend[rows] * basket, 0.0)

    leaves = arrived & (rng.random(n) < response.p_unsubscribe(rows, pressure)[np.arange(n), c])
    leave_at = np.where(opened, opened_at, start_at + rng.exponential(_LEAVING_DELAY, n))
    complained = leaves & (rng.random(n) < COMPLAINT_SHARE)

    sent = np.flatnonzero(contacted)
    state.record_contacts(rows[sent], c[sent], start_at[sent], response.intrusion[c[sent]])
    gone = np.flatnonzero(leaves)
    state.consent[rows[gone], c[gone]] = np.where(complained[gone], COMPLAINED, UNSUBSCRIBED)
    state.lifecycle[rows[bought]] = ACTIVE
    state.covered_until[rows] = np.maximum(state.covered_until[rows], until)
    return Outcomes(
        row=rows,
        offer=offer,
        channel=channel,
        start_at=start_at,
        failed=failed,
        opened_at=opened_at,
        machine_opened_at=reading.machine_opened_at,
        clicked_at=clicked_at,
        converted_at=converted_at,
        caused=caused,
        in_shop=in_shop,
        discounted=discounted,
        value_minor=value,
        cost_minor=np.where(contacted, response.cost_minor[c], 0.0),
        unsubscribed_at=np.where(leaves, leave_at, np.nan),
        complained=complained,
    )

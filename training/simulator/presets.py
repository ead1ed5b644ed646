"""The constants of the simulated markets.

None of them is measured on a real company: costs are invented round figures in the order of public price
lists, rates lie in the range that providers publish. They were set so that the markets are *hard*: a random
policy loses money, the cheapest channel earns next to nothing, and the best fixed choice in hindsight earns
20 to 42 % of what full knowledge of the truth would earn (`training.simulator.yardstick` measures it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import time

import numpy as np

from models.domain.errors import InvalidInputError

# All within the default send window (quiet hours are 21:00 to 08:00 local time).
SLOTS = (time(8), time(10, 30), time(12, 30), time(15, 30), time(18, 30), time(20))

# Latent traits, standard normal; every weight tuple below is in this order.
TRAITS = ("youth", "digital", "affluence", "loyalty")
Weights = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTruth:
    """How one channel works in a simulated market.

    Attributes:
        cost_minor: Simulated cost of a message, minor units.
        open_logit: Log-odds of a human open: average customer, rested, average hour.
        effect_opened: Probability of a conversion that an open adds (the mediated path), average customer.
        effect_direct: The same for a message that arrives, opened or not (the direct path).
        affinity: Weight of each trait in the open log-odds.
        persuasion: Weight of each trait in the size of both effects, relative.
        reach: Share of customers with an account here, the average digital one.
        opt_in: Share of those who agreed to marketing here.
        hour_weight: How far the customer's hours of the day matter (paper has none).
        intrusion: Pressure that one contact adds; scales fatigue and the harm to sleeping dogs.
        p_unsubscribe: Risk that a contact ends in leaving the channel (or a complaint), average customer, rested.
        p_fail: Share of messages that reach nobody.
        p_click: Share of opens with a click.
        machine_share: Share of customers whose messages a privacy proxy opens.
        open_delay_hours: Mean time from delivery to a human open.
    """

    cost_minor: float
    open_logit: float
    effect_opened: float
    effect_direct: float
    affinity: Weights
    persuasion: Weights
    reach: float
    opt_in: float
    hour_weight: float = 1.0
    intrusion: float = 1.0
    p_unsubscribe: float = 0.003
    p_fail: float = 0.0
    p_click: float = 0.3
    machine_share: float = 0.0
    open_delay_hours: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferTruth:
    """How one offer works.

    Attributes:
        margin_share: Margin of a conversion under the offer over the full margin.
        appeal: Factor on the effects of contact.
        appeal_traits: Weight of each trait in that factor, relative.
        p_take_discount: Share of opened offers that turn a purchase which would have been made anyway, at
            the full price, into one at the offer's margin (cannibalisation).
    """

    offer_id: str
    title: str
    body: str
    margin_share: float
    appeal: float
    appeal_traits: Weights
    p_take_discount: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One simulated market.

    Attributes:
        margin_minor: Mean margin of a conversion at the full price, minor units.
        base_logit: Log-odds of a purchase within seven days without contact, average customer.
        base_sd: Spread of it between customers.
        spend_sd: Spread of the logarithm of a customer's margin.
        affinity_sd: Spread of channel affinity that no trait explains, log-odds.
        hours_logit: Gap in log-odds between a customer's best and worst hour.
        hours_width: Width of the good hours, hours.
        chronotypes: Kinds of day: (share, hour of best attention, spread between people in hours).
        effect_sd: Spread of the effects that no trait explains, relative.
        sleeping_dogs: Share of customers whom contact puts off.
        dog_harm: Share of their own purchases that a contact of intrusion 1 costs.
        unsubscribe_loss_minor: Later margin lost with a channel, average customer, minor units.
        shop_share: Share of purchases made in a shop.
        delay_days: Mean time from a contact to the conversion that it caused.
        time_zones: Share of customers by IANA name.
        offers: Competing propositions.
        channels: By name; names are those of `models.domain.channel.DEFAULT_CHANNELS`.
    """

    name: str
    margin_minor: float
    base_logit: float
    base_sd: float
    spend_sd: float
    affinity_sd: float
    hours_logit: float
    hours_width: float
    chronotypes: tuple[tuple[float, float, float], ...]
    effect_sd: float
    sleeping_dogs: float
    dog_harm: float
    unsubscribe_loss_minor: float
    shop_share: float
    delay_days: float
    time_zones: Mapping[str, float]
    offers: tuple[OfferTruth, ...]
    channels: Mapping[str, ChannelTruth]


_ORDINARY_DAYS = ((0.20, 8.5, 1.0), (0.35, 12.6, 1.0), (0.15, 15.8, 1.2), (0.30, 19.3, 1.0))

# Free channels are seen by few and move few; the dear ones are seen by most. So neither cost nor reach
# alone says what pays, and the right answer differs by customer.
_RETAIL_CHANNELS = {
    "email": ChannelTruth(
        cost_minor=0.1, open_logit=-1.5, effect_opened=0.028, effect_direct=0.003,
        affinity=(-0.3, 0.2, 0.0, 0.3), persuasion=(-0.15, 0.1, 0.1, 0.2),
        reach=0.85, opt_in=0.8, p_unsubscribe=0.002, p_fail=0.01, p_click=0.25, machine_share=0.35, intrusion=0.8,
        open_delay_hours=3.0,
    ),
    "push": ChannelTruth(
        cost_minor=0.0, open_logit=-2.3, effect_opened=0.022, effect_direct=0.0005,
        affinity=(0.4, 0.4, 0.0, 0.2), persuasion=(0.2, 0.2, 0.0, 0.1),
        reach=0.55, opt_in=0.75, p_unsubscribe=0.004, p_fail=0.02, p_click=0.8, intrusion=1.0, open_delay_hours=0.7,
    ),
    "web_push": ChannelTruth(
        cost_minor=0.0, open_logit=-2.8, effect_opened=0.02, effect_direct=0.0003,
        affinity=(0.2, 0.4, 0.0, 0.0), persuasion=(0.1, 0.2, 0.0, 0.0),
        reach=0.4, opt_in=0.8, p_unsubscribe=0.0035, p_fail=0.03, p_click=0.8, intrusion=0.8, open_delay_hours=1.5,
    ),
    "line": ChannelTruth(
        cost_minor=3.0, open_logit=-1.0, effect_opened=0.034, effect_direct=0.006,
        affinity=(0.3, 0.2, -0.1, 0.0), persuasion=(0.2, 0.1, -0.1, 0.1),
        reach=0.8, opt_in=0.9, p_unsubscribe=0.004, p_click=0.2, open_delay_hours=1.5,
    ),
    "sms": ChannelTruth(
        cost_minor=8.0, open_logit=0.0, effect_opened=0.016, effect_direct=0.008,
        affinity=(-0.2, -0.2, 0.0, 0.1), persuasion=(-0.2, -0.2, 0.0, 0.2),
        reach=0.85, opt_in=0.6, p_unsubscribe=0.0055, p_fail=0.01, p_click=0.12, intrusion=1.4, open_delay_hours=0.3,
    ),
    "whatsapp": ChannelTruth(
        cost_minor=12.0, open_logit=-0.5, effect_opened=0.036, effect_direct=0.003,
        affinity=(0.2, 0.2, 0.1, 0.0), persuasion=(0.2, 0.1, 0.1, 0.0),
        reach=0.4, opt_in=0.7, p_unsubscribe=0.005, p_fail=0.005, p_click=0.25, intrusion=1.3, open_delay_hours=0.8,
    ),
    "call": ChannelTruth(
        cost_minor=1500.0, open_logit=-0.6, effect_opened=0.18, effect_direct=0.0,
        affinity=(-0.5, -0.3, 0.0, 0.3), persuasion=(-0.3, -0.1, 0.5, 0.3),
        reach=0.85, opt_in=0.4, p_unsubscribe=0.01, p_click=0.0, intrusion=2.5, open_delay_hours=0.02,
    ),
    "direct_mail": ChannelTruth(
        cost_minor=90.0, open_logit=0.0, effect_opened=0.03, effect_direct=0.012,
        affinity=(-0.4, -0.3, 0.0, 0.1), persuasion=(-0.4, -0.2, 0.3, 0.2),
        reach=0.75, opt_in=1.0, p_unsubscribe=0.001, p_click=0.0, hour_weight=0.0, intrusion=0.5,
        open_delay_hours=36.0,
    ),
}  # fmt: skip

RETAIL = Preset(
    name="retail",
    margin_minor=3000.0,
    base_logit=-3.6,
    base_sd=0.7,
    spend_sd=0.5,
    affinity_sd=0.6,
    hours_logit=1.8,
    hours_width=2.5,
    chronotypes=_ORDINARY_DAYS,
    effect_sd=0.4,
    sleeping_dogs=0.10,
    dog_harm=0.6,
    unsubscribe_loss_minor=400.0,
    shop_share=0.5,
    delay_days=1.3,
    time_zones={"Asia/Taipei": 0.5, "Asia/Tokyo": 0.3, "Asia/Singapore": 0.1, "Europe/London": 0.1},
    offers=(
        OfferTruth(
            offer_id="new_season", title="The new season is here",
            body="See what has just arrived, picked for you.",
            margin_share=1.0, appeal=0.8, appeal_traits=(0.1, 0.1, 0.2, 0.2), p_take_discount=0.0,
        ),
        OfferTruth(
            offer_id="ten_off", title="10 % off until Sunday",
            body="Your code works on the web and in every shop.",
            margin_share=0.75, appeal=1.2, appeal_traits=(0.1, 0.0, -0.25, -0.1), p_take_discount=0.6,
        ),
    ),
    channels=_RETAIL_CHANNELS,
)  # fmt: skip


def _retuned(
    name: str,
    *,
    effect_opened: float,
    effect_direct: float,
    cost_minor: float | None = None,
    opt_in: float | None = None,
) -> ChannelTruth:
    """A channel that is read as in retail, with other effects, and other terms where given."""
    retail = _RETAIL_CHANNELS[name]
    return replace(
        retail,
        effect_opened=effect_opened,
        effect_direct=effect_direct,
        cost_minor=retail.cost_minor if cost_minor is None else cost_minor,
        opt_in=retail.opt_in if opt_in is None else opt_in,
    )


# A loan or savings product: rare, valuable, slow; a call of 30.00 is worth it for some.
_BANK_CHANNELS = {
    "email": _retuned("email", effect_opened=0.02, effect_direct=0.002),
    "push": _retuned("push", effect_opened=0.012, effect_direct=0.0003),
    "web_push": _retuned("web_push", effect_opened=0.006, effect_direct=0.0001),
    "line": _retuned("line", effect_opened=0.024, effect_direct=0.0035),
    "sms": _retuned("sms", effect_opened=0.01, effect_direct=0.0045),
    "whatsapp": _retuned("whatsapp", effect_opened=0.026, effect_direct=0.005),
    "call": _retuned("call", cost_minor=3000.0, effect_opened=0.042, effect_direct=0.0, opt_in=0.85),
    "direct_mail": _retuned("direct_mail", cost_minor=400.0, effect_opened=0.008, effect_direct=0.001),
}
BANK = Preset(
    name="bank",
    margin_minor=60_000.0,
    base_logit=-4.0,
    base_sd=0.7,
    spend_sd=0.5,
    affinity_sd=0.7,
    hours_logit=1.8,
    hours_width=2.5,
    chronotypes=_ORDINARY_DAYS,
    effect_sd=0.6,
    sleeping_dogs=0.10,
    dog_harm=0.6,
    unsubscribe_loss_minor=4000.0,
    shop_share=0.3,
    delay_days=2.2,
    time_zones={"Asia/Taipei": 0.7, "Asia/Tokyo": 0.2, "America/New_York": 0.1},
    offers=(
        OfferTruth(
            offer_id="savings_plan", title="A plan for your savings",
            body="Your adviser has put together three ways to save.",
            margin_share=1.0, appeal=1.0, appeal_traits=(-0.1, 0.0, 0.3, 0.1), p_take_discount=0.0,
        ),
    ),
    channels=_BANK_CHANNELS,
)  # fmt: skip

# Journeys are dreamt of at certain hours: the time of day decides more than the channel does.
_TRAVEL_CHANNELS = {
    "email": _retuned("email", effect_opened=0.018, effect_direct=0.0004),
    "push": _retuned("push", effect_opened=0.012, effect_direct=0.0002),
    "web_push": _retuned("web_push", effect_opened=0.01, effect_direct=0.0001),
    "line": _retuned("line", effect_opened=0.022, effect_direct=0.0016),
    "sms": _retuned("sms", effect_opened=0.01, effect_direct=0.002),
    "whatsapp": _retuned("whatsapp", effect_opened=0.02, effect_direct=0.0008),
    "call": _retuned("call", cost_minor=2500.0, effect_opened=0.08, effect_direct=0.0),
    "direct_mail": _retuned("direct_mail", cost_minor=100.0, effect_opened=0.01, effect_direct=0.004),
}
TRAVEL = Preset(
    name="travel",
    margin_minor=9000.0,
    base_logit=-4.0,
    base_sd=0.8,
    spend_sd=0.6,
    affinity_sd=0.7,
    hours_logit=2.8,
    hours_width=1.8,
    chronotypes=((0.10, 8.5, 1.0), (0.25, 12.6, 0.9), (0.10, 15.8, 1.2), (0.55, 19.3, 1.0)),
    effect_sd=0.5,
    sleeping_dogs=0.10,
    dog_harm=0.6,
    unsubscribe_loss_minor=900.0,
    shop_share=0.2,
    delay_days=1.8,
    time_zones={"Asia/Taipei": 0.4, "Asia/Tokyo": 0.3, "Europe/London": 0.2, "America/New_York": 0.1},
    offers=(
        OfferTruth(
            offer_id="early_bird", title="Early-bird fares",
            body="Book this week and fly for less.",
            margin_share=0.85, appeal=1.1, appeal_traits=(0.2, 0.1, 0.0, 0.0), p_take_discount=0.5,
        ),
    ),
    channels=_TRAVEL_CHANNELS,
)  # fmt: skip

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (RETAIL, BANK, TRAVEL)}

# Spread between the markets of one preset: no two companies' channels work alike, so that a method which is
# tuned on some seeds has to prove itself on others.
_OPEN_LOGIT_SD = 0.15
_LOG_EFFECT_SD = 0.12
_WEIGHT_SD = 0.08


def varied(preset: Preset, rng: np.random.Generator) -> Preset:
    """A market like the preset's, whose channels differ a little in how much and whom they move."""

    def weights(given: Weights) -> Weights:
        youth, digital, affluence, loyalty = rng.normal(given, _WEIGHT_SD).tolist()
        return youth, digital, affluence, loyalty

    channels = {
        name: replace(
            truth,
            open_logit=truth.open_logit + rng.normal(0, _OPEN_LOGIT_SD),
            effect_opened=truth.effect_opened * np.exp(rng.normal(0, _LOG_EFFECT_SD)),
            effect_direct=truth.effect_direct * np.exp(rng.normal(0, _LOG_EFFECT_SD)),
            affinity=weights(truth.affinity),
            persuasion=weights(truth.persuasion),
        )
        for name, truth in preset.channels.items()
    }
    return replace(preset, channels=channels)


def preset_of(name: str) -> Preset:
    """The preset of that name.

    Raises:
        InvalidInputError: there is none.
    """
    try:
        return PRESETS[name]
    except KeyError as exc:
        raise InvalidInputError("preset", name, f"must be one of {', '.join(PRESETS)}") from exc

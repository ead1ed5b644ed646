"""The people of a simulated market: what is true of them, most of it hidden from any learner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.domain.channel import IdentityKind
from training.simulator.presets import SLOTS, TRAITS, Preset

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Codes = NDArray[np.int8]

LIFECYCLES = ("new", "active", "lapsing", "dormant")
NEW, ACTIVE, LAPSING, DORMANT = range(4)
_LIFECYCLE_SHARES = (0.10, 0.40, 0.30, 0.20)

AGE_BANDS = ("18-24", "25-34", "35-44", "45-54", "55+")
TIERS = ("basic", "silver", "gold")


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Latent truth of n customers; C channels of the preset, O offers, S slots, K traits.

    Attributes:
        traits: Standard normal, shape (n, K).
        affinity: Open log-odds beyond the channel's own, shape (n, C).
        persuasion: Size of the effects over the average, shape (n, O, C), >= 0.
        best_hour: Local hour of best attention, shape (n,).
        base_logit: Log-odds of a purchase within seven days, lifecycle aside, shape (n,).
        spend: Margin over the mean margin, shape (n,).
        dog: Whether contact puts them off, shape (n,).
        shop_share: Share of purchases made in a shop, shape (n,).
        machine: Whether a privacy proxy opens their messages, shape (n, C).
        age_band: Index into `AGE_BANDS`, shape (n,); a noisy sign of youth.
        tier: Index into `TIERS`, shape (n,); a noisy sign of affluence and loyalty.
        member_days: Days since the account was made, shape (n,).
        zone: Index into the preset's time zones, shape (n,).
        identity_kinds: Axis of `identity`.
        identity: Whether they have such an account, shape (n, I).
        opted_in: Whether they agreed to marketing on the channel, shape (n, C).
        lifecycle: Index into `LIFECYCLES` at the start, shape (n,).
    """

    traits: Floats
    affinity: Floats
    persuasion: Floats
    best_hour: Floats
    base_logit: Floats
    spend: Floats
    dog: Bools
    shop_share: Floats
    machine: Bools
    age_band: Codes
    tier: Codes
    member_days: NDArray[np.int32]
    zone: Codes
    identity_kinds: tuple[IdentityKind, ...]
    identity: Bools
    opted_in: Bools
    lifecycle: Codes

    def __len__(self) -> int:
        return len(self.spend)


def draw_population(
    preset: Preset, kinds: tuple[IdentityKind, ...], n: int, rng: np.random.Generator
) -> Population:
    """Draw n customers.

    Args:
        preset: The market.
        kinds: Identity kind of each of the preset's channels.
        n: Number of customers.
        rng: Source of chance.
    """
    truths = tuple(preset.channels.values())
    n_channels = len(truths)
    traits = rng.standard_normal((n, len(TRAITS)), dtype=np.float32)
    youth, digital, affluence, loyalty = range(4)
    # The young are more digital; the digital sleep through fewer channels.
    traits[:, digital] = 0.45 * traits[:, youth] + np.sqrt(1 - 0.45**2) * traits[:, digital]

    affinity = traits @ np.array([t.affinity for t in truths], dtype=np.float32).T
    affinity += preset.affinity_sd * rng.standard_normal((n, n_channels), dtype=np.float32)

    dog_logit = -0.5 * traits[:, digital] + 0.6 * traits[:, affluence] + _normal(rng, n, 0.8)
    dog = dog_logit > np.quantile(dog_logit, 1 - preset.sleeping_dogs)

    lifecycle = rng.choice(len(LIFECYCLES), size=n, p=_LIFECYCLE_SHARES).astype(np.int8)
    base_logit = preset.base_logit + preset.base_sd * (0.7 * traits[:, loyalty] + _normal(rng, n, 0.7))
    log_spend = preset.spend_sd * (0.8 * traits[:, affluence] + _normal(rng, n, 0.6))
    spend = np.exp(log_spend - preset.spend_sd**2 / 2)

    identity_kinds = tuple(dict.fromkeys(kinds))
    identity = np.zeros((n, len(identity_kinds)), dtype=np.bool_)
    opted_in = np.zeros((n, n_channels), dtype=np.bool_)
    for c, (truth, kind) in enumerate(zip(truths, kinds, strict=True)):
        column = identity_kinds.index(kind)
        if kind not in kinds[:c]:
            # Apps and messengers are the digital's; telephones and addresses everybody has.
            tilt = 0.0 if kind in (IdentityKind.PHONE, IdentityKind.ADDRESS) else 0.8
            identity[:, column] = rng.random(n) < _sigmoid(_logit(truth.reach) + tilt * traits[:, digital])
        opted_in[:, c] = rng.random(n) < _sigmoid(_logit(truth.opt_in) + 0.4 * traits[:, loyalty])

    return Population(
        traits=traits,
        affinity=affinity,
        persuasion=_persuasion(preset, traits, rng),
        best_hour=_best_hours(preset, traits[:, youth], rng),
        base_logit=base_logit.astype(np.float32),
        spend=spend.astype(np.float32),
        dog=dog,
        shop_share=rng.beta(4 * preset.shop_share, 4 * (1 - preset.shop_share), n).astype(np.float32),
        machine=rng.random((n, n_channels)) < np.array([t.machine_share for t in truths]),
        age_band=_bands(-traits[:, youth] + _normal(rng, n, 0.35), len(AGE_BANDS)),
        tier=_bands(traits[:, affluence] + traits[:, loyalty] + _normal(rng, n, 0.8), len(TIERS)),
        member_days=np.where(lifecycle == NEW, rng.integers(1, 60, n), rng.integers(60, 2500, n)).astype(
            np.int32
        ),
        zone=rng.choice(len(preset.time_zones), size=n, p=list(preset.time_zones.values())).astype(np.int8),
        identity_kinds=identity_kinds,
        identity=identity,
        opted_in=opted_in,
        lifecycle=lifecycle,
    )


def _persuasion(preset: Preset, traits: Floats, rng: np.random.Generator) -> Floats:
    """Size of the effect of each offer on each channel over the average, shape (n, O, C), >= 0.

    Linear in the traits, plus what no trait explains: half of it the customer's own, half the pair's.
    """
    n = len(traits)
    by_channel = traits @ np.array([t.persuasion for t in preset.channels.values()], dtype=np.float32).T
    own = rng.standard_normal((n, 1), dtype=np.float32)
    pair = rng.standard_normal(by_channel.shape, dtype=np.float32)
    by_channel += np.float32(preset.effect_sd / np.sqrt(2)) * (own + pair)
    by_offer = traits @ np.array([o.appeal_traits for o in preset.offers], dtype=np.float32).T
    appeal = np.array([o.appeal for o in preset.offers], dtype=np.float32)
    relative = 1 + by_channel[:, None, :] + by_offer[:, :, None]
    return np.maximum(relative, 0) * appeal[:, None]


def _best_hours(preset: Preset, youth: Floats, rng: np.random.Generator) -> Floats:
    """Hour of best attention: a kind of day, and within it a spread; the young are up later."""
    shares, centres, spreads = (np.array(column) for column in zip(*preset.chronotypes, strict=True))
    kind = rng.choice(len(shares), size=len(youth), p=shares)
    hour = centres[kind] + spreads[kind] * rng.standard_normal(len(youth)) + 0.4 * youth
    return np.clip(hour, 6.5, 22.0).astype(np.float32)


def _bands(position: NDArray[np.floating], n_bands: int) -> Codes:
    """Cut into bands of equal size, lowest first."""
    edges = np.quantile(position, np.arange(1, n_bands) / n_bands)
    return np.searchsorted(edges, position).astype(np.int8)


def _normal(rng: np.random.Generator, n: int, sd: float) -> Floats:
    return np.float32(sd) * rng.standard_normal(n, dtype=np.float32)


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p))) if p < 1 else np.inf


def _sigmoid(x: NDArray[np.floating]) -> NDArray[np.floating]:
    p: NDArray[np.floating] = 1 / (1 + np.exp(-x))
    return p


def slot_hours() -> Floats:
    """Hour of day of every slot, shape (S,)."""
    return np.array([slot.hour + slot.minute / 60 for slot in SLOTS], dtype=np.float32)

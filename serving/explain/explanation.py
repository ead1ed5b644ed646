"""What an explanation holds, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time

from models.domain.action import Action, ReasonCode
from models.explanation.flips import FlipKind
from serving.explain.catalogue import Absence
from serving.occasions.cause import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One feature's share of a prediction.

    Attributes:
        feature: Its name.
        value: What it was; None where missing.
        amount: What it added, as a difference of probabilities.
    """

    feature: str
    value: float | None
    amount: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A prediction as a sum: `base + sum of the parts + adjustment == total`.

    Attributes:
        base: For an average customer, same offer, channel and slot.
        parts: Of every feature that moved it, the largest first.
        adjustment: For p_open, what the bandit has learned since the model was trained; for the uplift, what is
            cut off so that p_convert stays in [0, 1].
        total: The prediction.
    """

    base: float
    parts: tuple[Part, ...]
    adjustment: float
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Contributions:
    """What moved the predictions of one contact: the chosen one, or the best where none was chosen."""

    action: Action
    p_open: Prediction
    uplift: Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFlip:
    """A `models.explanation.flips.Flip` with names for its indices; one of the thresholds, or `without`, is set.

    Attributes:
        kind: What changes.
        winner: Who wins beyond the threshold; None is no contact.
        offer: Whose margin changes.
        channel: Whose cost changes, or which is opened.
        threshold_minor: Of a cost or margin.
        present_minor: What it is now.
        threshold_share: Of every margin.
        threshold_at: Of the time to send.
        without: Reasons that would have to be gone.
        gain_minor: How much more than the best action an opened channel would be worth.
    """

    kind: FlipKind
    winner: Action | None
    offer: str | None = None
    channel: str | None = None
    threshold_minor: float | None = None
    present_minor: float | None = None
    threshold_share: float | None = None
    threshold_at: datetime | None = None
    without: tuple[ReasonCode, ...] = ()
    gain_minor: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScarceChannel:
    """A channel of which there was not enough for all.

    Attributes:
        channel: Its name.
        shadow_price_minor: What one message took of its value, beside its cost, minor units, > 0.
    """

    channel: str
    shadow_price_minor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A part of the explanation that cannot be given.

    Attributes:
        part: `contributions`, `flips`, or `openings` for the flips that would open a channel.
        version: Of the model that is concerned, or empty.
    """

    part: str
    reason: Absence
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a decision came out as it did and what would have turned it.

    Attributes:
        best: The action of the highest value, which the flips turn; None is no contact. It differs from the
            decision's where that was drawn in order to learn.
        contributions: None where they are in `missing`.
        flips: None where they are in `missing`.
        scarce: Channels that were scarce; empty also where a rule decided.
        missing: Parts that cannot be given.
        occasion: Which occurrence of which occasion asked for it; None where no occasion did.
        time_zone: On whose clock sentences tell the time.
        slots: Local times of day of the campaign's slots; empty where they are not known.
    """

    best: Action | None
    contributions: Contributions | None
    flips: Sequence[KnownFlip] | None
    scarce: tuple[ScarceChannel, ...]
    missing: tuple[Missing, ...]
    occasion: Cause | None
    time_zone: str
    slots: tuple[time, ...]

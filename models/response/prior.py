"""What is believed before the first decision: published rates, pooled across channels.

    uplift(o, c, s) = p_open(c) * EFFECT_OF_AN_OPEN

A channel's open rate is a published one, or the pooled rate where none that deserves trust was found. What an open
adds is the same on every channel, until a log says otherwise. With the costs of the channels and the margins of the
offers that is enough to decide: dear channels have to be opened often enough to pay, and where no channel does,
nobody is contacted. Every slot looks alike, so an exploring policy spreads its sends over the day.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.choice import FloatArray, Predictions
from models.domain.action import ActionGrid
from models.domain.channel import Channel
from models.domain.errors import BundleError, require
from models.response.attention import PRIOR_RATE

FILE = "prior.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRate:
    """Share of messages that a person opens.

    Attributes:
        p_open: In [0, 1].
        source: Who published it, about what, and when.
    """

    p_open: float
    source: str


# Providers write of their own customers, who differ from yours: a first guess, outweighed by a few hundred messages.
PUBLISHED: Mapping[str, PublishedRate] = {
    "email": PublishedRate(
        p_open=0.2271,
        source="Mailchimp, Email Marketing Benchmarks, all accounts, 2019-10: before privacy proxies opened mail",
    ),
    "push": PublishedRate(
        p_open=0.078,
        source="Accengage, 50 billion notifications of January to June 2018: click rate, iOS and Android",
    ),
    "sms": PublishedRate(p_open=0.55, source="Scalero, What metrics to expect from SMS and push, 2025-10"),
}
# The widest of the three logs stands in where vendors' claims (LINE, WhatsApp) or nothing at all was found.
POOLED = PUBLISHED["email"]
# A web push is a push.
_ALIKE = {"web_push": "push"}

# In the randomised e-mail experiment of 2008 (MineThatData) 1.253 and 0.884 % bought after a mail, 0.573 % without
# one: 0.4955 points for a mail of which POOLED opens. Half of it: what is published tends to be what worked.
EFFECT_OF_A_MAIL = (0.01253 + 0.00884) / 2 - 0.00573
EFFECT_OF_AN_OPEN = 0.5 * EFFECT_OF_A_MAIL / POOLED.p_open
# Purchases within two weeks without a contact, of the same experiment.
P_CONVERT = 0.00573


# How far the effect in another trade is believed to be off: by as much as it is, or by a tenth of the conversion rate.
_DOUBT_OF_RATE = 0.1


def believed_effect(opens: float, rate: float) -> tuple[float, float]:
    """What a contact is believed to add before a log says anything, and the standard deviation of that belief.

    The experiment is one of purchases by one customer in a hundred: where conversions are much more common, the doubt
    grows with them.

    Args:
        opens: Opens of a contact, > 0.
        rate: Conversions of a decision, in (0, 1).
    """
    effect = EFFECT_OF_AN_OPEN * opens
    return effect, max(effect, _DOUBT_OF_RATE * rate)


def published_rate(channel: str) -> PublishedRate:
    """The rate believed of a channel."""
    return PUBLISHED.get(_ALIKE.get(channel, channel), POOLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorResponse:
    """`models.choice.ResponseModel` of a campaign that has no history.

    Attributes:
        attention_value_minor: What a customer who can be reached is worth, minor units, >= 0.
    """

    attention_value_minor: float

    def __post_init__(self) -> None:
        require(
            0 <= self.attention_value_minor < float("inf"),
            "attention_value_minor",
            self.attention_value_minor,
            "must be a finite number >= 0",
        )

    @property
    def feature_names(self) -> tuple[str, ...]:
        """None: everybody is alike."""
        return ()

    def predict(
        self,
        features: FloatArray,
        grid: ActionGrid,
        channels: Mapping[str, Channel],  # noqa: ARG002 - what is published is known by name
    ) -> Predictions:
        """The same for every customer.

        Args:
            features: Shape (n, F); only n matters.
            grid: Axes of the decision.
            channels: Not looked at.
        """
        n = len(features)
        rates = np.array([published_rate(name).p_open for name in grid.channels])
        p_open = np.broadcast_to(rates[None, :, None], (n, len(rates), len(grid.slots)))
        uplift = np.broadcast_to((p_open * EFFECT_OF_AN_OPEN)[:, None], (n, *grid.shape))
        return Predictions(
            p_open=p_open.copy(),
            p_convert=P_CONVERT + uplift,
            p_convert_no_contact=np.full(n, P_CONVERT),
            attention_minor=np.full((n, len(rates)), PRIOR_RATE * self.attention_value_minor),
        )

    def to_files(self) -> dict[str, bytes]:
        """JSON, by file name."""
        return {FILE: json.dumps({"attention_value_minor": self.attention_value_minor}).encode()}

    @classmethod
    def from_files(cls, named: Mapping[str, bytes]) -> PriorResponse:
        """Read what `to_files` wrote.

        Raises:
            BundleError: the file is missing or cannot be read.
        """
        try:
            return cls(attention_value_minor=float(json.loads(named[FILE])["attention_value_minor"]))
        except (KeyError, TypeError, ValueError) as exc:
            raise BundleError(f"{FILE} is missing or damaged: {exc}") from exc

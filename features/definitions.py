"""The one list of features that every workspace has: what each is, and the formula that computes it.

`features.compute` evaluates the formulas, offline and online alike. Facts that a machine made (opens by privacy
proxies, clicks by scanners) never count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from features.formulas import (
    Age,
    Amount,
    Count,
    CountAfter,
    Formula,
    MeanAmount,
    Shrunk,
    Stage,
    Standing,
    Tenure,
)
from features.past import ACCOUNT_LINKED, CONSENT_GIVEN, CONSENT_LOST, HOUR_US, These
from models.domain.interaction import DISCOUNTED
from models.domain.interaction import InteractionKind as Kind
from models.domain.visits import PRIOR_VISITS, VISIT_PARTS, VISITS_COUNTED, VISITS_WINDOW_DAYS, visit_share

# A rate from n sends is shrunk as if there had been 10 more at the prior rate: with few sends it says little.
PRIOR_SENDS = 10
PRIOR_OPEN_RATE = 0.2
PRIOR_CLICK_RATE = 0.03
PRIOR_CONVERSION_RATE = 0.02
# A share of opens by part of the day, as if there had been 4 more opens, one in each part.
DAY_PARTS = ("night", "morning", "afternoon", "evening")
_PRIOR_DAYS = 7
_WEEKEND = 2 / 7
# A discounted purchase is about one in four until we know better.
_PRIOR_PURCHASES, _PRIOR_DISCOUNTED = 4, 0.25
# Two answers out of four came to something richer than text.
_PRIOR_ANSWERS, _PRIOR_RICH = 4, 0.5

# What importers and shops call the place of a purchase, in its attribute `place`.
ONLINE = ("web", "online", "app")
SHOP = ("shop", "store")
PHONE = ("phone", "call")
RICH_CONTENT = ("html", "image", "video", "sticker", "card")


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature.

    Attributes:
        name: Column name, unique in a list.
        dtype: A count is `int64` and never null; everything else is `float64`.
        unit: What the number counts or measures.
        window_days: How far back it looks; None where it looks at everything within `LOOKBACK_DAYS`.
        default: Value for a customer of whom nothing is known; None for missing (NaN).
        why: What a model can learn from it.
        formula: What computes it.
    """

    name: str
    dtype: Literal["float64", "int64"]
    unit: str
    window_days: int | None
    default: float | None
    why: str
    formula: Formula


def these(*kinds: str, channel: str | None = None) -> These:
    """Facts of those kinds, on one channel or on any."""
    return These(tuple(sorted(str(kind) for kind in kinds)), channels=None if channel is None else (channel,))


def count(name: str, facts: These, days: int, why: str) -> Feature:
    """How often it happened within the window."""
    return Feature(
        name=name,
        dtype="int64",
        unit="count",
        window_days=days,
        default=0,
        why=why,
        formula=Count(facts, days),
    )


def counts(stem: str, facts: These, windows: Sequence[int], why: str, suffix: str = "") -> list[Feature]:
    """The same count over several windows: `<stem>_<days>d<suffix>`."""
    return [count(f"{stem}_{days}d{suffix}", facts, days, why) for days in windows]


def rate(
    name: str, facts: These, days: int, prior: float, why: str, *, channel: str | None = None
) -> Feature:
    """Facts a send within the window, shrunk towards the prior rate: see `Shrunk`."""
    return Feature(
        name=name,
        dtype="float64",
        unit="per send",
        window_days=days,
        default=prior,
        why=why,
        formula=Shrunk(facts, these(Kind.SENT, channel=channel), days, prior, PRIOR_SENDS),
    )


def share(name: str, part: These, whole: These, prior: float, weight: int, why: str) -> Feature:
    """What share of some facts of a year is of a kind, shrunk towards the prior share: see `Shrunk`."""
    return Feature(
        name=name,
        dtype="float64",
        unit="share",
        window_days=365,
        default=prior,
        why=why,
        formula=Shrunk(part, whole, 365, prior, weight),
    )


def measure(
    name: str, formula: Formula, unit: str, why: str, *, days: int | None = None, default: float | None = None
) -> Feature:
    """A number that is not a count."""
    return Feature(
        name=name, dtype="float64", unit=unit, window_days=days, default=default, why=why, formula=formula
    )


def whole(name: str, formula: Formula, unit: str, why: str) -> Feature:
    """A whole number without a window of its own."""
    return Feature(name=name, dtype="int64", unit=unit, window_days=None, default=0, why=why, formula=formula)


def _recency(name: str, facts: These, why: str) -> Feature:
    return measure(name, Age(facts), "days", why)


def _spend(name: str, facts: These, days: int, why: str) -> Feature:
    return measure(name, Amount(facts, days), "minor currency units", why, days=days, default=0.0)


def _of_hours(facts: These, first: int, last: int) -> These:
    return These(facts.kinds, hours=(first, last))


_PURCHASES = these(Kind.PURCHASED)
_CARTS = these(Kind.CARTED)
_VISITS = these(Kind.VISITED)
_SENT = these(Kind.SENT)
_OPENED = these(Kind.OPENED)
_CLICKED = these(Kind.CLICKED)
_ANSWERS = these(Kind.OPENED, Kind.CLICKED)
_LEAVINGS = these(Kind.UNSUBSCRIBED, Kind.COMPLAINED)
_CART_SETTLED = these(Kind.PURCHASED, Kind.CONVERTED)
_GIVEN, _LOST = These((CONSENT_GIVEN,)), These((CONSENT_LOST,))

FEATURES: tuple[Feature, ...] = (
    # Recency.
    _recency("days_since_purchase", _PURCHASES, "Recent buyers buy again, or have just bought."),
    _recency("days_since_visit", _VISITS, "A recent visit shows present interest."),
    _recency("days_since_cart", _CARTS, "A recent cart shows intent."),
    _recency("days_since_contact", _SENT, "Fatigue fades with time."),
    _recency("days_since_response", _ANSWERS, "Who answered lately still reads."),
    _recency(
        "days_since_conversion", these(Kind.CONVERTED), "What has just converted need not be asked again."
    ),
    _recency("days_since_refusal", _LEAVINGS, "Who has just refused a channel is near leaving the rest."),
    # Frequency and money.
    *counts("purchases", _PURCHASES, (30, 90, 365), "Buying pace, present and usual."),
    *(_spend(f"spend_{days}d", _PURCHASES, days, "Worth of the customer.") for days in (30, 90, 365)),
    *(
        _spend(f"{name}_spend_365d", These(_PURCHASES.kinds, places=places), 365, f"Buys {where}.")
        for name, places, where in (
            ("online", ONLINE, "online: messages with links suit"),
            ("shop", SHOP, "in shops: an online discount may only move the sale"),
            ("phone", PHONE, "by phone: a call suits"),
        )
    ),
    measure(
        "mean_purchase_365d",
        MeanAmount(_PURCHASES, 365),
        "minor currency units",
        "Size of a basket, for the value of a conversion.",
        days=365,
    ),
    share(
        "discount_share_365d", These(_PURCHASES.kinds, price=DISCOUNTED), _PURCHASES,
        _PRIOR_DISCOUNTED, _PRIOR_PURCHASES, "Buys when there is a discount.",
    ),
    whole(
        "lifecycle_stage",
        Stage(_PURCHASES, recent_days=90, fading_days=365),
        "0 never bought, 1 first purchase within 90 days, 2 bought again, 3 fading, 4 lost for a year",
        "New, loyal and lost customers answer differently.",
    ),
    # Interest.
    *counts("visits", _VISITS, (1, 7, 30, 90), "Interest, present and habitual."),
    count("carts_30d", _CARTS, 30, "Intent."),
    count(
        "carts_abandoned_30d", these(Kind.CART_ABANDONED), 30, "Intent that a reminder may complete."
    ),
    measure(
        "hours_since_open_cart",
        Age(_CARTS, HOUR_US, unless=_CART_SETTLED),
        "hours",
        "A cart that waits for its purchase: a reminder works for hours, not for weeks.",
    ),
    count(
        "registrations_abandoned_30d", these(Kind.REGISTRATION_ABANDONED), 30, "Began to join and stopped."
    ),
    # Contacts and fatigue.
    *counts("contacts", _SENT, (1, 7, 30, 90), "Load, present and habitual."),
    whole(
        "contacts_since_response",
        CountAfter(_SENT, _ANSWERS),
        "count",
        "Messages in a row without an answer: fatigue.",
    ),
    count(
        "failures_90d", these(Kind.FAILED, Kind.BOUNCED), 90, "Addresses that no longer work."
    ),
    # Response.
    *counts("opens", _OPENED, (30, 90), "Reads messages."),
    *counts("clicks", _CLICKED, (30, 90), "Acts on messages."),
    rate("open_rate_90d", _OPENED, 90, PRIOR_OPEN_RATE, "Chance that a message is read."),
    rate("click_rate_90d", _CLICKED, 90, PRIOR_CLICK_RATE, "Chance that a message is acted on."),
    rate(
        "conversion_rate_90d", these(Kind.CONVERTED), 90, PRIOR_CONVERSION_RATE, "Conversions a message."
    ),
    count("conversions_90d", these(Kind.CONVERTED), 90, "Converts on campaigns."),
    count("replies_90d", these(Kind.REPLIED), 90, "Talks back: conversational channels suit."),
    count("calls_365d", these(Kind.CALLED), 365, "Prefers people to machines."),
    count("refusals_365d", _LEAVINGS, 365, "Each contact may cost the next channel."),
    count("complaints_365d", these(Kind.COMPLAINED), 365, "A complaint weighs more than a refusal."),
    share(
        "rich_answer_share_365d", These(_ANSWERS.kinds, contents=RICH_CONTENT),
        These(_ANSWERS.kinds, contents=(*RICH_CONTENT, "text", "template")),
        _PRIOR_RICH, _PRIOR_ANSWERS, "Answers pictures and pages rather than plain text.",
    ),
    # Hours and days.
    *(
        share(
            f"open_share_{name}", _of_hours(_ANSWERS, 6 * part, 6 * part + 6), _ANSWERS,
            1 / len(DAY_PARTS), len(DAY_PARTS), "When the customer answers, local time: the hours to send at.",
        )
        for part, name in enumerate(DAY_PARTS)
    ),
    share(
        "open_share_weekend", These(_ANSWERS.kinds, weekend=True), _ANSWERS, _WEEKEND, _PRIOR_DAYS,
        "Answers at weekends, local time.",
    ),
    *(
        share(
            visit_share(part), _of_hours(_VISITS, *part), _VISITS, (part[1] - part[0]) / 24, PRIOR_VISITS,
            "When the customer comes by unasked, local time: the hours to send at.",
        )
        for part in VISIT_PARTS
    ),
    count(
        VISITS_COUNTED, _VISITS, VISITS_WINDOW_DAYS, "How many visits the shares by part of the day rest on."
    ),
    share(
        "visit_share_weekend", These(_VISITS.kinds, weekend=True), _VISITS, _WEEKEND, _PRIOR_DAYS,
        "Comes by at weekends, local time.",
    ),
    # Who they are to us.
    measure("tenure_days", Tenure(), "days", "New customers behave unlike old ones."),
    whole("n_identities", Count(These((ACCOUNT_LINKED,)), None), "count", "How closely the customer is tied to us."),
    whole("n_consents", Standing(_GIVEN, _LOST), "count", "How welcome contact is."),
    _recency("days_since_consent", _GIVEN, "A permission given lately is meant; an old one is forgotten."),
)  # fmt: skip

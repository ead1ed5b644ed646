"""The one list of features that every workspace has: what each is, and the SQL that computes it.

`features.compute` evaluates the expressions, offline and online alike. An expression `of="facts"` is an aggregate
over what the customer did before the moment, with the columns `kind`, `channel`, `age_us` (microseconds before the
moment, > 0), `value` (exact decimal, minor units) and `hour` (of the day, local, 0 to 23, for visits, opens and
clicks). One `of="customer"` is an expression over a single row with what is known of the person.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from models.domain.interaction import InteractionKind as Kind

DAY_US = 86_400_000_000
# No feature looks further back, so that a build need not read the whole history.
LOOKBACK_DAYS = 730

# A rate from n sends is shrunk as if there had been 10 more at the prior rate: with few sends it says little.
PRIOR_SENDS = 10
PRIOR_OPEN_RATE = 0.2
PRIOR_CLICK_RATE = 0.03
# A share of opens by part of the day, as if there had been 4 more opens, one in each.
_PRIOR_OPENS = 4

DAY_PARTS = ("night", "morning", "afternoon", "evening")
# Visits tell when people are awake to us, whenever we wrote: finer parts, from six in the morning on.
VISIT_HOURS = 3
_PRIOR_VISITS = 8


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
        of: Whether `sql` aggregates facts or reads the customer's row.
        sql: DuckDB expression.
    """

    name: str
    dtype: Literal["float64", "int64"]
    unit: str
    window_days: int | None
    default: float | None
    why: str
    of: Literal["facts", "customer"] = "facts"
    sql: str


def count(name: str, kinds: Iterable[Kind], days: int, why: str, *, channel: str | None = None) -> Feature:
    """How often one of the kinds happened within the window."""
    return Feature(
        name=name,
        dtype="int64",
        unit="count",
        window_days=days,
        default=0,
        why=why,
        sql=_count(kinds, days, channel),
    )


def rate(
    name: str, kinds: Iterable[Kind], days: int, prior: float, why: str, *, channel: str | None = None
) -> Feature:
    """Kinds a send within the window, shrunk towards the prior rate."""
    happened = _count(kinds, days, channel)
    sent = _count([Kind.SENT], days, channel)
    return Feature(
        name=name,
        dtype="float64",
        unit="per send",
        window_days=days,
        default=prior,
        why=why,
        sql=f"({happened} + {PRIOR_SENDS * prior!r}::DOUBLE) / ({sent} + {PRIOR_SENDS})",
    )


def _recency(name: str, kinds: Iterable[Kind], why: str) -> Feature:
    return Feature(
        name=name,
        dtype="float64",
        unit="days",
        window_days=None,
        default=None,
        why=why,
        sql=f"min(age_us) FILTER (WHERE {_among(kinds)}) / {DAY_US}::DOUBLE",
    )


def _spend(name: str, days: int, why: str) -> Feature:
    purchased = f"kind = '{Kind.PURCHASED}' AND age_us <= {days * DAY_US}"
    return Feature(
        name=name,
        dtype="float64",
        unit="minor currency units",
        window_days=days,
        default=0.0,
        why=why,
        sql=f"coalesce(sum(value) FILTER (WHERE {purchased}), 0)::DOUBLE",
    )


def _open_share(part: int) -> Feature:
    opened = f"{_among(_OPENS)} AND age_us <= {365 * DAY_US}"
    return Feature(
        name=f"open_share_{DAY_PARTS[part]}",
        dtype="float64",
        unit="share",
        window_days=365,
        default=1 / len(DAY_PARTS),
        why="When the customer answers, local time: the hours to send at.",
        sql=f"(count(*) FILTER (WHERE {opened} AND hour // 6 = {part}) + 1)"
        f" / (count(*) FILTER (WHERE {opened}) + {_PRIOR_OPENS})::DOUBLE",
    )


def _visit_share(first: int) -> Feature:
    visited = f"kind = '{Kind.VISITED}' AND age_us <= {365 * DAY_US}"
    return Feature(
        name=f"visit_share_{first:02d}_{first + VISIT_HOURS:02d}",
        dtype="float64",
        unit="share",
        window_days=365,
        default=1 / _PRIOR_VISITS,
        why="When the customer comes by unasked, local time: the hours to send at.",
        sql=f"(count(*) FILTER (WHERE {visited} AND hour // {VISIT_HOURS} = {first // VISIT_HOURS}) + 1)"
        f" / (count(*) FILTER (WHERE {visited}) + {_PRIOR_VISITS})::DOUBLE",
    )


def _known(name: str, dtype: Literal["float64", "int64"], unit: str, why: str, sql: str) -> Feature:
    return Feature(
        name=name,
        dtype=dtype,
        unit=unit,
        window_days=None,
        default=0 if dtype == "int64" else None,
        why=why,
        of="customer",
        sql=sql,
    )


def _count(kinds: Iterable[Kind], days: int, channel: str | None) -> str:
    on_channel = f" AND channel = '{channel}'" if channel else ""
    return f"count(*) FILTER (WHERE {_among(kinds)} AND age_us <= {days * DAY_US}{on_channel})"


def _among(kinds: Iterable[Kind]) -> str:
    named = ", ".join(f"'{kind}'" for kind in sorted(kinds))
    return f"kind IN ({named})"


_OPENS = (Kind.OPENED, Kind.CLICKED)

FEATURES: tuple[Feature, ...] = (
    _recency("days_since_purchase", [Kind.PURCHASED], "Recent buyers buy again, or have just bought."),
    _recency("days_since_visit", [Kind.VISITED], "A recent visit shows present interest."),
    _recency("days_since_cart", [Kind.CARTED], "A recent cart shows intent."),
    _recency("days_since_contact", [Kind.SENT], "Fatigue fades with time."),
    _recency("days_since_response", _OPENS, "Who answered lately still reads."),
    _recency("days_since_conversion", [Kind.CONVERTED], "What has just converted need not be asked again."),
    count("purchases_30d", [Kind.PURCHASED], 30, "Present buying pace."),
    count("purchases_365d", [Kind.PURCHASED], 365, "Buying frequency."),
    _spend("spend_90d", 90, "Present worth of the customer."),
    _spend("spend_365d", 365, "Worth of the customer."),
    Feature(
        name="mean_purchase_365d",
        dtype="float64",
        unit="minor currency units",
        window_days=365,
        default=None,
        why="Size of a basket, for the value of a conversion.",
        sql=(
            f"sum(value) FILTER (WHERE kind = '{Kind.PURCHASED}' AND age_us <= {365 * DAY_US})::DOUBLE"
            f" / nullif({_count([Kind.PURCHASED], 365, None)}, 0)"
        ),
    ),
    count("visits_7d", [Kind.VISITED], 7, "Present interest."),
    count("visits_30d", [Kind.VISITED], 30, "Habitual interest."),
    count("carts_30d", [Kind.CARTED], 30, "Intent."),
    count("carts_abandoned_30d", [Kind.CART_ABANDONED], 30, "Intent that a reminder may complete."),
    count("conversions_90d", [Kind.CONVERTED], 90, "Converts on campaigns."),
    count("contacts_7d", [Kind.SENT], 7, "Present fatigue."),
    count("contacts_30d", [Kind.SENT], 30, "Habitual load."),
    count("opens_90d", [Kind.OPENED], 90, "Reads messages."),
    count("clicks_90d", [Kind.CLICKED], 90, "Acts on messages."),
    rate("open_rate_90d", [Kind.OPENED], 90, PRIOR_OPEN_RATE, "Chance that a message is read."),
    rate("click_rate_90d", [Kind.CLICKED], 90, PRIOR_CLICK_RATE, "Chance that a message is acted on."),
    count("replies_90d", [Kind.REPLIED], 90, "Talks back: conversational channels suit."),
    count("calls_365d", [Kind.CALLED], 365, "Prefers people to machines."),
    count(
        "refusals_365d", [Kind.UNSUBSCRIBED, Kind.COMPLAINED], 365, "Each contact may cost the next channel."
    ),
    *(_open_share(part) for part in range(len(DAY_PARTS))),
    *(_visit_share(first) for first in range(6, 24, VISIT_HOURS)),
    _known("tenure_days", "float64", "days", "New customers behave unlike old ones.", "tenure_us / 86_400e6"),
    _known("n_identities", "int64", "count", "How closely the customer is tied to us.", "n_identities"),
    _known("n_consents", "int64", "count", "How welcome contact is.", "n_consents"),
)

"""Features at any moment of any customer: the one computation behind training rows, snapshots and refreshes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Select, case, func, select

from features.definitions import Feature
from features.feature_list import FeatureList
from features.history.export import MOMENT, frame
from features.history.query import in_chunks
from features.history.tables import (
    consents,
    customers,
    decisions,
    former_attributes,
    identities,
    interactions,
    outbox,
)
from features.past import (
    ACCOUNT_LINKED,
    AMOUNTS_A_MINOR_UNIT,
    CONSENT_GIVEN,
    CONSENT_LOST,
    KINDS,
    LARGEST_MINOR,
    LOOKBACK_DAYS,
    FactArrays,
    Past,
)
from models.choice import FloatArray
from models.domain.customer import ConsentStatus
from models.domain.interaction import PRICE
from models.domain.interaction import InteractionKind as Kind
from models.logged import IntArray

POINTS = pl.Schema({"customer_id": pl.String(), "event_timestamp": MOMENT})

# Columns of a fact that are texts from a small vocabulary.
_CODED = ("channel", "place", "price", "content")
_KIND = pl.Enum(KINDS)
_MOST_PEOPLE = 16_384
_UNKNOWN_ZONE = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The part of the history that features are computed from.

    Attributes:
        interactions: `customer_id`, `kind`, `occurred_at`, `channel`, `value_minor`, and where they are known
            `place` and `price` of a purchase and `content` (kind) of the message that was answered.
        customers: `customer_id`, `time_zone`, `created_at` and one column an attribute feature.
        identities: `customer_id`, `linked_at`.
        consents: `customer_id`, `channel`, `purpose`, `status`, `since`, `consent_id`.
        former: Attributes that were others later: `customer_id`, `until`, `former_id` and one column an attribute
            feature; no columns where no attribute ever changed.
    """

    interactions: pl.DataFrame
    customers: pl.DataFrame
    identities: pl.DataFrame
    consents: pl.DataFrame
    former: pl.DataFrame = field(default_factory=pl.DataFrame)


def load_known(conn: Connection, features: FeatureList, points: pl.DataFrame) -> Known:
    """What the history holds about the customers of the points, up to the last point.

    Args:
        conn: Only read.
        features: The list that will be computed.
        points: Columns `customer_id` and `event_timestamp`; at least one row.
    """
    first, last = _bounds(points)
    people = points["customer_id"].unique().sort().to_list()
    facts = select(
        interactions.c.customer_id,
        interactions.c.kind,
        interactions.c.occurred_at,
        _channel().label("channel"),
        interactions.c.value_minor,
        _of_purchase("place"),
        _of_purchase(PRICE),
        _content().label("content"),
    ).where(
        ~interactions.c.machine_made,
        interactions.c.kind.in_(features.kinds),
        interactions.c.occurred_at < last,
        interactions.c.occurred_at >= first - timedelta(days=LOOKBACK_DAYS),
    )
    register = select(
        customers.c.customer_id, customers.c.time_zone, customers.c.created_at, customers.c.attributes
    )
    accounts = select(identities.c.customer_id, identities.c.linked_at).where(identities.c.linked_at < last)
    said = select(
        consents.c.customer_id,
        consents.c.channel,
        consents.c.purpose,
        consents.c.status,
        consents.c.since,
        consents.c.consent_id,
    ).where(consents.c.since < last)
    changed = select(
        former_attributes.c.customer_id,
        former_attributes.c.until,
        former_attributes.c.former_id,
        former_attributes.c.attributes,
    ).where(former_attributes.c.until >= first, former_attributes.c.recorded_as == "")
    return Known(
        interactions=_of(conn, facts, people),
        customers=_spread_attributes(_of(conn, register, people), features),
        identities=_of(conn, accounts, people),
        consents=_of(conn, said, people),
        former=_spread_attributes(_of(conn, changed, people), features),
    )


def compute(features: FeatureList, points: pl.DataFrame, known: Known) -> pl.DataFrame:
    """Features as of each point, from what happened strictly before it.

    Sums are taken over whole numbers, so that the result does not depend on the order of facts and a row is
    the same whichever other rows are computed with it.

    Args:
        features: What to compute.
        points: Columns `customer_id` and `event_timestamp`, shape (n, 2).
        known: The history of (at least) the customers of the points.

    Returns:
        `customer_id`, `event_timestamp` and one column a feature, one row a point, in the order of the points.
    """
    asked = points.select(POINTS.names()).cast(POINTS)
    people = asked.select(pl.col("customer_id").unique(maintain_order=True)).with_row_index("person")
    numbered = asked.join(people, on="customer_id", how="left", maintain_order="left")
    persons = numbered["person"].to_numpy().astype(np.int64)
    moments = numbered["event_timestamp"].to_physical().to_numpy()
    register = people.join(known.customers, on="customer_id", how="left", maintain_order="left")
    start = int(moments.min(initial=2**62)) - LOOKBACK_DAYS * _DAY_US
    chunk = min(_MOST_PEOPLE, Past.most_people(max(int(moments.max(initial=start)) - start, 1)))
    values = {each.name: np.empty(len(asked), dtype=each.dtype) for each in features.features}
    for lowest in range(0, len(people), chunk):
        some = register.slice(lowest, chunk)
        at = np.flatnonzero((persons >= lowest) & (persons < lowest + chunk)) if len(people) > chunk else ...
        of = persons[at] - lowest
        past = Past(
            _facts(known, some, lowest, start, int(moments[at].max())),
            of,
            moments[at],
            _attributes(known, some, of, moments[at], features.columns),
            _numbers(some["created_at"].to_physical())[of],
        )
        for each in features.features:
            values[each.name][at] = each.formula(past)
    return asked.with_columns(_column(each, values[each.name]) for each in features.features)


_DAY_US = 86_400_000_000
_EVERYBODY = 20_000


def _channel() -> ColumnElement[str]:
    """The channel of a fact; a conversion that names only its decision has that one's."""
    decided = (
        select(decisions.c.channel)
        .where(decisions.c.decision_id == interactions.c.decision_id)
        .scalar_subquery()
    )
    return case(
        ((interactions.c.kind == Kind.CONVERTED) & interactions.c.channel.is_(None), decided),
        else_=interactions.c.channel,
    )


def _of_purchase(attribute: str) -> ColumnElement[str]:
    """An attribute of a purchase; nothing for other facts."""
    said: ColumnElement[str] = interactions.c.attributes[attribute].as_string()
    if attribute in interactions.c:
        said = func.coalesce(interactions.c[attribute], said)
    return case((interactions.c.kind == Kind.PURCHASED, said)).label(attribute)


def _content() -> ColumnElement[str]:
    """Content kind of the message that an open or click answers."""
    sent = (
        select(func.min(outbox.c.content_kind))
        .where(outbox.c.decision_id == interactions.c.decision_id)
        .scalar_subquery()
    )
    return case((interactions.c.kind.in_([Kind.OPENED, Kind.CLICKED]), sent))


def _facts(known: Known, people: pl.DataFrame, lowest: int, start_us: int, end_us: int) -> FactArrays:
    """Facts and steps of the register of some people, in order of customer and time."""
    numbers = people.select("customer_id", "time_zone", person=pl.col("person").cast(pl.Int64) - lowest)
    happened = (
        known.interactions.lazy()
        .filter(pl.col("occurred_at").to_physical().is_between(start_us, end_us, closed="left"))
        .join(numbers.lazy(), on="customer_id", how="inner")
        .collect()
    )
    absent = [pl.lit(None, pl.String()).alias(name) for name in _CODED if name not in happened.columns]
    facts = _local(happened.with_columns(absent))
    given = _permissions(known.consents.join(numbers, on="customer_id", how="inner"))
    linked = known.identities.join(numbers, on="customer_id", how="inner").select(
        "person", kind=pl.lit(ACCOUNT_LINKED).cast(_KIND), at_us=pl.col("linked_at").to_physical()
    )
    steps = pl.concat([given, linked]).filter(pl.col("at_us") < end_us)
    whole = pl.concat([facts, steps], how="diagonal").sort("person", "at_us")
    words = {name: tuple(whole[name].drop_nulls().unique().sort()) for name in _CODED}
    codes = {name: whole[name].cast(pl.Enum(words[name])).to_physical() for name in _CODED}
    return FactArrays(
        person=whole["person"].to_numpy(),
        at_us=whole["at_us"].to_numpy(),
        kind=whole["kind"].to_physical().cast(pl.Int8).to_numpy(),
        amount=whole["amount"].fill_null(0).to_numpy(),
        hour=whole["hour"].fill_null(-1).to_numpy(),
        weekday=whole["weekday"].fill_null(0).to_numpy(),
        words=words,
        **{name: each.cast(pl.Int32).fill_null(-1).to_numpy() for name, each in codes.items()},
    )


def _attributes(
    known: Known, people: pl.DataFrame, of: IntArray, at_us: IntArray, columns: Sequence[str]
) -> dict[str, FloatArray]:
    """The attributes of each point's customer as they were known just before its moment, shape (n,) each."""
    found = {name: _numbers(people[name])[of] for name in columns}
    if not columns or known.former.is_empty():
        return found
    changed = (
        known.former.join(people.select("customer_id").with_row_index("of"), on="customer_id")
        .with_columns(until_us=pl.col("until").to_physical(), of=pl.col("of").cast(pl.Int64))
        .sort("until_us", "former_id")
        .unique(["of", "until_us"], keep="first", maintain_order=True)
    )
    asked = pl.DataFrame({"of": of, "at_us": at_us}).with_row_index("point").sort("at_us")
    # What changed at a moment is seen after it only, as with facts.
    then = asked.join_asof(
        changed, left_on="at_us", right_on="until_us", by="of", strategy="forward", check_sortedness=False
    ).filter(pl.col("until").is_not_null())
    for name in columns:
        found[name][then["point"].to_numpy()] = _numbers(then[name])
    return found


def _local(facts: pl.DataFrame) -> pl.DataFrame:
    """Facts as columns of numbers, with hour and weekday where the customer lives."""
    parts = [facts.clear().with_columns(hour=pl.lit(0, pl.Int8()), weekday=pl.lit(0, pl.Int8()))]
    for (zone,), part in facts.partition_by("time_zone", as_dict=True).items():
        local = pl.col("occurred_at").dt.convert_time_zone(str(zone or _UNKNOWN_ZONE))
        parts.append(part.with_columns(hour=local.dt.hour(), weekday=local.dt.weekday()))
    value = pl.col("value_minor").fill_null(0).clip(-LARGEST_MINOR, LARGEST_MINOR)
    return pl.concat(parts).select(
        "person",
        pl.col("kind").cast(_KIND),
        "hour",
        "weekday",
        *_CODED,
        at_us=pl.col("occurred_at").to_physical(),
        amount=(value * AMOUNTS_A_MINOR_UNIT).round().cast(pl.Int64),
    )


def _permissions(said: pl.DataFrame) -> pl.DataFrame:
    """When a permission was given that was not there, and when one was lost that was there."""
    granted = pl.col("status") == ConsentStatus.GRANTED.value
    before = granted.shift(1, fill_value=False).over("person", "channel", "purpose")
    return (
        said.sort("since", "consent_id")
        .with_columns(granted=granted, before=before)
        .filter(pl.col("granted") != pl.col("before"))
        .select(
            "person",
            kind=pl.when("granted").then(pl.lit(CONSENT_GIVEN)).otherwise(pl.lit(CONSENT_LOST)).cast(_KIND),
            at_us=pl.col("since").to_physical(),
        )
    )


def _numbers(values: pl.Series) -> NDArray[np.float64]:
    return values.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _column(feature: Feature, values: NDArray[np.float64] | IntArray) -> pl.Series:
    return pl.Series(feature.name, values, nan_to_null=feature.dtype == "float64")


def _of(conn: Connection, query: Select[tuple[object, ...]], people: Sequence[str]) -> pl.DataFrame:
    """The rows of the query about those people; about many, all rows are read and the others dropped."""
    column = query.selected_columns["customer_id"]
    if len(people) >= _EVERYBODY:
        rows = frame(conn, query)
        return rows.join(pl.DataFrame({"customer_id": people}), on="customer_id", how="semi")
    return pl.concat(frame(conn, query.where(column.in_(ids))) for ids in in_chunks(people))


def _bounds(points: pl.DataFrame) -> tuple[datetime, datetime]:
    first, last = points.select(
        pl.col("event_timestamp").min(), pl.col("event_timestamp").max().alias("last")
    ).row(0)
    return first, last


def _spread_attributes(register: pl.DataFrame, features: FeatureList) -> pl.DataFrame:
    """One column for each attribute feature instead of a document."""
    people = [orjson.loads(document) for document in register["attributes"]]
    spread = []
    for attribute in features.attributes:
        stated = [person.get(attribute.name) for person in people]
        for column, value in attribute.columns.items():
            if value is None:
                numbers = [None if isinstance(each, str) else each for each in stated]
                spread.append(pl.Series(column, numbers, dtype=pl.Float64, strict=False))
            else:
                spread.append(pl.Series(column, [int(each == value) for each in stated], dtype=pl.Int64))
    return register.drop("attributes").with_columns(spread)

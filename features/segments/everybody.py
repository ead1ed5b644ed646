"""Who belongs to a segment, over all customers: one query or computation a condition, never one a customer."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import orjson
import polars as pl
from sqlalchemy import ColumnElement, Connection, Select, func, select

from features.compute import POINTS, compute, load_known
from features.feature_list import FeatureList
from features.history.export import frame
from features.history.moments import LocalPart, local_part, teach_local_time
from features.history.tables import consents, customers, identities, interactions, tags
from features.segments.language import (
    All,
    AnyOf,
    Condition,
    Facts,
    Not,
    OfAttribute,
    OfConsent,
    OfFeature,
    OfIdentity,
    OfInteractions,
    OfTag,
    Permission,
    Segment,
    compares,
    feature_names,
)
from models.choice import BoolArray, FloatArray
from models.domain.customer import EVERY_CHANNEL, ConsentStatus
from models.domain.eligibility import REFUSALS
from models.domain.errors import InvalidInputError

_CUSTOMERS_A_COMPUTATION = 50_000


def members(
    conn: Connection, segment: Segment, now: datetime, features: FeatureList | None = None
) -> list[str]:
    """The ids of its members as of `now`, in order.

    Facts count that happened before `now`; tags and permissions as they stood then.

    Args:
        conn: Only read.
        segment: The segment.
        now: Aware.
        features: The list of features; needed where the segment compares one.

    Raises:
        InvalidInputError: the segment compares a feature that the list does not have, or there is no list.
    """
    people, belongs = _judged(conn, segment, now, features)
    return _ids(people, belongs)


def split(
    conn: Connection, segment: Segment, now: datetime, features: FeatureList | None = None
) -> tuple[list[str], list[str]]:
    """Its members as `members` gives them, and everybody else, both in order."""
    people, belongs = _judged(conn, segment, now, features)
    return _ids(people, belongs), _ids(people, ~belongs)


def _judged(
    conn: Connection, segment: Segment, now: datetime, features: FeatureList | None
) -> tuple[pl.DataFrame, pl.Series]:
    """Everybody in order of their ids, and whether they belong to it."""
    check_features(segment, features)
    people = frame(conn, select(customers.c.customer_id).order_by(customers.c.customer_id))
    people = people.sort("customer_id")  # databases order texts by their own collation
    everybody = _Everybody(conn, people, now, features, feature_names(segment.condition))
    return people, pl.Series(everybody.who(segment.condition))


def _ids(people: pl.DataFrame, which: pl.Series) -> list[str]:
    ids: list[str] = people.filter(which)["customer_id"].to_list()
    return ids


def check_features(segment: Segment, features: FeatureList | None) -> None:
    """Refuse a segment that compares features which are not there.

    Raises:
        InvalidInputError: names the feature.
    """
    known = () if features is None else features.names
    for name in feature_names(segment.condition):
        if name not in known:
            bound = (
                "must be a feature of the list" if known else "needs the list of features; materialize first"
            )
            raise InvalidInputError("feature", name, bound)


class _Everybody:
    """Evaluates conditions to one truth value a customer, in the order of `people`."""

    def __init__(
        self,
        conn: Connection,
        people: pl.DataFrame,
        now: datetime,
        features: FeatureList | None,
        compared: list[str],
    ) -> None:
        self._conn = conn
        self._people = people
        self._now = now
        self._values = _feature_values(conn, people, now, features, compared)
        teach_local_time(conn)

    def who(self, condition: Condition) -> BoolArray:
        match condition:
            case All():
                every = np.ones(len(self._people), dtype=bool)
                for part in condition.all:
                    every &= self.who(part)
                return every
            case AnyOf():
                some = np.zeros(len(self._people), dtype=bool)
                for part in condition.any:
                    some |= self.who(part)
                return some
            case Not():
                return ~self.who(condition.negated)
            case OfFeature():
                return self._compared(condition)
            case OfInteractions():
                counts = self._number(self._count(condition.interactions))
                enough = [condition.interactions.enough(n) for n in range(counts.max(initial=0) + 1)]
                verdicts: BoolArray = np.array(enough, dtype=bool)[counts]
                return verdicts
            case OfAttribute():
                return self._attribute(condition)
            case OfTag():
                return self._among(self._tagged(condition.tag))
            case OfConsent():
                return self._permitted(condition.consent)
            case OfIdentity():
                held = identities.c.kind == condition.identity, identities.c.linked_at <= self._now
                return self._among(select(identities.c.customer_id).where(*held).distinct())

    def _among(self, query: Select[tuple[str]]) -> BoolArray:
        found = frame(self._conn, query)
        return self._people["customer_id"].is_in(found["customer_id"].implode()).to_numpy()

    def _number(self, query: Select[tuple[str, int]]) -> np.ndarray:
        counted = frame(self._conn, query)
        joined = self._people.join(counted, on="customer_id", how="left", maintain_order="left")
        return joined["n"].fill_null(0).to_numpy()

    def _count(self, facts: Facts) -> Select[tuple[str, int]]:
        happened = interactions.c
        conditions: list[ColumnElement[bool]] = [
            happened.kind.in_(facts.kinds),
            ~happened.machine_made,
            happened.occurred_at < self._now,
        ]
        if facts.within_days is not None:
            conditions.append(happened.occurred_at >= self._now - timedelta(days=facts.within_days))
        if facts.since is not None:
            conditions.append(happened.occurred_at >= facts.since)
        if facts.until is not None:
            conditions.append(happened.occurred_at < facts.until)
        for column, wanted in (
            (happened.channel, facts.channel),
            (happened.campaign_id, facts.campaign_id),
            (happened.place, facts.place),
        ):
            if wanted is not None:
                conditions.append(column == wanted)
        if facts.value_at_least_minor is not None:
            conditions.append(happened.value_minor >= facts.value_at_least_minor)
        conditions += [
            happened.attributes[name].as_string() == text for name, text in facts.attributes.items()
        ]
        query = select(happened.customer_id, func.count().label("n"))
        if facts.local_hours is not None or facts.weekdays is not None:
            query = query.join(customers, customers.c.customer_id == happened.customer_id)
        if facts.local_hours is not None:
            hour = _local(self._conn, "hour")
            conditions += [hour >= facts.local_hours.from_hour, hour < facts.local_hours.until_hour]
        if facts.weekdays is not None:
            conditions.append(_local(self._conn, "isodow").in_(facts.weekdays))
        return query.where(*conditions).group_by(happened.customer_id)

    def _tagged(self, tag: str) -> Select[tuple[str]]:
        latest = func.row_number().over(
            partition_by=tags.c.customer_id, order_by=(tags.c.since.desc(), tags.c.tag_id.desc())
        )
        ranked = (
            select(tags.c.customer_id, tags.c.present, latest.label("rank"))
            .where(tags.c.tag == tag, tags.c.since <= self._now)
            .subquery()
        )
        return select(ranked.c.customer_id).where(ranked.c.rank == 1, ranked.c.present)

    def _permitted(self, permission: Permission) -> BoolArray:
        said = self._among(self._said(permission.channel, permission.purpose, [permission.status]))
        if permission.status is ConsentStatus.GRANTED:
            said &= ~self._among(self._said(EVERY_CHANNEL, permission.purpose, list(REFUSALS)))
        return said

    def _said(self, channel: str, purpose: str, statuses: list[ConsentStatus]) -> Select[tuple[str]]:
        latest = func.row_number().over(
            partition_by=consents.c.customer_id,
            order_by=(consents.c.since.desc(), consents.c.consent_id.desc()),
        )
        ranked = (
            select(consents.c.customer_id, consents.c.status, latest.label("rank"))
            .where(
                consents.c.channel == channel, consents.c.purpose == purpose, consents.c.since <= self._now
            )
            .subquery()
        )
        return select(ranked.c.customer_id).where(ranked.c.rank == 1, ranked.c.status.in_(statuses))

    def _attribute(self, condition: OfAttribute) -> BoolArray:
        """Few distinct values are many customers': each is compared once."""
        register = frame(self._conn, select(customers.c.customer_id, customers.c.attributes))
        stated = register.with_columns(
            pl.col("attributes").map_elements(
                lambda document: _json_of(document, condition.attribute), return_dtype=pl.String
            )
        )
        verdicts = {
            value: value is not None and compares(orjson.loads(value), condition.op, condition.value)
            for value in stated["attributes"].unique()
        }
        holds = {
            customer_id
            for customer_id, value in stated.select("customer_id", "attributes").iter_rows()
            if verdicts[value]
        }
        return np.array([customer_id in holds for customer_id in self._people["customer_id"]], dtype=bool)

    def _compared(self, condition: OfFeature) -> BoolArray:
        values: FloatArray = self._values[condition.feature].to_numpy()
        known: BoolArray = ~np.isnan(values)
        wanted = condition.value
        if isinstance(wanted, tuple):
            return np.logical_and(known, np.isin(values, wanted))
        compared = {
            "<": np.less,
            "<=": np.less_equal,
            ">": np.greater,
            ">=": np.greater_equal,
            "==": np.equal,
            "!=": np.not_equal,
        }[condition.op]
        return np.logical_and(known, compared(values, wanted))


def _feature_values(
    conn: Connection,
    people: pl.DataFrame,
    now: datetime,
    features: FeatureList | None,
    compared: list[str],
) -> pl.DataFrame:
    """The compared features of everybody, NaN where missing."""
    if features is None or not compared or people.is_empty():
        return pl.DataFrame(schema=dict.fromkeys(compared, pl.Float64()))
    chunks = []
    for part in people.iter_slices(_CUSTOMERS_A_COMPUTATION):
        points = part.with_columns(event_timestamp=pl.lit(now)).cast(dict(POINTS))  # type: ignore[arg-type]
        rows = compute(features, points, load_known(conn, features, points))
        chunks.append(rows.select(compared).cast(pl.Float64).fill_null(float("nan")))
    return pl.concat(chunks)


def _json_of(document: str, name: str) -> str | None:
    value = orjson.loads(document).get(name)
    return None if value is None else orjson.dumps(value).decode()


def _local(conn: Connection, part: LocalPart) -> ColumnElement[int]:
    return local_part(conn, part, interactions.c.occurred_at, customers.c.time_zone)

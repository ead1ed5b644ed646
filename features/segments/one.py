"""Whether one customer belongs to a segment, from what is known of them alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl
from sqlalchemy import Connection, select

from features.compute import POINTS, compute, load_known
from features.feature_list import FeatureList
from features.history.query import present_id
from features.history.tables import consents, customers, identities, interactions, tags
from features.segments.everybody import check_features
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
    parts,
)
from models.domain.customer import EVERY_CHANNEL, ConsentStatus, zone
from models.domain.eligibility import REFUSALS
from models.domain.errors import NotFoundError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Person:
    """What a condition can ask of one customer, as of `now`."""

    now: datetime
    time_zone: str
    attributes: Mapping[str, float | str]
    facts: Sequence[Any]
    tags: Mapping[str, bool]
    statuses: Mapping[tuple[str, str], str]
    accounts: frozenset[str]
    features: Mapping[str, float | None]


def is_member(
    conn: Connection,
    segment: Segment,
    customer_id: str,
    now: datetime,
    features: FeatureList | Mapping[str, float | None] | None = None,
) -> bool:
    """Whether the customer belongs to the segment as of `now`; agrees with `everybody.members`.

    Args:
        conn: Only read.
        segment: The segment.
        customer_id: ONE_ID.
        now: Aware.
        features: The customer's row of features by name, None where missing; or the list of features, from which
            the row is computed. Needed where the segment compares one.

    Raises:
        NotFoundError: nobody has this id.
        InvalidInputError: the segment compares a feature that is not there.
    """
    customer_id = present_id(conn, customer_id)
    wanted = feature_names(segment.condition)
    row: Mapping[str, float | None] = {}
    if isinstance(features, Mapping):
        row = features
    else:
        check_features(segment, features)
        if features is not None and wanted:
            row = _row(conn, features, customer_id, now, wanted)
    return _holds(segment.condition, _load(conn, segment, customer_id, now, row))


def _holds(condition: Condition, person: _Person) -> bool:
    match condition:
        case All():
            return all(_holds(part, person) for part in condition.all)
        case AnyOf():
            return any(_holds(part, person) for part in condition.any)
        case Not():
            return not _holds(condition.negated, person)
        case OfFeature():
            return compares(person.features.get(condition.feature), condition.op, condition.value)
        case OfInteractions():
            facts = condition.interactions
            return facts.enough(sum(_counts(facts, fact, person) for fact in person.facts))
        case OfAttribute():
            return compares(person.attributes.get(condition.attribute), condition.op, condition.value)
        case OfTag():
            return person.tags.get(condition.tag, False)
        case OfConsent():
            return _permitted(condition.consent, person)
        case OfIdentity():
            return condition.identity.value in person.accounts


def _counts(facts: Facts, fact: Any, person: _Person) -> bool:
    local = fact.occurred_at.astimezone(zone(person.time_zone))
    hours = facts.local_hours
    return (
        fact.kind in facts.kinds
        and (facts.within_days is None or fact.occurred_at >= person.now - timedelta(days=facts.within_days))
        and (facts.since is None or fact.occurred_at >= facts.since)
        and (facts.until is None or fact.occurred_at < facts.until)
        and facts.channel in (None, fact.channel)
        and facts.campaign_id in (None, fact.campaign_id)
        and facts.place in (None, fact.place)
        and (
            facts.value_at_least_minor is None
            or (fact.value_minor is not None and fact.value_minor >= facts.value_at_least_minor)
        )
        and (hours is None or hours.from_hour <= local.hour < hours.until_hour)
        and (facts.weekdays is None or local.isoweekday() in facts.weekdays)
        and all(fact.attributes.get(name) == text for name, text in facts.attributes.items())
    )


def _permitted(permission: Permission, person: _Person) -> bool:
    if person.statuses.get((permission.channel, permission.purpose)) != permission.status:
        return False
    if permission.status is not ConsentStatus.GRANTED:
        return True
    return person.statuses.get((EVERY_CHANNEL, permission.purpose)) not in REFUSALS


def _load(
    conn: Connection, segment: Segment, customer_id: str, now: datetime, row: Mapping[str, float | None]
) -> _Person:
    register = conn.execute(
        select(customers.c.time_zone, customers.c.attributes).where(customers.c.customer_id == customer_id)
    ).one_or_none()
    if register is None:
        raise NotFoundError("customer_id", customer_id)
    counted = [part.interactions for part in parts(segment.condition) if isinstance(part, OfInteractions)]
    kinds = sorted({kind for facts in counted for kind in facts.kinds})
    facts = select(
        interactions.c.kind,
        interactions.c.occurred_at,
        interactions.c.channel,
        interactions.c.campaign_id,
        interactions.c.place,
        interactions.c.value_minor,
        interactions.c.attributes,
    ).where(
        interactions.c.customer_id == customer_id,
        interactions.c.kind.in_(kinds),
        ~interactions.c.machine_made,
        interactions.c.occurred_at < now,
    )
    if counted and all(each.within_days is not None for each in counted):
        longest = max(each.within_days or 0.0 for each in counted)
        facts = facts.where(interactions.c.occurred_at >= now - timedelta(days=longest))
    tagged = (
        select(tags.c.tag, tags.c.present)
        .where(tags.c.customer_id == customer_id, tags.c.since <= now)
        .order_by(tags.c.since, tags.c.tag_id)
    )
    said = (
        select(consents.c.channel, consents.c.purpose, consents.c.status)
        .where(consents.c.customer_id == customer_id, consents.c.since <= now)
        .order_by(consents.c.since, consents.c.consent_id)
    )
    held = select(identities.c.kind).where(
        identities.c.customer_id == customer_id, identities.c.linked_at <= now
    )
    return _Person(
        now=now,
        time_zone=register.time_zone,
        attributes=register.attributes,
        facts=conn.execute(facts).all() if kinds else (),
        tags={tag: present for tag, present in conn.execute(tagged)},  # noqa: C416 - of several the last counts
        statuses={(channel, purpose): status for channel, purpose, status in conn.execute(said)},
        accounts=frozenset(conn.scalars(held)),
        features=row,
    )


def _row(
    conn: Connection, features: FeatureList, customer_id: str, now: datetime, wanted: Sequence[str]
) -> dict[str, float | None]:
    points = pl.DataFrame({"customer_id": [customer_id], "event_timestamp": [now]}, schema=POINTS)
    rows = compute(features, points, load_known(conn, features, points))
    return dict(zip(wanted, rows.select(wanted).cast(pl.Float64).fill_nan(None).row(0), strict=True))

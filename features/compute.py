"""Features at any moment of any customer: the one computation behind training rows, snapshots and refreshes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb
import orjson
import polars as pl
from sqlalchemy import Connection, Select, select

from features.definitions import DAY_US, LOOKBACK_DAYS
from features.feature_list import FeatureList
from features.history.export import MOMENT, frame
from features.history.query import in_chunks
from features.history.tables import consents, customers, identities, interactions
from models.domain.interaction import InteractionKind as Kind

# Beyond any amount in any currency; larger ones are cut to it, so that a broken fact cannot stop a build.
_LARGEST_VALUE = 1e15

POINTS = pl.Schema({"customer_id": pl.String(), "event_timestamp": MOMENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The part of the history that features are computed from."""

    interactions: pl.DataFrame
    customers: pl.DataFrame
    identities: pl.DataFrame
    consents: pl.DataFrame


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
        interactions.c.channel,
        interactions.c.value_minor,
    ).where(
        ~interactions.c.machine_made,
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
    return Known(
        interactions=_of(conn, facts, people),
        customers=_spread_attributes(_of(conn, register, people), features),
        identities=_of(conn, accounts, people),
        consents=_of(conn, said, people),
    )


def compute(features: FeatureList, points: pl.DataFrame, known: Known) -> pl.DataFrame:
    """Features as of each point, from what happened strictly before it.

    Sums are taken over exact decimals, so that the result does not depend on the order of facts and a row is
    the same whichever other rows are computed with it.

    Args:
        features: What to compute.
        points: Columns `customer_id` and `event_timestamp`, shape (n, 2).
        known: The history of (at least) the customers of the points.

    Returns:
        `customer_id`, `event_timestamp` and one column a feature, one row a point, in the order of the points.
    """
    numbered = points.select(POINTS.names()).with_row_index("point")
    with duckdb.connect(":memory:") as db:
        for name, table in (
            ("points", numbered),
            ("interactions", known.interactions),
            ("customers", known.customers),
            ("identities", known.identities),
            ("consents", known.consents),
        ):
            db.register(name, table.to_arrow())
        rows = pl.DataFrame(db.sql(_query(features)).to_arrow_table())
    if len(rows) != len(points):
        raise AssertionError(f"{len(points)} points gave {len(rows)} rows")
    return rows.with_columns(pl.col("event_timestamp").cast(MOMENT))


def _query(features: FeatureList) -> str:
    of_facts = ",\n".join(f'{each.sql} AS "{each.name}"' for each in features.features if each.of == "facts")
    chosen = ",\n".join(
        f'{"seen" if each.of == "facts" else "person"}."{each.name}"::{_DUCKDB_TYPES[each.dtype]} AS "{each.name}"'
        for each in features.features
    )
    of_customer = "".join(
        f', {each.sql} AS "{each.name}"' for each in features.features if each.of == "customer"
    )
    return f"""
        WITH facts AS (
            SELECT i.customer_id, i.kind, i.channel, epoch_us(i.occurred_at) AS at_us,
                least(greatest(coalesce(i.value_minor, 0), -{_LARGEST_VALUE}), {_LARGEST_VALUE})
                    ::DECIMAL(38, 6) AS value,
                CASE WHEN i.kind IN ('{Kind.VISITED}', '{Kind.OPENED}', '{Kind.CLICKED}')
                    THEN hour(timezone(coalesce(c.time_zone, 'UTC'), i.occurred_at)) END AS hour
            FROM interactions i LEFT JOIN customers c USING (customer_id)
        ),
        moments AS (SELECT point, customer_id, event_timestamp, epoch_us(event_timestamp) AS at_us FROM points),
        pairs AS (
            SELECT m.point, f.kind, f.channel, m.at_us - f.at_us AS age_us, f.value, f.hour
            FROM moments m LEFT JOIN facts f ON f.customer_id = m.customer_id
                AND f.at_us < m.at_us AND f.at_us >= m.at_us - {LOOKBACK_DAYS * DAY_US}
        ),
        seen AS (SELECT point, {of_facts} FROM pairs GROUP BY point),
        accounts AS (
            SELECT m.point, count(*) AS n_identities
            FROM moments m JOIN identities i ON i.customer_id = m.customer_id AND epoch_us(i.linked_at) < m.at_us
            GROUP BY m.point
        ),
        permissions AS (
            SELECT point, count(*) FILTER (WHERE status = 'granted') AS n_consents
            FROM (
                SELECT m.point, last(s.status ORDER BY s.since, s.consent_id) AS status
                FROM moments m JOIN consents s ON s.customer_id = m.customer_id AND epoch_us(s.since) < m.at_us
                GROUP BY m.point, s.channel, s.purpose
            )
            GROUP BY point
        ),
        register AS (
            SELECT m.point, c.* EXCLUDE (customer_id),
                CASE WHEN epoch_us(c.created_at) <= m.at_us THEN m.at_us - epoch_us(c.created_at) END AS tenure_us,
                coalesce(a.n_identities, 0) AS n_identities, coalesce(p.n_consents, 0) AS n_consents
            FROM moments m
            LEFT JOIN customers c USING (customer_id)
            LEFT JOIN accounts a USING (point)
            LEFT JOIN permissions p USING (point)
        ),
        person AS (SELECT point{of_customer} FROM register)
        SELECT m.customer_id, m.event_timestamp, {chosen}
        FROM moments m JOIN seen USING (point) JOIN person USING (point)
        ORDER BY m.point
    """  # noqa: S608 - made of the list's own expressions


_DUCKDB_TYPES = {"float64": "DOUBLE", "int64": "BIGINT"}
_EVERYBODY = 20_000


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

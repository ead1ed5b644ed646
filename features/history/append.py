"""Put facts into the history. Repeated facts change nothing; the caller owns the transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Table, Text, bindparam, cast, column, func, select, text
from sqlalchemy.dialects import postgresql, sqlite

from features.history.decisions import decision_row
from features.history.query import latest_campaigns
from features.history.tables import consents, customers, decisions, identities, interactions
from models.domain.customer import EVERY_CHANNEL, Consent, ConsentStatus, Identity, zone
from models.domain.decision import Decision
from models.domain.errors import require
from models.domain.interaction import Interaction, InteractionKind

DEFAULT_PURPOSE = "marketing"
_ROWS_A_STATEMENT = 10_000
_REFUSALS = {
    InteractionKind.UNSUBSCRIBED: ConsentStatus.UNSUBSCRIBED,
    InteractionKind.COMPLAINED: ConsentStatus.COMPLAINED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerRecord:
    """A person as the customer register knows them.

    Attributes:
        customer_id: ONE_ID.
        time_zone: IANA name.
        created_at: When they became a customer, aware.
        attributes: Number or text by name; each becomes a feature `attr_<name>`.
    """

    customer_id: str
    time_zone: str
    created_at: datetime
    attributes: Mapping[str, float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(bool(self.customer_id), "customer_id", self.customer_id, "must not be empty")
        zone(self.time_zone)
        require(
            self.created_at.tzinfo is not None,
            "created_at",
            self.created_at.isoformat(),
            "must carry a time zone, for example 2026-01-31T09:00:00Z",
        )


@dataclass(frozen=True, slots=True)
class Appended:
    """How many rows were new, and how many the history held already."""

    n_new: int
    n_repeated: int


def append_customers(conn: Connection, records: Sequence[CustomerRecord]) -> Appended:
    """Add people; one who is known already takes the values of the new record.

    Of several records of one person the last counts; the others are repeats.
    """
    rows = {
        record.customer_id: {
            "customer_id": record.customer_id,
            "time_zone": record.time_zone,
            "created_at": record.created_at,
            "attributes": dict(record.attributes),
        }
        for record in records
    }
    n_new = _insert_new(conn, customers, list(rows.values()))
    if n_new < len(rows):
        statement = _insert(conn, customers)
        given = statement.excluded
        conn.execute(
            statement.on_conflict_do_update(
                index_elements=["customer_id"],
                set_={
                    "time_zone": given.time_zone,
                    "created_at": given.created_at,
                    "attributes": given.attributes,
                },
            ),
            list(rows.values()),
        )
    return Appended(n_new, len(records) - n_new)


def append_identities(conn: Connection, links: Sequence[Identity]) -> Appended:
    """Add contact points of known customers; a contact point that is linked already stays where it is."""
    rows = [
        {
            "customer_id": link.customer_id,
            "kind": link.kind,
            "value": link.value,
            "linked_at": link.linked_at,
            "source": link.source,
        }
        for link in links
    ]
    return _append(conn, identities, rows)


def append_consents(conn: Connection, statements: Sequence[Consent]) -> Appended:
    """Add what known customers said about channels and purposes."""
    rows = [
        {
            "customer_id": said.customer_id,
            "channel": said.channel,
            "purpose": said.purpose,
            "status": said.status,
            "since": said.since,
            "source": said.source,
        }
        for said in statements
    ]
    return _append(conn, consents, rows)


def append_interactions(conn: Connection, facts: Sequence[Interaction], received_at: datetime) -> Appended:
    """Add facts, unique by (source, event_id); late and unordered ones are welcome.

    A refusal (unsubscribed, complained) is also recorded as a consent, for the purpose of the campaign that it
    answers, else for marketing. One that neither names a channel nor answers a decision speaks of every channel.
    A refusal of somebody unknown makes them known, so that it is not lost.

    Args:
        conn: In the caller's transaction.
        facts: Any number, of any customers.
        received_at: When they arrived, aware.
    """
    rows = [
        {
            "source": fact.source,
            "event_id": fact.event_id,
            "customer_id": fact.customer_id,
            "kind": fact.kind,
            "occurred_at": fact.occurred_at,
            "received_at": received_at,
            "channel": fact.channel,
            "campaign_id": fact.campaign_id,
            "offer_id": fact.offer_id,
            "decision_id": fact.decision_id,
            "value_minor": fact.value_minor,
            "machine_made": fact.machine_made,
            "attributes": dict(fact.attributes),
        }
        for fact in facts
    ]
    appended = _append(conn, interactions, rows)
    refusals = [fact for fact in facts if fact.kind in _REFUSALS]
    if refusals:
        _record_refusals(conn, refusals)
    return appended


def append_decisions(conn: Connection, made: Sequence[Decision]) -> Appended:
    """Add decisions, unique by decision_id.

    Raises:
        InvalidInputError: one of them is a dry run, which is never stored.
    """
    return _append(conn, decisions, [decision_row(decision) for decision in made])


def _record_refusals(conn: Connection, refusals: Sequence[Interaction]) -> None:
    unknown = [
        {
            "customer_id": fact.customer_id,
            "time_zone": "UTC",
            "created_at": fact.occurred_at,
            "attributes": {},
        }
        for fact in refusals
    ]
    _insert_new(conn, customers, unknown)
    decision_ids = {fact.decision_id for fact in refusals if fact.decision_id}
    made = conn.execute(
        select(decisions.c.decision_id, decisions.c.campaign_id, decisions.c.channel).where(
            decisions.c.decision_id.in_(sorted(decision_ids))
        )
    ).all()
    campaign_of = {row.decision_id: row.campaign_id for row in made}
    channel_of = {row.decision_id: row.channel for row in made}
    answered = [campaign_of.get(fact.decision_id or "", fact.campaign_id) for fact in refusals]
    purposes = {
        campaign.campaign_id: campaign.purpose
        for campaign in latest_campaigns(conn, sorted({name for name in answered if name}))
    }
    append_consents(
        conn,
        [
            Consent(
                customer_id=fact.customer_id,
                channel=fact.channel or channel_of.get(fact.decision_id or "") or EVERY_CHANNEL,
                purpose=purposes.get(campaign_id or "", DEFAULT_PURPOSE),
                status=_REFUSALS[fact.kind],
                since=fact.occurred_at,
                source=fact.source,
            )
            for fact, campaign_id in zip(refusals, answered, strict=True)
        ],
    )


def _append(conn: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> Appended:
    n_new = _insert_new(conn, table, rows)
    return Appended(n_new, len(rows) - n_new)


def _insert_new(conn: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> int:
    """Insert the rows that break no unique constraint, in bulk; the number inserted."""
    if not rows:
        return 0
    if conn.dialect.name != "postgresql":
        single = sqlite.insert(table).on_conflict_do_nothing()
        return conn.execute(single, rows, execution_options={"preserve_rowcount": True}).rowcount
    # One parameter for ten thousand rows: measured 6 times faster than one parameter a value.
    names = list(rows[0])
    columns = [column(name, table.c[name].type) for name in names]
    given = func.json_to_recordset(cast(bindparam("rows", type_=Text), postgresql.JSON)).table_valued(
        *columns, name="given"
    )
    statement = (
        postgresql.insert(table)
        .from_select(names, select(*given.render_derived(with_types=True).c), include_defaults=False)
        .on_conflict_do_nothing()
        .execution_options(preserve_rowcount=True)
    )
    chunks = (rows[start : start + _ROWS_A_STATEMENT] for start in range(0, len(rows), _ROWS_A_STATEMENT))
    n_new = sum(conn.execute(statement, {"rows": _to_json(chunk)}).rowcount for chunk in chunks)
    if n_new >= _ROWS_A_STATEMENT:
        # Without statistics PostgreSQL takes the table for empty, and joins it by loops that never end.
        conn.execute(text(f"ANALYZE {table.name}"))
    return n_new


def _to_json(rows: Sequence[dict[str, Any]]) -> str:
    return orjson.dumps(rows, default=_moment_to_json, option=orjson.OPT_PASSTHROUGH_DATETIME).decode()


def _moment_to_json(value: object) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"{type(value).__name__} is no type of a column")
    if value.tzinfo is None:
        raise ValueError(f"{value.isoformat()} has no time zone")
    return value.isoformat()


def _insert(conn: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(table) if conn.dialect.name == "postgresql" else sqlite.insert(table)

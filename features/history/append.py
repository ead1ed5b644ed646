"""Put facts into the history. Repeated facts change nothing; the caller owns the transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, select

from features.history.decisions import decision_row
from features.history.facts import DEFAULT_MACHINE_RULES, FactRow, flag_machine_made, mark_agents
from features.history.insert import insert_into, insert_new
from features.history.query import latest_campaigns
from features.history.tables import consents, customers, decisions, identities, interactions
from models.domain.customer import EVERY_CHANNEL, Consent, ConsentStatus, Identity, zone
from models.domain.decision import Decision
from models.domain.errors import require
from models.domain.interaction import Interaction, InteractionKind
from models.domain.machine_made import MachineRules

DEFAULT_PURPOSE = "marketing"
_FOLLOWS = {InteractionKind.FOLLOWED.value, InteractionKind.UNFOLLOWED.value}
_STATEMENTS = {
    InteractionKind.UNSUBSCRIBED.value: ConsentStatus.UNSUBSCRIBED,
    InteractionKind.COMPLAINED.value: ConsentStatus.COMPLAINED,
    InteractionKind.FOLLOWED.value: ConsentStatus.GRANTED,
    InteractionKind.UNFOLLOWED.value: ConsentStatus.WITHDRAWN,
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
    n_new = insert_new(conn, customers, list(rows.values()))
    if n_new < len(rows):
        statement = insert_into(conn, customers)
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
    To follow an account grants its channel for every purpose of a campaign, to unfollow it withdraws it: whoever
    is no friend cannot be reached. A statement of somebody unknown makes them known, so that it is not lost.

    Opens and clicks that machines made are flagged, with the rule (`models.domain.machine_made`).

    Args:
        conn: In the caller's transaction.
        facts: Any number, of any customers.
        received_at: When they arrived, aware.
    """
    return append_fact_rows(
        conn,
        [
            {
                "source": fact.source,
                "event_id": fact.event_id,
                "customer_id": fact.customer_id,
                "kind": fact.kind.value,
                "occurred_at": fact.occurred_at,
                "received_at": received_at,
                "channel": fact.channel,
                "campaign_id": fact.campaign_id,
                "offer_id": fact.offer_id,
                "decision_id": fact.decision_id,
                "value_minor": fact.value_minor,
                "place": fact.place,
                "machine_made": fact.machine_made,
                "machine_rule": fact.machine_rule,
                "attributes": fact.attributes,
            }
            for fact in facts
        ],
    )


def append_fact_rows(
    conn: Connection, rows: Sequence[FactRow], rules: MachineRules = DEFAULT_MACHINE_RULES
) -> Appended:
    """Add facts that are rows already and have been checked; all else is as in `append_interactions`.

    Args:
        conn: In the caller's transaction.
        rows: Each with every key of `FactRow`; rows that a machine rule applies to are marked in place.
        rules: Tell machines from people.
    """
    mark_agents(rows, rules)
    n_new = insert_new(conn, interactions, rows)
    if n_new:
        flag_machine_made(conn, rows, rules)
    said = [row for row in rows if row["kind"] in _STATEMENTS]
    if said:
        _record_statements(conn, said)
    return Appended(n_new, len(rows) - n_new)


def append_decisions(conn: Connection, made: Sequence[Decision]) -> Appended:
    """Add decisions, unique by decision_id.

    Raises:
        InvalidInputError: one of them is a dry run, which is never stored.
    """
    return _append(conn, decisions, [decision_row(decision) for decision in made])


def _record_statements(conn: Connection, said: Sequence[FactRow]) -> None:
    unknown = [
        {
            "customer_id": fact["customer_id"],
            "time_zone": "UTC",
            "created_at": fact["occurred_at"],
            "attributes": {},
        }
        for fact in said
    ]
    insert_new(conn, customers, unknown)
    decision_ids = {fact["decision_id"] for fact in said if fact["decision_id"]}
    made = conn.execute(
        select(decisions.c.decision_id, decisions.c.campaign_id, decisions.c.channel).where(
            decisions.c.decision_id.in_(sorted(decision_ids))
        )
    ).all()
    campaign_of = {row.decision_id: row.campaign_id for row in made}
    channel_of = {row.decision_id: row.channel for row in made}
    answered_by = [campaign_of.get(fact["decision_id"] or "", fact["campaign_id"]) for fact in said]
    follows = any(fact["kind"] in _FOLLOWS for fact in said)
    campaigns = latest_campaigns(conn, None if follows else sorted({name for name in answered_by if name}))
    purposes = {campaign.campaign_id: campaign.purpose for campaign in campaigns}
    every_purpose = {DEFAULT_PURPOSE, *purposes.values()}
    stated: list[Consent] = []
    for fact, campaign_id in zip(said, answered_by, strict=True):
        channel = fact["channel"] or channel_of.get(fact["decision_id"] or "")
        if fact["kind"] in _FOLLOWS:
            if channel is None:
                continue  # of which account is not known
            concerned = every_purpose
        else:
            concerned = {purposes.get(campaign_id or "", DEFAULT_PURPOSE)}
        stated += [
            Consent(
                customer_id=fact["customer_id"],
                channel=channel or EVERY_CHANNEL,
                purpose=purpose,
                status=_STATEMENTS[fact["kind"]],
                since=fact["occurred_at"],
                source=fact["source"],
            )
            for purpose in sorted(concerned)
        ]
    append_consents(conn, stated)


def _append(conn: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> Appended:
    n_new = insert_new(conn, table, rows)
    return Appended(n_new, len(rows) - n_new)

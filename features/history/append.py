"""Put facts into the history. Repeated facts change nothing; the caller owns the transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Connection, Table, select

from features.history.attributes import Told, keep_former
from features.history.campaigns import latest_campaigns
from features.history.decisions import whole_row
from features.history.facts import DEFAULT_MACHINE_RULES, UNSAID, FactRow, flag_machine_made, mark_agents
from features.history.insert import insert_into, insert_new
from features.history.members import update_members
from features.history.query import present_ids
from features.history.suppression import erased_contact_points, erased_customers, is_tombstone
from features.history.tables import consents, customers, decisions, identities, interactions
from features.history.unsettled import note
from features.identity.vault import vault_of
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
        told_at: When these attributes were told, aware: decisions before it are learned from with those that were
            known before. None where that was when they became a customer.
        anonymous: Whether only a device is known of them.
    """

    customer_id: str
    time_zone: str
    created_at: datetime
    attributes: Mapping[str, float | str] = field(default_factory=dict)
    anonymous: bool = False
    told_at: datetime | None = None

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
    """How many rows were new, how many the history held already, and how many were passed over.

    Attributes:
        n_erased: Rows of people who were erased: they do not come back.
    """

    n_new: int
    n_repeated: int
    n_erased: int = 0


def append_customers(conn: Connection, records: Sequence[CustomerRecord]) -> Appended:
    """Add people; one who is known already takes the values of the new record, and keeps former attributes.

    Of several records of one person the last counts; the others are repeats. Who was erased is passed over.
    """
    erased = erased_customers(conn, (record.customer_id for record in records))
    n_given, records = len(records), [one for one in records if one.customer_id not in erased]
    told_at = {record.customer_id: record.told_at or record.created_at for record in records}
    merged = update_members(conn, {record.customer_id: record_values(record) for record in records}, told_at)
    rows = {
        record.customer_id: {"customer_id": record.customer_id, **record_values(record)}
        for record in records
        if record.customer_id not in merged
    }
    n_new = insert_new(conn, customers, list(rows.values()))
    if n_new < len(rows):
        statement = insert_into(conn, customers)
        given = statement.excluded
        keep_former(conn, {one: Told(row["attributes"], told_at[one]) for one, row in rows.items()})
        conn.execute(
            statement.on_conflict_do_update(
                index_elements=["customer_id"],
                set_={
                    "time_zone": given.time_zone,
                    "created_at": given.created_at,
                    "attributes": given.attributes,
                    "anonymous": given.anonymous,
                },
            ),
            list(rows.values()),
        )
    return Appended(n_new, len(records) - n_new, n_given - len(records))


def append_identities(conn: Connection, links: Sequence[Identity]) -> Appended:
    """Add contact points of known customers; one that is linked already, in any spelling, stays where it is.

    They are sealed here: nothing of the history holds a contact point in the clear. Those of people who were
    erased are passed over.
    """
    vault = vault_of(conn)
    erased = erased_contact_points(conn, ((link.kind, link.value) for link in links))
    lost = erased_customers(conn, (link.customer_id for link in links)) if links else set()
    kept = [link for link in links if (link.kind, link.value) not in erased and link.customer_id not in lost]
    merged = present_ids(conn, (link.customer_id for link in kept))
    rows = []
    for link in kept:
        sealed = vault.seal(link.kind, link.customer_id, link.value)
        rows.append(
            of_person(link.customer_id, merged)
            | {
                "kind": link.kind,
                "lookup": sealed.lookup,
                "key_id": sealed.key_id,
                "sealed": sealed.sealed,
                "linked_at": link.linked_at,
                "source": link.source,
            }
        )
    appended = _append(conn, identities, rows)
    return replace(appended, n_erased=len(links) - len(kept))


def append_consents(conn: Connection, statements: Sequence[Consent]) -> Appended:
    """Add what known customers said about channels and purposes; who was erased is passed over."""
    lost = erased_customers(conn, (said.customer_id for said in statements))
    kept = [said for said in statements if said.customer_id not in lost]
    merged = present_ids(conn, (said.customer_id for said in kept))
    rows = [
        of_person(said.customer_id, merged)
        | {
            "channel": said.channel,
            "purpose": said.purpose,
            "status": said.status,
            "since": said.since,
            "source": said.source,
        }
        for said in kept
    ]
    appended = _append(conn, consents, rows)
    return replace(appended, n_erased=len(statements) - len(kept))


def append_interactions(
    conn: Connection,
    facts: Sequence[Interaction],
    received_at: datetime,
    rules: MachineRules = DEFAULT_MACHINE_RULES,
) -> Appended:
    """Add facts, unique by (source, event_id); late and unordered ones are welcome.

    A refusal (unsubscribed, complained) is also recorded as a consent, for the purpose of the campaign that it
    answers, else for marketing. One that neither names a channel nor answers a decision speaks of every channel.
    To follow an account grants its channel for every purpose of a campaign, to unfollow it withdraws it: whoever
    is no friend cannot be reached. A statement of somebody unknown makes them known, so that it is not lost.

    Opens and clicks that machines made are flagged, with the rule (`models.domain.machine_made`). Facts of people who
    were erased are passed over; those of an id that was merged into another belong to the person.

    Args:
        conn: In the caller's transaction.
        facts: Any number, of any customers.
        received_at: When they arrived, aware.
        rules: Tell machines from people.
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
        received_at,
        rules,
    )


def append_fact_rows(
    conn: Connection,
    rows: Sequence[FactRow],
    received_at: datetime,
    rules: MachineRules = DEFAULT_MACHINE_RULES,
) -> Appended:
    """Add facts that are rows already and have been checked; all else is as in `append_interactions`.

    Args:
        conn: In the caller's transaction.
        rows: Rows that a machine rule applies to are marked in place, and rows of an id that was merged into another
            are put under the person's.
        received_at: When they arrived, aware.
        rules: Tell machines from people.
    """
    lost = erased_customers(conn, (row["customer_id"] for row in rows))
    kept = [row for row in rows if row["customer_id"] not in lost] if lost else rows
    merged = present_ids(conn, (row["customer_id"] for row in kept))
    if merged:
        for row in kept:
            person = merged.get(row["customer_id"])
            if person is not None:
                row["customer_id"], row["recorded_as"] = person, row["customer_id"]
    mark_agents(kept, rules)
    n_new = insert_new(
        conn, interactions, cast("Sequence[dict[str, Any]]", kept), {**UNSAID, "received_at": received_at}
    )
    if n_new:
        flag_machine_made(conn, kept, rules)
    said = [row for row in kept if row["kind"] in _STATEMENTS and not is_tombstone(row["customer_id"])]
    if said:
        _record_statements(conn, said)
    return Appended(n_new, len(kept) - n_new, len(rows) - len(kept))


def append_decisions(conn: Connection, made: Sequence[Decision]) -> Appended:
    """Add decisions, unique by decision_id; those for people who were erased are passed over.

    Raises:
        InvalidInputError: one of them is a dry run, which is never stored.
    """
    lost = erased_customers(conn, (decision.customer_id for decision in made))
    kept = [decision for decision in made if decision.customer_id not in lost]
    merged = present_ids(conn, (decision.customer_id for decision in kept))
    rows = [whole_row(decision) | of_person(decision.customer_id, merged) for decision in kept]
    appended = replace(_append(conn, decisions, rows), n_erased=len(made) - len(kept))
    note(conn, decision_ids=[decision.decision_id for decision in kept])
    return appended


def record_values(record: CustomerRecord) -> dict[str, Any]:
    """What is known of a person beside their id, as columns."""
    return {
        "time_zone": record.time_zone,
        "created_at": record.created_at,
        "attributes": dict(record.attributes),
        "anonymous": record.anonymous,
    }


def of_person(customer_id: str, merged: Mapping[str, str]) -> dict[str, Any]:
    """The columns that say whose a row is: the person's, with the id that it came with where that is another."""
    person = merged.get(customer_id, customer_id)
    return {"customer_id": person, "recorded_as": "" if person == customer_id else customer_id}


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
    decision_ids = {decision_id for fact in said if (decision_id := fact.get("decision_id"))}
    made = conn.execute(
        select(decisions.c.decision_id, decisions.c.campaign_id, decisions.c.channel).where(
            decisions.c.decision_id.in_(sorted(decision_ids))
        )
    ).all()
    campaign_of = {row.decision_id: row.campaign_id for row in made}
    channel_of = {row.decision_id: row.channel for row in made}
    answered_by = [campaign_of.get(fact.get("decision_id") or "", fact.get("campaign_id")) for fact in said]
    follows = any(fact["kind"] in _FOLLOWS for fact in said)
    campaigns = latest_campaigns(conn, None if follows else sorted({name for name in answered_by if name}))
    purposes = {campaign.campaign_id: campaign.purpose for campaign in campaigns}
    every_purpose = {DEFAULT_PURPOSE, *purposes.values()}
    stated: list[Consent] = []
    for fact, campaign_id in zip(said, answered_by, strict=True):
        channel = fact.get("channel") or channel_of.get(fact.get("decision_id") or "")
        if fact["kind"] in _FOLLOWS:
            if channel is None:
                continue  # of which account is not known
            concerned = every_purpose
        else:
            concerned = {purposes.get(campaign_id or "", DEFAULT_PURPOSE)}
        stated += [
            Consent(
                customer_id=fact.get("recorded_as") or fact["customer_id"],
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

"""Take a person out of the database and leave every total as it was.

Facts and decisions stay, without whatever tells of whom they were: one random id stands where the person's ids were,
so that sums, counts of people and attributions of rewards come out the same. What only describes the person goes.
Keyed hashes remain, by which a later import cannot bring the person back.

The caller owns the transaction; what lies outside of the database is `features.erasure`'s.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import orjson
from sqlalchemy import Connection, String, bindparam, cast, delete, insert, literal, null, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from features.history.among import among
from features.history.members import lock_people, members_of, person_of
from features.history.referrals import forget_referrals
from features.history.sales import rename_sales, sales_reported_twice
from features.history.suppression import TOMBSTONE, erased_customers
from features.history.tables import (
    agent_tasks,
    channel_outcomes,
    chat_lines,
    chats,
    consents,
    conversations,
    customer_members,
    customers,
    decisions,
    erasures,
    feature_changes,
    follow_ups,
    former_attributes,
    hard_bounces,
    idempotency_keys,
    identities,
    identity_conflicts,
    identity_journal,
    interactions,
    metadata,
    occurrences,
    outbox,
    outcomes,
    points_entries,
    receipts,
    redemptions,
    suppressions,
    survey_answers,
    tags,
    unsettled,
    vouchers,
)
from features.history.unsettled import note, settle_anew
from features.identity.vault import vault_of
from models.domain.errors import NotFoundError

# Rows of these stay without the person; rows of those go; kept answers go that speak of the person; the rest tells of
# nobody. What providers said of the person's messages loses its words. A test compares with the schema.
KEPT_NAMELESS = (interactions, decisions, outbox, vouchers, redemptions, points_entries, occurrences)
REMOVED = (
    identities,
    consents,
    tags,
    identity_journal,
    identity_conflicts,
    customer_members,
    hard_bounces,
    follow_ups,
    conversations,
    agent_tasks,
    chats,
    chat_lines,
    feature_changes,
    former_attributes,
    outcomes,
    channel_outcomes,
    unsettled,
    survey_answers,
    customers,
)
ANSWERS = (idempotency_keys,)
SAID = (receipts,)
OF_NOBODY = (
    "answers",
    "api_keys",
    "channels",
    "campaigns",
    "segments",
    "feature_orders",
    "resource_usage",
    "reservations",
    "rewards",
    "suppressions",
    "erasures",
    "sending_rates",
    "plans",
    "asks",
    "settlement_marks",
    "incentives",
    "coupon_codes",
    "redemption_counts",
    "occasions",
    "occasion_passes",
)


_ANSWERS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """An erasure under way or finished.

    Attributes:
        tombstone_id: Random; stands where the person's ids were.
        customer_ids: The erased ids; empty once nothing holds them any more.
        rows: Rows made nameless or removed, by table.
        finished_at: None until every store and file is clean.
    """

    tombstone_id: str
    customer_ids: tuple[str, ...]
    requested_at: datetime
    finished_at: datetime | None
    rows: dict[str, int]


def subject_of(conn: Connection, customer_id: str) -> tuple[str, ...]:
    """Every id of the person: their own and those that were merged into it.

    Raises:
        NotFoundError: nothing is recorded under the id.
    """
    try:
        return members_of(conn, person_of(conn, customer_id))
    except NotFoundError:
        for table in KEPT_NAMELESS:
            if conn.execute(
                select(table.c.customer_id).where(table.c.customer_id == customer_id).limit(1)
            ).first():
                return (customer_id,)
        raise


def erase_rows(conn: Connection, customer_ids: Sequence[str], now: datetime) -> Erasure:
    """Erase a person from every table.

    Args:
        conn: In the caller's transaction, with which the erasure begins.
        customer_ids: All of the person: `subject_of`. Their messages must have been cancelled.
        now: Aware.
    """
    lock_people(conn, customer_ids)
    tombstone = f"{TOMBSTONE}{uuid4().hex}"
    _suppress(conn, customer_ids, now)
    n_answers = _forget_answers(conn, customer_ids, customer_ids)
    rows = _make_nameless(conn, customer_ids, tombstone)
    rows[str(idempotency_keys.name)] = n_answers
    for table in REMOVED:
        concerned = [table.c[name].in_(customer_ids) for name in _ID_COLUMNS if name in table.c]
        rows[str(table.name)] = conn.execute(delete(table).where(or_(*concerned))).rowcount
    note(conn, [tombstone])
    conn.execute(
        insert(erasures).values(
            tombstone_id=tombstone, subject=list(customer_ids), requested_at=now, rows=rows
        )
    )
    return Erasure(
        tombstone_id=tombstone,
        customer_ids=tuple(customer_ids),
        requested_at=now,
        finished_at=None,
        rows=rows,
    )


def load_unfinished(conn: Connection) -> list[Erasure]:
    """Erasures that were begun and not finished, oldest first."""
    rows = conn.execute(
        select(erasures).where(erasures.c.finished_at.is_(None)).order_by(erasures.c.requested_at)
    )
    return [
        Erasure(
            tombstone_id=row.tombstone_id,
            customer_ids=tuple(row.subject or ()),
            requested_at=row.requested_at,
            finished_at=None,
            rows=row.rows,
        )
        for row in rows
    ]


def forget_subject(conn: Connection, erasure: Erasure) -> None:
    """Drop the erased ids themselves, after what was written under them while the erasure began."""
    _make_nameless(conn, erasure.customer_ids, erasure.tombstone_id)
    _forget_answers(conn, (erasure.tombstone_id,), erasure.customer_ids)
    for table in (
        identities,
        consents,
        tags,
        follow_ups,
        conversations,
        agent_tasks,
        chats,
        chat_lines,
        feature_changes,
        former_attributes,
        survey_answers,
        customers,
    ):
        conn.execute(delete(table).where(table.c.customer_id.in_(erasure.customer_ids)))
    settle_anew(conn, [*erasure.customer_ids, erasure.tombstone_id])
    conn.execute(
        update(erasures).where(erasures.c.tombstone_id == erasure.tombstone_id).values(subject=null())
    )


def finish(conn: Connection, erasure: Erasure, now: datetime) -> None:
    """Nothing holds the person any more."""
    conn.execute(
        update(erasures).where(erasures.c.tombstone_id == erasure.tombstone_id).values(finished_at=now)
    )


def readmit(conn: Connection, lookups: Sequence[str]) -> int:
    """Let an erased contact point or id in again, because the person asks for it; how many were suppressed."""
    return conn.execute(delete(suppressions).where(suppressions.c.digest.in_(lookups))).rowcount


def was_erased(conn: Connection, customer_id: str) -> bool:
    """Whether somebody of that id was erased."""
    return bool(erased_customers(conn, [customer_id]))


_ID_COLUMNS = ("customer_id", "person_id", "other_id", "holder_id", "parent_id")


def _suppress(conn: Connection, customer_ids: Sequence[str], now: datetime) -> None:
    vault = vault_of(conn)
    held = conn.scalars(select(identities.c.lookup).where(identities.c.customer_id.in_(customer_ids)))
    digests = {*held, *(vault.lookup_customer(customer_id) for customer_id in customer_ids)}
    into = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    conn.execute(
        into(suppressions).on_conflict_do_nothing(),
        [{"digest": digest, "erased_at": now} for digest in sorted(digests)],
    )


def _forget_answers(conn: Connection, owners: Sequence[str], customer_ids: Sequence[str]) -> int:
    """Delete the answers that are kept for repeated requests and speak of the person; how many there were.

    Args:
        conn: In the caller's transaction.
        owners: The ids under which the person's decisions are.
        customer_ids: The ids by which an answer may name the person.
    """
    kept = idempotency_keys.c
    made = conn.scalars(select(decisions.c.decision_id).where(decisions.c.customer_id.in_(owners))).all()
    named = [orjson.dumps(text) for text in (*customer_ids, *made)]
    answers = conn.execute(
        select(kept.caller, kept.idempotency_key, kept.answer).where(kept.answer.is_not(None)),
        execution_options={"yield_per": _ANSWERS_AT_ONCE},
    )
    speaking = [
        {"of_caller": caller, "of_key": key}
        for caller, key, answer in answers
        if _names(zlib.decompress(answer), named)
    ]
    n = conn.execute(delete(idempotency_keys).where(among(conn, kept.decision_id, made))).rowcount
    if speaking:
        n += conn.execute(
            delete(idempotency_keys).where(
                kept.caller == bindparam("of_caller"), kept.idempotency_key == bindparam("of_key")
            ),
            speaking,
        ).rowcount
    return n


def _names(body: bytes, named: Sequence[bytes]) -> bool:
    return any(text in body for text in named)


def _make_nameless(conn: Connection, customer_ids: Sequence[str], tombstone: str) -> dict[str, int]:
    """Put the tombstone in the place of the ids, and clear what the person or a provider may have written."""
    nameless = {"customer_id": tombstone, "recorded_as": ""}
    changes: dict[str, dict[str, Any]] = {
        interactions.name: {
            **nameless,
            "event_id": literal(f"{tombstone}/") + cast(interactions.c.interaction_id, String),
            "attributes": {},
        },
        decisions.name: {**nameless, "document": null(), "evidence": null()},
        outbox.name: {**nameless, "detail": null(), "provider_message_id": null()},
        vouchers.name: nameless,
        points_entries.name: nameless,
        occurrences.name: {**nameless, "occurrence": "", "due_at": null()},
        redemptions.name: {
            **nameless,
            "event_id": literal(f"{tombstone}/") + redemptions.c.decision_id,
            "order_id": null(),
        },
    }
    twice = sales_reported_twice(conn, customer_ids)
    known = {table.name for table in REMOVED}
    messages = select(outbox.c.message_id).where(outbox.c.customer_id.in_(customer_ids))
    said = update(receipts).where(receipts.c.message_id.in_(messages))
    rows = {str(receipts.name): conn.execute(said.values(detail="", provider_message_id="")).rowcount}
    for table in metadata.sorted_tables:
        if "customer_id" in table.c and table.name not in known:
            change = changes.get(table.name, {"customer_id": tombstone})
            rows[str(table.name)] = conn.execute(
                update(table).where(table.c.customer_id.in_(customer_ids)).values(**change)
            ).rowcount
    rename_sales(conn, twice, tombstone)
    forget_referrals(conn, customer_ids)
    return rows

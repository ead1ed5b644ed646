"""Everything that is held about a person, for the person who asks for it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, or_, select

from features.history.decisions import load_decision
from features.history.documents import to_document
from features.history.profile import load_profile
from features.history.tables import decisions, identity_journal, metadata, rewards


def export_person(conn: Connection, customer_id: str, now: datetime) -> dict[str, Any]:
    """Everything that is held about a person, contact points in the clear, as JSON can hold it.

    Raises:
        NotFoundError: there is no such customer.
    """
    profile = load_profile(conn, customer_id, now, in_the_clear=True)
    person = profile.customer_id
    ids = [person, *profile.merged_ids]
    skipped = {
        "identities",
        "customers",
        "customer_members",
        "identity_journal",
        "identity_conflicts",
        "erasures",
    }
    tables: dict[str, list[dict[str, Any]]] = {}
    for table in metadata.sorted_tables:
        if "customer_id" in table.c and table.name not in skipped:
            rows = conn.execute(
                select(table).where(table.c.customer_id == person).order_by(*table.primary_key.columns)
            )
            tables[table.name] = [dict(row._mapping) for row in rows]
    decided = [row["decision_id"] for row in tables[decisions.name]]
    for row in tables[decisions.name]:
        row["document"] = to_document(load_decision(conn, row["decision_id"]))
        del row["evidence"]  # the document has it by name
    earned: list[dict[str, Any]] = []
    for start in range(0, len(decided), 10_000):
        chunk = decided[start : start + 10_000]
        rows = conn.execute(select(rewards).where(rewards.c.decision_id.in_(chunk)))
        earned += [dict(row._mapping) for row in rows]
    journal = conn.execute(
        select(identity_journal)
        .where(or_(identity_journal.c.customer_id.in_(ids), identity_journal.c.other_id.in_(ids)))
        .order_by(identity_journal.c.entry_id)
    )
    return {
        "customer_id": person,
        "merged_ids": list(profile.merged_ids),
        "anonymous": profile.anonymous,
        "time_zone": profile.time_zone,
        "created_at": profile.created_at,
        "attributes": dict(profile.attributes),
        "identities": [
            {"kind": one.kind, "value": one.contact_point, "linked_at": one.linked_at, "source": one.source}
            for one in profile.identities
        ],
        **tables,
        "rewards": earned,
        "identity_journal": [dict(row._mapping) for row in journal],
        "exported_at": now,
    }

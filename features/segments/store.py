"""Segments and tags in the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, tuple_

from features.history.among import among
from features.history.append import Appended, of_person
from features.history.insert import insert_new
from features.history.query import present_ids
from features.history.suppression import erased_customers
from features.history.tables import customers, segments, tags
from features.segments.language import Segment, parse_segment
from models.domain.errors import NotFoundError, require
from models.domain.interaction import LONGEST_NAME, require_moment, require_text


@dataclass(frozen=True, slots=True, kw_only=True)
class TagStatement:
    """A tag put on a customer, or taken off.

    Attributes:
        customer_id: ONE_ID.
        tag: Short text.
        since: From when on, aware.
        source: Who says so.
        present: False where it is taken off.
    """

    customer_id: str
    tag: str
    since: datetime
    source: str
    present: bool = True

    def __post_init__(self) -> None:
        for name, text in (("tag", self.tag), ("source", self.source)):
            require(bool(text), name, text, "must not be empty")
            require_text(name, text, LONGEST_NAME)
        require(self.since.tzinfo is not None, "since", self.since.isoformat(), "must carry a time zone")
        require_moment("since", self.since)


def append_tags(conn: Connection, statements: Sequence[TagStatement]) -> Appended:
    """Add statements about tags of known customers; repeated ones change nothing.

    Those about people who were erased are passed over; those of an id that was merged into another belong to the
    person.

    Raises:
        NotFoundError: names a customer whom nobody knows.
    """
    lost = erased_customers(conn, (statement.customer_id for statement in statements))
    kept = [statement for statement in statements if statement.customer_id not in lost]
    wanted = sorted({statement.customer_id for statement in kept})
    merged = present_ids(conn, wanted)
    known = set(
        conn.scalars(select(customers.c.customer_id).where(among(conn, customers.c.customer_id, wanted)))
    )
    for customer_id in wanted:
        if customer_id not in known and customer_id not in merged:
            raise NotFoundError("customer_id", customer_id)
    n_new = insert_new(
        conn,
        tags,
        [
            of_person(statement.customer_id, merged)
            | {
                "tag": statement.tag,
                "present": statement.present,
                "since": statement.since,
                "source": statement.source,
            }
            for statement in kept
        ],
    )
    return Appended(n_new, len(kept) - n_new, len(statements) - len(kept))


def save_segment(conn: Connection, segment: Segment, now: datetime) -> Segment:
    """Store the segment as a new version, unless it says what the latest version says.

    Returns:
        The segment as it is stored; its version is the history's, not the caller's.
    """
    latest = {known.name: known for known in list_segments(conn)}.get(segment.name)
    version = 0 if latest is None else latest.version
    if latest is not None and segment.model_copy(update={"version": version}) == latest:
        return latest
    stored = segment.model_copy(update={"version": version + 1})
    conn.execute(
        insert(segments).values(
            name=stored.name,
            version=stored.version,
            document=stored.model_dump(mode="json", by_alias=True, exclude_defaults=True),
            created_at=now,
        )
    )
    return stored


def load_segment(conn: Connection, name: str) -> Segment:
    """The latest version of a segment.

    Raises:
        NotFoundError: there is no such segment.
    """
    row = conn.execute(
        select(segments.c.document, segments.c.version)
        .where(segments.c.name == name)
        .order_by(segments.c.version.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        raise NotFoundError("segment", name)
    return parse_segment(row.document | {"version": row.version})


def list_segments(conn: Connection) -> list[Segment]:
    """The latest version of every segment, in order of name."""
    newest = select(segments.c.name, func.max(segments.c.version)).group_by(segments.c.name)
    rows = conn.execute(
        select(segments.c.document, segments.c.version).where(
            tuple_(segments.c.name, segments.c.version).in_(newest)
        )
    )
    found = [parse_segment(row.document | {"version": row.version}) for row in rows]
    return sorted(found, key=lambda segment: segment.name)

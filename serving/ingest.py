"""Take in what other systems report: check it, find out whom it concerns, and put it into the history once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any, NotRequired, cast

from pydantic import ConfigDict, Field, StrictBool, with_config
from sqlalchemy import Connection
from typing_extensions import TypedDict

from features.history.append import append_fact_rows
from features.history.facts import FactRow
from features.history.suppression import erased_contact_points
from features.history.visitors import Point, find_or_make_visitors
from features.json_types import KEYS_ALIKE, Number
from models.domain.channel import IdentityKind
from models.domain.errors import InvalidInputError
from models.domain.interaction import MOST_ATTRIBUTES, Interaction, InteractionKind, Place
from serving.receipts import advance, facts_that_move
from serving.routes.fields import LongText, Moment, Name, ShortName, either, text_of

CHAT = "chat"
"""Source of the conversions that payments in chat are."""

# What `ingest` refuses.
_NAMED: dict[str, Any] = {"allOf": [either("customer_id", "identity", both=True)]}


@with_config(ConfigDict(extra="forbid"))
class ContactPointIn(TypedDict):
    """A customer, named by one of their contact points."""

    kind: IdentityKind
    value: LongText


@with_config(ConfigDict(extra="forbid", json_schema_extra=_NAMED))
class InteractionIn(TypedDict):
    """One fact; `source` and `event_id` together make it unique. Give `customer_id` or `identity`.

    A dictionary and not an object: ten thousand of them are checked in half the time.
    """

    source: Annotated[ShortName, Field(description="Your system.")]
    event_id: Annotated[Name, Field(description="Your system's own id of the event.")]
    customer_id: NotRequired[Name | None]
    identity: NotRequired[ContactPointIn | None]
    kind: Annotated[str, text_of(InteractionKind)]
    occurred_at: Annotated[Moment, Field(description="When it happened, with a time zone.")]
    channel: NotRequired[ShortName | None]
    campaign_id: NotRequired[Name | None]
    offer_id: NotRequired[Name | None]
    decision_id: NotRequired[Annotated[ShortName | None, Field(description="The decision that it answers.")]]
    value_minor: NotRequired[
        Annotated[
            Number | None,
            Field(description="Of a conversion or purchase, minor units."),
        ]
    ]
    place: NotRequired[
        Annotated[Annotated[str, text_of(Place)] | None, Field(description="Where it took place.")]
    ]
    machine_made: NotRequired[
        Annotated[StrictBool, Field(description="Made by a proxy or scanner: never learned from.")]
    ]
    attributes: NotRequired[
        Annotated[
            dict[ShortName, LongText],
            KEYS_ALIKE,
            Field(
                max_length=MOST_ATTRIBUTES,
                description="Anything else: page, utm_source, utm_term, user_agent, device ...",
            ),
        ]
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """What became of a delivery.

    Attributes:
        n_new: Facts that the history did not have.
        n_repeated: Facts that it had already; they changed nothing.
        customer_ids: Whom the delivery concerns.
    """

    n_new: int
    n_repeated: int
    customer_ids: frozenset[str]


def ingest(conn: Connection, posted: Sequence[InteractionIn], received_at: datetime) -> Ingested:
    """Add facts: all of them, or none where one is wrong. Those of people who were erased are passed over.

    A purchase whose place is the chat is a conversion too.

    Args:
        conn: In the caller's transaction, which an error must roll back.
        posted: Checked against `InteractionIn`; they are handed on as rows, and may be marked as such.
        received_at: When they arrived, aware.

    Raises:
        InvalidInputError: a fact names no customer, or names one in two ways, or by a contact point that nobody
            has and that is no cookie; names the fact by its position.
    """
    points = {
        position: (named["kind"], named["value"])
        for position, fact in enumerate(posted)
        if (named := fact.get("identity")) is not None
    }
    owners: Mapping[Point, str] = {}
    gone: Collection[Point] = ()
    if points:
        gone = erased_contact_points(conn, points.values())
        owners = find_or_make_visitors(
            conn,
            {
                point: (posted[position]["occurred_at"], posted[position]["source"])
                for position, point in points.items()
                if point not in gone
            },
        )
    rows: list[FactRow] = []
    for position, fact in enumerate(posted):
        row: dict[str, Any] = cast(Any, fact)
        if "identity" in row:
            row = row.copy()
            del row["identity"]
        point = points.get(position)
        if point is not None:
            if point in gone:
                continue
            row["customer_id"] = _owner(position, point, owners, row.get("customer_id"))
        elif row.get("customer_id") is None:
            raise InvalidInputError(
                f"interactions.{position}.customer_id", None, "must be given, or identity instead"
            )
        rows.append(cast(FactRow, row))
    in_chat = [_converted(row) for row in rows if _is_payment_in_chat(row)]
    appended = append_fact_rows(conn, rows, received_at)
    if in_chat:
        append_fact_rows(conn, in_chat, received_at)
    if appended.n_new:
        moving = facts_that_move(conn, [*rows, *in_chat])
        advance(conn, [_interaction(row) for row in moving], received_at)
    return Ingested(
        n_new=appended.n_new,
        n_repeated=appended.n_repeated,
        customer_ids=frozenset(row["customer_id"] for row in rows),
    )


def _is_payment_in_chat(row: FactRow) -> bool:
    return row["kind"] == InteractionKind.PURCHASED and row.get("place") == Place.CHAT


def _converted(row: FactRow) -> FactRow:
    """The conversion that a payment in chat is: campaigns count one kind, a purchase or a conversion, never both."""
    event = f"{row['source']}\0{row['event_id']}"
    return {
        **row,
        "kind": InteractionKind.CONVERTED.value,
        "source": CHAT,
        "event_id": sha256(event.encode()).hexdigest(),
    }


def _interaction(row: FactRow) -> Interaction:
    values: dict[str, Any] = {**row, "kind": InteractionKind(row["kind"])}
    values.pop("recorded_as", None)
    place = row.get("place")
    return Interaction(**values | {"place": None if place is None else Place(place)})


def _owner(position: int, point: Point, owners: Mapping[Point, str], customer_id: str | None) -> str:
    owner = owners.get(point)
    if owner is not None and customer_id is None:
        return owner
    bound = "must be a contact point of a customer; link it first"
    if customer_id is not None:
        bound = "must not be given beside customer_id"
    raise InvalidInputError(f"interactions.{position}.identity", point[0].value, bound)

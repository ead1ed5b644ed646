"""Rows of `interactions`, and which of them machines made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import groupby
from typing import Any, TypedDict

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    exists,
    or_,
    select,
    type_coerce,
    update,
)

from features.history.among import among
from features.history.prepared import Prepared, one_of
from features.history.tables import interactions
from models.domain.interaction import InteractionKind
from models.domain.machine_made import FETCHES, MachineRule, MachineRules

DEFAULT_MACHINE_RULES = MachineRules()
USER_AGENT = "user_agent"

_FETCHES = {kind.value for kind in FETCHES}
_SENT = InteractionKind.SENT.value
_CLICKED = InteractionKind.CLICKED.value


class _Said(TypedDict):
    source: str
    event_id: str
    customer_id: str
    kind: str
    occurred_at: datetime


class FactRow(_Said, total=False):
    """One fact as its columns; `models.domain.interaction.Interaction` and the table say what they mean.

    What a row leaves out is as `UNSAID` says: most facts say little, and ten thousand come at once.
    """

    recorded_as: str
    channel: str | None
    campaign_id: str | None
    offer_id: str | None
    decision_id: str | None
    value_minor: float | None
    place: str | None
    machine_made: bool
    machine_rule: str | None
    attributes: Mapping[str, str]


UNSAID: Mapping[str, Any] = dict.fromkeys(sorted(FactRow.__optional_keys__)) | {
    "recorded_as": "",
    "machine_made": False,
    "attributes": {},
}


def mark_agents(rows: Sequence[FactRow], rules: MachineRules) -> None:
    """Flag, in place, what its own row tells to be machine-made: the source says so, or the user agent does."""
    for row in rows:
        if row.get("machine_made"):
            row["machine_rule"] = row.get("machine_rule") or MachineRule.STATED.value
        elif row["kind"] in _FETCHES and USER_AGENT in (attributes := row.get("attributes", {})):
            rule = rules.by_agent(attributes[USER_AGENT])
            if rule is not None:
                row["machine_made"], row["machine_rule"] = True, rule.value


def flag_machine_made(conn: Connection, rows: Sequence[FactRow], rules: MachineRules) -> None:
    """Flag opens and clicks, stored now or before, that turn out to be machine-made by what has just come.

    A fact never changes; whether a machine made it is a judgement, which a fact that comes later can change.

    Args:
        conn: In the caller's transaction.
        rows: What has just been stored.
        rules: Tell machines from people.
    """
    touched: set[str] = set()
    clicked: set[str] = set()
    for row in rows:
        decision_id = row.get("decision_id")
        if decision_id is not None:
            if row["kind"] == _CLICKED:
                clicked.add(decision_id)
                touched.add(decision_id)
            elif row["kind"] == _SENT or row["kind"] in _FETCHES:
                touched.add(decision_id)
    if touched:
        _flag_too_soon(conn, touched, rules)
    if clicked:
        _flag_storms(conn, clicked, rules)


def _flag_too_soon(conn: Connection, decision_ids: Iterable[str], rules: MachineRules) -> None:
    _mark_too_soon(conn.dialect.name, rules.within_seconds).run_all(conn, [{"ids": sorted(decision_ids)}])


@lru_cache(maxsize=16)
def _mark_too_soon(dialect: str, within_seconds: float) -> Prepared:
    sent = interactions.alias("sent")
    soon = timedelta(seconds=within_seconds)
    if dialect == "postgresql":
        delay = interactions.c.occurred_at - sent.c.occurred_at
        follows: ColumnElement[bool] = (delay >= timedelta(0)) & (delay < soon)
    else:
        microseconds = type_coerce(interactions.c.occurred_at, BigInteger) - type_coerce(
            sent.c.occurred_at, BigInteger
        )
        follows = microseconds.between(0, soon // timedelta(microseconds=1) - 1)
    too_soon = and_(
        one_of(interactions.c.decision_id, "ids"),
        interactions.c.kind.in_(sorted(_FETCHES)),
        or_(
            interactions.c.machine_rule.is_(None),
            interactions.c.machine_rule == MachineRule.CLICK_STORM.value,
        ),
        exists().where(sent.c.decision_id == interactions.c.decision_id, sent.c.kind == _SENT, follows),
    )
    if dialect == "postgresql":
        # In one order, so that two deliveries about the same messages do not wait for each other in a circle.
        in_order = (
            select(interactions.c.interaction_id).where(too_soon).order_by(interactions.c.interaction_id)
        )
        too_soon = interactions.c.interaction_id.in_(in_order.with_for_update(of=interactions))
    return Prepared(
        update(interactions)
        .where(too_soon)
        .values(machine_made=True, machine_rule=MachineRule.TOO_SOON.value)
    )


def _flag_storms(conn: Connection, decision_ids: Iterable[str], rules: MachineRules) -> None:
    clicks = conn.execute(
        select(
            interactions.c.decision_id,
            interactions.c.occurred_at,
            interactions.c.interaction_id,
            interactions.c.machine_rule,
        )
        .where(among(conn, interactions.c.decision_id, decision_ids), interactions.c.kind == _CLICKED)
        .order_by(interactions.c.decision_id, interactions.c.occurred_at)
    ).all()
    flagged: list[int] = []
    for _, group in groupby(clicks, key=lambda click: click.decision_id):
        of_message = list(group)
        stormy = rules.storms([click.occurred_at for click in of_message])
        flagged += [
            click.interaction_id
            for click, storm in zip(of_message, stormy, strict=True)
            if storm and click.machine_rule is None
        ]
    if flagged:
        conn.execute(
            update(interactions)
            .where(interactions.c.interaction_id == bindparam("flagged_id"))
            .values(machine_made=True, machine_rule=MachineRule.CLICK_STORM.value),
            [{"flagged_id": number} for number in sorted(flagged)],
        )

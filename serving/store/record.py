"""Write decisions: one transaction for the decision, its reservations and its outbox message.

A decision was made on what was read a moment before. Inside the transaction the shared resources and the
customers are locked and looked at again; a decision that they no longer allow is refused as a whole, and nothing
of it is written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from features.history.decisions import decision_row
from features.history.query import load_customers
from features.history.tables import customers as customers_table
from features.history.tables import decisions, outbox, reservations, resource_usage
from models.domain.action import Action, ReasonCode
from models.domain.campaign import Campaign, content_for
from models.domain.channel import Channel
from models.domain.customer import Customer, PastContact
from models.domain.decision import Decision
from models.domain.eligibility import Limits, eligible, in_provider_window
from models.domain.message import message_id

# Sums of prices are sums of binary fractions; no list price is near this small.
_ROUNDING_MINOR = 1e-7
# A decision that was dated a little later, by another thread or another clock, may be written already: it counts.
_AHEAD = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDecision:
    """Command: write this decision.

    Attributes:
        decision: What was decided.
        campaign: The version that it was decided for.
        channels: Channels of the campaign, by name.
        customer: The person as read for the decision.
        id_given: Whether the caller chose the decision id, so that it may be recorded already.
    """

    decision: Decision
    campaign: Campaign
    channels: Mapping[str, Channel]
    customer: Customer
    id_given: bool = False


@dataclass(frozen=True, slots=True)
class DecisionRecorded:
    """It is written."""


@dataclass(frozen=True, slots=True)
class DecisionRefused:
    """What it needs was used up in the meantime; nothing of it is written."""

    reason: ReasonCode
    channel: str


@dataclass(frozen=True, slots=True)
class DecisionKnown:
    """A decision of this id was recorded before; nothing is written."""


RecordOutcome = DecisionRecorded | DecisionRefused | DecisionKnown
RECORDED = DecisionRecorded()
KNOWN = DecisionKnown()


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that runs out.

    Attributes:
        holder: The campaign whose budget it is, or the channel whose capacity.
        day: None for a budget; the UTC day of `send_at` for a capacity.
    """

    holder: str
    day: date | None = None

    @property
    def name(self) -> str:
        """`budget:<campaign>` or `capacity:<channel>:<day>`."""
        return (
            f"budget:{self.holder}" if self.day is None else f"capacity:{self.holder}:{self.day.isoformat()}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a decision takes of one limited resource.

    Attributes:
        amount: Minor units, or messages.
        limit: Most that may be used in all.
        exhausted: The reason to give when it is used up.
    """

    resource: Resource
    amount: float
    limit: float
    exhausted: ReasonCode


def claims(campaign: Campaign, channel: Channel, action: Action) -> tuple[Claim, ...]:
    """What an action takes of limited resources."""
    found = []
    if campaign.budget_minor is not None and channel.cost_minor is not None:
        found.append(
            Claim(
                resource=Resource(campaign.campaign_id),
                amount=channel.cost_minor,
                limit=campaign.budget_minor,
                exhausted=ReasonCode.BUDGET_EXHAUSTED,
            )
        )
    if channel.capacity_per_day is not None:
        found.append(
            Claim(
                resource=Resource(channel.name, action.send_at.date()),
                amount=1.0,
                limit=float(channel.capacity_per_day),
                exhausted=ReasonCode.CAPACITY_EXHAUSTED,
            )
        )
    return tuple(found)


def read_limits(
    conn: Connection, campaign: Campaign, channels: Mapping[str, Channel], days: Sequence[date]
) -> Limits:
    """What is left of the campaign's budget and of the channels' capacities.

    Args:
        conn: Any connection; the figures may be old by the time they are used, `record` looks again.
        campaign: Whose budget.
        channels: Channels of the campaign, by name.
        days: Days that a message may go out on; a channel has left what its fullest day has left, so that no
            slot of it can meet an exhausted day.
    """
    capacity = {name: channels[name].capacity_per_day for name in campaign.channels}
    capped = {name: most for name, most in capacity.items() if most is not None}
    resources = {Resource(name, day) for name in capped for day in days}
    budget = Resource(campaign.campaign_id)
    if campaign.budget_minor is not None:
        resources.add(budget)
    used = _used(conn, resources)
    return Limits(
        budget_left_minor=(
            None
            if campaign.budget_minor is None
            else campaign.budget_minor - used.get(budget, 0.0) + _ROUNDING_MINOR
        ),
        capacity_left={
            name: int(min(most - used.get(Resource(name, day), 0.0) for day in days))
            for name, most in capped.items()
        },
    )


def record(conn: Connection, commands: Sequence[RecordDecision]) -> list[RecordOutcome]:
    """Write decisions in the transaction of `conn`, in a fixed number of statements.

    Args:
        conn: A connection whose transaction the caller commits; nothing holds before that commit.
        commands: In the order in which they may take of what is scarce.

    Returns:
        One outcome a command.
    """
    wanted = [_claims_of(command) for command in commands]
    used = _lock_resources(conn, {claim.resource for each in wanted for claim in each})
    people = _lock_customers(conn, [command for command in commands if command.decision.action])
    known = _known_ids(conn, [command.decision.decision_id for command in commands if command.id_given])
    outcomes: list[RecordOutcome] = []
    accepted: list[RecordDecision] = []
    reserved: list[tuple[Decision, Claim]] = []
    for command, needs in zip(commands, wanted, strict=True):
        if command.decision.decision_id in known:
            outcomes.append(KNOWN)
            continue
        refused = _refusal(command, needs, used, people)
        outcomes.append(refused or RECORDED)
        if refused:
            continue
        accepted.append(command)
        if command.id_given:
            known.add(command.decision.decision_id)
        _count_contact(command, people)
        for claim in needs:
            used[claim.resource] += claim.amount
            reserved.append((command.decision, claim))
    _write(conn, accepted, reserved)
    return outcomes


def _known_ids(conn: Connection, decision_ids: Sequence[str]) -> set[str]:
    if not decision_ids:
        return set()
    return set(conn.scalars(select(decisions.c.decision_id).where(decisions.c.decision_id.in_(decision_ids))))


def _claims_of(command: RecordDecision) -> tuple[Claim, ...]:
    action = command.decision.action
    return () if action is None else claims(command.campaign, command.channels[action.channel], action)


def _refusal(
    command: RecordDecision,
    needs: Iterable[Claim],
    used: Mapping[Resource, float],
    people: Mapping[str, Customer],
) -> DecisionRefused | None:
    decision = command.decision
    action = decision.action
    if action is None:
        return None
    for claim in needs:
        if used[claim.resource] + claim.amount > claim.limit + _ROUNDING_MINOR:
            return DecisionRefused(claim.exhausted, action.channel)
    person = people.get(decision.customer_id)
    if person is None or person.customer_id != decision.customer_id:
        # Erased, or merged into another, since they were read.
        return DecisionRefused(ReasonCode.NO_IDENTITY, action.channel)
    if person == command.customer:
        return None
    grid = command.campaign.grid
    reason = eligible(command.campaign, command.channels, person, decision.decided_at).reason(
        grid.offers.index(action.offer), grid.channels.index(action.channel), action.slot
    )
    return None if reason is None else DecisionRefused(reason, action.channel)


def _count_contact(command: RecordDecision, people: dict[str, Customer]) -> None:
    """A contact accepted a line above counts for the same customer's next decision of the group."""
    decision = command.decision
    if decision.action is None:
        return
    person = people[decision.customer_id]
    contact = PastContact(
        channel=decision.action.channel,
        campaign_id=decision.campaign_id,
        contacted_at=decision.action.send_at,
    )
    people[decision.customer_id] = replace(person, contacts=(*person.contacts, contact))


def _lock_customers(conn: Connection, contacting: Sequence[RecordDecision]) -> dict[str, Customer]:
    if not contacting:
        return {}
    ids = sorted({command.decision.customer_id for command in contacting})
    if conn.dialect.name == "postgresql":
        # Sorted, so that two groups never wait for each other; SQLite has one writer anyway.
        conn.execute(
            select(customers_table.c.customer_id)
            .where(customers_table.c.customer_id.in_(ids))
            .order_by(customers_table.c.customer_id)
            .with_for_update(key_share=True)
        ).all()
    latest = max(command.decision.decided_at for command in contacting)
    return load_customers(conn, ids, latest + _AHEAD)


def _lock_resources(conn: Connection, resources: set[Resource]) -> dict[Resource, float]:
    """How much of each resource is used, locked until the transaction ends."""
    if not resources:
        return {}
    missing = resources - _used(conn, resources).keys()
    if missing:
        into = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
        opening = [
            {"resource": resource.name, "used": conn.execute(_used_so_far(resource)).scalar_one()}
            for resource in sorted(missing, key=lambda one: one.name)
        ]
        conn.execute(into(resource_usage).on_conflict_do_nothing(), opening)
    return _used(conn, resources, lock=True)


def _used(conn: Connection, resources: Collection[Resource], lock: bool = False) -> dict[Resource, float]:
    if not resources:
        return {}
    by_name = {resource.name: resource for resource in resources}
    query = (
        select(resource_usage.c.resource, resource_usage.c.used)
        .where(resource_usage.c.resource.in_(sorted(by_name)))
        # One order for everybody, so that two transactions never wait for each other.
        .order_by(resource_usage.c.resource)
    )
    if lock:
        query = query.with_for_update()
    return {by_name[name]: used for name, used in conn.execute(query)}


def _used_so_far(resource: Resource) -> Select[Any]:
    """What was used before anybody counted: a limit may be set while a campaign runs."""
    if resource.day is None:
        return (
            select(func.coalesce(func.sum(decisions.c.cost_minor), 0.0))
            .join(outbox, outbox.c.decision_id == decisions.c.decision_id)
            .where(decisions.c.campaign_id == resource.holder)
        )
    starts_at = datetime.combine(resource.day, time(), tzinfo=UTC)
    return (
        select(func.count())
        .select_from(outbox)
        .where(
            outbox.c.channel == resource.holder,
            outbox.c.send_at >= starts_at,
            outbox.c.send_at < starts_at + timedelta(days=1),
        )
    )


def _write(
    conn: Connection, accepted: Sequence[RecordDecision], reserved: Sequence[tuple[Decision, Claim]]
) -> None:
    if not accepted:
        return
    conn.execute(insert(decisions), [decision_row(command.decision) for command in accepted])
    if reserved:
        total: dict[Resource, float] = {}
        for _, claim in reserved:
            total[claim.resource] = total.get(claim.resource, 0.0) + claim.amount
        conn.execute(
            update(resource_usage)
            .where(resource_usage.c.resource == bindparam("name"))
            .values(used=resource_usage.c.used + bindparam("amount")),
            [{"name": resource.name, "amount": amount} for resource, amount in total.items()],
        )
        conn.execute(
            insert(reservations),
            [
                {
                    "decision_id": decision.decision_id,
                    "resource": claim.resource.name,
                    "amount": claim.amount,
                    "reserved_at": decision.decided_at,
                }
                for decision, claim in reserved
            ],
        )
    messages = [row for command in accepted if (row := _outbox_row(command)) is not None]
    if messages:
        conn.execute(insert(outbox), messages)


def _outbox_row(command: RecordDecision) -> dict[str, object] | None:
    decision, action = command.decision, command.decision.action
    if action is None:
        return None
    offer = next(offer for offer in command.campaign.offers if offer.offer_id == action.offer)
    channel = command.channels[action.channel]
    in_window = in_provider_window(channel, command.customer, action.send_at)
    content = content_for(offer, channel, in_window=in_window)
    assert content is not None, "a candidate has content"
    return {
        "message_id": message_id(decision.decision_id, 0, action.channel),
        "decision_id": decision.decision_id,
        "customer_id": decision.customer_id,
        "campaign_id": decision.campaign_id,
        "offer_id": action.offer,
        "channel": action.channel,
        "content_kind": content[0],
        "send_at": action.send_at,
        "expires_at": action.expires_at,
        "status": "pending",
        "due_at": action.send_at,
    }

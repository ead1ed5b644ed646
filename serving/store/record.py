"""Write decisions: one transaction for the decision, its reservations and its outbox message.

A `Ledger` lives as long as the transaction. It locks the customers before they are read, hands out what is left of
budgets and capacities, locks these when something is taken of them, and refuses as a whole a decision that they no
longer allow. Customers are locked first and in order of their ids, then resources in order of their names, by
everybody, so that no two transactions wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, func, insert, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite

from features.history.decisions import DECISION_COLUMNS, decision_row
from features.history.evidence import FeatureOrders
from features.history.prepared import Prepared, in_one_trip, one_of
from features.history.query import load_customers
from features.history.tables import customers as customers_table
from features.history.tables import decisions, outbox, reservations, resource_usage
from models.domain.action import Action, ReasonCode
from models.domain.campaign import Campaign, content_for
from models.domain.channel import Channel
from models.domain.customer import Customer, PastContact
from models.domain.decision import Decision
from models.domain.eligibility import Limits, eligible, in_provider_window
from models.domain.errors import NotFoundError
from models.domain.message import message_id
from serving.followups.conversation import FollowUpStep, decided
from serving.reading import Degraded
from serving.store.endings import OutboxStatus
from serving.store.idempotency import IdempotencyKey, remember

# Sums of prices are sums of binary fractions; no list price is near this small.
_ROUNDING_MINOR = 1e-7
# A decision that was dated a little later, by another thread or another clock, may be written already: it counts.
_AHEAD = timedelta(hours=1)

_LOCK_CUSTOMERS = Prepared(
    select(customers_table.c.customer_id)
    .where(one_of(customers_table.c.customer_id, "ids"))
    .order_by(customers_table.c.customer_id)
    .with_for_update(key_share=True)
)
_USED = (
    select(resource_usage.c.resource, resource_usage.c.used)
    .where(one_of(resource_usage.c.resource, "names"))
    .order_by(resource_usage.c.resource)
)
_READ_USED, _LOCK_USED = Prepared(_USED), Prepared(_USED.with_for_update())
_USE = Prepared(
    update(resource_usage)
    .where(resource_usage.c.resource == bindparam("name"))
    .values(used=resource_usage.c.used + bindparam("amount"))
)
_ADD_DECISION = Prepared(insert(decisions), DECISION_COLUMNS)
_ADD_RESERVATION = Prepared(insert(reservations), ("decision_id", "resource", "amount", "reserved_at"))
_ADD_MESSAGE = Prepared(
    insert(outbox),
    (
        "message_id",
        "decision_id",
        "customer_id",
        "recorded_as",
        "campaign_id",
        "offer_id",
        "channel",
        "content_kind",
        "send_at",
        "expires_at",
        "status",
        "attempts",
        "due_at",
        "fencing_token",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDecision:
    """Command: write this decision.

    Attributes:
        decision: What was decided.
        campaign: The version that it was decided for.
        channels: Channels of the campaign, by name.
        customer: The person as read for the decision.
        key: The idempotency key that the request came with.
        hold: Whether the caller sends: the message is held until they say that it went out, or will not.
        beside: Decisions of other campaigns that were asked at the same time, and which make no contact.
        step: The follow-up that it takes; `serving.followups.conversation.permitted` was asked.
        exploring: What it takes of the campaigns' allowances for exploring.
    """

    decision: Decision
    campaign: Campaign
    channels: Mapping[str, Channel]
    customer: Customer
    key: IdempotencyKey | None = None
    hold: bool = False
    beside: tuple[Decision, ...] = ()
    step: FollowUpStep | None = None
    exploring: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True)
class DecisionRecorded:
    """It is written."""


@dataclass(frozen=True, slots=True)
class DecisionRefused:
    """What it needs was used up in the meantime; nothing of it is written."""

    reason: ReasonCode | Degraded
    channel: str | None


RecordOutcome = DecisionRecorded | DecisionRefused
RECORDED = DecisionRecorded()


class Resource(NamedTuple):
    """Something that runs out.

    Attributes:
        holder: The campaign whose budget or exploring it is, or the channel whose capacity.
        day: None for a budget; the UTC day of `send_at` for a capacity, of the decision for exploring.
        exploring: Whether it is the campaign's allowance for exploring.
    """

    holder: str
    day: date | None = None
    exploring: bool = False

    @property
    def name(self) -> str:
        """`budget:<campaign>`, `capacity:<channel>:<day>` or `exploration:<campaign>:<day>`."""
        if self.day is None:
            return f"budget:{self.holder}"
        return f"{'exploration' if self.exploring else 'capacity'}:{self.holder}:{self.day.isoformat()}"


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
    exhausted: ReasonCode | Degraded


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


def exploring_claim(campaign: Campaign, decided_at: datetime, loss_minor: float) -> Claim | None:
    """What a decision takes of its campaign's allowance for exploring; None where it takes nothing.

    Args:
        campaign: Whose.
        decided_at: Aware; its UTC day counts.
        loss_minor: Expected loss of the decision against the best candidate, minor units.
    """
    if campaign.exploration_budget_minor is None or loss_minor <= 0:
        return None
    return Claim(
        resource=_exploring(campaign, decided_at.astimezone(UTC).date()),
        amount=loss_minor,
        limit=campaign.exploration_budget_minor,
        exhausted=Degraded.EXPLORATION_SPENT,
    )


def _exploring(campaign: Campaign, day: date) -> Resource:
    return Resource(campaign.campaign_id, day, exploring=True)


class Ledger:
    """What a transaction knows of customers and scarce resources, and what it adds.

    Args:
        conn: A connection whose transaction the caller commits; nothing holds before that commit.
        customer_ids: Whom the transaction may decide for.
        now: Aware; as of when they are read.
        orders: The lists of feature names that the database holds; one that it lacks is added.
    """

    def __init__(
        self,
        conn: Connection,
        customer_ids: Collection[str],
        now: datetime,
        orders: FeatureOrders | None = None,
    ) -> None:
        self._conn = conn
        self._orders = orders
        self._used: dict[Resource, float] = {}
        self._sure: set[Resource] = set()
        self._accepted: list[_LaidOut] = []
        self._reserved: list[tuple[Decision, Claim]] = []
        self._people: dict[str, Customer] = {}
        self._contacts: dict[str, list[Decision]] = {}
        asked = set(customer_ids)
        self._read_people(asked, now)
        # Whoever was asked for by an id that was merged into another is locked, and read, by their own.
        moved = {person.customer_id for person in self._people.values()} - asked
        if moved:
            self._read_people(moved, now)

    def person(self, customer_id: str) -> Customer:
        """Who has that id, or whom it was merged into; contacts that were accepted count.

        Raises:
            NotFoundError: nobody is known by it.
        """
        person = self.find(customer_id)
        if person is None:
            raise NotFoundError("customer_id", customer_id)
        return person

    def find(self, customer_id: str) -> Customer | None:
        """The same; None where nobody is known by it."""
        person = self._people.get(customer_id)
        accepted = self._contacts.pop(customer_id, None)
        if person is not None and accepted is not None:
            contacts = [
                PastContact(
                    channel=decision.action.channel,
                    campaign_id=decision.campaign_id,
                    contacted_at=decision.action.send_at,
                )
                for decision in accepted
                if decision.action is not None
            ]
            person = self._people[customer_id] = replace(person, contacts=(*person.contacts, *contacts))
        return person

    def limits(self, campaign: Campaign, channels: Mapping[str, Channel], days: Sequence[date]) -> Limits:
        """What is left of the campaign's budget and of the channels' capacities.

        What was not taken of yet is not locked; `take` looks again.

        Args:
            campaign: Whose budget.
            channels: Channels of the campaign, by name.
            days: Days that a message may go out on, the day of the decision first; a channel has left what its fullest day has left, so that no
                slot of it can meet an exhausted day.
        """
        capped = {
            name: most for name in campaign.channels if (most := channels[name].capacity_per_day) is not None
        }
        resources = {Resource(name, day) for name in capped for day in days}
        budget = Resource(campaign.campaign_id)
        if campaign.budget_minor is not None:
            resources.add(budget)
        exploring, allowance = _exploring(campaign, days[0]), campaign.exploration_budget_minor
        if allowance is not None:
            resources.add(exploring)
        if not resources:
            return Limits()
        self._read(resources - self._used.keys())
        return Limits(
            budget_left_minor=(
                None
                if campaign.budget_minor is None
                else campaign.budget_minor - self._used[budget] + _ROUNDING_MINOR
            ),
            capacity_left={
                name: int(min(most - self._used[Resource(name, day)] for day in days))
                for name, most in capped.items()
            },
            exploration_left_minor=None if allowance is None else allowance - self._used[exploring],
        )

    def take(self, commands: Sequence[RecordDecision]) -> list[RecordOutcome]:
        """Accept decisions or refuse them, each as a whole.

        Args:
            commands: In the order in which they may take of what is scarce.

        Returns:
            One outcome a command.
        """
        alike: dict[tuple[str, str, date], tuple[Claim, ...]] = {}
        wanted = [_claims_of(command, alike) for command in commands]
        # Now, since whatever is done after the locks are taken others wait for.
        laid_out = [_lay_out(command, self._orders) for command in commands]
        self._make_sure({claim.resource for needs in wanted for claim in needs})
        outcomes: list[RecordOutcome] = []
        for command, needs, rows in zip(commands, wanted, laid_out, strict=True):
            refused = _refusal(command, needs, self._used, self.find)
            outcomes.append(refused or RECORDED)
            if refused:
                continue
            self._accepted.append(rows)
            self._contacts.setdefault(command.decision.customer_id, []).append(command.decision)
            for claim in needs:
                self._used[claim.resource] += claim.amount
                self._reserved.append((command.decision, claim))
        return outcomes

    def write(self) -> None:
        """Write what was accepted, in a fixed number of statements."""
        if self._orders is not None:
            self._orders.keep(self._conn)
        _write(self._conn, self._accepted, self._reserved)
        for rows in self._accepted:
            if rows.command.step is not None:
                decided(self._conn, rows.command.step, rows.command.decision.decided_at)

    def _read_people(self, customer_ids: Collection[str], now: datetime) -> None:
        ids = sorted(customer_ids)
        with in_one_trip(self._conn):
            if _locks_rows(self._conn):
                _LOCK_CUSTOMERS.run_all(self._conn, [{"ids": ids}])
            self._people |= load_customers(self._conn, ids, now, contacts_until=now + _AHEAD)

    def _read(self, resources: Collection[Resource]) -> None:
        """How much of each is used so far; a resource that nobody counted yet is counted."""
        if not resources:
            return
        known = _used(self._conn, resources)
        self._used |= known
        if not _locks_rows(self._conn):
            self._sure |= known.keys()
        for resource in set(resources) - self._used.keys():
            self._used[resource] = float(self._conn.execute(_used_so_far(resource)).scalar_one())

    def _make_sure(self, resources: set[Resource]) -> None:
        """Lock resources until the transaction ends, and see how much of each is used by now."""
        unsure = resources - self._sure
        if not unsure:
            return
        self._sure |= unsure
        known = _used(self._conn, unsure, lock=True)
        missing = unsure - known.keys()
        if missing:
            into = postgresql.insert if self._conn.dialect.name == "postgresql" else sqlite.insert
            opening = [
                {"resource": resource.name, "used": self._conn.execute(_used_so_far(resource)).scalar_one()}
                for resource in sorted(missing, key=lambda one: one.name)
            ]
            self._conn.execute(into(resource_usage).on_conflict_do_nothing(), opening)
            known = _used(self._conn, unsure, lock=True)
        self._used |= known


def _locks_rows(conn: Connection) -> bool:
    """Whether rows have to be locked: SQLite has a single writer, and its transactions begin by becoming it."""
    return conn.dialect.name != "sqlite"


def _claims_of(
    command: RecordDecision, alike: dict[tuple[str, str, date], tuple[Claim, ...]]
) -> tuple[Claim, ...]:
    """What it takes; contacts of a campaign on the same channel and day take the same."""
    action = command.decision.action
    if action is None:
        return command.exploring
    key = command.campaign.campaign_id, action.channel, action.send_at.date()
    found = alike.get(key)
    if found is None:
        found = alike[key] = claims(command.campaign, command.channels[action.channel], action)
    return (*found, *command.exploring) if command.exploring else found


def _refusal(
    command: RecordDecision,
    needs: Iterable[Claim],
    used: Mapping[Resource, float],
    find: Callable[[str], Customer | None],
) -> DecisionRefused | None:
    decision = command.decision
    action = decision.action
    for claim in needs:
        if used[claim.resource] + claim.amount > claim.limit + _ROUNDING_MINOR:
            return DecisionRefused(claim.exhausted, None if action is None else action.channel)
    if action is None:
        return None
    person = find(decision.customer_id)
    if person is None or person.customer_id != decision.customer_id:
        # Erased, or merged into another, since they were read.
        return DecisionRefused(ReasonCode.NO_IDENTITY, action.channel)
    if person is command.customer or person == command.customer:
        return None
    grid = command.campaign.grid
    reason = eligible(command.campaign, command.channels, person, decision.decided_at).reason(
        grid.offers.index(action.offer), grid.channels.index(action.channel), action.slot
    )
    return None if reason is None else DecisionRefused(reason, action.channel)


def _used(conn: Connection, resources: Collection[Resource], lock: bool = False) -> dict[Resource, float]:
    by_name = {resource.name: resource for resource in resources}
    rows = (_LOCK_USED if lock else _READ_USED).rows(conn, names=sorted(by_name))
    return {by_name[name]: used for name, used in rows}


def _used_so_far(resource: Resource) -> Select[Any]:
    """What was used before anybody counted: a limit may be set while a campaign runs."""
    if resource.exploring:  # what was lost before there was a limit is not written anywhere
        return select(literal(0.0))
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


class _LaidOut(NamedTuple):
    """A command as rows: its decisions, and the message where it makes a contact."""

    command: RecordDecision
    decisions: list[dict[str, object]]
    message: dict[str, object] | None


def _lay_out(command: RecordDecision, orders: FeatureOrders | None) -> _LaidOut:
    made = (command.decision, *command.beside)
    return _LaidOut(command, [decision_row(decision, orders) for decision in made], _outbox_row(command))


def _write(
    conn: Connection, accepted: Sequence[_LaidOut], reserved: Sequence[tuple[Decision, Claim]]
) -> None:
    made = [
        (rows.command.key, rows.command.decision.decision_id, rows.command.decision.decided_at)
        for rows in accepted
        if rows.command.key is not None
    ]
    total: dict[Resource, float] = {}
    for _, claim in reserved:
        total[claim.resource] = total.get(claim.resource, 0.0) + claim.amount
    name_of = {resource: resource.name for resource in total}
    with in_one_trip(conn):
        _ADD_DECISION.run_all(conn, [row for rows in accepted for row in rows.decisions])
        remember(conn, made)
        taken = sorted((name_of[resource], amount) for resource, amount in total.items())
        _USE.run_all(conn, [{"name": name, "amount": amount} for name, amount in taken])
        _ADD_RESERVATION.run_all(
            conn,
            [
                {
                    "decision_id": decision.decision_id,
                    "resource": name_of[claim.resource],
                    "amount": claim.amount,
                    "reserved_at": decision.decided_at,
                }
                for decision, claim in reserved
            ],
        )
        _ADD_MESSAGE.run_all(conn, [rows.message for rows in accepted if rows.message is not None])


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
        "recorded_as": "",
        "campaign_id": decision.campaign_id,
        "offer_id": action.offer,
        "channel": action.channel,
        "content_kind": content[0],
        "send_at": action.send_at,
        "expires_at": action.expires_at,
        "status": OutboxStatus.HELD if command.hold else OutboxStatus.PENDING,
        "attempts": 0,
        "due_at": action.send_at,
        "fencing_token": 0,
    }

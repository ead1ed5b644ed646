"""What a transaction knows of customers and scarce resources while it decides, and what it adds.

A `Ledger` lives as long as the transaction. It locks the customers before they are read, hands out what is left of
budgets and capacities, locks these when something is taken of them, and refuses as a whole a decision that they no
longer allow. Customers are locked first and in order of their ids, then resources in order of their names, by
everybody, so that no two transactions wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from features.history.evidence import FeatureOrders
from features.history.prepared import Prepared, in_one_trip, one_of
from features.history.query import load_customers
from features.history.tables import customers as customers_table
from features.history.tables import resource_usage
from models.domain.action import ReasonCode
from models.domain.campaign import Campaign
from models.domain.channel import Channel
from models.domain.customer import Customer, PastContact
from models.domain.decision import Decision
from models.domain.eligibility import Limits, eligible
from models.domain.errors import NotFoundError
from serving.followups.conversation import decided
from serving.store.record import (
    RECORDED,
    DecisionRefused,
    LaidOut,
    RecordDecision,
    RecordOutcome,
    lay_out,
    write,
)
from serving.store.resources import Claim, Resource, claims, exploring_allowance, used_so_far

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
        self._today = now.astimezone(UTC).date()
        self._orders = orders
        self._used: dict[Resource, float] = {}
        self._sure: set[Resource] = set()
        self._accepted: list[LaidOut] = []
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
        person = self.find(customer_id) if customer_id in self._contacts else self._people.get(customer_id)
        if person is None:
            raise NotFoundError("customer_id", customer_id)
        return person

    def find(self, customer_id: str) -> Customer | None:
        """The same; None where nobody is known by it."""
        person = self._people.get(customer_id)
        accepted = self._contacts.pop(customer_id, None) if self._contacts else None
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
            days: Days that a message may go out on; a channel has left what its fullest day has left, so
                that no slot of it can meet an exhausted day.
        """
        capped = {
            name: most for name in campaign.channels if (most := channels[name].capacity_per_day) is not None
        }
        resources = {Resource(name, day) for name in capped for day in days}
        budget = Resource(campaign.campaign_id)
        if campaign.budget_minor is not None:
            resources.add(budget)
        exploring, allowance = exploring_allowance(campaign, self._today), campaign.exploration_budget_minor
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
        laid_out = [lay_out(command, self._orders) for command in commands]
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
        write(self._conn, self._accepted, self._reserved)
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
            self._used[resource] = float(self._conn.execute(used_so_far(resource)).scalar_one())

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
                {"resource": resource.name, "used": self._conn.execute(used_so_far(resource)).scalar_one()}
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

"""Play a simulated market against a running service, over HTTP, on the clock of its rehearsal.

Each simulated day some customers are decided for; messages are activated when their time comes, and what customers do is
reported when it happens: the service sees what it would see of real ones, in the same order.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count, islice
from typing import Any, TypeVar

import httpx
import numpy as np

from features.history.documents import to_document
from models.domain.campaign import Campaign
from models.domain.errors import ConflictError, InvalidInputError, NextchannelError, require
from models.domain.interaction import Interaction, InteractionKind
from models.logged import IntArray
from training.simulator.market import Market
from training.simulator.people import SOURCE

_PRIOR_DAYS = 60
_DAYS_PER_WEEK = 7
# Until the outcomes of the last decisions are final.
SETTLING_DAYS = 8
# How late a fact is reported at most.
_STEP = timedelta(hours=1)
_CUSTOMERS_A_CALL, _FACTS_A_CALL, _DECISIONS_A_CALL = 1_000, 10_000, 1_000


T = TypeVar("T")


class ServiceError(NextchannelError):
    """The service refused a request of the rehearsal, or did not answer."""


@dataclass(slots=True, kw_only=True)
class Week:
    """What was decided in one week; money is expected net value in minor units.

    Attributes:
        claimed: By the service, of what it chose.
        true: Of the same, in the simulated market.
        oracle: Of the truly best candidates.
        degraded: Decisions by the reason for which they were simpler.
        refused: Decisions that the service did not take, by title of the problem.
    """

    n_decisions: int = 0
    n_contacts: int = 0
    claimed: float = 0.0
    true: float = 0.0
    oracle: float = 0.0
    degraded: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """How a rehearsal went; everything in it is simulated.

    Attributes:
        weeks: In their order.
        n_facts: Interactions that were reported.
        ended_at: Where the clock stands: all outcomes are final.
    """

    weeks: tuple[Week, ...]
    n_facts: int
    ended_at: datetime

    @property
    def share_of_oracle(self) -> float:
        """True value over that of full knowledge; NaN where even that earns nothing."""
        best = sum(week.oracle for week in self.weeks)
        return sum(week.true for week in self.weeks) / best if best > 0 else float("nan")


class RehearsedService:
    """The requests that a rehearsal makes.

    Args:
        client: With the address of the service and the headers of a caller.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def now(self) -> datetime:
        """Where the clock stands.

        Raises:
            ServiceError: the service does not answer, or is no rehearsal.
        """
        return datetime.fromisoformat(self._ask("GET", "/v1/clock")["now"])

    def move_clock(self, to: datetime) -> None:
        """Move the clock on; what was due until then is done afterwards."""
        self._ask("PUT", "/v1/clock", {"now": to.isoformat()})

    def knows(self, customer_id: str) -> bool:
        """Whether a customer is known."""
        return self._send("GET", f"/v1/customers/{customer_id}").status_code != httpx.codes.NOT_FOUND

    def set_up(self, market: Market, campaign: Campaign, now: datetime) -> None:
        """Store the market's channels and campaign, and register everybody."""
        for name, channel in market.channels().items():
            body = {"channel": to_document(channel), "confirm_cost": True}
            self._ask("PUT", f"/v1/channels/{name}", body)
        self._ask("PUT", f"/v1/campaigns/{campaign.campaign_id}", {"campaign": to_document(campaign)})
        people: dict[str, dict[str, Any]] = {
            person.customer_id: {
                "customer_id": person.customer_id,
                "time_zone": person.time_zone,
                "created_at": person.created_at.isoformat(),
                "attributes": dict(person.attributes),
                "identities": [],
                "consents": [],
            }
            for person in market.customers(now)
        }
        for account in market.identities(now):
            people[account.customer_id]["identities"].append({"kind": account.kind, "value": account.value})
        for said in market.consents(now):
            people[said.customer_id]["consents"].append(
                {"channel": said.channel, "purpose": said.purpose, "status": said.status}
            )
        for some in _some(people.values(), _CUSTOMERS_A_CALL):
            self._ask("POST", "/v1/customers", {"source": SOURCE, "customers": some})

    def report(self, facts: Iterable[Interaction]) -> int:
        """Report what happened; how many facts that were."""
        n = 0
        for some in _some(facts, _FACTS_A_CALL):
            self._ask("POST", "/v1/interactions", {"interactions": [_fact(fact) for fact in some]})
            n += len(some)
        return n

    def decide(self, customer_ids: Sequence[str], campaign_id: str) -> Iterator[Mapping[str, Any]]:
        """Ask for the decisions of some customers: an outcome for each, in their order."""
        for some in _some(customer_ids, _DECISIONS_A_CALL):
            asked = [{"customer_id": each, "campaign_id": campaign_id, "send": "caller"} for each in some]
            yield from self._ask("POST", "/v1/decisions/batch", {"requests": asked})["outcomes"]

    def activate(self, decision_id: str) -> None:
        """Say that a message went out."""
        self._ask("POST", f"/v1/decisions/{decision_id}/activate", {})

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        answer = self._send(method, path, body)
        if answer.is_error:
            told = answer.json() if "json" in answer.headers.get("content-type", "") else {}
            raise ServiceError(
                f"{method} {path}: {answer.status_code} {told.get('title', '')} {told.get('detail', '')}".strip()
            )
        return answer.json()

    def _send(self, method: str, path: str, body: object = None) -> httpx.Response:
        try:
            return self._client.request(method, path, json=body)
        except httpx.TransportError as exc:
            raise ServiceError(f"{method} {path}: the service does not answer ({exc})") from exc


def rehearse(
    service: RehearsedService,
    market: Market,
    campaign: Callable[[Campaign], Campaign],
    days: int,
    real_now: datetime,
    rng: np.random.Generator,
    *,
    each_week: Callable[[int, datetime], None] = lambda _week, _now: None,
    progress: Callable[[float], None] = lambda _share: None,
) -> Rehearsed:
    """Play a fresh market from where the clock of the service stands.

    Args:
        service: A rehearsal that knows nobody of the market.
        market: Moved on by the days.
        campaign: Changes the market's campaign before it is stored, for example its policy.
        days: In which customers are decided for, each once a week.
        real_now: The clock of the machine, which the rehearsal may not pass.
        rng: Source of chance.
        each_week: Told the week (0 before the first decision) and the moment, before the week's first decision.
        progress: Told the share that is done, in [0, 1].

    Raises:
        InvalidInputError: the days do not fit before the clock of the machine.
        ConflictError: the market's customers are there already.
        ServiceError: the service refused a request, or did not answer.
    """
    start = service.now()
    require(days >= 1, "days", days, "must be >= 1")
    fitting = (real_now - start).days - SETTLING_DAYS
    if days > fitting:
        raise InvalidInputError(
            "days",
            days,
            f"must be <= {fitting}: the clock stands at {start.isoformat()}, and {SETTLING_DAYS} days follow",
        )
    ids = market.customer_ids()
    if service.knows(ids[0]):
        raise ConflictError(
            "the customers of a simulated market are there already: rehearse in a fresh installation"
        )
    began = start - timedelta(days=_PRIOR_DAYS)
    before = market.prior_history(began, _PRIOR_DAYS)
    played = _Play(service, market, campaign(market.campaign(start)), start, rng)
    service.set_up(market, played.campaign, began)
    played.n_facts += service.report(before)
    service.move_clock(start)
    turns = rng.permutation(market.n_customers)
    groups = np.array_split(turns, _DAYS_PER_WEEK)
    for day in range(days):
        now = start + timedelta(days=day)
        if day % _DAYS_PER_WEEK == 0:
            each_week(day // _DAYS_PER_WEEK, now)
            played.weeks.append(Week())
        played.decide(groups[day % _DAYS_PER_WEEK], now)
        played.report_later(market.everyday(now, 1))
        market.advance()
        played.go_on_until(now + timedelta(days=1))
        progress((day + 1) / (days + SETTLING_DAYS))
    settled_at = start + timedelta(days=days + SETTLING_DAYS)
    played.report_later(market.everyday(start + timedelta(days=days), SETTLING_DAYS))
    market.advance(SETTLING_DAYS)
    for day in range(days, days + SETTLING_DAYS):
        played.go_on_until(start + timedelta(days=day + 1))
        progress((day + 1) / (days + SETTLING_DAYS))
    return Rehearsed(weeks=tuple(played.weeks), n_facts=played.n_facts, ended_at=settled_at)


class _Play:
    """What is under way: messages whose time has not come, and facts that have not happened yet."""

    def __init__(
        self,
        service: RehearsedService,
        market: Market,
        campaign: Campaign,
        now: datetime,
        rng: np.random.Generator,
    ) -> None:
        self.campaign = campaign
        self.weeks: list[Week] = []
        self.n_facts = 0
        self._service = service
        self._market = market
        self._now = now
        self._rng = rng
        self._number = count()
        self._facts: list[tuple[datetime, int, Interaction]] = []
        self._messages: list[tuple[datetime, int, str]] = []

    def report_later(self, facts: Iterable[Interaction]) -> None:
        """Report facts when they have happened; what was sent is the service's to say."""
        for fact in facts:
            if fact.kind is not InteractionKind.SENT:
                heapq.heappush(self._facts, (fact.occurred_at, next(self._number), fact))

    def decide(self, rows: IntArray, now: datetime) -> None:
        """Ask for decisions, and draw what will come of them."""
        market, grid, week = self._market, self.campaign.grid, self.weeks[-1]
        mask = market.mask(rows, self.campaign, now)
        value = market.expected_net_value(rows, now)
        actions, decision_ids, decided = [], [], []
        for at, outcome in enumerate(
            self._service.decide(market.customer_ids(rows), self.campaign.campaign_id)
        ):
            decision = outcome["decision"]
            if decision is None:
                week.refused[outcome["problem"]["title"]] += 1
                continue
            chosen, index = decision["action"], grid.no_contact
            if chosen is not None:
                index = grid.index(
                    grid.offers.index(chosen["offer"]), grid.channels.index(chosen["channel"]), chosen["slot"]
                )
                send_at = datetime.fromisoformat(chosen["send_at"])
                heapq.heappush(self._messages, (send_at, next(self._number), decision["decision_id"]))
                week.n_contacts += 1
            decided.append(at)
            actions.append(index)
            decision_ids.append(decision["decision_id"])
            week.claimed += decision["expected"]["net_value_minor"] or 0.0
            week.degraded.update(decision["degraded"])
        if not decided:
            return
        chosen_rows, chosen_actions = rows[decided], np.array(actions, dtype=np.int64)
        week.n_decisions += len(decided)
        week.true += float(value[decided, chosen_actions].sum())
        week.oracle += float(np.where(mask, value, -np.inf)[decided].max(axis=1).sum())
        start_at = market.start_at(chosen_rows, chosen_actions, self.campaign, now)
        outcomes = market.respond(chosen_rows, chosen_actions, start_at, self._rng)
        self.report_later(market.interactions(outcomes, decision_ids, self.campaign.campaign_id))

    def go_on_until(self, until: datetime) -> None:
        """Move the clock on step by step; report what happened, and say which messages went out."""
        while self._now < until:
            step = min(self._now + _STEP, until)
            # A message may have become due while the clock stood still.
            self._now = max(self._now, min(step, self._messages[0][0])) if self._messages else step
            self._service.move_clock(self._now)
            self.n_facts += self._service.report(_until(self._facts, self._now))
            for decision_id in _until(self._messages, self._now):
                self._service.activate(decision_id)
        self._service.move_clock(self._now)


def _until(waiting: list[tuple[datetime, int, T]], now: datetime) -> list[T]:
    """Take what has come to pass out of a heap, in its order."""
    found = []
    while waiting and waiting[0][0] <= now:
        found.append(heapq.heappop(waiting)[2])
    return found


def _some(items: Iterable[T], n: int) -> Iterator[list[T]]:
    """The items, n at a time."""
    left = iter(items)
    while part := list(islice(left, n)):
        yield part


def _fact(fact: Interaction) -> dict[str, object]:
    """As `POST /v1/interactions` takes it."""
    document = {
        "source": fact.source,
        "event_id": fact.event_id,
        "customer_id": fact.customer_id,
        "kind": fact.kind.value,
        "occurred_at": fact.occurred_at.isoformat(),
        "channel": fact.channel,
        "campaign_id": fact.campaign_id,
        "offer_id": fact.offer_id,
        "decision_id": fact.decision_id,
        "value_minor": fact.value_minor,
        "place": fact.place,
        "machine_made": fact.machine_made,
        "attributes": dict(fact.attributes),
    }
    return {name: value for name, value in document.items() if value is not None}

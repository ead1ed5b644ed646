"""The decision: read what is known, choose, record, answer.

The pure middle is `models.choose`, asked by `serving.choosing`; this module reads before it, records after it, and sees to
it that a caller always gets an answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime

import uuid_utils
from sqlalchemy import Connection, Engine

from features.history.decisions import load_decision
from features.history.engine import read_only
from features.history.evidence import FeatureOrders
from features.history.query import find_customer_id
from models.domain.decision import Decision
from models.domain.errors import (
    ConflictError,
    NextchannelError,
    NotFoundError,
    StoreUnavailableError,
)
from serving.choosing import Answer, Case, Chooser, Chosen
from serving.followups.conversation import permitted
from serving.grouping import close_in_time, of_different_ids, parts, refuse_repeated_ids
from serving.money import Currency
from serving.observability.metrics import Metrics
from serving.observability.redact import HIDDEN
from serving.pacing.pacing import Pacing
from serving.reading import FeatureSource, PatientReader
from serving.request import DecisionRequest
from serving.shadow import wanted_by
from serving.snapshot import Snapshot, Snapshots
from serving.store.availability import reaching_the_store
from serving.store.idempotency import decision_of
from serving.store.ledger import Ledger
from serving.store.record import RECORDED, RecordDecision
from serving.store.writer import DecisionWriter

_CUSTOMERS_A_DEADLINE = 100
_NOBODY = "-"
# The libraries of the feature store take about ten seconds to load.
_WARM_SECONDS = 60.0


@dataclass(slots=True, eq=False)
class _Docket:
    """The requests of one call."""

    requests: Sequence[DecisionRequest]
    now: datetime
    cases: list[Case] = field(default_factory=list)
    ends_at: float | None = field(init=False)
    """When its caller has waited long enough, monotonic seconds; None where the caller has not said."""

    def __post_init__(self) -> None:
        given = [one.deadline_seconds for one in self.requests if one.deadline_seconds is not None]
        self.ends_at = time.monotonic() + min(given) if given else None


class _InAHurry:
    """The desk of a call with a deadline of its own: nobody else is decided with it, so nobody else does without."""

    def __init__(self, decider: Decider) -> None:
        self.prepare = decider.prepare
        self.settle = decider.settle


class Decider:
    """Decides, for one customer or many, and records what it decided.

    Every decision is taken on the writer's thread, inside the transaction that records it: what it is based on is read
    once, and holds until it is written. Requests that wait together are decided together.

    Args:
        engine: The history.
        snapshots: Campaigns, channels, model and policies.
        features: The online store.
        writer: The thread that decides.
        currency: How explanations write money.
        deadline_seconds: How long features may take, for every hundred customers of a call; a request may say less.
        n_readers: Feature reads at the same time.
        metrics: Where decisions and the time of their stages are counted.
        pacing: Shadow prices for requests that do not bring their own; None for none.
    """

    def __init__(
        self,
        engine: Engine,
        snapshots: Snapshots,
        features: FeatureSource,
        writer: DecisionWriter,
        currency: Currency,
        deadline_seconds: float,
        n_readers: int = 8,
        metrics: Metrics | None = None,
        pacing: Pacing | None = None,
    ) -> None:
        self._metrics = Metrics() if metrics is None else metrics
        self._engine = read_only(engine)
        self._snapshots = snapshots
        self._features = PatientReader(features, n_readers)
        self._writer = writer
        self._chooser = Chooser(currency, pacing)
        self._deadline_seconds = deadline_seconds
        self._orders = FeatureOrders()

    def warm(self, now: datetime) -> None:
        """Load what the first read of features loads, so that no request waits for it."""
        self._features.read([_NOBODY], now, _WARM_SECONDS)

    def close(self) -> None:
        """Let go of the threads that read features."""
        self._features.close()

    def decide(self, request: DecisionRequest, now: datetime) -> Decision:
        """Decide for one customer, and wait for it.

        Args:
            request: Whom and what for.
            now: Aware.

        Raises:
            NotFoundError: the customer, identity or campaign is unknown.
            CampaignExpiredError: the campaign's send window has closed.
            ConflictError: `decision_id` names another customer's or campaign's decision.
            StoreUnavailableError: the database cannot be reached; nothing is acknowledged.
        """
        answer = self.submit([request], now).result()[0]
        if isinstance(answer, NextchannelError):
            raise answer
        return answer

    def decide_many(self, requests: Sequence[DecisionRequest], now: datetime) -> list[Answer]:
        """Decide for many customers, and wait; each has its own decision or its own error.

        Raises:
            StoreUnavailableError: the database cannot be reached; nothing is acknowledged.
        """
        return [answer for part in self.decide_in_parts(requests, now) for answer in part]

    def decide_in_parts(self, requests: Sequence[DecisionRequest], now: datetime) -> Iterator[list[Answer]]:
        """The same, part by part: whoever is done with a part need not keep it until the last is there.

        Where they compete for what is scarce, the earlier request comes first. A transaction holds a part of them, so
        that others are not kept waiting; where the database is lost in between, the rest get that error each.

        Raises:
            StoreUnavailableError: the database cannot be reached; nothing is acknowledged.
        """
        n_answered = 0
        try:
            for answers in self._one_after_the_other(requests, now):
                n_answered += len(answers)
                yield answers
        except StoreUnavailableError as exc:
            if not n_answered:
                raise
            yield [exc] * (len(requests) - n_answered)

    def _one_after_the_other(
        self, requests: Sequence[DecisionRequest], now: datetime
    ) -> Iterator[list[Answer]]:
        """The answers of every part; a part begins once the one before is recorded, before anybody looks at that one."""
        under_way: Future[list[Answer]] | None = None
        for part in parts(requests):
            before = None if under_way is None else under_way.result()
            under_way = self.submit(part, now)
            if before is not None:
                yield before
        if under_way is not None:
            yield under_way.result()

    def submit(self, requests: Sequence[DecisionRequest], now: datetime) -> Future[list[Answer]]:
        """Have up to `LARGEST_GROUP` customers decided in one of the next transactions.

        Fails with `StoreUnavailableError` where the service is not running, or the database cannot be reached.
        """
        docket = _Docket(requests, now)
        return self._writer.submit(self._desk(docket), docket, len(requests))

    def submit_from_loop(
        self, requests: Sequence[DecisionRequest], now: datetime
    ) -> asyncio.Future[list[Answer]]:
        """The same, for a coroutine to await.

        Raises:
            StoreUnavailableError: the service is not running.
        """
        docket = _Docket(requests, now)
        return self._writer.submit_from_loop(self._desk(docket), docket, len(requests))

    def _desk(self, docket: _Docket) -> Decider | _InAHurry:
        return self if docket.ends_at is None else _InAHurry(self)

    def recorded(self, decision_id: str) -> Decision:
        """A decision taken before.

        Raises:
            NotFoundError: there is none of that id.
        """
        with reaching_the_store(), self._engine.connect() as conn:
            return load_decision(conn, decision_id)

    def what_if(self, request: DecisionRequest, now: datetime, snapshot: Snapshot, seed: str) -> Decision:
        """Decide with another snapshot; nothing is recorded.

        Args:
            request: Whom and what for; a dry run without a decision id.
            now: Aware; the features are those of the present all the same.
            snapshot: Campaigns, channels, model and policies.
            seed: The decision id that seeds the draw.

        Raises:
            NotFoundError: the customer, identity or campaign is unknown.
            CampaignExpiredError: the campaign's send window has closed.
            StoreUnavailableError: the database cannot be reached.
        """
        assert request.dry_run, "what might have been is not recorded"
        docket = _Docket([request], now)
        with reaching_the_store():
            self.prepare([docket])
            docket.cases[0].decision_id = seed
            with self._engine.connect() as conn:
                self._settle(conn, [case for case in docket.cases if case.answer is None], snapshot)
        answer = _settled(docket.cases[0])
        if isinstance(answer, NextchannelError):
            raise answer
        return answer

    def prepare(self, dockets: Sequence[_Docket]) -> None:
        """Find out who is meant, and read their features: what `DecisionWriter` calls before the transaction."""
        for docket in dockets:
            docket.cases = [Case(request, docket.now, docket.ends_at) for request in docket.requests]
            refuse_repeated_ids(docket.cases)
        cases = [case for docket in dockets for case in docket.cases]
        self._orders.confirm(self._engine.connect)
        self._identify(cases)
        for together in close_in_time(cases):
            open_cases = [case for case in together if case.error is None]
            with self._metrics.stage("features"):
                self._read(open_cases, together[-1].now)

    def settle(self, conn: Connection, dockets: Sequence[_Docket]) -> list[list[Answer]]:
        """Decide and record in the transaction of `conn`: what `DecisionWriter` calls."""
        snapshot = self._snapshots.current
        cases = [case for docket in dockets for case in docket.cases]
        for case in cases:  # what an attempt that was rolled back has answered was never recorded
            case.answer, case.chosen_again, case.wanted = case.error, False, None
        with self._metrics.stage("transaction"):
            while later := [case for case in cases if case.answer is None]:
                for together in close_in_time(of_different_ids(later)):
                    self._settle(conn, together, snapshot)
        answers = [[_settled(case) for case in docket.cases] for docket in dockets]
        self._metrics.decided([one for several in answers for one in several if isinstance(one, Decision)])
        return answers

    def _settle(self, conn: Connection, cases: Sequence[Case], snapshot: Snapshot) -> None:
        """Settle cases that are all of nearly one time and name no decision id or key twice."""
        if not cases:
            return
        now = cases[-1].now
        ledger = Ledger(conn, {case.customer_id for case in cases}, now, self._orders)
        self._follow_merges(cases, ledger, now)
        for case in cases:
            try:
                _open(conn, case, ledger, snapshot)
            except NextchannelError as exc:
                case.answer = exc
        # Of those that are left the first finds everything as it was chosen from: every turn settles one at least.
        while waiting := [case for case in cases if case.answer is None]:
            with self._metrics.stage("choose"):
                decided = self._chooser.choose(waiting, ledger, snapshot, now)
            _take([(case, decided[case]) for case in waiting if case in decided], ledger, snapshot)
        ledger.write()

    def _follow_merges(self, cases: Sequence[Case], ledger: Ledger, now: datetime) -> None:
        """Take whoever is asked for by an id that was merged into another for the person, features included."""
        moved = []
        for case in cases:
            person = ledger.find(case.customer_id)
            if person is not None and person.customer_id != case.customer_id:
                case.customer_id = person.customer_id
                moved.append(case)
        if moved:
            self._read(moved, now)

    def _read(self, cases: Sequence[Case], now: datetime) -> None:
        """Give each its features, as far as they come within the deadline."""
        usual = self._deadline_seconds * max(1.0, len(cases) / _CUSTOMERS_A_DEADLINE)
        ends = [case.ends_at for case in cases if case.ends_at is not None]
        left = max(0.0, min(ends) - time.monotonic()) if ends else usual
        reading = self._features.read(
            [case.customer_id for case in cases], now, min(left, usual), shortened=left < usual
        )
        for row, case in enumerate(cases):
            case.reading, case.row = reading, row

    def _identify(self, cases: Sequence[Case]) -> None:
        named = []
        for case in cases:
            if case.request.customer_id is not None:
                case.customer_id = case.request.customer_id
            elif case.error is None:
                named.append(case)
        if not named:
            return
        with self._engine.connect() as conn:
            for case in named:
                identity = case.request.identity
                assert identity is not None, "a request names the customer or an identity"
                found = find_customer_id(conn, identity.kind, identity.value)
                if found is None:
                    case.error = NotFoundError("identity", f"{identity.kind}:{HIDDEN}")
                else:
                    case.customer_id = found


def _open(conn: Connection, case: Case, ledger: Ledger, snapshot: Snapshot) -> None:
    """Find the decision that the caller's own id or key names already, or what it takes to make one.

    Raises:
        KeyReusedError: the key belongs to another request.
        ConflictError: the id names another customer's or campaign's decision.
        NotFoundError: the customer or the campaign is unknown.
    """
    request = case.request
    if request.key is not None:
        earlier = decision_of(conn, request.key, case.now)
        if earlier is not None:
            case.answer = load_decision(conn, earlier)
            return
    if request.decision_id is not None:
        case.answer = _recorded_before(conn, request, case.customer_id)
        if case.answer is not None:
            return
    for campaign_id in request.campaign_ids:
        snapshot.campaign(campaign_id)
    ledger.person(case.customer_id)
    if request.step is not None and not permitted(conn, request.step, case.now):
        raise ConflictError(f"follow-up {request.step.follow_up_id} is settled already")
    case.decision_id = case.decision_id or request.decision_id or str(uuid_utils.uuid7())


def _take(decided: Sequence[tuple[Case, Chosen]], ledger: Ledger, snapshot: Snapshot) -> None:
    """Answer what the ledger accepts; the others choose again, from what is left."""
    real = [(case, chosen) for case, chosen in decided if not case.request.dry_run]
    commands = [
        RecordDecision(
            decision=chosen.decision,
            campaign=snapshot.campaigns[chosen.decision.campaign_id],
            channels=snapshot.priced(snapshot.campaigns[chosen.decision.campaign_id]),
            customer=ledger.person(chosen.decision.customer_id),
            key=case.request.key,
            hold=case.request.hold,
            beside=chosen.beside,
            step=case.request.step,
            exploring=chosen.exploring,
            shadow_prices=chosen.shadow_prices,
        )
        for case, chosen in real
    ]
    refused = {
        case for (case, _), outcome in zip(real, ledger.take(commands), strict=True) if outcome != RECORDED
    }
    for case, chosen in decided:
        if case in refused:
            case.chosen_again = True
            case.wanted = case.wanted or wanted_by(chosen.decision)
        else:
            case.answer = chosen.decision


def _settled(case: Case) -> Answer:
    assert case.answer is not None, "every case was settled"
    return case.answer


def _recorded_before(conn: Connection, request: DecisionRequest, customer_id: str) -> Decision | None:
    """The decision that the caller's own id names, if it was taken already.

    Raises:
        ConflictError: it was taken for somebody or something else.
    """
    if request.decision_id is None:
        return None
    try:
        before = load_decision(conn, request.decision_id)
    except NotFoundError:
        return None
    if (before.customer_id, asked_of(before)) != (customer_id, set(request.campaign_ids)):
        raise ConflictError(f"decision_id {request.decision_id} was taken for another customer or campaign")
    return before


def asked_of(decision: Decision) -> set[str]:
    """The campaigns that a decision was asked of."""
    if decision.arbitration is None:
        return {decision.campaign_id}
    return {*(bid.campaign_id for bid in decision.arbitration.bids), *decision.arbitration.left_out}

"""The decision: read what is known, choose, record, answer.

The pure middle is `models.choose`; this module reads before it, records after it, and sees to it that a caller
always gets an answer: what is missing makes the decision simpler and is named in `degraded`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import uuid_utils
from sqlalchemy import Connection, Engine

from features.history.decisions import load_decision
from features.history.engine import read_only
from features.history.query import find_customer_id
from models.choice import FloatArray, Policy
from models.choose import Choices, choose
from models.domain.campaign import Campaign, PolicyName
from models.domain.channel import IdentityKind
from models.domain.customer import Customer
from models.domain.decision import Decision, Shadow
from models.domain.eligibility import Limits
from models.domain.errors import (
    CampaignExpiredError,
    ConflictError,
    InvalidInputError,
    NextchannelError,
    NotFoundError,
    StoreUnavailableError,
)
from serving.answer import LEARNED, Setting, to_decision
from serving.arbitrate import combine, hold_contest, ids_of
from serving.followups.conversation import FollowUpStep, permitted
from serving.money import Currency
from serving.observability.metrics import Metrics
from serving.observability.redact import HIDDEN
from serving.reading import NO_FEATURES, Degraded, FeatureSource, PatientReader, Reading, in_order
from serving.shadow import shadows
from serving.snapshot import Model, Snapshot, Snapshots
from serving.store.availability import reaching_the_store
from serving.store.idempotency import IdempotencyKey, decision_of
from serving.store.record import RECORDED, Ledger, RecordDecision
from serving.store.writer import LARGEST_GROUP, DecisionWriter

logger = logging.getLogger(__name__)

Answer = Decision | NextchannelError

# Requests of one group share the time of the latest.
_TOGETHER = timedelta(seconds=1)
# A slot comes round within a day; today and tomorrow are the days that a message can fall on.
_DAYS_AHEAD = 2
_CUSTOMERS_A_DEADLINE = 100
_NOBODY = "-"
# The libraries of the feature store take about ten seconds to load.
_WARM_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRef:
    """A customer named by one of their contact points."""

    kind: IdentityKind
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRequest:
    """Ask what to do for one customer.

    Attributes:
        campaign_id: For which campaign; or else `campaigns`.
        campaigns: For which of several campaigns, at most one of which makes a contact; at equal value the one that
            is named first.
        customer_id: Whom; or else `identity`.
        identity: Whom, by a contact point.
        dry_run: Decide, but record and send nothing.
        decision_id: The caller's own id: asking again gives the recorded decision.
        key: Of a request that may be repeated: it gives the decision of the first time.
        hold: The caller sends the message itself, and says what became of it.
        step: The follow-up that asks, whose id is the decision's.
    """

    campaign_id: str | None = None
    campaigns: tuple[str, ...] = ()
    customer_id: str | None = None
    identity: IdentityRef | None = None
    dry_run: bool = False
    decision_id: str | None = None
    key: IdempotencyKey | None = None
    hold: bool = False
    step: FollowUpStep | None = None

    def __post_init__(self) -> None:
        if (self.campaign_id is None) == (not self.campaigns):
            raise InvalidInputError(
                "campaign_id", self.campaign_id, "must be given, or else campaigns, and not both"
            )
        if len(set(self.campaigns)) != len(self.campaigns):
            raise InvalidInputError("campaigns", list(self.campaigns), "must not repeat")
        if (self.customer_id is None) == (self.identity is None):
            raise InvalidInputError(
                "customer_id", self.customer_id, "must be given, or else identity, and not both"
            )

    @property
    def campaign_ids(self) -> tuple[str, ...]:
        """Every campaign that is asked, in order."""
        return self.campaigns if self.campaign_id is None else (self.campaign_id,)


@dataclass(slots=True, eq=False)
class _Case:
    """One request on its way to an answer.

    Attributes:
        customer_id: Whom it turned out to mean.
        reading: Features of several customers, this one's in row `row`.
        error: Why it cannot be decided, as far as that shows before the transaction.
        answer: None until it is settled.
        chosen_again: Whether a first choice was refused.
    """

    request: DecisionRequest
    now: datetime
    customer_id: str = ""
    decision_id: str = ""
    reading: Reading = NO_FEATURES
    row: int = 0
    error: NextchannelError | None = None
    answer: Answer | None = None
    chosen_again: bool = False


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The decision that is answered, and those of the other campaigns that were asked."""

    decision: Decision
    beside: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """What one campaign chose for several customers."""

    setting: Setting
    choices: Choices
    shadows: Mapping[int, Shadow]


@dataclass(slots=True, eq=False)
class _Docket:
    """The requests of one call."""

    requests: Sequence[DecisionRequest]
    now: datetime
    cases: list[_Case] = field(default_factory=list)


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
        deadline_seconds: How long features may take, for every hundred customers of a call.
        n_readers: Feature reads at the same time.
        metrics: Where decisions and the time of their stages are counted.
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
    ) -> None:
        self._metrics = Metrics() if metrics is None else metrics
        self._engine = read_only(engine)
        self._snapshots = snapshots
        self._features = PatientReader(features, n_readers)
        self._writer = writer
        self._currency = currency
        self._deadline_seconds = deadline_seconds

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

        Where they compete for what is scarce, the earlier request comes first. A transaction holds a part of them, so
        that others are not kept waiting; where the database is lost in between, the rest get that error each.

        Raises:
            StoreUnavailableError: the database cannot be reached; nothing is acknowledged.
        """
        answers: list[Answer] = []
        for part in parts(requests):
            try:
                answers += self.submit(part, now).result()
            except StoreUnavailableError as exc:
                if not answers:
                    raise
                answers += [exc] * (len(requests) - len(answers))
                break
        return answers

    def submit(self, requests: Sequence[DecisionRequest], now: datetime) -> Future[list[Answer]]:
        """Have up to `LARGEST_GROUP` customers decided in one of the next transactions.

        Raises:
            StoreUnavailableError: the service is not running.
        """
        return self._writer.submit(self, _Docket(requests, now), len(requests))

    def submit_from_loop(
        self, requests: Sequence[DecisionRequest], now: datetime
    ) -> asyncio.Future[list[Answer]]:
        """The same, for a coroutine to await.

        Raises:
            StoreUnavailableError: the service is not running.
        """
        return self._writer.submit_from_loop(self, _Docket(requests, now), len(requests))

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
            docket.cases = [_Case(request, docket.now) for request in docket.requests]
            _refuse_repeated_ids(docket.cases)
        cases = [case for docket in dockets for case in docket.cases]
        self._identify(cases)
        for together in _close_in_time(cases):
            open_cases = [case for case in together if case.error is None]
            with self._metrics.stage("features"):
                reading = self._features.read(
                    [case.customer_id for case in open_cases],
                    together[-1].now,
                    self._deadline_seconds * max(1.0, len(open_cases) / _CUSTOMERS_A_DEADLINE),
                )
            for row, case in enumerate(open_cases):
                case.reading, case.row = reading, row

    def settle(self, conn: Connection, dockets: Sequence[_Docket]) -> list[list[Answer]]:
        """Decide and record in the transaction of `conn`: what `DecisionWriter` calls."""
        snapshot = self._snapshots.current
        cases = [case for docket in dockets for case in docket.cases]
        for case in cases:  # what an attempt that was rolled back has answered was never recorded
            case.answer, case.chosen_again = case.error, False
        with self._metrics.stage("transaction"):
            while later := [case for case in cases if case.answer is None]:
                for together in _close_in_time(_of_different_ids(later)):
                    self._settle(conn, together, snapshot)
        answers = [[_settled(case) for case in docket.cases] for docket in dockets]
        self._metrics.decided([one for several in answers for one in several if isinstance(one, Decision)])
        return answers

    def _settle(self, conn: Connection, cases: Sequence[_Case], snapshot: Snapshot) -> None:
        """Settle cases that are all of nearly one time and name no decision id or key twice."""
        if not cases:
            return
        now = cases[-1].now
        ledger = Ledger(conn, {case.customer_id for case in cases}, now)
        self._follow_merges(cases, ledger, now)
        for case in cases:
            try:
                _open(conn, case, ledger, snapshot)
            except NextchannelError as exc:
                case.answer = exc
        # Of those that are left the first finds everything as it was chosen from: every turn settles one at least.
        while waiting := [case for case in cases if case.answer is None]:
            with self._metrics.stage("choose"):
                decided = self._choose(waiting, ledger, snapshot, now)
            _take([(case, decided[case]) for case in waiting if case in decided], ledger, snapshot)
        ledger.write()

    def _follow_merges(self, cases: Sequence[_Case], ledger: Ledger, now: datetime) -> None:
        """Take whoever is asked for by an id that was merged into another for the person, features included."""
        moved = [
            case
            for case in cases
            if (person := ledger.people.get(case.customer_id)) is not None
            and person.customer_id != case.customer_id
        ]
        if not moved:
            return
        for case in moved:
            case.customer_id = ledger.people[case.customer_id].customer_id
        reading = self._features.read(
            [case.customer_id for case in moved],
            now,
            self._deadline_seconds * max(1.0, len(moved) / _CUSTOMERS_A_DEADLINE),
        )
        for row, case in enumerate(moved):
            case.reading, case.row = reading, row

    def _choose(
        self, cases: Sequence[_Case], ledger: Ledger, snapshot: Snapshot, now: datetime
    ) -> dict[_Case, _Chosen]:
        """A decision for every case; a case whose campaigns have closed gets its error."""
        alike: dict[tuple[object, ...], list[_Case]] = {}
        for case in cases:
            reading, row = case.reading, case.row
            known = bool(reading.missing[row]), bool(reading.stale[row])
            key = case.request.campaign_ids, id(reading), known, _scope(case.request.step)
            alike.setdefault(key, []).append(case)
        decided: dict[_Case, _Chosen] = {}
        for together in alike.values():
            try:
                chosen = self._choose_alike(together, ledger, snapshot, now)
            except InvalidInputError as exc:
                for case in together:
                    case.answer = exc
                continue
            decided |= zip(together, chosen, strict=True)
        return decided

    def _choose_alike(
        self, cases: Sequence[_Case], ledger: Ledger, snapshot: Snapshot, now: datetime
    ) -> list[_Chosen]:
        """Choose for cases that ask the same campaigns and whose features are all there, all stale or all missing."""
        reading, row = cases[0].reading, cases[0].row
        # A model that looks at nothing, as the prior of day one, does without features.
        blind = snapshot.model is not None and not snapshot.model.response.feature_names
        missing = bool(reading.missing[row]) and not blind
        model = None if missing else snapshot.model
        degraded = _degraded(reading.trouble, missing, bool(reading.stale[row]), snapshot.model)
        try:
            return self._choose_with(model, degraded, cases, ledger, snapshot, now)
        except NextchannelError:
            raise
        except Exception:  # whatever a damaged model may raise costs its predictions, never the decision
            if model is None:
                raise
            logger.exception("model %s fails; rules decide", model.version)
            return self._choose_with(None, (*degraded, Degraded.MODEL_FAILED), cases, ledger, snapshot, now)

    def _choose_with(
        self,
        model: Model | None,
        degraded: tuple[Degraded, ...],
        cases: Sequence[_Case],
        ledger: Ledger,
        snapshot: Snapshot,
        now: datetime,
    ) -> list[_Chosen]:
        """Choose with this model, or by rules without one."""
        campaigns = [snapshot.campaign(name) for name in cases[0].request.campaign_ids]
        reading = cases[0].reading
        names = reading.names if model is None else model.response.feature_names
        features: FloatArray = in_order(reading, names)[[case.row for case in cases]]
        people = [ledger.people[case.customer_id] for case in cases]
        turns: list[_Turn] = []
        closed: list[CampaignExpiredError] = []
        for campaign in campaigns:
            try:
                turns.append(
                    self._choose_for(campaign, cases, people, features, names, model, ledger, snapshot, now)
                )
            except CampaignExpiredError as exc:
                closed.append(exc)
        if not turns:
            raise closed[0]

        def decision_of_row(turn: _Turn, choices: Choices, row: int, decision_id: str) -> Decision:
            case = cases[row]
            decision = to_decision(
                choices,
                row,
                turn.setting,
                decision_id=decision_id,
                customer=people[row],
                features=features[row],
                degraded=(*degraded, Degraded.LIMITS_CHANGED) if case.chosen_again else degraded,
                dry_run=case.request.dry_run,
                parent_id=None if case.request.step is None else case.request.step.parent_id,
            )
            return replace(decision, shadow=turn.shadows[row]) if row in turn.shadows else decision

        if len(campaigns) == 1:
            (turn,) = turns
            return [
                _Chosen(decision_of_row(turn, turn.choices, row, case.decision_id))
                for row, case in enumerate(cases)
            ]
        contest = hold_contest(
            [turn.setting for turn in turns],
            [turn.choices for turn in turns],
            [case.decision_id for case in cases],
        )
        left_out = tuple(str(exc.value) for exc in closed)
        chosen = []
        for row, case in enumerate(cases):
            decisions = [
                decision_of_row(turn, choices, row, decision_id)
                for turn, choices, decision_id in zip(
                    turns, contest.choices, ids_of(contest, row, case.decision_id), strict=True
                )
            ]
            chosen.append(_Chosen(*combine(contest, row, decisions, left_out)))
        return chosen

    def _choose_for(
        self,
        campaign: Campaign,
        cases: Sequence[_Case],
        people: Sequence[Customer],
        features: FloatArray,
        names: Sequence[str],
        model: Model | None,
        ledger: Ledger,
        snapshot: Snapshot,
        now: datetime,
    ) -> _Turn:
        """What one campaign would do by itself."""
        days = [(now.astimezone(UTC) + timedelta(days=d)).date() for d in range(_DAYS_AHEAD)]
        response = None if model is None else model.response
        policies = usable_policies(campaign, snapshot.policies[campaign.campaign_id], model)
        decision_ids = [case.decision_id for case in cases]
        channels = snapshot.priced(campaign)
        limits = narrowed(ledger.limits(campaign, channels, days), cases[0].request.step)
        choices = choose(campaign, channels, people, features, response, policies, decision_ids, now, limits)
        setting = Setting(
            campaign=campaign,
            channels=channels,
            model_version=None if model is None else model.version,
            feature_names=names,
            currency=self._currency,
            now=now,
        )
        return _Turn(
            setting=setting,
            choices=choices,
            shadows=shadows(
                choices, setting, people, features, response, policies, decision_ids, now, limits
            ),
        )

    def _identify(self, cases: Sequence[_Case]) -> None:
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


def narrowed(limits: Limits, step: FollowUpStep | None) -> Limits:
    """The limits as a follow-up has them: without what its conversation used, at once where it answers."""
    if step is None:
        return limits
    return replace(
        limits,
        channels_used=step.channels_used,
        offers=frozenset(step.offers) if step.offers else None,
        at_once=step.at_once,
    )


def _scope(step: FollowUpStep | None) -> tuple[object, ...]:
    """Follow-ups that are narrowed alike are chosen for together."""
    return () if step is None else (step.channels_used, step.offers, step.at_once)


def usable_policies(
    campaign: Campaign, policies: Mapping[PolicyName, Policy], model: Model | None
) -> dict[PolicyName, Policy]:
    """The campaign's policies, each replaced by the next simpler one where it lacks what it needs.

    A learned policy without a model becomes the control policy (`cheapest_first` where that is learned too);
    the bandit without a trained state becomes `greedy`.
    """
    rule = PolicyName.CHEAPEST_FIRST if campaign.control_policy in LEARNED else campaign.control_policy
    usable = {}
    for name in {campaign.policy, campaign.control_policy}:
        stand_in = name
        if name in LEARNED and model is None:
            stand_in = rule
        elif name is PolicyName.BANDIT and model is not None and model.bandit is None:
            stand_in = PolicyName.GREEDY
        usable[name] = policies[stand_in]
    return usable


def _degraded(
    trouble: Degraded | None, missing: bool, stale: bool, model: Model | None
) -> tuple[Degraded, ...]:
    found = []
    if trouble is not None:
        found.append(trouble)
    elif missing:
        found.append(Degraded.FEATURES_MISSING)
    elif stale:
        found.append(Degraded.FEATURES_STALE)
    if model is None:
        found.append(Degraded.MODEL_MISSING)
    elif model.bandit is None:
        found.append(Degraded.BANDIT_MISSING)
    return tuple(found)


def parts(requests: Sequence[DecisionRequest]) -> Iterator[Sequence[DecisionRequest]]:
    """Requests of one call, in runs that one transaction settles."""
    return (requests[start : start + LARGEST_GROUP] for start in range(0, len(requests), LARGEST_GROUP))


def _refuse_repeated_ids(cases: Sequence[_Case]) -> None:
    """Within a call a decision id names one decision."""
    named: set[str] = set()
    for case in cases:
        given = case.request.decision_id
        if given in named:
            case.error = ConflictError(f"decision_id {given} is named twice")
        elif given is not None:
            named.add(given)


def _close_in_time(cases: Sequence[_Case]) -> list[list[_Case]]:
    """Cases that may share the time of the latest of them, the latest last."""
    groups: list[list[_Case]] = []
    for case in sorted(cases, key=lambda case: case.now):
        if groups and case.now - groups[-1][0].now <= _TOGETHER:
            groups[-1].append(case)
        else:
            groups.append([case])
    return groups


def _of_different_ids(cases: Sequence[_Case]) -> list[_Case]:
    """The first case of every decision id and every key; the others find what it wrote."""
    first: dict[tuple[str, str], _Case] = {}
    for case in cases:
        for name in _names(case.request):
            first.setdefault(name, case)
    return [case for case in cases if all(first[name] is case for name in _names(case.request))]


def _names(request: DecisionRequest) -> list[tuple[str, str]]:
    """What no two decisions have in common."""
    names = []
    if request.decision_id is not None:
        names.append(("decision_id", request.decision_id))
    if request.key is not None:
        names.append((request.key.caller, request.key.key))
    return names


def _open(conn: Connection, case: _Case, ledger: Ledger, snapshot: Snapshot) -> None:
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
    if case.customer_id not in ledger.people:
        raise NotFoundError("customer_id", case.customer_id)
    if request.step is not None and not permitted(conn, request.step, case.now):
        raise ConflictError(f"follow-up {request.step.follow_up_id} is settled already")
    case.decision_id = case.decision_id or request.decision_id or str(uuid_utils.uuid7())


def _take(decided: Sequence[tuple[_Case, _Chosen]], ledger: Ledger, snapshot: Snapshot) -> None:
    """Answer what the ledger accepts; the others choose again, from what is left."""
    real = [(case, chosen) for case, chosen in decided if not case.request.dry_run]
    commands = [
        RecordDecision(
            decision=chosen.decision,
            campaign=snapshot.campaigns[chosen.decision.campaign_id],
            channels=snapshot.priced(snapshot.campaigns[chosen.decision.campaign_id]),
            customer=ledger.people[chosen.decision.customer_id],
            key=case.request.key,
            hold=case.request.hold,
            beside=chosen.beside,
            step=case.request.step,
        )
        for case, chosen in real
    ]
    refused = {
        case for (case, _), outcome in zip(real, ledger.take(commands), strict=True) if outcome != RECORDED
    }
    for case, chosen in decided:
        if case in refused:
            case.chosen_again = True
        else:
            case.answer = chosen.decision


def _settled(case: _Case) -> Answer:
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

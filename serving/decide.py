"""The decision: read what is known, choose, record, answer.

The pure middle is `models.choose`; this module reads before it, records after it, and sees to it that a caller
always gets an answer: what is missing makes the decision simpler and is named in `degraded`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import uuid_utils
from sqlalchemy import Connection, Engine

from features.history.decisions import load_decision
from features.history.engine import read_only
from features.history.query import find_customer_id, load_customers, present_id
from features.identity.normalise import mask
from models.choice import FloatArray, Policy
from models.choose import choose
from models.domain.campaign import Campaign, PolicyName
from models.domain.channel import IdentityKind
from models.domain.customer import Customer
from models.domain.decision import Decision
from models.domain.errors import (
    ConflictError,
    InvalidInputError,
    NextchannelError,
    NotFoundError,
    StoreUnavailableError,
)
from serving.answer import LEARNED, Setting, to_decision
from serving.money import Currency
from serving.reading import Degraded, FeatureSource, Reading, in_order, read_features
from serving.snapshot import Model, Snapshot, Snapshots
from serving.store.availability import reaching_the_store
from serving.store.record import KNOWN, RECORDED, RecordDecision, read_limits
from serving.store.writer import DecisionWriter

# Each refusal means that somebody else took the last of something; more than this is a standstill.
_MOST_ATTEMPTS = 10
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
        campaign_id: For which campaign.
        customer_id: Whom; or else `identity`.
        identity: Whom, by a contact point.
        dry_run: Decide, but record and send nothing.
        decision_id: The caller's own id: asking again gives the recorded decision.
    """

    campaign_id: str
    customer_id: str | None = None
    identity: IdentityRef | None = None
    dry_run: bool = False
    decision_id: str | None = None

    def __post_init__(self) -> None:
        if (self.customer_id is None) == (self.identity is None):
            raise InvalidInputError(
                "customer_id", self.customer_id, "must be given, or else identity, and not both"
            )


@dataclass(slots=True)
class _Case:
    """One request on its way to an answer."""

    request: DecisionRequest
    decision_id: str
    campaign: Campaign
    customer: Customer
    chosen_again: bool = False


@dataclass(slots=True)
class _Docket:
    """The requests of one call and what became of each."""

    requests: Sequence[DecisionRequest]
    answers: dict[int, Decision | NextchannelError] = field(default_factory=dict)
    open: dict[int, _Case] = field(default_factory=dict)


class Decider:
    """Decides, for one customer or many, and records what it decided.

    Args:
        engine: The history.
        snapshots: Campaigns, channels, model and policies.
        features: The online store.
        writer: Records decisions.
        currency: How explanations write money.
        deadline_seconds: How long features may take, for every hundred customers of a call.
        n_readers: Feature reads at the same time.
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
    ) -> None:
        self._engine = read_only(engine)
        self._snapshots = snapshots
        self._features = features
        self._writer = writer
        self._currency = currency
        self._deadline_seconds = deadline_seconds
        self._readers = ThreadPoolExecutor(n_readers, thread_name_prefix="features")

    def warm(self, now: datetime) -> None:
        """Load what the first read of features loads, so that no request waits for it."""
        read_features(self._features, self._readers, [_NOBODY], now, _WARM_SECONDS)

    def close(self) -> None:
        """Let go of the threads that read features."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def decide(self, request: DecisionRequest, now: datetime) -> Decision:
        """Decide for one customer.

        Args:
            request: Whom and what for.
            now: Aware.

        Raises:
            NotFoundError: the customer, identity or campaign is unknown.
            CampaignExpiredError: the campaign's send window has closed.
            ConflictError: `decision_id` names another customer's or campaign's decision.
            StoreUnavailableError: the database cannot be reached; nothing is acknowledged.
        """
        answer = self.decide_many([request], now)[0]
        if isinstance(answer, NextchannelError):
            raise answer
        return answer

    def decide_many(
        self, requests: Sequence[DecisionRequest], now: datetime
    ) -> list[Decision | NextchannelError]:
        """Decide for many customers; each has its own decision or its own error.

        Where they compete for what is scarce, the earlier request comes first.

        Raises:
            StoreUnavailableError: the database cannot be reached; nothing is acknowledged.
        """
        snapshot = self._snapshots.current
        docket = _Docket(requests)
        with reaching_the_store(), self._engine.connect() as conn:
            self._open_cases(conn, docket, snapshot, now)
        for attempt in range(_MOST_ATTEMPTS):
            if not docket.open:
                break
            if attempt:
                self._look_again(docket, now)
            self._choose_and_record(docket, snapshot, now)
        if docket.open:
            raise StoreUnavailableError("too many others take of the same limits; try again")
        return [docket.answers[index] for index in range(len(requests))]

    def recorded(self, decision_id: str) -> Decision:
        """A decision taken before.

        Raises:
            NotFoundError: there is none of that id.
        """
        with reaching_the_store(), self._engine.connect() as conn:
            return load_decision(conn, decision_id)

    def _open_cases(self, conn: Connection, docket: _Docket, snapshot: Snapshot, now: datetime) -> None:
        wanted: dict[int, tuple[str, Campaign]] = {}
        named: set[str] = set()
        for index, request in enumerate(docket.requests):
            try:
                if request.decision_id in named:
                    raise ConflictError(f"decision_id {request.decision_id} is named twice")
                if request.decision_id is not None:
                    named.add(request.decision_id)
                customer_id = _customer_id(conn, request)
                before = _recorded_before(conn, request, customer_id)
                if before is not None:
                    docket.answers[index] = before
                else:
                    wanted[index] = customer_id, snapshot.campaign(request.campaign_id)
            except NextchannelError as exc:
                docket.answers[index] = exc
        people = load_customers(conn, [customer_id for customer_id, _ in wanted.values()], now)
        for index, (customer_id, campaign) in wanted.items():
            request = docket.requests[index]
            if customer_id not in people:
                docket.answers[index] = NotFoundError("customer_id", customer_id)
                continue
            docket.open[index] = _Case(
                request, request.decision_id or str(uuid_utils.uuid7()), campaign, people[customer_id]
            )

    def _look_again(self, docket: _Docket, now: datetime) -> None:
        """Read the people anew whose decision was refused."""
        ids = [case.customer.customer_id for case in docket.open.values()]
        with reaching_the_store(), self._engine.connect() as conn:
            # Whoever was faster may have decided a moment after us.
            people = load_customers(conn, ids, now + timedelta(hours=1))
        for index, case in list(docket.open.items()):
            customer_id = case.customer.customer_id
            if customer_id not in people:  # erased a moment ago
                docket.answers[index] = NotFoundError("customer_id", customer_id)
                del docket.open[index]
                continue
            case.customer = people[customer_id]
            case.chosen_again = True

    def _choose_and_record(self, docket: _Docket, snapshot: Snapshot, now: datetime) -> None:
        decided = self._choose(docket, snapshot, now)
        commands = {
            index: RecordDecision(
                decision=decision,
                campaign=docket.open[index].campaign,
                channels=snapshot.channels,
                customer=docket.open[index].customer,
                id_given=docket.requests[index].decision_id is not None,
            )
            for index, decision in sorted(decided.items())
            if not decision.dry_run
        }
        outcomes = self._writer.record(list(commands.values())) if commands else []
        written = dict(zip(commands, outcomes, strict=True))
        known = [index for index, outcome in written.items() if outcome == KNOWN]
        if known:
            self._answer_known(docket, known)
        for index, decision in decided.items():
            if decision.dry_run or written[index] == RECORDED:
                docket.answers[index] = decision
                del docket.open[index]

    def _answer_known(self, docket: _Docket, known: Sequence[int]) -> None:
        """Somebody recorded the caller's id a moment ago: that decision is the answer."""
        with reaching_the_store(), self._engine.connect() as conn:
            for index in known:
                case = docket.open.pop(index)
                try:
                    before = _recorded_before(conn, case.request, case.customer.customer_id)
                    assert before is not None, "the writer saw it"
                    docket.answers[index] = before
                except ConflictError as exc:
                    docket.answers[index] = exc

    def _choose(self, docket: _Docket, snapshot: Snapshot, now: datetime) -> dict[int, Decision]:
        """A decision for every open case; a case whose campaign has closed gets its error."""
        indexes = list(docket.open)
        reading = read_features(
            self._features,
            self._readers,
            [docket.open[index].customer.customer_id for index in indexes],
            now,
            self._deadline_seconds * max(1.0, len(indexes) / _CUSTOMERS_A_DEADLINE),
        )
        alike: dict[tuple[str, bool], list[int]] = {}
        for row, index in enumerate(indexes):
            key = docket.open[index].campaign.campaign_id, bool(reading.missing[row])
            alike.setdefault(key, []).append(row)
        decided: dict[int, Decision] = {}
        for rows in alike.values():
            cases = [docket.open[indexes[row]] for row in rows]
            try:
                decisions = self._choose_alike(cases, reading, rows, snapshot, now)
            except InvalidInputError as exc:
                for row in rows:
                    docket.answers[indexes[row]] = exc
                    del docket.open[indexes[row]]
                continue
            decided |= zip((indexes[row] for row in rows), decisions, strict=True)
        return decided

    def _choose_alike(
        self, cases: Sequence[_Case], reading: Reading, rows: Sequence[int], snapshot: Snapshot, now: datetime
    ) -> list[Decision]:
        """Choose for cases of one campaign that all have features, or all have none."""
        campaign = cases[0].campaign
        missing = bool(reading.missing[rows[0]])
        model = None if missing else snapshot.model
        degraded = _degraded(reading.trouble, missing, snapshot.model)
        names = reading.names if model is None else model.response.feature_names
        features: FloatArray = in_order(reading, names)[rows]
        with reaching_the_store(), self._engine.connect() as conn:
            days = [(now.astimezone(UTC) + timedelta(days=d)).date() for d in range(_DAYS_AHEAD)]
            limits = read_limits(conn, campaign, snapshot.channels, days)
        choices = choose(
            campaign,
            snapshot.channels,
            [case.customer for case in cases],
            features,
            None if model is None else model.response,
            usable_policies(campaign, snapshot.policies[campaign.campaign_id], model),
            [case.decision_id for case in cases],
            now,
            limits,
        )
        setting = Setting(
            campaign=campaign,
            channels=snapshot.channels,
            model_version=None if model is None else model.version,
            feature_names=names,
            currency=self._currency,
            now=now,
        )
        return [
            to_decision(
                choices,
                row,
                setting,
                decision_id=case.decision_id,
                customer=case.customer,
                features=features[row],
                degraded=(*degraded, Degraded.LIMITS_CHANGED) if case.chosen_again else degraded,
                dry_run=case.request.dry_run,
            )
            for row, case in enumerate(cases)
        ]


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


def _degraded(trouble: Degraded | None, missing: bool, model: Model | None) -> tuple[Degraded, ...]:
    found = []
    if trouble is not None:
        found.append(trouble)
    elif missing:
        found.append(Degraded.FEATURES_MISSING)
    if model is None:
        found.append(Degraded.MODEL_MISSING)
    elif model.bandit is None:
        found.append(Degraded.BANDIT_MISSING)
    return tuple(found)


def _customer_id(conn: Connection, request: DecisionRequest) -> str:
    if request.customer_id is not None:
        return request.customer_id
    identity = request.identity
    assert identity is not None
    found = find_customer_id(conn, identity.kind, identity.value)
    if found is None:
        raise NotFoundError("identity", f"{identity.kind}:{mask(identity.kind, identity.value)}")
    return found


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
    if (before.customer_id, before.campaign_id) != (present_id(conn, customer_id), request.campaign_id):
        raise ConflictError(f"decision_id {request.decision_id} was taken for another customer or campaign")
    return before

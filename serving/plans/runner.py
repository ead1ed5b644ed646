"""Works plans off in the background: forecast, then decision after decision at the shadow prices of the moment.

The audience is gone through in an order of the plan's own: ids by their digest, so that those who are left are at any time
a random part of it, and what was reached is one word. Who was decided for keeps that decision: its id is made of plan
and customer. So a crash, a pause or another process costs nothing but the look at those who are left.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID, uuid4, uuid5

import numpy as np
from sqlalchemy import Engine, select

from features.feature_list import FeatureList
from features.history.engine import read_only
from features.history.tables import customers
from features.segments.drawn import mark, marks
from features.segments.everybody import members
from features.segments.store import load_segment
from models.domain.decision import Decision
from models.domain.eligibility import require_open
from models.domain.errors import NextchannelError, StoreUnavailableError, require
from serving.background import Repeating, told
from serving.choosing import Answer
from serving.decide import Decider
from serving.plans.forecast import MOST_SAMPLED, Survey, forecast, prices, scarce, survey
from serving.plans.plan import Plan, PlanStatus
from serving.plans.store import HELD_FOR, any_to_work_on, hold_on, hold_one, keep_progress, leave_in, let_go
from serving.problems import problem_of
from serving.request import DecisionRequest
from serving.snapshot import Snapshot, Snapshots
from serving.store.availability import reaching_the_store
from serving.store.writer import LARGEST_GROUP

logger = logging.getLogger(__name__)

MOST_MEMBERS = 1_000_000
_EVERY_SECONDS = 2.0
# Prices are worked out anew after so many members: what is left is known better by then.
_REPRICED_AFTER = 16 * LARGEST_GROUP
# Namespace of the decision ids.
_MEMBERS = UUID("3d0f6c3b-7c5e-5f0e-9a7e-0d8f6b1c2e55")


@dataclass(slots=True)
class _Work:
    """A plan that this process holds, and those who are left of its audience.

    Attributes:
        ids: In the plan's order.
        found: What the first of them would be decided on.
        first_priced: After how many of them prices are worked out for the first time. Of a plan that is taken up again
            the first group may be one whose decisions were recorded and not counted: it keeps its prices.
        at: How many of them were decided for.
    """

    plan: Plan
    ids: list[str]
    found: Survey
    first_priced: int
    at: int = 0


class _TakenAwayError(Exception):
    """The plan was paused or cancelled, or another process holds it."""


class Plans(Repeating):
    """Works on plans, one at a time; of several processes over one database each plan has one.

    Args:
        engine: The history.
        snapshots: Campaigns and channels.
        decider: Decides.
        feature_list: The list of features that was defined last, for segments; None before the first.
        clock: Gives the present, aware UTC.
        machine_clock: The same of the machine, by which processes tell which of them are alive.
    """

    def __init__(
        self,
        engine: Engine,
        snapshots: Snapshots,
        decider: Decider,
        feature_list: Callable[[], FeatureList | None],
        clock: Callable[[], datetime],
        machine_clock: Callable[[], datetime],
    ) -> None:
        super().__init__("plans", self.work, _EVERY_SECONDS)
        self._engine = engine
        self._snapshots = snapshots
        self._decider = decider
        self._feature_list = feature_list
        self._clock = clock
        self._machine_clock = machine_clock
        self._holder = str(uuid4())
        self._in_hand: _Work | None = None
        self._held_plan: str | None = None
        self._beat = Repeating("plan-held", self._tell_others, HELD_FOR.total_seconds() / 3)

    def start(self) -> None:
        """Begin; the first turn is at once."""
        super().start()
        self._beat.start()

    def work(self) -> bool:
        """One turn; whether there is more to do.

        Raises:
            StoreUnavailableError: the database cannot be reached; the plan goes on later.
        """
        plan = self._held()
        if plan is None:
            return False
        try:
            if plan.status is PlanStatus.FORECASTING:
                self._forecast(plan)
            else:
                self._decide_some(plan)
        except StoreUnavailableError:
            raise
        except _TakenAwayError:
            self._in_hand = None
            with reaching_the_store(), self._engine.begin() as conn:
                let_go(conn, plan.plan_id, self._holder)
        except Exception as exc:
            self._in_hand = None
            if not isinstance(exc, NextchannelError):
                logger.exception("plan %s fails", plan.plan_id)
            known = isinstance(exc, NextchannelError)
            words = str(exc) if known else "an error of the service; its log says which"
            self._leave(replace(plan, problem=words), PlanStatus.FAILED)
        return True

    def stop(self) -> None:
        """Finish the turn that is under way; another process may go on at once."""
        super().stop()
        self._beat.stop()
        if self._in_hand is not None:
            plan, self._in_hand = self._in_hand.plan, None
            with told("letting go of a plan"), self._engine.begin() as conn:
                let_go(conn, plan.plan_id, self._holder)

    def _held(self) -> Plan | None:
        """The plan to work on."""
        if self._in_hand is not None:
            return self._in_hand.plan
        self._held_plan = None
        # On SQLite a transaction that may write waits for whoever decides, and they for it.
        with reaching_the_store(), read_only(self._engine).connect() as conn:
            if not any_to_work_on(conn):
                return None
        with reaching_the_store(), self._engine.begin() as conn:
            plan = hold_one(conn, self._holder, self._machine_clock())
        self._held_plan = None if plan is None else plan.plan_id
        return plan

    def _tell_others(self) -> None:
        """Beside the turns, since one of them may take minutes: that which works out who belongs to a segment."""
        plan_id = self._held_plan
        if plan_id is not None:
            with reaching_the_store(), self._engine.begin() as conn:
                hold_on(conn, plan_id, self._holder, self._machine_clock())

    def _hold_on(self, plan_id: str) -> None:
        """See to it that nobody has stopped the plan.

        Raises:
            _TakenAwayError: somebody has.
        """
        with reaching_the_store(), self._engine.begin() as conn:
            if not hold_on(conn, plan_id, self._holder, self._machine_clock()):
                raise _TakenAwayError

    def _forecast(self, plan: Plan) -> None:
        now = self._clock()
        work = self._looked_at(plan, now)
        campaign = self._snapshots.current.campaign(plan.campaign_id)
        channels = self._snapshots.current.priced(campaign)
        with reaching_the_store(), read_only(self._engine).connect() as conn:
            resources = scarce(conn, campaign, channels, now, work.found)
        made = forecast(campaign, channels, work.found, resources, len(work.ids), now)
        work.plan = replace(work.plan, forecast=made, shadow_prices=made.shadow_prices)
        with reaching_the_store(), self._engine.begin() as conn:
            # Whoever starts it comes before this transaction, or finds it ready.
            kept = keep_progress(conn, work.plan, self._holder, self._machine_clock())
            if kept is not None and kept.starts:
                work.plan = replace(kept, status=PlanStatus.RUNNING, started_at=now)
                keep_progress(conn, work.plan, self._holder, self._machine_clock())
                leave_in(conn, plan.plan_id, self._holder, PlanStatus.RUNNING)
            elif kept is not None:
                leave_in(conn, plan.plan_id, self._holder, PlanStatus.READY)
                let_go(conn, plan.plan_id, self._holder)
        if kept is None:
            raise _TakenAwayError
        if kept.starts:
            self._in_hand = work

    def _decide_some(self, plan: Plan) -> None:
        work = self._in_hand
        if work is None:
            work = self._in_hand = self._looked_at(plan, self._clock())
        now, snapshot = self._clock(), self._snapshots.current
        if work.at == len(work.ids):
            self._in_hand = None
            self._leave(work.plan, PlanStatus.FINISHED, now)
            return
        campaign = snapshot.campaign(plan.campaign_id)
        require_open(campaign, now)
        if (work.at - work.first_priced) % _REPRICED_AFTER == 0:
            # Written before anybody is decided for at them: after a crash that group is asked at the same prices again.
            self._keep(replace(work.plan, shadow_prices=self._prices(work, snapshot, now)))
        part = work.ids[work.at : work.at + LARGEST_GROUP]
        asked = [self._request(work.plan, customer_id) for customer_id in part]
        answers = self._decider.decide_many(asked, now)
        work.at += len(part)
        self._keep(replace(_counted(work.plan, answers), reached=mark(plan.plan_id, part[-1]).hex()))

    def _prices(self, work: _Work, snapshot: Snapshot, now: datetime) -> dict[str, float]:
        """For those who are left."""
        campaign = snapshot.campaign(work.plan.campaign_id)
        # Where everybody was looked at, those who are left are known; else all that were looked at stand for them.
        found = work.found.behind(work.at) if len(work.found) == len(work.ids) else work.found
        with reaching_the_store(), read_only(self._engine).connect() as conn:
            resources = scarce(conn, campaign, snapshot.priced(campaign), now, found)
        return prices(campaign, found, resources, len(work.ids) - work.at)

    def _looked_at(self, plan: Plan, now: datetime) -> _Work:
        """Those who are left of the audience, and what the first of them would be decided on.

        Raises:
            InvalidInputError: there are too many.
            NotFoundError: there is no such campaign or segment any more.
        """
        campaign = self._snapshots.current.campaign(plan.campaign_id)
        require_open(campaign, now)
        ids = self._left(plan, now)
        sample = [
            DecisionRequest(
                campaign_id=plan.campaign_id, customer_id=customer_id, dry_run=True, shadow_prices=()
            )
            for customer_id in ids[:MOST_SAMPLED]
        ]
        found = Survey.of_nobody(campaign)
        for answers in self._decider.decide_in_parts(sample, now):
            _refuse_lost(answers)
            found += survey(campaign, [answer for answer in answers if isinstance(answer, Decision)])
            self._hold_on(plan.plan_id)
        return _Work(
            plan=replace(plan, n_members=plan.n_decided + len(ids)),
            ids=ids,
            found=found,
            first_priced=LARGEST_GROUP if plan.reached else 0,
        )

    def _left(self, plan: Plan, now: datetime) -> list[str]:
        """Who belongs to the audience now and is still to be decided for, in the plan's order."""
        with reaching_the_store(), read_only(self._engine).connect() as conn:
            if plan.segment is None:
                found = list(conn.scalars(select(customers.c.customer_id)))
            else:
                found = members(conn, load_segment(conn, plan.segment), now, self._feature_list())
        require(len(found) <= MOST_MEMBERS, "segment", f"{len(found)} members", f"must be <= {MOST_MEMBERS}")
        places = marks(plan.plan_id, found)
        order = np.argsort(places, kind="stable")
        behind = np.searchsorted(places, bytes.fromhex(plan.reached), side="right", sorter=order)
        return [found[at] for at in order[behind if plan.reached else 0 :].tolist()]

    def _request(self, plan: Plan, customer_id: str) -> DecisionRequest:
        return DecisionRequest(
            campaign_id=plan.campaign_id,
            customer_id=customer_id,
            decision_id=decision_id_of(plan.plan_id, customer_id),
            shadow_prices=tuple(plan.shadow_prices.items()),
        )

    def _keep(self, plan: Plan) -> None:
        """Write how far the plan in hand is.

        Raises:
            _TakenAwayError: somebody has stopped it.
        """
        assert self._in_hand is not None
        self._in_hand.plan = plan
        with reaching_the_store(), self._engine.begin() as conn:
            kept = keep_progress(conn, plan, self._holder, self._machine_clock())
        if kept is None:
            raise _TakenAwayError

    def _leave(self, plan: Plan, status: PlanStatus, ended_at: datetime | None = None) -> None:
        with reaching_the_store(), self._engine.begin() as conn:
            keep_progress(conn, plan, self._holder, self._machine_clock())
            leave_in(conn, plan.plan_id, self._holder, status, ended_at)
            let_go(conn, plan.plan_id, self._holder)


def decision_id_of(plan_id: str, customer_id: str) -> str:
    """The id of the decision that a plan takes for a customer."""
    return str(uuid5(_MEMBERS, f"{plan_id}/{customer_id}"))


def _counted(plan: Plan, answers: Sequence[Answer]) -> Plan:
    """The plan with what became of some members."""
    _refuse_lost(answers)
    contacts = Counter(plan.contacts)
    cost, worth, problems, problem = plan.cost_minor, plan.net_value_minor, plan.n_problems, plan.problem
    for answer in answers:
        if not isinstance(answer, Decision):
            # Its title alone: the words of an error may name the customer, and nobody would erase them here.
            problems, problem = problems + 1, problem_of(answer, "").title
        elif answer.action is not None:
            contacts[answer.action.channel] += 1
            cost += answer.expected.cost_minor
            if answer.expected.net_value_minor is not None:
                price = plan.shadow_prices.get(answer.action.channel, 0.0)
                worth = (worth or 0.0) + answer.expected.net_value_minor + price
    return replace(
        plan,
        n_decided=plan.n_decided + len(answers),
        contacts=dict(contacts),
        cost_minor=cost,
        net_value_minor=worth,
        n_problems=problems,
        problem=problem,
    )


def _refuse_lost(answers: Sequence[Answer]) -> None:
    """What was not acknowledged is asked for again in the next turn.

    Raises:
        StoreUnavailableError: the database was lost in between.
    """
    for answer in answers:
        if isinstance(answer, StoreUnavailableError):
            raise answer

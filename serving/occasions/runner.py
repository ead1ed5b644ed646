"""Looks who is due by an occasion, and decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, time
from uuid import uuid4

from sqlalchemy import Engine

from features.history.engine import read_only
from models.domain.decision import Decision
from models.domain.errors import NotFoundError, StoreUnavailableError
from serving.background import told
from serving.choosing import Answer
from serving.decide import Decider
from serving.occasions.book import settle
from serving.occasions.due import due_between
from serving.occasions.occasion import Due, occurrence_id
from serving.occasions.standing import OccasionStanding, caught_up, standing
from serving.occasions.store import Stored, hold, let_go, list_occasions
from serving.request import DecisionRequest
from serving.snapshot import Snapshots
from serving.store.availability import reaching_the_store

EVERY_SECONDS = 15.0
# Every time zone differs from UTC by whole quarters of an hour: between two of them no local time comes round.
_QUARTER = 900
# Facts come at any time; what follows them is a matter of hours or days.
_FACTS_SECONDS = 300


class OccasionRunner:
    """Takes the decisions that occasions ask for; any number may work on one database, one at a time on an occasion.

    An occurrence's decision id is made of occasion, customer and occurrence: it is decided once, whoever asks.

    Args:
        engine: The history.
        snapshots: Campaigns.
        decider: Decides.
        clock: Gives the present, aware UTC.
        machine_clock: The same of the machine, by which processes tell which of them are alive.
    """

    def __init__(
        self,
        engine: Engine,
        snapshots: Snapshots,
        decider: Decider,
        clock: Callable[[], datetime],
        machine_clock: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._snapshots = snapshots
        self._decider = decider
        self._clock = clock
        self._machine_clock = machine_clock
        self._holder = str(uuid4())

    def run_due(self) -> int:
        """Decide whatever is due; how many decisions were taken.

        Raises:
            StoreUnavailableError: the database cannot be reached; what was due stays due.
        """
        with reaching_the_store(), read_only(self._engine).connect() as conn:
            known = list_occasions(conn)
        # Read later than the versions, which are older than what is settled by them: `load_cause` finds them by that.
        now = self._clock()
        n_decided = 0
        for stored in known:
            if _worth_a_look(stored, now) and self._open(stored, now):
                with told(f"occasion {stored.name}"):
                    n_decided += self._look(stored, now)
        return n_decided

    def _open(self, stored: Stored, now: datetime) -> bool:
        try:
            campaign = self._snapshots.current.campaign(stored.occasion.campaign_id)
        except NotFoundError:
            return False
        return standing(campaign, now) is OccasionStanding.ACTIVE

    def _look(self, stored: Stored, now: datetime) -> int:
        """One look at everybody; how many decisions were taken."""
        if not self._held(stored):
            return 0
        n_decided, complete = 0, False
        try:
            window = caught_up(stored.occasion, now)
            for page in due_between(self._engine, stored, window.after, window.until):
                n_decided += self._decide(stored, page, now)
                if not self._held(stored):
                    return n_decided
            complete = True
        finally:
            with told("letting go of an occasion"), self._engine.begin() as conn:
                let_go(conn, stored, self._holder, now if complete else None)
        return n_decided

    def _held(self, stored: Stored) -> bool:
        with reaching_the_store(), self._engine.begin() as conn:
            return hold(conn, stored, self._holder, self._machine_clock())

    def _decide(self, stored: Stored, page: Sequence[Due], now: datetime) -> int:
        requests = [
            DecisionRequest(
                campaign_id=stored.occasion.campaign_id,
                customer_id=due.customer_id,
                decision_id=occurrence_id(stored.name, due.customer_id, due.occurrence),
            )
            for due in page
        ]
        at, n_decided = 0, 0
        for answers in self._decider.decide_in_parts(requests, now):
            self._settle(stored, list(zip(page[at : at + len(answers)], answers, strict=True)), now)
            at += len(answers)
            n_decided += sum(isinstance(answer, Decision) for answer in answers)
        return n_decided

    def _settle(self, stored: Stored, answered: Sequence[tuple[Due, Answer]], now: datetime) -> None:
        with reaching_the_store(), self._engine.begin() as conn:
            settle(conn, stored.name, answered, now)
        for _, answer in answered:
            if isinstance(answer, StoreUnavailableError):
                raise answer  # the look is not complete: the next turn begins anew


def _worth_a_look(stored: Stored, now: datetime) -> bool:
    """Whether there may be somebody new since the last look.

    A local time comes round in some time zone every quarter of an hour; facts are looked for every five minutes.
    """
    if stored.passed_at is None:
        return True
    date, passed = stored.occasion.date, stored.passed_at.timestamp()
    if date is None:
        return passed <= now.timestamp() - _FACTS_SECONDS
    return passed < _last_round(date.at, now)


def _last_round(at: time, now: datetime) -> float:
    """When it last was that time of day in a zone that somebody may live in, seconds since 1970."""
    past = (at.hour * 3_600 + at.minute * 60 + at.second) % _QUARTER
    return now.timestamp() - (now.timestamp() - past) % _QUARTER

"""Decides the follow-ups whose time has come."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Engine

from features.history.engine import read_only
from models.domain.decision import Decision
from models.domain.errors import NextchannelError, StoreUnavailableError
from serving.decide import Decider
from serving.followups.conversation import FollowUpStatus, FollowUpStep, due, settle
from serving.receipts import adopt
from serving.request import DecisionRequest
from serving.store.availability import reaching_the_store

logger = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
_MOST_AT_ONCE = 100


class FollowUpRunner:
    """Takes the decisions that follow-ups ask for; any number may work on one database.

    A follow-up's id is its decision's id, and both are written in one transaction: after a crash it is decided once.

    Args:
        engine: The history.
        decider: Decides.
        clock: Gives the present, aware UTC.
    """

    def __init__(self, engine: Engine, decider: Decider, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._decider = decider
        self._clock = clock

    def run_due(self) -> int:
        """Decide everything that is due; how many decisions were taken.

        Raises:
            StoreUnavailableError: the database cannot be reached; what was due stays due.
        """
        n_decided = 0
        with reaching_the_store(), self._engine.begin() as conn:
            adopt(conn, self._clock())
        while True:
            now = self._clock()
            with reaching_the_store(), read_only(self._engine).begin() as conn:
                steps = due(conn, now, _MOST_AT_ONCE)
            if not steps:
                return n_decided
            answers = self._decider.decide_many([_request(step) for step in steps], now)
            n_decided += sum(isinstance(answer, Decision) for answer in answers)
            if any(isinstance(answer, StoreUnavailableError) for answer in answers):
                return n_decided  # the database is busy; the next turn tries again
            self._close(
                [(step.follow_up_id, answer) for step, answer in zip(steps, answers, strict=True)], now
            )

    def _close(self, answers: Sequence[tuple[str, Decision | NextchannelError]], now: datetime) -> None:
        """See to it that none of them waits any more; those that can never be decided are dropped."""
        with reaching_the_store(), self._engine.begin() as conn:
            for name, answer in answers:
                if isinstance(answer, Decision):
                    settle(conn, name, FollowUpStatus.DECIDED, None, now)
                elif settle(conn, name, FollowUpStatus.DROPPED, str(answer), now):
                    logger.warning("follow-up %s is dropped: %s", name, answer)


def _request(step: FollowUpStep) -> DecisionRequest:
    return DecisionRequest(
        campaign_id=step.campaign_id,
        customer_id=step.customer_id,
        decision_id=step.follow_up_id,
        hold=step.by_caller,
        step=step,
    )

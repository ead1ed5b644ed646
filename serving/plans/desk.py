"""Makes plans, looks them up and moves them on: what the API, the pages and the command line do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import uuid_utils
from sqlalchemy import Connection, Engine

from features.feature_list import FeatureList
from features.history.engine import read_only
from features.segments.everybody import check_features
from features.segments.language import feature_names
from features.segments.store import load_segment
from models.domain.campaign import Campaign
from models.domain.eligibility import require_open
from serving.plans.plan import Plan, PlanStatus
from serving.plans.store import add_plan, load_plan, move_plan, page_of_plans
from serving.service import Service
from serving.store.availability import reaching_the_store


class PlanDesk:
    """Plans of an installation. Its methods wait for the database.

    Args:
        engine: The history.
        campaign_of: The latest version of the campaign of that id; raises `NotFoundError` where there is none.
        feature_list: The list of features that was defined last; None before the first.
        clock: Gives the present, aware UTC.
        moved: Called when there may be something to work on.
    """

    def __init__(
        self,
        engine: Engine,
        campaign_of: Callable[[str], Campaign],
        feature_list: Callable[[], FeatureList | None],
        clock: Callable[[], datetime],
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._campaign_of = campaign_of
        self._feature_list = feature_list
        self._clock = clock
        self._moved = moved

    @classmethod
    def of(cls, service: Service) -> PlanDesk:
        """Of a running service, which works on them."""
        return cls(
            service.engine,
            lambda campaign_id: service.snapshots.current.campaign(campaign_id),
            service.feature_list,
            service.clock,
            service.plans.wake,
        )

    def make(
        self, campaign_id: str, segment: str | None, *, starts: bool, plan_id: str | None = None
    ) -> Plan:
        """Make a plan and have it worked on.

        Args:
            campaign_id: What to decide.
            segment: Whose members are decided for; None for everybody.
            starts: Whether it starts as soon as its forecast is there.
            plan_id: Of a request that may come again; a plan that is stored under it stays as it is.

        Raises:
            NotFoundError: there is no such campaign or segment.
            CampaignExpiredError: the campaign's send window has closed.
            InvalidInputError: the segment asks for features that are not there.
            StoreUnavailableError: the database cannot be reached.
        """
        now = self._clock()
        require_open(self._campaign_of(campaign_id), now)
        plan = Plan(
            plan_id=plan_id or str(uuid_utils.uuid7()),
            campaign_id=campaign_id,
            segment=segment,
            starts=starts,
            status=PlanStatus.FORECASTING,
            created_at=now,
        )

        def add(conn: Connection) -> Plan:
            if segment is not None:
                found = load_segment(conn, segment)
                if feature_names(found.condition):
                    check_features(found, self._feature_list())
            return add_plan(conn, plan)

        return self._write(add)

    def move(self, plan_id: UUID, to: PlanStatus) -> Plan:
        """Start, pause or cancel a plan; one that is in that state already stays as it is.

        Raises:
            NotFoundError: there is none of that id.
            ConflictError: it has ended, or is not that far.
            StoreUnavailableError: the database cannot be reached.
        """
        return self._write(lambda conn: move_plan(conn, str(plan_id), to, self._clock()))

    def find(self, plan_id: UUID) -> Plan:
        """The plan of that id.

        Raises:
            NotFoundError: there is none.
            StoreUnavailableError: the database cannot be reached.
        """
        with reaching_the_store(), read_only(self._engine).connect() as conn:
            return load_plan(conn, str(plan_id))

    def newest(self, before: str | None, limit: int) -> list[Plan]:
        """Plans, the newest first.

        Args:
            before: Id of the last plan of the page before; None from the newest.
            limit: At most this many.

        Raises:
            NotFoundError: there is no plan of that id.
            StoreUnavailableError: the database cannot be reached.
        """
        with reaching_the_store(), read_only(self._engine).connect() as conn:
            return page_of_plans(conn, before, limit)

    def _write(self, work: Callable[[Connection], Plan]) -> Plan:
        with reaching_the_store(), self._engine.begin() as conn:
            written = work(conn)
        self._moved()
        return written

"""What a campaign has done and what it was worth: one report for the page and for JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, func, select

from features.history.campaigns import load_campaign
from features.history.engine import read_only
from features.history.report import FunnelRow, customer_sums, funnel
from features.history.rewards import settle_in_parts
from features.history.tables import customers, decisions
from features.history.unsettled import count_waiting
from models.domain.experiment import Arm
from models.evaluation.experiment import SampleRatio
from serving.arms import CONFIDENCE, ArmReport
from serving.compared import DifferenceReport, PrePeriodReport, compare
from serving.first_choices import FirstChoiceReport, by_first_choice
from serving.incentives.report import IncentiveReport, report_incentives
from serving.store.availability import reaching_the_store

MOST_RECENT = 20
# Who looks at a report waits this long for what is not settled yet.
SETTLING_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentDecision:
    """One line of the list of latest decisions."""

    decision_id: str
    customer_id: str
    decided_at: datetime
    arm: Arm
    policy: str
    offer: str | None
    channel: str | None
    send_at: datetime | None
    propensity: float
    net_value_minor: float | None
    degraded: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A campaign at one moment.

    Attributes:
        simulated: Whether customers and outcomes come from a simulator.
        n_customers: Customers decided for, as far as they are counted.
        up_to_date: Whether all that is known is counted. False for a while after many decisions or facts, until the service has
            counted them.
        n_waiting: Customers about whom something new is not counted yet, as far as that is known.
        n_contacts: Contacts decided on.
        spend_minor: Cost of those that were not refused, minor units.
        net_value_minor: Value attributed less cost; it counts customers who would have bought anyway.
        incremental_minor: Treatment minus holdout a customer, times the customers of the treatment; None without
            a holdout.
        sample_ratio: None before the first customer.
        pre_period: What was taken out of the differences.
        incentives: What the offers that give something gave, in order of offer.
        first_choices: Treatment and holdout among those for whom the optimiser chose the same channel first, in order of name, no
            contact last. Of those who came in since what it would have done for the holdout is known; empty before that.
    """

    campaign_id: str
    campaign_version: int
    simulated: bool
    as_of: datetime
    currency: str
    confidence: float
    n_customers: int
    up_to_date: bool
    n_waiting: int
    n_decisions: int
    n_contacts: int
    spend_minor: float
    net_value_minor: float
    incremental_minor: float | None
    incremental_low_minor: float | None
    incremental_high_minor: float | None
    funnel: tuple[FunnelRow, ...]
    arms: tuple[ArmReport, ...]
    differences: tuple[DifferenceReport, ...]
    sample_ratio: SampleRatio | None
    pre_period: PrePeriodReport
    first_choices: tuple[FirstChoiceReport, ...]
    verdict: str
    incentives: tuple[IncentiveReport, ...]
    recent: tuple[RecentDecision, ...]


def build_report(
    engine: Engine, campaign_id: str, now: datetime, currency: str, seconds: float = SETTLING_SECONDS
) -> Report:
    """Settle the campaign's rewards, for so many seconds at most, then report. Decisions are recorded meanwhile.

    Raises:
        NotFoundError: there is no such campaign.
        StoreUnavailableError: the database cannot be reached.
    """
    with reaching_the_store():
        with read_only(engine).connect() as conn:
            campaign = load_campaign(conn, campaign_id)
        up_to_date = seconds > 0 and settle_in_parts(engine, now, campaign_id, seconds=seconds)
        with read_only(engine).connect() as conn:
            rows = funnel(conn, campaign_id)
            whole = customer_sums(conn, campaign_id)
            n_waiting = count_waiting(conn, campaign_id)
            n_known = count_known(conn)
            recent = _recent(conn, campaign_id)
            given = report_incentives(conn, campaign, now)
    # Everybody who is known may come into the campaign: the size that the always-valid intervals are tuned to.
    compared = compare(whole.arms, campaign.experiment, n_known)
    difference = compared.against_holdout
    n_treated = compared.sums[Arm.TREATMENT].n_customers
    return Report(
        campaign_id=campaign_id,
        campaign_version=campaign.version,
        simulated=campaign.simulated,
        as_of=now,
        currency=currency,
        confidence=CONFIDENCE,
        n_customers=compared.n_customers,
        up_to_date=up_to_date,
        n_waiting=n_waiting,
        n_decisions=sum(sums.n_decisions for sums in compared.sums.values()),
        n_contacts=sum(row.planned for row in rows),
        spend_minor=sum(row.cost_minor for row in rows),
        net_value_minor=sum(row.net_value_minor for row in rows),
        incremental_minor=None if difference is None else difference.value * n_treated,
        incremental_low_minor=None if difference is None else difference.low * n_treated,
        incremental_high_minor=None if difference is None else difference.high * n_treated,
        funnel=tuple(rows),
        arms=compared.arms,
        differences=compared.differences,
        sample_ratio=compared.sample_ratio,
        pre_period=compared.pre_period,
        first_choices=by_first_choice(whole.first_choices, campaign.experiment, compared.planned_n),
        verdict=compared.verdict,
        incentives=given,
        recent=recent,
    )


def count_known(conn: Connection) -> int:
    """Customers who are known."""
    return conn.execute(select(func.count()).select_from(customers)).scalar_one()


def latest_campaign(engine: Engine) -> str | None:
    """The campaign that decided last; None before the first decision."""
    with reaching_the_store(), read_only(engine).connect() as conn:
        # Not by the id alone: callers may give their own.
        return conn.scalar(
            select(decisions.c.campaign_id)
            .order_by(decisions.c.decided_at.desc(), decisions.c.decision_id.desc())
            .limit(1)
        )


def _recent(conn: Connection, campaign_id: str) -> tuple[RecentDecision, ...]:
    rows = conn.execute(
        select(
            decisions.c.decision_id,
            decisions.c.customer_id,
            decisions.c.decided_at,
            decisions.c.arm,
            decisions.c.policy,
            decisions.c.offer_id.label("offer"),
            decisions.c.channel,
            decisions.c.send_at,
            decisions.c.propensity,
            decisions.c.net_value_minor,
            decisions.c.degraded,
        )
        .where(decisions.c.campaign_id == campaign_id)
        .order_by(decisions.c.decided_at.desc(), decisions.c.decision_id.desc())
        .limit(MOST_RECENT)
    )
    return tuple(
        RecentDecision(**(row._asdict() | {"arm": Arm(row.arm), "degraded": tuple(row.degraded)}))
        for row in rows
    )

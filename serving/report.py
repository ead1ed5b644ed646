"""What a campaign has done and what it was worth: one report for the page and for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import Connection, Engine, func, select

from features.history.campaigns import load_campaign
from features.history.engine import read_only
from features.history.outcomes import PRE_PERIOD
from features.history.report import ArmSums, FunnelRow, customer_sums, funnel
from features.history.rewards import settle_in_parts
from features.history.tables import customers, decisions
from features.history.unsettled import count_waiting
from models.domain.experiment import Arm, Experiment
from models.evaluation.experiment import (
    Difference,
    Moments,
    SampleRatio,
    compare_arms,
    cost_per_incremental_conversion,
    sample_ratio,
)
from models.evaluation.pre_period import without_before
from serving.arms import CONFIDENCE, ArmReport, arm_report, conversions, net_value, verdict
from serving.first_choices import FirstChoiceReport, by_first_choice
from serving.store.availability import reaching_the_store

MOST_RECENT = 20
# Who looks at a report waits this long for what is not settled yet.
SETTLING_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceReport:
    """Net value a customer of one arm minus that of another, minor units.

    Attributes:
        difference: Without what customers did in the pre-period: this is what the verdict is about.
        unadjusted: The same as it is.
        conversions: Difference in the share of customers who converted, without the pre-period too.
        cost_per_conversion_minor: Extra cost for each conversion that would not have happened otherwise, below 0 where the
            arm cost less; None where it converted no more than the other.
        cost_per_conversion_low_minor: With the upper end of the extra conversions.
        cost_per_conversion_high_minor: With their lower end; None where there may be none.
    """

    arm: Arm
    other: Arm
    difference: Difference
    unadjusted: Difference
    conversions: Difference
    cost_per_conversion_minor: float | None
    cost_per_conversion_low_minor: float | None
    cost_per_conversion_high_minor: float | None
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrePeriodReport:
    """What customers did before they came into the experiment, and how much it tells.

    Attributes:
        days: Before each customer's first decision.
        explained: Share of the variance of net value, within arms, that it explains, in [0, 1].
        narrower: By which share of their width intervals are narrower for it.
    """

    days: int
    explained: float
    narrower: float


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
            n_known = conn.execute(select(func.count()).select_from(customers)).scalar_one()
            recent = _recent(conn, campaign_id)
    counted = {arm: ArmSums.none(arm) for arm in Arm} | whole.arms
    worth = {arm: net_value(sums) for arm, sums in counted.items()}
    moments = {arm: sums.plain for arm, sums in worth.items()}
    n_customers = sum(sums.n_customers for sums in counted.values())
    # Everybody who is known may come into the campaign: the size that the always-valid intervals are tuned to.
    planned_n = max(2, n_known, n_customers)
    compare = partial(compare_arms, planned_n=planned_n, confidence=CONFIDENCE)
    adjusted = without_before(worth)
    differences, unadjusted = compare(adjusted.arms), compare(moments)
    converted = compare(without_before({arm: conversions(sums) for arm, sums in counted.items()}).arms)
    arms = tuple(
        arm_report(sums)
        for arm, sums in counted.items()
        if sums.n_customers or campaign.experiment.share(arm) > 0
    )
    ratio = sample_ratio({arm: moments[arm].n for arm in Arm}, campaign.experiment) if n_customers else None
    against_holdout = differences.get((Arm.TREATMENT, Arm.HOLDOUT))
    n_treated = moments[Arm.TREATMENT].n
    return Report(
        campaign_id=campaign_id,
        campaign_version=campaign.version,
        simulated=campaign.simulated,
        as_of=now,
        currency=currency,
        confidence=CONFIDENCE,
        n_customers=n_customers,
        up_to_date=up_to_date,
        n_waiting=n_waiting,
        n_decisions=sum(sums.n_decisions for sums in counted.values()),
        n_contacts=sum(row.planned for row in rows),
        spend_minor=sum(row.cost_minor for row in rows),
        net_value_minor=sum(row.net_value_minor for row in rows),
        incremental_minor=None if against_holdout is None else against_holdout.value * n_treated,
        incremental_low_minor=None if against_holdout is None else against_holdout.low * n_treated,
        incremental_high_minor=None if against_holdout is None else against_holdout.high * n_treated,
        funnel=tuple(rows),
        arms=arms,
        differences=tuple(
            _compared(pair, differences, unadjusted, converted, arms, moments) for pair in differences
        ),
        sample_ratio=ratio,
        pre_period=PrePeriodReport(
            days=PRE_PERIOD.days,
            explained=adjusted.explained,
            narrower=1.0 - math.sqrt(1.0 - adjusted.explained),
        ),
        first_choices=by_first_choice(whole.first_choices, campaign.experiment, planned_n),
        verdict=_overall(campaign.experiment, differences, moments, ratio),
        recent=recent,
    )


def latest_campaign(engine: Engine) -> str | None:
    """The campaign that decided last; None before the first decision."""
    with reaching_the_store(), read_only(engine).connect() as conn:
        # Not by the id alone: callers may give their own.
        return conn.scalar(
            select(decisions.c.campaign_id)
            .order_by(decisions.c.decided_at.desc(), decisions.c.decision_id.desc())
            .limit(1)
        )


def _compared(
    pair: tuple[Arm, Arm],
    differences: Mapping[tuple[Arm, Arm], Difference],
    unadjusted: Mapping[tuple[Arm, Arm], Difference],
    converted: Mapping[tuple[Arm, Arm], Difference],
    arms: Iterable[ArmReport],
    moments: Mapping[Arm, Moments],
) -> DifferenceReport:
    cost = {arm.arm: arm.cost_minor / arm.n_customers for arm in arms if arm.n_customers}
    each = cost_per_incremental_conversion(cost[pair[0]], cost[pair[1]], converted[pair])
    return DifferenceReport(
        arm=pair[0],
        other=pair[1],
        difference=differences[pair],
        unadjusted=unadjusted[pair],
        conversions=converted[pair],
        cost_per_conversion_minor=None if each is None else each.value,
        cost_per_conversion_low_minor=None if each is None else _finite(each.low),
        cost_per_conversion_high_minor=None if each is None else _finite(each.high),
        verdict=verdict(*pair, differences[pair], moments),
    )


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _overall(
    experiment: Experiment,
    differences: Mapping[tuple[Arm, Arm], Difference],
    moments: Mapping[Arm, Moments],
    ratio: SampleRatio | None,
) -> str:
    """One sentence for a person in a hurry."""
    if ratio is None:
        return "Nobody has been decided for yet."
    if not ratio.sound:
        return (
            "Do not read the results: the arms do not have the sizes that were planned, so something other than "
            "chance decides who is in them."
        )
    pair = (Arm.TREATMENT, Arm.HOLDOUT)
    if pair not in differences:
        if experiment.holdout_share <= 0:
            return "Without a holdout nobody can say what contact adds."
        return "Cannot tell yet: an arm has fewer than two customers."
    return verdict(*pair, differences[pair], moments)


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

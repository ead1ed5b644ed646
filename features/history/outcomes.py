"""What came of every customer of a campaign, kept beside the facts: a report adds up a row a customer, whatever was recorded.

Every row can be worked out anew from decisions, facts and rewards at any time; settling does so for whoever something happened
to. The rows say what holds now, whatever `as_of` rewards are settled for.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    Executable,
    ScalarSelect,
    Select,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    null,
    or_,
    select,
)

from features.history.among import among
from features.history.contested import contested
from features.history.moments import earlier
from features.history.reached import reached
from features.history.sales import net_value_told, of_this_redemption
from features.history.tables import (
    RowId,
    channel_outcomes,
    decisions,
    interactions,
    outcomes,
    redemptions,
    rewards,
)
from models.domain.campaign import Campaign
from models.domain.experiment import Arm
from models.domain.interaction import InteractionKind as Kind

PRE_PERIOD = timedelta(days=90)
"""How far back what customers did before they came into an experiment is compared with what they did in it."""
_CLICKED = frozenset({Kind.CLICKED})
_OPENED = _CLICKED | {Kind.OPENED}
_DELIVERED = _OPENED | {Kind.DELIVERED}
_SENT = _DELIVERED | {Kind.SENT, Kind.BOUNCED}
_STEPS = {"sent": _SENT, "delivered": _DELIVERED, "opened": _OPENED, "clicked": _CLICKED}


def working_out(
    conn: Connection,
    campaign: Campaign,
    customer_ids: Sequence[str],
    seen: int,
    repeats: Sequence[int] = (),
) -> list[Executable]:
    """Statements that work the rows of some customers out anew; who has no decision of the campaign any more has none.

    Conversions count from a customer's first decision until the attribution window after the end of the campaign's send
    window: the same for all arms, whoever was contacted, however often, and whether or not it arrived.

    Args:
        conn: For its dialect. The statements are put together before the transaction that they are executed in, which nobody
            else can write during.
        campaign: In its latest version.
        customer_ids: A few hundred at most; their rewards are settled.
        seen: The newest fact of all when they were settled.
        repeats: Ids of facts that do not count: `features.history.sales`.
    """
    statements: list[Executable] = []
    for table, query in (
        (outcomes, _outcomes(conn, campaign, customer_ids, seen, repeats)),
        (channel_outcomes, _channel_outcomes(conn, campaign, customer_ids)),
    ):
        of_those = among(conn, table.c.customer_id, customer_ids)
        statements += [
            delete(table).where(table.c.campaign_id == campaign.campaign_id, of_those),
            insert(table).from_select([column.name for column in query.selected_columns], query),
        ]
    return statements


def _outcomes(
    conn: Connection, campaign: Campaign, customer_ids: Sequence[str], seen: int, repeats: Sequence[int]
) -> Select[Any]:
    ends_at = campaign.send_window.closes_at + timedelta(seconds=campaign.attribution_window_seconds)
    contact = and_(decisions.c.channel.is_not(None), reached())
    people = (
        select(
            decisions.c.customer_id,
            func.min(decisions.c.arm).label("arm"),
            func.min(decisions.c.decided_at).label("entered_at"),
            func.count().label("n_decisions"),
            func.max(case((contact, 1), else_=0)).label("n_contacts"),
            func.sum(case((contact, decisions.c.cost_minor), else_=0.0)).label("cost_minor"),
        )
        .where(of_customers(conn, campaign.campaign_id, customer_ids))
        .group_by(decisions.c.customer_id)
        .cte("people")
    )
    answered = decisions.alias("answered")
    margin = case(
        *((answered.c.offer_id == offer.offer_id, offer.margin_minor) for offer in campaign.offers),
        else_=campaign.conversion_value_minor,
    )
    conversions = (
        select(people.c.customer_id)
        .join(interactions, interactions.c.customer_id == people.c.customer_id)
        .where(interactions.c.kind == campaign.conversion_kind, ~interactions.c.machine_made)
        .group_by(people.c.customer_id)
    )
    if repeats:
        conversions = conversions.where(interactions.c.interaction_id.not_in(repeats))
    since = (
        conversions.add_columns(func.sum(func.coalesce(net_value_told(), margin)).label("value_minor"))
        .outerjoin(redemptions, of_this_redemption())
        .outerjoin(answered, answered.c.decision_id == interactions.c.decision_id)
        .where(
            interactions.c.occurred_at >= people.c.entered_at,
            interactions.c.occurred_at < ends_at,
            # A conversion that names neither a decision nor a campaign may concern any campaign.
            func.coalesce(answered.c.campaign_id, interactions.c.campaign_id, campaign.campaign_id)
            == campaign.campaign_id,
        )
        .subquery("since")
    )
    before = (
        conversions.add_columns(
            func.sum(func.coalesce(interactions.c.value_minor, campaign.conversion_value_minor)).label(
                "value_minor"
            )
        )
        .where(
            interactions.c.occurred_at < people.c.entered_at,
            interactions.c.occurred_at >= earlier(conn, people.c.entered_at, PRE_PERIOD),
        )
        .subquery("before")
    )
    return (
        select(
            literal(campaign.campaign_id).label("campaign_id"),
            people.c.customer_id,
            people.c.arm,
            people.c.n_decisions,
            (people.c.n_contacts > 0).label("contacted"),
            people.c.cost_minor,
            since.c.customer_id.is_not(None).label("converted"),
            func.coalesce(since.c.value_minor, 0.0).label("value_minor"),
            func.coalesce(before.c.value_minor, 0.0).label("before_minor"),
            literal(seen, RowId).label("interaction_id"),
            decisions.c.decided_at.label("first_decided_at"),
            first_choice().label("first_choice"),
        )
        .select_from(people)
        .join(decisions, decisions.c.decision_id == _first_decision(campaign, people))
        .outerjoin(since, since.c.customer_id == people.c.customer_id)
        .outerjoin(before, before.c.customer_id == people.c.customer_id)
    )


def _first_decision(campaign: Campaign, people: CTE) -> ScalarSelect[str]:
    """SQL expression on a row of `people`: the id of the first decision in their arm."""
    each = decisions.alias("each")
    return (
        select(each.c.decision_id)
        .where(
            each.c.customer_id == people.c.customer_id,
            each.c.campaign_id.concat("") == campaign.campaign_id,
            each.c.arm == people.c.arm,
        )
        .order_by(each.c.decided_at, each.c.decision_id)
        .limit(1)
        .correlate(people)
        .scalar_subquery()
    )


def first_choice() -> ColumnElement[str | None]:
    """SQL expression on a row of `decisions`: the channel that the optimiser chose, empty for no contact.

    Its shadow's where there is one, else the decision's own in the treatment. Null where it is not known: a rule decided, or
    nobody, and no shadow was logged; the decision came without a document, or lost it with the person; or several campaigns
    were asked, of which the treatment takes part in the contest and the holdout does not.
    """
    document = decisions.c.document
    unknown = or_(document["policy"].as_string().is_(None), contested())
    would = func.coalesce(document[("shadow", "action", "channel")].as_string(), "")
    return case(
        (unknown, null()),
        (document[("shadow", "policy")].as_string().is_not(None), would),
        (decisions.c.arm == Arm.TREATMENT, func.coalesce(decisions.c.channel, "")),
        else_=null(),
    )


def _channel_outcomes(conn: Connection, campaign: Campaign, customer_ids: Sequence[str]) -> Select[Any]:
    made = contacts(of_customers(conn, campaign.campaign_id, customer_ids))
    sums = channel_sums(made, "customer_id", "channel")
    return sums.add_columns(literal(campaign.campaign_id).label("campaign_id"))


def contacts(of_those: ColumnElement[bool]) -> CTE:
    """Decisions to contact, when they were taken (`moment`), and what they cost: nothing where they were cancelled or refused.

    Args:
        of_those: SQL condition on a row of `decisions`.
    """
    made = select(
        decisions.c.decision_id,
        decisions.c.customer_id,
        decisions.c.channel,
        decisions.c.decided_at.label("moment"),
        case((reached(), decisions.c.cost_minor), else_=0.0).label("cost_minor"),
    ).where(of_those, decisions.c.channel.is_not(None))
    # What was refused is looked up once a decision, not once a fact.
    return made.cte("made").prefix_with("MATERIALIZED")


def channel_sums(made: CTE, *by: str) -> Select[Any]:
    """What became of contacts, as far as their rewards are settled: the figures of a row of `channel_outcomes`.

    Args:
        made: Rows of `contacts`.
        by: Names of their columns; one row of sums for each of their values.
    """
    told = and_(interactions.c.decision_id == made.c.decision_id, ~interactions.c.machine_made)
    seen = (
        select(
            *made.c,
            *(
                func.max(case((interactions.c.kind.in_(sorted(kinds)), 1), else_=0)).label(name)
                for name, kinds in _STEPS.items()
            ),
        )
        .select_from(made.outerjoin(interactions, told))
        .group_by(*made.c)
        .subquery("seen")
    )
    columns = [seen.c[name] for name in by]
    return (
        select(
            *columns,
            func.count().label("planned"),
            *(func.sum(seen.c[name]).label(name) for name in _STEPS),
            func.coalesce(func.sum(case((rewards.c.converted, 1), else_=0)), 0).label("converted"),
            func.sum(seen.c.cost_minor).label("cost_minor"),
            func.coalesce(func.sum(rewards.c.value_minor), 0.0).label("value_minor"),
        )
        .select_from(seen.outerjoin(rewards, rewards.c.decision_id == seen.c.decision_id))
        .group_by(*columns)
    )


def of_customers(conn: Connection, campaign_id: str, customer_ids: Sequence[str]) -> ColumnElement[bool]:
    """SQL condition on `decisions`: those of some customers of a campaign, found by the customers.

    A database that looks for the campaign first reads all of it for every few customers.
    """
    return and_(
        among(conn, decisions.c.customer_id, customer_ids), decisions.c.campaign_id.concat("") == campaign_id
    )

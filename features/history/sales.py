"""What a sale counts for that a redemption tells of: once, and net of what the redemption cost.

The till reports a redemption and the shop system the purchase. Two facts speak of one sale where they are of the same customer and say the same order: the redemption by its `order_id`, the
other one in its attribute `order_id`. For the campaign that the redemption belongs to, the redemption counts and the other one
does not, whichever came first. For every other campaign the other one counts as ever: the redemption names a decision, so it
belongs to none of them. Facts that repeat an order among themselves are left as they are: they may be its lines.

Margins of offers are net of what redeeming costs on average. The value that a till tells is not: what this redemption cost is
taken off it, so that both are of one kind.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from features.history.among import among
from features.history.tables import interactions, redemptions

REDEMPTION = "redemption"
"""Source of the facts that redemptions write; their event id is the decision's."""

ORDER_ID = "order_id"
"""The attribute by which a fact says of which sale it speaks."""


def repeats_of_sales(conn: Connection, campaign_id: str, customer_ids: Sequence[str]) -> list[int]:
    """Ids of facts of these customers that do not count for the campaign, because a redemption of it tells of the same sale."""
    return list(
        conn.scalars(
            select(interactions.c.interaction_id)
            .join(redemptions, _of_the_same_sale())
            .where(
                among(conn, redemptions.c.customer_id, customer_ids), redemptions.c.campaign_id == campaign_id
            )
        )
    )


def of_this_redemption() -> ColumnElement[bool]:
    """SQL condition that joins a row of `interactions` with the redemption that wrote it."""
    return and_(interactions.c.source == REDEMPTION, redemptions.c.decision_id == interactions.c.decision_id)


def net_value_told() -> ColumnElement[float | None]:
    """SQL expression on rows of `interactions` joined with `of_this_redemption`: value less what was redeemed, minor units.

    Null where the fact tells no value: the margin of the offer counts then.
    """
    return interactions.c.value_minor - func.coalesce(redemptions.c.cost_minor, 0.0)


def sales_reported_twice(conn: Connection, customer_ids: Sequence[str]) -> list[tuple[int, str]]:
    """Facts that repeat a redemption's sale, and the redemption's decision, before what joins them is cleared."""
    rows = conn.execute(
        select(interactions.c.interaction_id, redemptions.c.decision_id)
        .join(redemptions, _of_the_same_sale())
        .where(redemptions.c.customer_id.in_(customer_ids))
    )
    return [(row.interaction_id, row.decision_id) for row in rows]


def rename_sales(conn: Connection, twice: Sequence[tuple[int, str]], tombstone: str) -> None:
    """Join them again under names that tell nothing, so that an erasure changes no total."""
    for interaction_id, decision_id in twice:
        order_id = f"{tombstone}/{decision_id}"
        conn.execute(
            update(redemptions).where(redemptions.c.decision_id == decision_id).values(order_id=order_id)
        )
        conn.execute(
            update(interactions)
            .where(interactions.c.interaction_id == interaction_id)
            .values(attributes={ORDER_ID: order_id})
        )


def _of_the_same_sale() -> ColumnElement[bool]:
    return and_(
        interactions.c.customer_id == redemptions.c.customer_id,
        interactions.c.source != REDEMPTION,
        interactions.c.attributes[ORDER_ID].as_string() == redemptions.c.order_id,
    )

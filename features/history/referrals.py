"""Who referred whom: an attribute of the friend's registration."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, literal_column, select, update

from features.history.among import among
from features.history.tables import SELDOM, interactions

REFERRED_BY = "referred_by"
"""The attribute of a fact `registered` that names the customer who referred them."""

REGISTERED = interactions.c.kind == literal_column("'registered'")


def forget_referrals(conn: Connection, customer_ids: Sequence[str]) -> None:
    """Take the people of these ids out of the registrations of others."""
    said = interactions.c.attributes
    named = conn.execute(
        select(interactions.c.interaction_id, said).where(
            SELDOM, REGISTERED, among(conn, said[REFERRED_BY].as_string(), customer_ids)
        )
    )
    for interaction_id, attributes in named.all():
        left = {name: text for name, text in attributes.items() if name != REFERRED_BY}
        conn.execute(
            update(interactions)
            .where(interactions.c.interaction_id == interaction_id)
            .values(attributes=left)
        )

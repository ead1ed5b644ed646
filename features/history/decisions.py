"""A decision as a row, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import orjson
from sqlalchemy import Connection, Row, select

from features.history.documents import from_document, to_json
from features.history.evidence import FeatureOrders, pack, unpack
from features.history.tables import decisions
from models.domain.action import Action
from models.domain.campaign import Mode
from models.domain.decision import Decision, Expected
from models.domain.errors import NotFoundError, require
from models.domain.experiment import Arm

# Those that `decision_row` gives.
DECISION_COLUMNS = tuple(column.name for column in decisions.columns)
# Of these what a decision is read from: its shadow prices are asked for by themselves.
_SAID = tuple(column for column in decisions.columns if column is not decisions.c.shadow_prices)


def decision_row(
    decision: Decision, orders: FeatureOrders | None = None, shadow_prices: Mapping[str, float] | None = None
) -> dict[str, object]:
    """The values of the columns of `decisions`.

    Args:
        decision: Not a dry run.
        orders: The lists of feature names that the database holds.
        shadow_prices: What a message took of what was scarce, minor units, by channel; nothing where that is none.

    Raises:
        InvalidInputError: the decision is a dry run, which is never stored.
    """
    require(not decision.dry_run, "dry_run", decision.dry_run, "must be false for a decision that is stored")
    action = decision.action
    expected = decision.expected
    return {
        "decision_id": decision.decision_id,
        "customer_id": decision.customer_id,
        "recorded_as": "",
        "campaign_id": decision.campaign_id,
        "campaign_version": decision.campaign_version,
        "decided_at": decision.decided_at,
        "arm": str(decision.arm),
        "mode": str(decision.mode),
        "policy": str(decision.policy),
        "policy_version": decision.policy_version,
        "offer_id": action.offer if action else None,
        "channel": action.channel if action else None,
        "slot": action.slot if action else None,
        "send_at": action.send_at if action else None,
        "expires_at": action.expires_at if action else None,
        "propensity": decision.propensity,
        "cost_minor": expected.cost_minor,
        "p_open": expected.p_open,
        "p_convert": expected.p_convert,
        "p_convert_no_contact": expected.p_convert_no_contact,
        "net_value_minor": expected.net_value_minor,
        "degraded": list(decision.degraded),
        "document": orjson.Fragment(to_json(decision)),
        "parent_id": decision.parent_id,
        "evidence": pack(decision.evidence, orders),
        "shadow_prices": orjson.dumps(dict(shadow_prices)).decode() if shadow_prices else None,
    }


def whole_row(decision: Decision) -> dict[str, object]:
    """The same in values that JSON can hold: all of the evidence is in the document.

    Raises:
        InvalidInputError: the decision is a dry run, which is never stored.
    """
    whole = orjson.Fragment(to_json(decision, with_numbers=True))
    return decision_row(decision) | {"document": whole, "evidence": None}


def load_decision(conn: Connection, decision_id: str) -> Decision:
    """The decision of that id; one that came without a document has no alternatives and no evidence.

    Its `customer_id` is that of the person now: others may have been merged since, or the person erased.

    Raises:
        NotFoundError: there is none.
    """
    row = conn.execute(select(*_SAID).where(decisions.c.decision_id == decision_id)).one_or_none()
    if row is None:
        raise NotFoundError("decision_id", decision_id)
    if row.document is None:
        return _from_columns(row)
    said = from_document(Decision, row.document)
    decision = replace(said, customer_id=row.customer_id, alternatives=tuple(said.alternatives))
    if row.evidence is None:
        return decision
    return replace(decision, evidence=unpack(conn, row.evidence, decision.evidence))


def load_shadow_prices(conn: Connection, decision_id: str) -> dict[str, float]:
    """What a message took of what was scarce when that was decided, minor units, by channel; empty for nothing."""
    written = conn.scalar(select(decisions.c.shadow_prices).where(decisions.c.decision_id == decision_id))
    return shadow_prices_of(written)


def shadow_prices_of(written: str | None) -> dict[str, float]:
    """The same from its column."""
    prices: dict[str, float] = orjson.loads(written) if written else {}
    return prices


def _from_columns(row: Row[tuple[object, ...]]) -> Decision:
    action = None
    if row.channel is not None:
        action = Action(
            offer=row.offer_id,
            channel=row.channel,
            slot=row.slot,
            send_at=row.send_at,
            expires_at=row.expires_at,
        )
    uplift = None
    if row.p_convert is not None and row.p_convert_no_contact is not None:
        uplift = row.p_convert - row.p_convert_no_contact
    return Decision(
        decision_id=row.decision_id,
        customer_id=row.customer_id,
        campaign_id=row.campaign_id,
        campaign_version=row.campaign_version,
        decided_at=row.decided_at,
        action=action,
        propensity=row.propensity,
        expected=Expected(
            p_open=row.p_open,
            p_convert=row.p_convert,
            p_convert_no_contact=row.p_convert_no_contact,
            uplift=uplift,
            cost_minor=row.cost_minor,
            net_value_minor=row.net_value_minor,
        ),
        alternatives=(),
        exclusions=(),
        arm=Arm(row.arm),
        mode=Mode(row.mode),
        policy=row.policy,
        policy_version=row.policy_version,
        degraded=tuple(row.degraded),
        explanation="",
        parent_id=row.parent_id,
    )

"""Write decisions: the decision, its reservations and its outbox message as rows of one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, insert, update

from features.history.decisions import DECISION_COLUMNS, decision_row
from features.history.evidence import FeatureOrders
from features.history.prepared import Prepared, in_one_trip
from features.history.tables import decisions, outbox, reservations, resource_usage
from models.domain.action import ReasonCode
from models.domain.campaign import Campaign, content_for
from models.domain.channel import Channel
from models.domain.customer import Customer
from models.domain.decision import Decision
from models.domain.eligibility import in_provider_window
from models.domain.message import message_id
from serving.followups.conversation import FollowUpStep
from serving.reading import Degraded
from serving.store.endings import OutboxStatus
from serving.store.idempotency import IdempotencyKey, remember
from serving.store.resources import Claim, Resource

_USE = Prepared(
    update(resource_usage)
    .where(resource_usage.c.resource == bindparam("name"))
    .values(used=resource_usage.c.used + bindparam("amount"))
)
_ADD_DECISION = Prepared(insert(decisions), DECISION_COLUMNS)
_ADD_RESERVATION = Prepared(insert(reservations), ("decision_id", "resource", "amount", "reserved_at"))
_ADD_MESSAGE = Prepared(
    insert(outbox),
    (
        "message_id",
        "decision_id",
        "customer_id",
        "recorded_as",
        "campaign_id",
        "offer_id",
        "channel",
        "content_kind",
        "send_at",
        "expires_at",
        "status",
        "attempts",
        "due_at",
        "fencing_token",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDecision:
    """Command: write this decision.

    Attributes:
        decision: What was decided.
        campaign: The version that it was decided for.
        channels: Channels of the campaign, by name.
        customer: The person as read for the decision.
        key: The idempotency key that the request came with.
        hold: Whether the caller sends: the message is held until they say that it went out, or will not.
        beside: Decisions of other campaigns that were asked at the same time, and which make no contact.
        step: The follow-up that it takes; `serving.followups.conversation.permitted` was asked.
        exploring: What it takes of the campaigns' allowances for exploring.
        shadow_prices: That it was decided at, minor units, by campaign and channel.
    """

    decision: Decision
    campaign: Campaign
    channels: Mapping[str, Channel]
    customer: Customer
    key: IdempotencyKey | None = None
    hold: bool = False
    beside: tuple[Decision, ...] = ()
    step: FollowUpStep | None = None
    exploring: tuple[Claim, ...] = ()
    shadow_prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DecisionRecorded:
    """It is written."""


@dataclass(frozen=True, slots=True)
class DecisionRefused:
    """What it needs was used up in the meantime; nothing of it is written."""

    reason: ReasonCode | Degraded
    channel: str | None


RecordOutcome = DecisionRecorded | DecisionRefused
RECORDED = DecisionRecorded()


class LaidOut(NamedTuple):
    """A command as rows: its decisions, and the message where it makes a contact."""

    command: RecordDecision
    decisions: list[dict[str, object]]
    message: dict[str, object] | None


def lay_out(command: RecordDecision, orders: FeatureOrders | None) -> LaidOut:
    """The rows of a command.

    Args:
        command: Whose.
        orders: The lists of feature names that the database holds.
    """
    made = (command.decision, *command.beside)
    prices = command.shadow_prices
    rows = [decision_row(decision, orders, prices.get(decision.campaign_id)) for decision in made]
    return LaidOut(command, rows, _outbox_row(command))


def write(conn: Connection, accepted: Sequence[LaidOut], reserved: Sequence[tuple[Decision, Claim]]) -> None:
    """Write rows and what they reserve, in a fixed number of statements; the caller commits."""
    made = [
        (rows.command.key, rows.command.decision.decision_id, rows.command.decision.decided_at)
        for rows in accepted
        if rows.command.key is not None
    ]
    total: dict[Resource, float] = {}
    for _, claim in reserved:
        total[claim.resource] = total.get(claim.resource, 0.0) + claim.amount
    name_of = {resource: resource.name for resource in total}
    with in_one_trip(conn):
        _ADD_DECISION.run_all(conn, [row for rows in accepted for row in rows.decisions])
        remember(conn, made)
        taken = sorted((name_of[resource], amount) for resource, amount in total.items())
        _USE.run_all(conn, [{"name": name, "amount": amount} for name, amount in taken])
        _ADD_RESERVATION.run_all(
            conn,
            [
                {
                    "decision_id": decision.decision_id,
                    "resource": name_of[claim.resource],
                    "amount": claim.amount,
                    "reserved_at": decision.decided_at,
                }
                for decision, claim in reserved
            ],
        )
        _ADD_MESSAGE.run_all(conn, [rows.message for rows in accepted if rows.message is not None])


def _outbox_row(command: RecordDecision) -> dict[str, object] | None:
    decision, action = command.decision, command.decision.action
    if action is None:
        return None
    offer = next(offer for offer in command.campaign.offers if offer.offer_id == action.offer)
    channel = command.channels[action.channel]
    in_window = in_provider_window(channel, command.customer, action.send_at)
    content = content_for(offer, channel, in_window=in_window)
    assert content is not None, "a candidate has content"
    return {
        "message_id": message_id(decision.decision_id, 0, action.channel),
        "decision_id": decision.decision_id,
        "customer_id": decision.customer_id,
        "recorded_as": "",
        "campaign_id": decision.campaign_id,
        "offer_id": action.offer,
        "channel": action.channel,
        "content_kind": str(content[0]),
        "send_at": action.send_at,
        "expires_at": action.expires_at,
        "status": str(OutboxStatus.HELD if command.hold else OutboxStatus.PENDING),
        "attempts": 0,
        "due_at": action.send_at,
        "fencing_token": 0,
    }

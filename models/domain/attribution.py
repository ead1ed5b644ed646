"""Which outcomes belong to which decision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from models.domain.channel import Channel
from models.domain.interaction import NOT_REACHED, Interaction, InteractionKind
from models.domain.reward import Reward


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributable:
    """The part of a decision that attribution looks at.

    Attributes:
        channel: The chosen channel; None for no contact.
        starts_at: `send_at` of the chosen action, or `decided_at` for no contact.
        cost_minor: Cost of the contact, minor units.
        default_value_minor: Value of a conversion that states none, minor units.
    """

    decision_id: str
    customer_id: str
    campaign_id: str
    channel: Channel | None
    starts_at: datetime
    window_seconds: int
    cost_minor: float
    default_value_minor: float
    conversion_kind: InteractionKind = InteractionKind.CONVERTED


def attribute(decision: Attributable, interactions: Iterable[Interaction], as_of: datetime) -> Reward | None:
    """Sum up what followed a decision.

    An interaction belongs to the decision that it names. One that names none belongs to it where
    customer and campaign agree (or it names no campaign either) and it falls into the attribution
    window `[starts_at, starts_at + window)`. The caller hands over only interactions that no later
    decision of the customer and campaign has a better claim to.

    Machine-made outcomes are ignored. An outcome that the channel cannot report is None, not False.

    Args:
        decision: The decision.
        interactions: Facts of the customer, any order; repeated facts must be removed already.
        as_of: The reward is final once the window has closed by then. Later facts are ignored.

    Returns:
        The reward, or None where the message reached nobody: it teaches nothing.
    """
    ends_at = decision.starts_at + timedelta(seconds=decision.window_seconds)
    opened_at: datetime | None = None
    converted_at: datetime | None = None
    clicked = False
    discounted: bool | None = None
    value = 0.0
    for fact in interactions:
        if fact.occurred_at > as_of or not _belongs(fact, decision):
            continue
        if decision.channel and fact.decision_id and fact.kind in NOT_REACHED:
            return None
        if fact.machine_made or not decision.starts_at <= fact.occurred_at < ends_at:
            continue
        if fact.kind is decision.conversion_kind:
            converted_at = _first(converted_at, fact)
            if fact.discounted is not None:
                discounted = bool(discounted) or fact.discounted
            value += decision.default_value_minor if fact.value_minor is None else fact.value_minor
        elif decision.channel and fact.channel in (None, decision.channel.name):
            if fact.kind in (InteractionKind.OPENED, InteractionKind.CLICKED):
                opened_at = _first(opened_at, fact)
            clicked |= fact.kind is InteractionKind.CLICKED
    channel = decision.channel
    return Reward(
        decision_id=decision.decision_id,
        opened=_known(channel, InteractionKind.OPENED, opened_at is not None),
        clicked=_known(channel, InteractionKind.CLICKED, clicked),
        converted=converted_at is not None,
        value_minor=value,
        cost_minor=decision.cost_minor,
        final=as_of >= ends_at,
        as_of=as_of,
        opened_at=opened_at,
        converted_at=converted_at,
        discounted=discounted,
    )


def _first(known: datetime | None, fact: Interaction) -> datetime:
    return fact.occurred_at if known is None else min(known, fact.occurred_at)


def _belongs(fact: Interaction, decision: Attributable) -> bool:
    if fact.decision_id is not None:
        return fact.decision_id == decision.decision_id
    return fact.customer_id == decision.customer_id and fact.campaign_id in (
        None,
        decision.campaign_id,
    )


def _known(channel: Channel | None, kind: InteractionKind, happened: bool) -> bool | None:
    if channel is None or not (channel.reports(kind) or happened):
        return None
    return happened

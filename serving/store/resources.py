"""What runs out: budgets, capacities and allowances for exploring, and what a decision takes of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Select, func, literal, select

from features.history.tables import decisions, outbox
from models.domain.action import Action, ReasonCode
from models.domain.campaign import Campaign
from models.domain.channel import Channel
from serving.reading import Degraded

N_MESSAGE_DAYS = 2
"""A slot comes round within a day, so a message falls on the day of its decision or on the next."""


def message_days(now: datetime) -> list[date]:
    """The UTC days that a message can fall on which is decided now."""
    today = now.astimezone(UTC).date()
    return [today + timedelta(days=ahead) for ahead in range(N_MESSAGE_DAYS)]


class Resource(NamedTuple):
    """Something that runs out.

    Attributes:
        holder: The campaign whose budget or exploring it is, or the channel whose capacity.
        day: None for a budget; the UTC day of `send_at` for a capacity, of the decision for exploring.
        exploring: Whether it is the campaign's allowance for exploring.
    """

    holder: str
    day: date | None = None
    exploring: bool = False

    @property
    def name(self) -> str:
        """`budget:<campaign>`, `capacity:<channel>:<day>` or `exploration:<campaign>:<day>`."""
        if self.day is None:
            return f"budget:{self.holder}"
        return f"{'exploration' if self.exploring else 'capacity'}:{self.holder}:{self.day.isoformat()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a decision takes of one limited resource.

    Attributes:
        amount: Minor units, or messages.
        limit: Most that may be used in all.
        exhausted: The reason to give when it is used up.
    """

    resource: Resource
    amount: float
    limit: float
    exhausted: ReasonCode | Degraded


def claims(campaign: Campaign, channel: Channel, action: Action) -> tuple[Claim, ...]:
    """What an action takes of limited resources."""
    found = []
    if campaign.budget_minor is not None and channel.cost_minor is not None:
        found.append(
            Claim(
                resource=Resource(campaign.campaign_id),
                amount=channel.cost_minor,
                limit=campaign.budget_minor,
                exhausted=ReasonCode.BUDGET_EXHAUSTED,
            )
        )
    if channel.capacity_per_day is not None:
        found.append(
            Claim(
                resource=Resource(channel.name, action.send_at.date()),
                amount=1.0,
                limit=float(channel.capacity_per_day),
                exhausted=ReasonCode.CAPACITY_EXHAUSTED,
            )
        )
    return tuple(found)


def exploring_claim(campaign: Campaign, decided_at: datetime, loss_minor: float) -> Claim | None:
    """What a decision takes of its campaign's allowance for exploring; None where it takes nothing.

    Args:
        campaign: Whose.
        decided_at: Aware; its UTC day counts.
        loss_minor: Expected loss of the decision against the best candidate, minor units.
    """
    if campaign.exploration_budget_minor is None or loss_minor <= 0:
        return None
    return Claim(
        resource=exploring_allowance(campaign, decided_at.astimezone(UTC).date()),
        amount=loss_minor,
        limit=campaign.exploration_budget_minor,
        exhausted=Degraded.EXPLORATION_SPENT,
    )


def exploring_allowance(campaign: Campaign, day: date) -> Resource:
    """What a campaign may lose by exploring on a UTC day."""
    return Resource(campaign.campaign_id, day, exploring=True)


def used_so_far(resource: Resource) -> Select[Any]:
    """What was used before anybody counted: a limit may be set while a campaign runs."""
    if resource.exploring:  # what was lost before there was a limit is not written anywhere
        return select(literal(0.0))
    if resource.day is None:
        return (
            select(func.coalesce(func.sum(decisions.c.cost_minor), 0.0))
            .join(outbox, outbox.c.decision_id == decisions.c.decision_id)
            .where(decisions.c.campaign_id == resource.holder)
        )
    starts_at = datetime.combine(resource.day, time(), tzinfo=UTC)
    return (
        select(func.count())
        .select_from(outbox)
        .where(
            outbox.c.channel == resource.holder,
            outbox.c.send_at >= starts_at,
            outbox.c.send_at < starts_at + timedelta(days=1),
        )
    )

"""What a plan is: one campaign for one audience, from its forecast to its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pydantic import TypeAdapter


class PlanStatus(StrEnum):
    """How far a plan is."""

    FORECASTING = "forecasting"
    """Its audience is being looked at; nobody is decided for yet."""
    READY = "ready"
    """Its forecast is there; it waits to be started."""
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    """What was decided stays decided."""
    FAILED = "failed"
    """It cannot go on; `problem` says why. Started again it goes on where it was."""


WORKED_ON = frozenset({PlanStatus.FORECASTING, PlanStatus.RUNNING})
"""What a service works on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a plan is expected to do if it starts now.

    Expected by the model, from a random part of the audience; nobody was contacted for it. What exploring costs, and
    what other requests take of budgets and capacities meanwhile, is not in it.

    Attributes:
        as_of: When.
        n_members: Size of the audience.
        n_sampled: Members that were looked at.
        contacts: Expected messages by channel.
        cost_minor: What they cost, minor units.
        net_value_minor: What they are worth beyond leaving everybody alone, cost taken off, minor units; None without
            predictions.
        most_minor: No allocation of what is left of budgets and capacities is worth more (the dual bound); None without
            predictions.
        shadow_prices: What one message takes of what is scarce, beside its cost, minor units, by channel; a channel
            that is not scarce is absent.
    """

    as_of: datetime
    n_members: int
    n_sampled: int
    contacts: Mapping[str, float]
    cost_minor: float
    net_value_minor: float | None
    most_minor: float | None
    shadow_prices: Mapping[str, float]


FORECASTS: TypeAdapter[Forecast] = TypeAdapter(Forecast)
"""As JSON documents, and back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One campaign for one audience.

    Attributes:
        segment: Whose members are decided for; None for everybody.
        starts: Whether it starts as soon as its forecast is there.
        forecast: None until it is there.
        shadow_prices: As they are now, by channel, minor units a message.
        n_members: Size of the audience when it began, or went on, for the last time; None before.
        n_decided: Members whose turn has been, problems included.
        contacts: Messages that were decided on, by channel.
        n_problems: Members who could not be decided for; `problem` is what was said of the last, or why it failed.
        cost_minor: Of the contacts.
        net_value_minor: What the contacts are expected to be worth, cost taken off and shadow prices not; None
            without predictions.
        reached: The mark in the plan's order up to which members were decided for.
    """

    plan_id: str
    campaign_id: str
    segment: str | None
    starts: bool
    status: PlanStatus
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    forecast: Forecast | None = None
    shadow_prices: Mapping[str, float] = field(default_factory=dict)
    n_members: int | None = None
    n_decided: int = 0
    contacts: Mapping[str, int] = field(default_factory=dict)
    n_problems: int = 0
    problem: str | None = None
    cost_minor: float = 0.0
    net_value_minor: float | None = None
    reached: str = ""

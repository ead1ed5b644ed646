"""`POST /v1/decisions/simulate`: what if?"""

from __future__ import annotations

from datetime import time
from typing import Annotated

import uuid_utils
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, Strict

from features.json_types import KEYS_ALIKE, WHOLE, Number
from models.domain.campaign import Mode, PolicyName
from serving.routes.examples import PROBLEMS, SIMULATIONS
from serving.routes.fields import Moment, Name, ShortName
from serving.routes.schemas import MOST_CAMPAIGNS, DecisionIn, DecisionOut
from serving.service import Service
from serving.simulate import CampaignOverride, Comparison, Overrides, simulate

_STRICT = ConfigDict(extra="forbid")
_MOST_CHANNELS = 50
_OF_CAPS = ("contacts", "contacts_per_channel", "contacts_per_campaign")

NotNegative = Annotated[Number, Field(ge=0)]
Cap = Annotated[int, Strict(), Field(ge=0), WHOLE]


class ChannelOverrideIn(BaseModel):
    """A channel as it might be; what is absent stays."""

    model_config = _STRICT

    cost_minor: NotNegative | None = Field(
        default=None, description="Of a message, or of a segment where the channel charges by the segment."
    )
    capacity_per_day: Cap | None = None
    enabled: bool = True


class CampaignOverrideIn(BaseModel):
    """A campaign as it might be; what is absent stays."""

    model_config = _STRICT

    margin_minor: Annotated[dict[Name, Number], KEYS_ALIKE] = Field(
        default_factory=dict, description="Margin by offer."
    )
    budget_minor: NotNegative | None = None
    contacts: Cap | None = Field(default=None, description="The cap over all channels and campaigns.")
    contacts_per_channel: Cap | None = None
    contacts_per_campaign: Cap | None = None
    policy: PolicyName = PolicyName.BANDIT
    mode: Mode = Mode.LIVE
    slots: Annotated[list[time], Field(min_length=1, max_length=48)] = Field(default_factory=list)

    def to_override(self) -> CampaignOverride:
        """The same for the simulation."""
        given = {name: getattr(self, name) for name in self.model_fields_set - {"margin_minor"}}
        caps = {name: given.pop(name) for name in _OF_CAPS if name in given}
        if "slots" in given:
            given["slots"] = tuple(self.slots)
        return CampaignOverride(changes=given, caps=caps, margin_minor=self.margin_minor)


class OverridesIn(BaseModel):
    """What is different from how things are."""

    model_config = _STRICT

    now: Moment | None = Field(
        default=None, description="Decide as of then, with the history up to then and the features of now."
    )
    channels: Annotated[dict[ShortName, ChannelOverrideIn], KEYS_ALIKE, Field(max_length=_MOST_CHANNELS)] = (
        Field(default_factory=dict)
    )
    campaigns: Annotated[dict[Name, CampaignOverrideIn], KEYS_ALIKE, Field(max_length=MOST_CAMPAIGNS)] = (
        Field(default_factory=dict)
    )

    def to_overrides(self) -> Overrides:
        """The same for the simulation."""
        return Overrides(
            now=self.now,
            channels={
                name: {field: getattr(one, field) for field in one.model_fields_set}
                for name, one in self.channels.items()
            },
            campaigns={name: one.to_override() for name, one in self.campaigns.items()},
        )


class SimulationIn(BaseModel):
    """Ask what would be decided."""

    model_config = _STRICT

    request: DecisionIn = Field(description="As for a decision; nothing is recorded or sent in any case.")
    overrides: OverridesIn = Field(default_factory=OverridesIn)


class SimulationOut(BaseModel):
    """Both decisions, drawn with the same seed: they differ by the overrides alone."""

    base: DecisionOut = Field(description="As things are.")
    what_if: DecisionOut = Field(description="With the overrides.")
    changed: list[str] = Field(description="Parts of the decision that differ.")
    net_value_change_minor: float | None = Field(
        description="How much more the other decision is expected to earn; null without predictions."
    )

    @classmethod
    def of(cls, comparison: Comparison) -> SimulationOut:
        """From the simulation."""
        return cls(
            base=DecisionOut.of(comparison.base),
            what_if=DecisionOut.of(comparison.what_if),
            changed=list(comparison.changed),
            net_value_change_minor=comparison.net_value_change_minor,
        )


def simulation_routes(service: Service) -> APIRouter:
    """The endpoint of simulations."""
    router = APIRouter(prefix="/v1/decisions", tags=["decisions"], responses=PROBLEMS)

    @router.post("/simulate", openapi_extra=SIMULATIONS)
    async def simulated(posted: SimulationIn) -> SimulationOut:
        """What would be decided for one customer if prices, limits, margins or the time were others.

        Nothing is recorded. Give a `decision_id` to draw with the seed of a decision that you know.
        """
        seed = str(posted.request.decision_id or uuid_utils.uuid7())
        request = posted.request.model_copy(update={"dry_run": True, "decision_id": None}).to_request()
        overrides = posted.overrides.to_overrides()
        now = service.clock()
        return await service.in_thread(
            lambda: SimulationOut.of(
                simulate(service.decider, service.snapshots.current, request, overrides, now, seed)
            )
        )

    return router

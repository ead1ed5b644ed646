"""`/v1/interactions`: what customers did, and what became of messages."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from features.history.append import Appended, append_interactions
from models.domain.interaction import Interaction, InteractionKind
from serving.receipts import advance
from serving.routes.examples import INTERACTIONS, PROBLEMS
from serving.routes.fields import LongText, Moment, Name, ShortName
from serving.service import Service
from serving.store.availability import reaching_the_store

MOST_INTERACTIONS = 10_000


class InteractionIn(BaseModel):
    """One fact; `source` and `event_id` together make it unique."""

    model_config = ConfigDict(extra="forbid")

    source: ShortName = Field(description="Your system.")
    event_id: Name = Field(description="Your system's own id of the event.")
    customer_id: Name
    kind: InteractionKind
    occurred_at: Moment
    channel: ShortName | None = None
    campaign_id: Name | None = None
    offer_id: Name | None = None
    decision_id: ShortName | None = Field(default=None, description="The decision that it answers.")
    value_minor: FiniteFloat | None = Field(default=None, description="Of a conversion or purchase.")
    machine_made: bool = Field(default=False, description="Made by a proxy or scanner: never learned from.")
    attributes: Annotated[dict[ShortName, LongText], Field(max_length=50)] = Field(default_factory=dict)

    def to_interaction(self) -> Interaction:
        """The same in the domain."""
        return Interaction(**dict(self))


class InteractionsIn(BaseModel):
    """Facts to add, in any order; late ones are welcome."""

    model_config = ConfigDict(extra="forbid")

    interactions: Annotated[list[InteractionIn], Field(min_length=1, max_length=MOST_INTERACTIONS)]


class AppendedOut(BaseModel):
    """How many were new, and how many were known already and changed nothing."""

    n_new: int
    n_repeated: int


def interaction_routes(service: Service) -> APIRouter:
    """The endpoints of interactions."""
    router = APIRouter(prefix="/v1/interactions", tags=["interactions"], responses=PROBLEMS)

    @router.post("", openapi_extra=INTERACTIONS)
    async def append(posted: InteractionsIn) -> AppendedOut:
        """Add up to 10,000 facts in one transaction: all of them, or none if one is wrong.

        The features of those customers follow within a second.
        """
        received_at = service.clock()
        facts = [one.to_interaction() for one in posted.interactions]

        def write() -> Appended:
            with reaching_the_store(), service.engine.begin() as conn:
                appended = append_interactions(conn, facts, received_at)
                advance(conn, facts, received_at)
                return appended

        appended = await service.in_thread(write)
        service.refresher.request(fact.customer_id for fact in facts)
        return AppendedOut(n_new=appended.n_new, n_repeated=appended.n_repeated)

    return router

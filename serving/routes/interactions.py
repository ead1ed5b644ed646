"""`/v1/interactions`: what customers did, and what became of messages."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from serving.ingest import Ingested, InteractionIn, ingest
from serving.routes.examples import INTERACTIONS, PROBLEMS
from serving.service import Service
from serving.store.availability import reaching_the_store

MOST_INTERACTIONS = 10_000


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

        A customer is named by `customer_id` or by `identity`, one of their contact points; a cookie that nobody
        has yet becomes an anonymous visitor. The features of those customers follow within a second.
        """
        received_at = service.clock()

        def write() -> Ingested:
            with reaching_the_store(), service.engine.begin() as conn:
                return ingest(conn, posted.interactions, received_at)

        ingested = await service.in_thread(write)
        service.refresher.request(ingested.customer_ids)
        return AppendedOut(n_new=ingested.n_new, n_repeated=ingested.n_repeated)

    return router

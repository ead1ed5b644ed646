"""`/v1/decisions`: ask, ask for many, look up."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from models.domain.errors import NextchannelError
from serving.decide import DecisionRequest
from serving.explain.catalogue import Language
from serving.explain.explainer import Explainer
from serving.explain.languages import CATALOGUES
from serving.explain.told import Teller
from serving.routes.examples import PROBLEMS, REQUESTS
from serving.routes.explained import RecordedDecisionOut
from serving.routes.replies import batch_reply, decision_reply, outcome_document
from serving.routes.schemas import BatchIn, BatchOut, DecisionIn, DecisionOut
from serving.service import Service


def decision_routes(service: Service) -> APIRouter:
    """The endpoints of decisions."""
    router = APIRouter(prefix="/v1/decisions", tags=["decisions"], responses=PROBLEMS)
    explainer = Explainer(service.engine, service.snapshots)

    @router.post("", openapi_extra=REQUESTS, response_model=DecisionOut)
    async def decide(request: DecisionIn) -> Response:
        """Which offer, on which channel, at what time, or no contact, for one customer.

        The decision is recorded and its message queued before the answer is given.
        """
        decision = await service.decide(request.to_request())
        return Response(decision_reply(decision), media_type="application/json")

    @router.post("/batch", response_model=BatchOut)
    async def decide_batch(request: Request, batch: BatchIn) -> Response:
        """The same for up to 1,000 customers; each has its own decision or problem."""
        asked: list[DecisionRequest] = []
        at: list[int] = []
        path = request.url.path
        outcomes: list[dict[str, object]] = [{}] * len(batch.requests)
        for index, one in enumerate(batch.requests):
            try:
                asked.append(one.to_request())
                at.append(index)
            except NextchannelError as exc:
                outcomes[index] = outcome_document(exc, path)
        for index, answer in zip(at, await service.decide_many(asked), strict=True):
            outcomes[index] = outcome_document(answer, path)
        return Response(batch_reply(outcomes), media_type="application/json")

    @router.get("/{decision_id}")
    async def recorded(
        decision_id: UUID,
        language: Annotated[Language, Query(description="Of the sentences in `told`.")] = Language.ENGLISH,
    ) -> RecordedDecisionOut:
        """A decision taken before, with all that it was based on, and why it came out as it did.

        Contributions and flips are computed now, from what was recorded and with the bundle that decided; what
        cannot be given is null and named in `missing`.
        """

        def look_up() -> RecordedDecisionOut:
            decision = service.decider.recorded(str(decision_id))
            explanation = explainer.explain(decision)
            told = Teller(CATALOGUES[language], service.currency).tell(decision, explanation)
            return RecordedDecisionOut.explained(decision, explanation, told)

        return await service.in_thread(look_up)

    return router

"""`/v1/decisions`: ask, ask for many, look up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from orjson import Fragment

from models.domain.errors import NextchannelError
from serving.explain.catalogue import Language
from serving.explain.explainer import Explainer
from serving.explain.languages import CATALOGUES
from serving.explain.told import Teller
from serving.idempotency import SCOPE_EXECUTION
from serving.observability.context import note_decision
from serving.replay import replay
from serving.request import DecisionRequest
from serving.routes.examples import PROBLEMS, REQUESTS, STREAMED
from serving.routes.explained import RecordedDecisionOut
from serving.routes.ndjson import streaming_route
from serving.routes.replies import batch_reply, decision_reply, outcome_text
from serving.routes.schemas import BatchIn, BatchOut, DecisionIn, DecisionOut
from serving.service import Service
from serving.store.idempotency import Execution, IdempotencyKey

IdempotencyHeader = Annotated[
    str | None,
    Header(include_in_schema=False),  # `describe_answers` describes it for every POST
]


Decide = Callable[[Request, DecisionIn, str | None], Awaitable[bytes]]


def deciding(service: Service) -> Decide:
    """What decides for one customer, and gives the reply."""

    async def decide(http: Request, request: DecisionIn, idempotency_key: str | None) -> bytes:
        key = await key_of(http, idempotency_key, request.dry_run)
        decision = await service.decide(request.to_request(key))
        note_decision(decision.decision_id)
        return decision_reply(decision)

    return decide


def decision_routes(service: Service) -> APIRouter:
    """The endpoints of decisions."""
    router = APIRouter(prefix="/v1/decisions", tags=["decisions"], responses=PROBLEMS)
    explainer = Explainer(service.engine, service.snapshots)
    answer = deciding(service)

    async def decide(
        http: Request, request: DecisionIn, idempotency_key: IdempotencyHeader = None
    ) -> Response:
        """Which offer, on which channel, at what time, or no contact, for one customer.

        The decision is recorded and its message queued before the answer is given.
        """
        return Response(await answer(http, request, idempotency_key), media_type="application/json")

    router.add_api_route(
        "",
        decide,
        methods=["POST"],
        response_model=DecisionOut,
        openapi_extra=REQUESTS,
    )

    async def decide_batch(request: Request, batch: BatchIn) -> Response:
        """The same for up to 1,000 customers; each has its own decision or problem.

        As `application/x-ndjson`, one request a line, it is a stream of up to 100,000: outcomes come back a line
        each, in the order of the requests, while these are still being read.
        """
        asked: list[DecisionRequest] = []
        at: list[int] = []
        path = request.url.path
        outcomes: list[Fragment | None] = [None] * len(batch.requests)
        right: Execution | None = request.scope.get(SCOPE_EXECUTION)
        for index, one in enumerate(batch.requests):
            derived = None if right is None or one.dry_run else right.derived_id(index)
            try:
                asked.append(one.to_request(fallback_id=derived))
                at.append(index)
            except NextchannelError as exc:
                outcomes[index] = outcome_text(exc, path)
        told = await service.decide_many(asked, lambda answer: outcome_text(answer, path))
        for index, outcome in zip(at, told, strict=True):
            outcomes[index] = outcome
        return Response(batch_reply(outcomes), media_type="application/json")

    router.add_api_route(
        "/batch",
        decide_batch,
        methods=["POST"],
        response_model=BatchOut,
        openapi_extra=STREAMED,
        route_class_override=streaming_route(service),
    )

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
            return RecordedDecisionOut.explained(
                decision, explanation, told, replay(service.engine, decision)
            )

        return await service.in_thread(look_up)

    return router


async def key_of(request: Request, key: str | None, dry_run: bool) -> IdempotencyKey | None:
    """The key of a request for one decision; a dry run creates nothing, so it has none, not even a wrong one."""
    if key is None:
        return None
    credential = request.headers.get("authorization", "")
    made = IdempotencyKey.of(key, credential, b"POST", request.url.path.encode(), await request.body())
    return None if dry_run else made

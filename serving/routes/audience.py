"""`POST /v1/segments/{name}/decisions`: decide for everybody in a segment, and send what was decided."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID, uuid5

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from features.history.engine import read_only
from features.segments.everybody import members
from features.segments.language import SegmentName
from features.segments.store import load_segment
from models.domain.eligibility import require_open
from models.domain.errors import require
from serving.request import DecisionRequest
from serving.routes.decisions import IdempotencyHeader
from serving.routes.examples import PROBLEMS
from serving.routes.fields import Name
from serving.routes.ndjson import NDJSON, OutcomeStream, Spool
from serving.routes.replies import outcome_document, outcome_line
from serving.service import Service
from serving.store.availability import reaching_the_store
from serving.store.idempotency import IdempotencyKey
from serving.store.writer import LARGEST_GROUP

MOST_MEMBERS = 100_000
# Namespace of the decision ids of an audience with an idempotency key.
_MEMBERS = UUID("7d2f3f0e-52b5-5a0b-9c0c-2b8f5d2f6a17")
_OUTCOMES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/x-ndjson": {
                "schema": {"type": "string", "description": "One outcome a line, as in a batch."}
            }
        }
    }
}


class _NdjsonResponse(Response):
    """For the description alone: what is answered says its own type."""

    media_type = NDJSON


class AudienceIn(BaseModel):
    """What to decide for every member of a segment."""

    model_config = ConfigDict(extra="forbid")

    campaign_id: Name
    dry_run: StrictBool = Field(default=False, description="Decide, but record and send nothing.")
    send: Literal["service", "caller"] = Field(
        default="service", description="Who sends, as in `POST /v1/decisions`."
    )


def audience_routes(service: Service) -> APIRouter:
    """The endpoint."""
    router = APIRouter(prefix="/v1/segments", tags=["segments"], responses=PROBLEMS)

    @router.post(
        "/{name}/decisions", response_class=_NdjsonResponse, response_model=None, responses=_OUTCOMES
    )
    async def decide(
        http: Request,
        name: Annotated[SegmentName, Path(description="Name of the segment.")],
        posted: AudienceIn,
        idempotency_key: IdempotencyHeader = None,
    ) -> OutcomeStream:
        """Decide for everybody who belongs to the segment now, in order of their ids: one outcome a line, as decided.

        Every decision is recorded and its message queued before its line is given. With an idempotency key a request
        that was cut off can be sent again: whoever was decided for keeps that decision, and gets no second message.
        Up to 100,000 members.
        """
        now = service.clock()

        def found() -> list[str]:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                return members(conn, load_segment(conn, name), now, service.feature_list())

        ids = await service.in_thread(found)
        require(
            len(ids) <= MOST_MEMBERS, "segment", f"{name}: {len(ids)} members", f"must be <= {MOST_MEMBERS}"
        )
        require_open(service.snapshots.current.campaign(posted.campaign_id), now)
        key = None
        if idempotency_key is not None:
            key = IdempotencyKey.of(idempotency_key, http.headers.get("authorization", ""))
        asked = [
            DecisionRequest(
                campaign_id=posted.campaign_id,
                customer_id=customer_id,
                dry_run=posted.dry_run,
                hold=posted.send == "caller",
                decision_id=None
                if key is None or posted.dry_run
                else str(uuid5(_MEMBERS, f"{key.caller}/{key.key}/{name}/{customer_id}")),
            )
            for customer_id in ids
        ]
        return _Audience(service, http.url.path, asked)

    return router


class _Audience(OutcomeStream):
    """Answers requests that are known beforehand."""

    def __init__(self, service: Service, path: str, asked: Sequence[DecisionRequest]) -> None:
        super().__init__(service, path)
        self._asked = asked

    async def _decide_all(self, spool: Spool) -> None:
        try:
            for first in range(0, len(self._asked), LARGEST_GROUP):
                part = self._asked[first : first + LARGEST_GROUP]
                for answer in await self._service.in_thread(partial(self._answers, part)):
                    spool.write(outcome_line(outcome_document(answer, self._path)))
        finally:
            spool.end()

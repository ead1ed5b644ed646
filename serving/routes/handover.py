"""`/v1/decisions/{id}/activate` and `/cancel`: for callers that send themselves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from serving.routes.examples import ACTIVATED, CANCELLED, PROBLEMS
from serving.routes.fields import LongText
from serving.service import Service
from serving.store.availability import reaching_the_store
from serving.store.endings import OutboxStatus
from serving.store.handover import Handover, activate, cancel


class ActivateIn(BaseModel):
    """What the caller's provider said."""

    model_config = ConfigDict(extra="forbid")

    provider_message_id: Annotated[LongText, Field(max_length=256)] | None = Field(
        default=None, description="The id that your provider gave the message."
    )


class HandoverOut(BaseModel):
    """Where the message of a decision stands."""

    model_config = ConfigDict(from_attributes=True)

    decision_id: str
    message_id: str
    state: OutboxStatus = Field(description="`sent` or `cancelled`.")
    channel: str
    send_at: datetime
    expires_at: datetime
    settled_at: datetime | None = Field(description="When it came to this state.")


def handover_routes(service: Service) -> APIRouter:
    """The endpoints by which a caller says what became of its message."""
    router = APIRouter(prefix="/v1/decisions", tags=["decisions"], responses=PROBLEMS)

    async def move(change: Callable[[Connection], Handover]) -> HandoverOut:
        def write() -> Handover:
            with reaching_the_store(), service.engine.begin() as conn:
                return change(conn)

        return HandoverOut.model_validate(await service.in_thread(write))

    @router.post("/{decision_id}/activate", openapi_extra=ACTIVATED)
    async def activated(
        decision_id: UUID, posted: Annotated[ActivateIn | None, Body()] = None
    ) -> HandoverOut:
        """You have sent the message of a decision that you asked for with `"send": "caller"`.

        Asking again gives the same answer. A message that is cancelled, has expired or went out under another
        `provider_message_id` is a conflict.
        """
        now = service.clock()
        given = None if posted is None else posted.provider_message_id
        return await move(lambda conn: activate(conn, str(decision_id), now, given))

    @router.post("/{decision_id}/cancel", openapi_extra=CANCELLED)
    async def cancelled(decision_id: UUID) -> HandoverOut:
        """The message will not go out: what it had reserved is free again, and nothing is learned from it.

        For messages that you send, and for those of ours that no sender has claimed yet.
        """
        now = service.clock()
        return await move(lambda conn: cancel(conn, str(decision_id), now))

    return router

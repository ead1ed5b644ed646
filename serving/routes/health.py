"""`/healthz` and `/readyz`."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from serving.health import readiness
from serving.service import Service


class HealthOut(BaseModel):
    """The process answers."""

    status: str = "ok"


class ReadyOut(BaseModel):
    """Whether decisions can be asked for."""

    ready: bool
    reasons: list[str] = Field(description="Why not.")
    degraded: list[str] = Field(description="What makes decisions simpler than they could be.")
    keys_required: bool = Field(
        description="Whether callers need a key; false only where none was made yet and this machine alone is answered."
    )


def health_routes(service: Service) -> APIRouter:
    """The endpoints that an orchestrator asks."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def alive() -> HealthOut:
        """The process answers."""
        return HealthOut()

    @router.get("/readyz", responses={503: {"model": ReadyOut}})
    async def ready(response: Response) -> ReadyOut:
        """Whether decisions can be asked for, and if not, why."""
        found = await service.in_thread(lambda: readiness(service))
        if found.reasons:
            response.status_code = 503
        return ReadyOut(
            ready=not found.reasons,
            reasons=list(found.reasons),
            degraded=list(found.degraded),
            keys_required=found.keys_required,
        )

    return router

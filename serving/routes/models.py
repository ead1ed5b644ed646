"""`/v1/models`: what is published, what serves, how it was judged, and back to what served before."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, TypeVar

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from features.registry import ModelVersion
from models.domain.errors import BundleError, ConflictError, NextchannelError, StoreUnavailableError
from serving.routes.examples import MODEL_CONFLICTS, MODELS, PROBLEMS
from serving.routes.paging import USUAL_PAGE, Cursor, Limit, from_cursor, page_of, to_cursor
from serving.service import Service
from serving.store.availability import reaching_the_store

logger = logging.getLogger(__name__)

_LARGEST_VERSION = 2**31 - 1

T = TypeVar("T")

Version = Annotated[
    int, Path(ge=1, le=_LARGEST_VERSION, description="Number of the version in the registry.")
]


class ModelOut(BaseModel):
    """One published version."""

    model_config = ConfigDict(from_attributes=True)

    version: int
    aliases: tuple[str, ...] = Field(
        description="`champion` is the one that serves, `challenger` the latest trained."
    )
    bundle_version: str = Field(description="What decisions of it name as `policy_version`.")
    created_at: datetime


class ModelsOut(BaseModel):
    """Published versions, the newest first."""

    models: list[ModelOut]
    next_cursor: str | None = Field(description="For the next page; null on the last.")
    serving: str | None = Field(
        description="`bundle_version` of what this process decides with; null where rules decide."
    )


class ModelReportOut(ModelOut):
    """One published version, and how it was judged before it was published."""

    report: str = Field(description="The training report, Markdown.")


def model_routes(service: Service) -> APIRouter:
    """The endpoints of models."""
    router = APIRouter(prefix="/v1", tags=["models"], responses=PROBLEMS)

    async def ask(work: Callable[[], T]) -> T:
        return await service.in_thread(lambda: _reaching_the_registry(work))

    def of(version: int) -> ModelOut:
        return next(
            ModelOut.model_validate(one) for one in service.registry.versions() if one.version == version
        )

    def followed(version: int) -> ModelOut:
        with reaching_the_store():
            service.snapshots.reload()
        return of(version)

    @router.get("/models", openapi_extra=MODELS)
    async def models(limit: Limit = USUAL_PAGE, cursor: Cursor = None) -> ModelsOut:
        """Every published version, the newest first, and which of them serves."""
        below = None if cursor is None else int(from_cursor(cursor, int)[0])

        def read() -> list[ModelVersion]:
            return [one for one in service.registry.versions() if below is None or one.version < below]

        page, following = page_of(await ask(read), limit, lambda one: to_cursor(one.version))
        model = service.snapshots.current.model
        return ModelsOut(
            models=[ModelOut.model_validate(one) for one in page],
            next_cursor=following,
            serving=None if model is None else model.version,
        )

    @router.get("/models/{version}")
    async def one(version: Version) -> ModelReportOut:
        """One version with its training report."""

        def read() -> ModelReportOut:
            report = service.registry.report(version)
            return ModelReportOut(**of(version).model_dump(), report=report)

        return await ask(read)

    @router.post("/models/{version}/promote", openapi_extra=MODEL_CONFLICTS)
    async def promote(version: Version) -> ModelOut:
        """Make a version the champion, whatever its report says; every replica decides with it within two seconds.

        A version whose files are damaged is refused, and what serves goes on. Promoting the champion changes nothing.
        """

        def move() -> ModelOut:
            try:
                service.registry.load(version)
            except BundleError as exc:
                raise ConflictError(str(exc)) from exc
            service.registry.promote(version)
            return followed(version)

        return await ask(move)

    @router.post("/models:rollback", openapi_extra=MODEL_CONFLICTS)
    async def rollback() -> ModelOut:
        """Make the champion before the present one champion again."""

        def move() -> ModelOut:
            return followed(service.registry.rollback())

        return await ask(move)

    return router


def _reaching_the_registry(work: Callable[[], T]) -> T:
    """Do it; MLflow, its store or the network may fail in ways of their own."""
    try:
        return work()
    except NextchannelError:
        raise
    except Exception as exc:
        logger.exception("the model registry cannot be reached")
        raise StoreUnavailableError("the model registry cannot be reached") from exc

"""Errors as RFC 9457 problem details.

Every error answer is `application/problem+json` with `type`, `title`, `status`, `detail`, `instance`, and
`errors`: one entry a wrong field, with the value that was given and the bound that it broke.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from models.domain.errors import (
    CampaignExpiredError,
    ConflictError,
    InProgressError,
    InvalidInputError,
    InvalidInputsError,
    KeyReusedError,
    NextchannelError,
    NotFoundError,
    OverloadedError,
    StateError,
    StoreUnavailableError,
)
from serving.incentives.standing import NotRedeemableError
from serving.observability.redact import redact

logger = logging.getLogger(__name__)

# Key of the ASGI scope: the kind of problem that a request was answered with.
PROBLEM = "nextchannel.problem"
RETRY_AFTER_SECONDS = 1
_LONGEST_SHOWN = 200
_NO_ADDRESS = "The service has no such address; the reference of the HTTP API lists those that it has."
# Python 3.13 calls it "Content Too Large": a caller acts on one name.
_KINDS = {413: "payload-too-large"}
# What reading a body as JSON raises beside a syntax error: bytes that are no text, endless numbers, endless nesting.
_UNREADABLE = (ValueError, RecursionError)


class FieldError(BaseModel):
    """One wrong field."""

    model_config = ConfigDict(extra="forbid")

    field: str = Field(description="Path of the field, for example `interactions.3.occurred_at`.")
    value: str = Field(description="What was given, shortened.")
    bound: str = Field(description="What would have been right.")


class Problem(BaseModel):
    """Problem details, RFC 9457."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(description="Address of the kind of problem, relative to the service.")
    title: str
    status: int
    detail: str
    instance: str = Field(description="Path of the request.")
    errors: list[FieldError] = Field(default_factory=list)


def problem_of(error: NextchannelError, instance: str) -> Problem:
    """The problem document of one of our own errors."""
    errors: list[FieldError] = []
    match error:
        case NotFoundError():
            status, kind, title = 404, "not-found", "Nothing is recorded under this id"
            errors = [_wrong(error.field, error.value, "must name something that exists")]
        case CampaignExpiredError():
            status, kind, title = 409, "campaign-expired", "The campaign's send window has closed"
            errors = [_wrong(error.field, error.value, error.bound)]
        case InvalidInputError():
            status, kind, title = 422, "invalid-input", "A value breaks its bound"
            errors = [_wrong(error.field, error.value, error.bound)]
        case InvalidInputsError():
            status, kind, title = 422, "invalid-input", "Values break their bounds"
            errors = [_wrong(one.field, one.value, one.bound) for one in error.findings]
        case KeyReusedError():
            status, kind, title = 409, "idempotency-key-reused", "The key belongs to another request"
        case InProgressError():
            status, kind, title = 409, "request-in-progress", "The same request is being executed"
        case NotRedeemableError():
            status, kind, title = 409, "not-redeemable", "It cannot be redeemed here and now"
            errors = [_wrong("standing", error.standing, "must be valid")]
        case StateError():
            status, kind, title = 409, "state", "States only go forward"
        case ConflictError():
            status, kind, title = 409, "conflict", "The request contradicts what is recorded"
        case OverloadedError():
            status, kind, title = 429, "overloaded", "The service has as much to do as it can; try again"
        case StoreUnavailableError():
            status, kind, title = 503, "store-unavailable", "The database cannot be reached; try again"
        case _:
            status, kind, title = 500, "internal", "The service failed"
    return Problem(
        type=f"/problems/{kind}",
        title=title,
        status=status,
        detail=redact(printable(str(error))),
        instance=instance,
        errors=errors,
    )


def install(app: FastAPI) -> None:
    """Answer every error of the application with a problem document."""

    @app.exception_handler(NextchannelError)
    async def of_ours(request: Request, error: NextchannelError) -> JSONResponse:
        return refused(request, error)

    @app.exception_handler(RequestValidationError)
    async def of_the_request(request: Request, error: RequestValidationError) -> JSONResponse:
        return _answer(request, invalid_request(error.errors(), request.url.path))

    @app.exception_handler(HTTPException)
    async def of_the_router(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == HTTPStatus.BAD_REQUEST and isinstance(error.__cause__, _UNREADABLE):
            return _answer(request, _unreadable(request.url.path))
        title = HTTPStatus(error.status_code).phrase
        kind = _KINDS.get(error.status_code) or title.lower().replace(" ", "-")
        return _answer(
            request,
            Problem(
                type=f"/problems/{kind}",
                title=title,
                status=error.status_code,
                detail=_NO_ADDRESS if error.detail == HTTPStatus.NOT_FOUND.phrase else str(error.detail),
                instance=request.url.path,
            ),
            headers=dict(error.headers or {}),
        )

    @app.exception_handler(Exception)
    async def of_the_service(request: Request, _error: Exception) -> JSONResponse:
        # The server logs the exception itself; the caller learns nothing of our insides.
        return respond(
            Problem(
                type="/problems/internal",
                title="The service failed",
                status=500,
                detail="The failure is in the service's log.",
                instance=request.url.path,
            )
        )


def refused(request: Request, error: NextchannelError) -> JSONResponse:
    """The answer to a request that an error of ours has ended."""
    problem = problem_of(error, request.url.path)
    if isinstance(error, StoreUnavailableError):  # as many as ask while it is away: a line each, no more
        why = str(error.__cause__ or "").partition("\n")[0]
        logger.warning("%s %s was refused: %s: %s", request.method, request.url.path, error, why)
    elif problem.status >= 500:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(request, problem)


def _answer(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """Answer, and leave word of it for whoever counts problems."""
    request.scope[PROBLEM] = problem.type.rpartition("/")[2]
    return respond(problem, headers)


def respond(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """The answer that carries a problem document."""
    headers = headers or {}
    if problem.status in (429, 503) or problem.type == "/problems/request-in-progress":
        headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    return JSONResponse(
        problem.model_dump(mode="json"),
        status_code=problem.status,
        headers=headers,
        media_type="application/problem+json",
    )


def shown(value: object) -> str:
    """A value as it was given, shortened and printable, without secrets and contact points.

    Callers write the answers that they get into their own logs.
    """
    text = redact(printable(value if isinstance(value, str) else repr(value)))
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


def printable(text: str) -> str:
    """The text without what UTF-8 cannot carry (lone surrogates)."""
    return text.encode(errors="backslashreplace").decode()


def invalid_request(errors: Sequence[Any], instance: str) -> Problem:
    """From pydantic's list of errors; the field's path loses the leading `body`, `query` or `path`."""
    found = [_wrong_field(error) for error in errors]
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Problem(
        type="/problems/invalid-request",
        title="The request is not valid",
        status=422,
        detail=f"{first.field}: {first.bound}{more}",
        instance=instance,
        errors=found,
    )


def _unreadable(instance: str) -> Problem:
    bound = "must be JSON in UTF-8, with numbers of at most 4,300 digits"
    return Problem(
        type="/problems/invalid-request",
        title="The request is not valid",
        status=422,
        detail=f"body: {bound}",
        instance=instance,
        errors=[FieldError(field="body", value="", bound=bound)],
    )


def _wrong_field(error: Any) -> FieldError:
    path = [str(part) for part in error["loc"][1:]] or [str(error["loc"][0])]
    if error["type"] == "json_invalid":
        # The path of text that is no JSON is the position at which it ceases to be.
        place = f" at byte {path[-1]}" if path[-1].isdecimal() else ""
        return FieldError(field="body", value="", bound=f"must be JSON: {error['ctx']['error']}{place}")
    return _wrong(".".join(path), error.get("input", ""), error["msg"])


def _wrong(field: str, value: object, bound: str) -> FieldError:
    """One wrong field; its path and bound may name what the caller gave."""
    return FieldError(field=printable(field), value=shown(value), bound=printable(bound))

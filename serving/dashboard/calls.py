"""The pages of agents: tasks to work on; one task with the customer's history, the offer, and a form for what came of it."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from models.domain.errors import InvalidInputError
from serving.calls import CallOutcome, end_task, find_task, open_tasks, take_task
from serving.dashboard.answers import PageAnswers
from serving.dashboard.forms import form_fields, strange_form
from serving.service import Service

AgentName = Annotated[str, Query(max_length=64)]


def call_pages(service: Service) -> APIRouter:
    """The pages below `/calls`."""
    router = APIRouter(include_in_schema=False)
    answers = PageAnswers(service)
    page, refusal, answer = answers.page, answers.refusal, answers.made

    @router.get("/calls")
    async def tasks(agent: AgentName = "") -> Response:
        def make() -> Response:
            now = service.clock()
            with service.engine.connect() as conn:
                return page("calls.html", tasks=open_tasks(conn, now), agent=agent, now=now)

        return await answer("/calls", make)

    @router.get("/calls/{task_id}")
    async def task(task_id: UUID, agent: AgentName = "") -> Response:
        def make() -> Response:
            now = service.clock()
            with service.engine.connect() as conn:
                found = find_task(conn, str(task_id), now)
                return page("call.html", shown=found, agent=agent, outcomes=list(CallOutcome))

        return await answer(f"/calls/{task_id}", make)

    @router.post("/calls/{task_id}/take")
    async def take(task_id: UUID, request: Request) -> Response:
        if stranger := strange_form(request):
            return refusal(stranger)
        form = await form_fields(request)

        def make() -> Response:
            agent = form.get("agent", "")
            with service.engine.begin() as conn:
                take_task(conn, str(task_id), agent, service.clock())
            return RedirectResponse(f"/calls/{task_id}?agent={quote(agent)}", status_code=303)

        return await answer(f"/calls/{task_id}/take", make)

    @router.post("/calls/{task_id}/outcome")
    async def end(task_id: UUID, request: Request) -> Response:
        if stranger := strange_form(request):
            return refusal(stranger)
        form = await form_fields(request)

        def make() -> Response:
            agent, text = form.get("agent", ""), form.get("value", "").strip()
            with service.engine.begin() as conn:
                now = service.clock()
                customer_id = find_task(conn, str(task_id), now).task.customer_id
                end_task(
                    conn,
                    str(task_id),
                    agent,
                    _outcome(form.get("outcome", "")),
                    now,
                    note=form.get("note", "").strip(),
                    value_minor=_amount(text) * service.currency.minor_per_major if text else None,
                )
            service.refresher.request([customer_id])
            return RedirectResponse(f"/calls?agent={quote(agent)}", status_code=303)

        return await answer(f"/calls/{task_id}/outcome", make)

    return router


def _outcome(text: str) -> CallOutcome:
    try:
        return CallOutcome(text)
    except ValueError:
        raise InvalidInputError("outcome", text, f"must be one of {', '.join(CallOutcome)}") from None


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InvalidInputError("value", text, "must be a number") from None
    if not 0 <= value < 1e12:
        raise InvalidInputError("value", text, "must be in [0, 1e12)")
    return value

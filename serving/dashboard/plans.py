"""The pages of plans: every plan with how far it is, and one plan with its forecast and the buttons that move it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError

from features.history.engine import read_only
from features.segments.store import list_segments
from serving.dashboard.answers import PageAnswers
from serving.dashboard.forms import form_fields, strange_form
from serving.dashboard.planned import PlanPage
from serving.plans.desk import PlanDesk
from serving.plans.plan import PlanStatus
from serving.problems import invalid_request
from serving.routes.paging import Cursor, from_cursor, page_of, to_cursor
from serving.routes.plans import PlanIn
from serving.security.gate import SCOPES
from serving.security.keys import Scope
from serving.service import Service
from serving.store.availability import reaching_the_store

_PAGE = 20
# A page of what is worked on is loaded anew: the pages have no scripts.
_REFRESH_SECONDS = 3
# What the buttons do.
_VERBS = {"start": PlanStatus.RUNNING, "pause": PlanStatus.PAUSED, "cancel": PlanStatus.CANCELLED}


def plan_pages(service: Service) -> APIRouter:
    """The pages below `/plans`."""
    router = APIRouter(include_in_schema=False)
    answers = PageAnswers(service, refresh_seconds=_REFRESH_SECONDS)
    page, refusal, answer = answers.page, answers.refusal, answers.made
    desk = PlanDesk.of(service)

    def open_campaigns() -> list[str]:
        """Ids of the campaigns that somebody can be decided for, in order."""
        now = service.clock()
        campaigns = service.snapshots.current.campaigns.values()
        return sorted(one.campaign_id for one in campaigns if now < one.send_window.closes_at)

    def segments() -> list[str]:
        with reaching_the_store(), read_only(service.engine).connect() as conn:
            return [segment.name for segment in list_segments(conn)]

    @router.get("/plans")
    async def plans(
        request: Request, cursor: Cursor = None, still: Annotated[bool, Query()] = False
    ) -> Response:
        def make() -> Response:
            before = None if cursor is None else str(from_cursor(cursor, str)[0])
            found, following = page_of(
                desk.newest(before, _PAGE + 1), _PAGE, lambda plan: to_cursor(plan.plan_id)
            )
            shown = [PlanPage(plan) for plan in found]
            return page(
                "plans.html",
                plans=shown,
                cursor=cursor,
                next_cursor=following,
                # A form that is being filled in must not be taken away.
                refreshes=not still and any(one.moves for one in shown),
                may_decide=_may_decide(request),
                campaigns=open_campaigns(),
                segments=segments(),
            )

        return await answer("/plans", make)

    @router.post("/plans")
    async def plan(request: Request) -> Response:
        if stranger := strange_form(request):
            return refusal(stranger)
        form = await form_fields(request)
        # An empty choice is everybody.
        asked = {name: text for name, text in form.items() if (name, text) != ("segment", "")}
        try:
            posted = PlanIn.model_validate(asked | {"start": False})
        except ValidationError as exc:
            errors = [error | {"loc": ("body", *error["loc"])} for error in exc.errors()]
            return refusal(invalid_request(errors, "/plans"))

        def make() -> Response:
            made = desk.make(posted.campaign_id, posted.segment, starts=posted.start)
            return RedirectResponse(f"/plans/{made.plan_id}", status_code=303)

        return await answer("/plans", make)

    @router.get("/plans/{plan_id}")
    async def one(request: Request, plan_id: UUID) -> Response:
        def make() -> Response:
            return page("plan.html", shown=PlanPage(desk.find(plan_id)), may_decide=_may_decide(request))

        return await answer(f"/plans/{plan_id}", make)

    async def move(request: Request, plan_id: UUID, verb: str) -> Response:
        if stranger := strange_form(request):
            return refusal(stranger)

        def make() -> Response:
            desk.move(plan_id, _VERBS[verb])
            return RedirectResponse(f"/plans/{plan_id}", status_code=303)

        return await answer(f"/plans/{plan_id}/{verb}", make)

    @router.post("/plans/{plan_id}/start")
    async def start(request: Request, plan_id: UUID) -> Response:
        return await move(request, plan_id, "start")

    @router.post("/plans/{plan_id}/pause")
    async def pause(request: Request, plan_id: UUID) -> Response:
        return await move(request, plan_id, "pause")

    @router.post("/plans/{plan_id}/cancel")
    async def cancel(request: Request, plan_id: UUID) -> Response:
        return await move(request, plan_id, "cancel")

    return router


def _may_decide(request: Request) -> bool:
    """Whether whoever looks can press the buttons: with the scope `decide`, or where no keys are asked for."""
    scopes = request.scope.get(SCOPES)
    return scopes is None or not {Scope.DECIDE, Scope.ADMIN}.isdisjoint(scopes)

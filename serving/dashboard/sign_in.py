"""Sign a browser in with a key, and out again."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from serving.dashboard.pages import PAGE_HEADERS, page_environment
from serving.security.keys import ApiKey, Scope
from serving.security.sessions import COOKIE, LASTS, Sessions, cookie_of, from_own_page, safe_next
from serving.service import Service

_STRANGER = "The form was not sent by this page. Try again here."
_WRONG = "No live key with the scope read is that. Keys begin with nck_."


def sign_in_routes(service: Service, sessions: Sessions) -> APIRouter:
    """The page of the sign-in."""
    router = APIRouter(include_in_schema=False)
    template = page_environment(service.currency).get_template("sign_in.html")

    def page(next_path: str, wrong: str = "", name: str = "", status_code: int = 200) -> HTMLResponse:
        html = template.render(title=service.title, next=next_path, wrong=wrong, name=name)
        return HTMLResponse(html, status_code=status_code, headers=PAGE_HEADERS)

    @router.get("/sign-in")
    async def ask(request: Request, next_path: Annotated[str, Query(alias="next")] = "/") -> HTMLResponse:
        key = _signed_in(request)
        return page(safe_next(next_path), name="" if key is None else key.name)

    @router.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        fields = parse_qs((await request.body()).decode(errors="replace"))
        next_path = safe_next(fields.get("next", ["/"])[0])
        if not from_own_page(dict(request.scope["headers"])):
            return page(next_path, _STRANGER, status_code=403)
        key = service.key_ring.find(fields.get("key", [""])[0].strip())
        if key is None or not key.allows(Scope.READ):
            return page(next_path, _WRONG, status_code=401)
        answer = RedirectResponse(next_path, status_code=303)
        answer.set_cookie(
            COOKIE,
            sessions.issue(key.key_id, service.clock()),
            max_age=int(LASTS.total_seconds()),
            secure=service.protection.https or request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return answer

    @router.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        answer = RedirectResponse("/sign-in", status_code=303)
        if from_own_page(dict(request.scope["headers"])):
            answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    def _signed_in(request: Request) -> ApiKey | None:
        session = cookie_of(request.headers.get("cookie", "").encode("latin-1"))
        key_id = None if session is None else sessions.read(session, service.clock())
        return None if key_id is None else service.key_ring.by_id(key_id)

    return router

"""The pages of the desk: chats that wait for a person; one chat with what was said, and a form to answer with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID, uuid4

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import Connection

from features.history.engine import read_only
from models.domain.errors import InvalidInputError
from serving.chat.desk import end_chat, find_chat, say, take_chat, waiting_chats
from serving.dashboard.answers import PageAnswers
from serving.dashboard.calls import AgentName
from serving.dashboard.chat_labels import CHAT_LABELS
from serving.dashboard.forms import form_fields, strange_form
from serving.explain.catalogue import Language
from serving.explain.languages import CATALOGUES
from serving.service import Service
from serving.store.availability import reaching_the_store

_MOST_SHOWN = 100
# A form takes 20,000 bytes; a Chinese or Japanese character becomes nine of them.
_LONGEST_TYPED = 2_000

PageLanguage = Annotated[Language, Query()]
Change = Callable[[Connection, str, dict[str, str], datetime], object]


def chat_pages(service: Service) -> APIRouter:
    """The pages below `/chats`."""
    router = APIRouter(include_in_schema=False)
    answers = PageAnswers(service, languages=[(each.language, each.own_name) for each in CATALOGUES.values()])

    async def changed(chat_id: UUID, request: Request, verb: str, change: Change) -> Response:
        """Do what a form asks for, and lead back: to the chat, or from one that has ended to the queue."""
        if stranger := strange_form(request):
            return answers.refusal(stranger)
        form = await form_fields(request)

        def make() -> Response:
            with reaching_the_store(), service.engine.begin() as conn:
                change(conn, str(chat_id), form, service.clock())
            query = urlencode({"agent": form.get("agent", ""), "language": form.get("language", "en")})
            path = "/chats" if verb == "end" else f"/chats/{chat_id}"
            return RedirectResponse(f"{path}?{query}", status_code=303)

        return await answers.made(f"/chats/{chat_id}/{verb}", make)

    @router.get("/chats")
    async def queue(agent: AgentName = "", language: PageLanguage = Language.ENGLISH) -> Response:
        def make() -> Response:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                waiting = waiting_chats(conn, service.clock(), _MOST_SHOWN)
            return answers.page(
                "chats.html",
                chats=waiting,
                agent=agent,
                labels=CHAT_LABELS[language],
                language=language,
                path="/chats",
            )

        return await answers.made("/chats", make)

    @router.get("/chats/{chat_id}")
    async def one(
        chat_id: UUID, agent: AgentName = "", language: PageLanguage = Language.ENGLISH
    ) -> Response:
        def make() -> Response:
            now = service.clock()
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                chat = find_chat(conn, str(chat_id), now)
            return answers.page(
                "chat.html",
                chat=chat,
                now=now,
                agent=agent,
                labels=CHAT_LABELS[language],
                language=language,
                path=f"/chats/{chat_id}",
                key=uuid4(),
                longest=_LONGEST_TYPED,
            )

        return await answers.made(f"/chats/{chat_id}", make)

    @router.post("/chats/{chat_id}/take")
    async def take(chat_id: UUID, request: Request) -> Response:
        return await changed(
            chat_id,
            request,
            "take",
            lambda conn, name, form, now: take_chat(conn, name, form.get("agent", ""), now),
        )

    @router.post("/chats/{chat_id}/say")
    async def answer(chat_id: UUID, request: Request) -> Response:
        # The key comes with the form, so that pressing its button twice says it once.
        return await changed(
            chat_id,
            request,
            "say",
            lambda conn, name, form, now: say(
                conn, name, form.get("agent", ""), form.get("text", ""), now, form.get("key") or str(uuid4())
            ),
        )

    @router.post("/chats/{chat_id}/end")
    async def end(chat_id: UUID, request: Request) -> Response:
        return await changed(
            chat_id,
            request,
            "end",
            lambda conn, name, form, now: end_chat(conn, name, form.get("agent", ""), now, _seen(form)),
        )

    return router


def _seen(form: dict[str, str]) -> str | None:
    """The last line that the page showed; None where it showed none."""
    text = form.get("seen", "")
    try:
        return str(UUID(text)) if text else None
    except ValueError:
        raise InvalidInputError("seen", text[:100], "must be the id of a line") from None

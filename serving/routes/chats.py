"""`/v1/chats`: chats that were handed over to people, for whatever help desk they work at."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import Connection

from features.history.engine import read_only
from serving.chat.desk import LONGEST_TEXT, Chat, end_chat, find_chat, say, take_chat, waiting_chats
from serving.chat.lines import Speaker
from serving.idempotency import HEADER
from serving.routes.examples import PROBLEMS
from serving.routes.fields import ShortName
from serving.routes.paging import USUAL_PAGE, Cursor, Limit, from_cursor, page_of, to_cursor
from serving.service import Service
from serving.store.availability import reaching_the_store

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class AgentIn(BaseModel):
    """Who does it."""

    model_config = ConfigDict(extra="forbid")

    agent: ShortName = Field(description="Name of the agent; who holds a chat alone may answer in it.")


class SayIn(AgentIn):
    """What an agent answers."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TEXT)]


class EndIn(AgentIn):
    """Up to where the agent has read."""

    seen: UUID | None = Field(
        default=None,
        description="`line_id` of the last line that the agent has seen. With it, a chat in which the customer has said something since is not ended.",
    )


class LineOut(BaseModel):
    """One line of a thread."""

    model_config = ConfigDict(from_attributes=True)

    line_id: str
    speaker: Speaker
    agent: str | None = Field(description="Who said it, where an agent did.")
    said_at: datetime
    text: str
    status: str = Field(
        description="`heard` of the customer's; else `pending`, `claimed`, `sent`, `failed`, `suppressed` or `unknown`."
    )
    detail: str = Field(description="The provider's words, or why it was not sent.")
    version: int | None = Field(description="Of the answers that said it.")


class WaitingOut(BaseModel):
    """A chat as it stands in the queue."""

    model_config = ConfigDict(from_attributes=True)

    chat_id: str
    customer_id: str
    channel: str
    state: str = Field(description="`handed_over`, or `automatic` where no person is asked for.")
    heard_at: datetime = Field(description="The customer's last word.")
    due_at: datetime | None = Field(description="Since when, or from when on, it waits for a person.")
    held_by: str | None = Field(description="The agent who holds it now.")
    answerable: bool = Field(description="Whether the provider takes a text now.")


class ChatOut(WaitingOut):
    """A chat with its latest 200 lines, oldest first."""

    lines: list[LineOut]


class ChatsOut(BaseModel):
    """Chats that are handed over, who has waited longest first."""

    chats: list[WaitingOut]
    next_cursor: str | None = Field(description="For the next page; null on the last.")


def chat_routes(service: Service) -> APIRouter:
    """The endpoints of the desk."""
    router = APIRouter(prefix="/v1/chats", tags=["chats"], responses=PROBLEMS)

    async def after(chat_id: UUID, change: Callable[[Connection, str, datetime], object]) -> ChatOut:
        """The chat after a change, in the same transaction."""

        def write() -> Chat:
            with reaching_the_store(), service.engine.begin() as conn:
                now = service.clock()
                change(conn, str(chat_id), now)
                return find_chat(conn, str(chat_id), now)

        return ChatOut.model_validate(await service.in_thread(write))

    @router.get("")
    async def waiting(limit: Limit = USUAL_PAGE, cursor: Cursor = None) -> ChatsOut:
        """Chats that wait for a person now, or are held by one."""
        behind = None
        if cursor is not None:
            at, last = from_cursor(cursor, int, str)
            behind = _EPOCH + int(at) * _MICROSECOND, str(last)

        def read() -> list[Chat]:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                return waiting_chats(conn, service.clock(), limit + 1, behind)

        page, following = page_of(await service.in_thread(read), limit, _cursor)
        return ChatsOut(chats=[WaitingOut.model_validate(chat) for chat in page], next_cursor=following)

    @router.get("/{chat_id}")
    async def one(chat_id: UUID) -> ChatOut:
        """A chat with what was said in it."""

        def read() -> Chat:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                return find_chat(conn, str(chat_id), service.clock())

        return ChatOut.model_validate(await service.in_thread(read))

    @router.post("/{chat_id}/take")
    async def take(chat_id: UUID, posted: AgentIn) -> ChatOut:
        """Hold a chat for half an hour; each answer begins it anew. 409 where somebody else holds it."""
        return await after(chat_id, lambda conn, name, now: take_chat(conn, name, posted.agent, now))

    @router.post("/{chat_id}/say")
    async def answer(chat_id: UUID, posted: SayIn, request: Request) -> ChatOut:
        """Answer in a chat that the agent holds; with an `Idempotency-Key` the same request says it once.

        409 where the agent does not hold it, or the provider takes no text so long after the customer's last word.
        """
        # Written with the line itself: a request that is asked again after a crash says it once.
        key = f"{posted.agent}/{request.headers.get(HEADER) or uuid4()}"
        return await after(
            chat_id, lambda conn, name, now: say(conn, name, posted.agent, posted.text, now, key)
        )

    @router.post("/{chat_id}/end")
    async def end(chat_id: UUID, posted: EndIn) -> ChatOut:
        """Give a chat that the agent holds back to the rules. 409 where the customer has said something that was not `seen`."""
        seen = None if posted.seen is None else str(posted.seen)
        return await after(chat_id, lambda conn, name, now: end_chat(conn, name, posted.agent, now, seen))

    return router


def _cursor(chat: Chat) -> str:
    assert chat.due_at is not None, "a chat that waits is due"
    return to_cursor((chat.due_at - _EPOCH) // _MICROSECOND, chat.chat_id)

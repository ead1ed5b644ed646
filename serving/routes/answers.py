"""`/v1/channels/{name}/answers`: what a channel answers by itself."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from features.history.engine import read_only
from features.history.query import customer_attributes
from models.domain.campaign import Content
from models.domain.channel import ContentKind
from models.domain.errors import InvalidInputsError
from serving.chat.document import Answers
from serving.chat.reaction import Reaction, Why, react
from serving.chat.store import StoredAnswers, load_answers, remove_answers, save_answers
from serving.content import LOCALE, Person
from serving.routes.channels import ChannelName
from serving.routes.examples import ANSWERS, PROBLEMS
from serving.routes.fields import Moment, Name, ShortName, unstorable_in
from serving.service import Service
from serving.store.availability import reaching_the_store


class AnswersIn(BaseModel):
    """Answers to store."""

    model_config = ConfigDict(extra="forbid")

    answers: Answers = Field(description="See docs/how-to/answer-in-chat.md.")


class AnswersOut(BaseModel):
    """Answers as they are stored."""

    model_config = ConfigDict(from_attributes=True)

    channel: str
    version: int
    created_at: datetime
    answers: Answers


class TryIn(BaseModel):
    """A text to try."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, StringConstraints(min_length=1, max_length=5_000)] = Field(
        description="What somebody writes."
    )
    at: Moment | None = Field(default=None, description="When; default now.")
    position: Annotated[list[ShortName], Field(max_length=10)] = Field(
        default_factory=list, description="First keywords from the top to the menu that they were shown."
    )
    customer_id: Name | None = Field(default=None, description="Who; default nobody in particular.")
    locale: ShortName | None = Field(default=None, description="Their language, instead of the customer's.")


class SaidOut(BaseModel):
    """What would be sent."""

    content_kind: ContentKind
    content: Content
    choices: list[str] = Field(description="Words to choose from, shown in the channel's way.")
    text: str = Field(description="The same for people to read.")


class TriedOut(BaseModel):
    """What would be answered, and why."""

    channel: str
    version: int
    why: Why
    path: list[str] = Field(description="First keywords from the top down to the group that the text means.")
    position: list[str] = Field(description="Where the person would stand afterwards.")
    due_at: datetime | None = Field(description="From when on a person would answer; null where none would.")
    says: SaidOut | None


def answer_routes(service: Service) -> APIRouter:
    """The endpoints of a channel's answers."""
    router = APIRouter(prefix="/v1/channels/{name}/answers", tags=["chats"], responses=PROBLEMS)

    @router.get("")
    async def one(name: ChannelName) -> AnswersOut:
        """The present answers of a channel; 404 where it answers nothing by itself."""

        def read() -> StoredAnswers:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                return load_answers(conn, name)

        return AnswersOut.model_validate(await service.in_thread(read))

    @router.put("", openapi_extra=ANSWERS)
    async def put(name: ChannelName, posted: AnswersIn) -> AnswersOut:
        """Store the answers of a channel; changed ones become a new version, which holds from the next text on."""
        unstorable = unstorable_in(posted.answers, "answers.")
        if unstorable:
            raise InvalidInputsError(unstorable)

        def write() -> StoredAnswers:
            with reaching_the_store(), service.engine.begin() as conn:
                return save_answers(conn, name, posted.answers, service.clock())

        return AnswersOut.model_validate(await service.in_thread(write))

    @router.delete("", status_code=204)
    async def remove(name: ChannelName) -> Response:
        """From now on the channel answers nothing by itself; versions keep their numbers."""

        def write() -> None:
            with reaching_the_store(), service.engine.begin() as conn:
                remove_answers(conn, name, service.clock())

        await service.in_thread(write)
        return Response(status_code=204)

    @router.post("/try")
    async def tried(name: ChannelName, posted: TryIn) -> TriedOut:
        """What a text would be answered, and why; nothing is sent or stored."""

        def read() -> TriedOut:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                found = load_answers(conn, name)
                attributes = (
                    {} if posted.customer_id is None else customer_attributes(conn, posted.customer_id)
                )
            if posted.locale is not None:
                attributes = {**attributes, LOCALE: posted.locale}
            now = posted.at or service.clock()
            person = Person(posted.customer_id or "", attributes)
            reaction = react(found.answers, posted.text, tuple(posted.position), now, name, person)
            return _tried(found, reaction)

        return await service.in_thread(read)

    return router


def _tried(found: StoredAnswers, reaction: Reaction) -> TriedOut:
    says = reaction.says
    return TriedOut(
        channel=found.channel,
        version=found.version,
        why=reaction.why,
        path=list(reaction.path),
        position=list(reaction.position),
        due_at=reaction.due_at,
        says=None
        if says is None
        else SaidOut(
            content_kind=says.kind, content=says.content, choices=list(says.choices), text=says.text
        ),
    )

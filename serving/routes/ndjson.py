"""Many decisions as a stream: one outcome a line out, in memory that does not grow with them.

A batch comes as a stream itself, one request a line.

Outcomes wait in a temporary file for a caller that sends everything before it reads: a caller that reads late
holds up neither its own requests nor anybody else.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from tempfile import SpooledTemporaryFile
from typing import Any
from uuid import UUID, uuid5

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from models.domain.decision import Decision
from models.domain.errors import InvalidInputError, NextchannelError, StoreUnavailableError
from serving.problems import invalid_request
from serving.request import DecisionRequest
from serving.routes.replies import outcome_document, outcome_line
from serving.routes.schemas import DecisionIn
from serving.service import Service
from serving.store.idempotency import IdempotencyKey
from serving.store.writer import LARGEST_GROUP

NDJSON = "application/x-ndjson"
MOST_LINES = 100_000
LONGEST_LINE = 65_536
# Outcomes up to this size wait in memory, more of them in a file.
_IN_MEMORY = 1 << 20
_BLOCK = 1 << 16
# Namespace of the decision ids of a stream with an idempotency key.
_LINES = UUID("3f0f2c53-6c0e-5d5e-8a57-0f1d2b9c7a41")


def streaming_route(service: Service) -> type[APIRoute]:
    """A route that hands bodies of newline-delimited JSON to a stream, and others to its endpoint."""

    class StreamingRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
            plain = super().get_route_handler()

            async def handle(request: Request) -> Response:
                kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if kind != NDJSON:
                    return await plain(request)
                key = request.headers.get("idempotency-key")
                credential = request.headers.get("authorization", "")
                return _Stream(service, request, None if key is None else IdempotencyKey.of(key, credential))

            return handle

    return StreamingRoute


class OutcomeStream(Response, ABC):
    """Decides and answers at the same time; `_decide_all` of a subclass says for whom."""

    media_type = NDJSON

    def __init__(self, service: Service, path: str) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._service = service
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Serve it."""
        with self._service.batches:
            await self._serve(send)

    async def _serve(self, send: Send) -> None:
        spool = Spool()
        deciding = asyncio.create_task(self._decide_all(spool))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for block in spool.blocks():
                await send({"type": "http.response.body", "body": block, "more_body": True})
            await deciding
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            deciding.cancel()
            spool.close()

    @abstractmethod
    async def _decide_all(self, spool: Spool) -> None:
        """Write every outcome, then end the spool."""

    def _answers(self, asked: Sequence[DecisionRequest]) -> Sequence[Decision | NextchannelError]:
        """The answers of a part; blocks."""
        if not asked:
            return []
        try:
            return self._service.decider.decide_many(asked, self._service.clock())
        except StoreUnavailableError as exc:
            return [exc] * len(asked)


class _Stream(OutcomeStream):
    """Reads requests a line each.

    With an idempotency key every line has the decision id that key and line number give, so that a stream that is
    sent again finds what was decided.
    """

    def __init__(self, service: Service, request: Request, key: IdempotencyKey | None) -> None:
        super().__init__(service, request.url.path)
        self._request = request
        self._key = key

    async def _decide_all(self, spool: Spool) -> None:
        try:
            waiting: list[bytes] = []
            n_decided = 0
            async for line in _lines(self._request):
                waiting.append(line)
                last = n_decided + len(waiting) > MOST_LINES or len(line) > LONGEST_LINE
                if last or len(waiting) == LARGEST_GROUP:
                    await self._decide(waiting, n_decided, spool)
                    n_decided += len(waiting)
                    waiting = []
                if last:
                    return
            if waiting:
                await self._decide(waiting, n_decided, spool)
        finally:
            spool.end()

    async def _decide(self, lines: Sequence[bytes], first: int, spool: Spool) -> None:
        outcomes: list[dict[str, object] | None] = []
        asked: list[DecisionRequest] = []
        for number, line in enumerate(lines, start=first):
            try:
                asked.append(self._parsed(line, number))
                outcomes.append(None)
            except ValidationError as exc:
                located = [{**one, "loc": ("line", *one["loc"])} for one in exc.errors()]
                problem = invalid_request(located, self._path).model_dump(mode="json")
                outcomes.append({"decision": None, "problem": problem})
            except NextchannelError as exc:
                outcomes.append(outcome_document(exc, self._path))
        answers = iter(await self._service.in_thread(lambda: self._answers(asked)))
        for outcome in outcomes:
            spool.write(outcome_line(outcome or outcome_document(next(answers), self._path)))

    def _parsed(self, line: bytes, number: int) -> DecisionRequest:
        if number >= MOST_LINES:
            raise InvalidInputError("lines", number + 1, f"must be <= {MOST_LINES}; the rest is not read")
        if len(line) > LONGEST_LINE:
            raise InvalidInputError(
                "line", f"{len(line)} bytes", f"must be <= {LONGEST_LINE} bytes; the rest is not read"
            )
        one = DecisionIn.model_validate_json(line)
        if self._key is None or one.dry_run:
            return one.to_request()
        return one.to_request(fallback_id=str(uuid5(_LINES, f"{self._key.caller}/{self._key.key}/{number}")))


async def _lines(request: Request) -> AsyncIterator[bytes]:
    """The lines that are not blank; one that is too long comes cut off, as the last."""
    rest = b""
    async for chunk in request.stream():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
        if len(rest) > LONGEST_LINE:
            yield rest
            return
    if rest.strip():
        yield rest


class Spool:
    """Bytes on their way from one task to another: written whenever they are there, read whenever they are wanted."""

    def __init__(self) -> None:
        self._file: Any = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by `close`
        self._n_written = self._n_read = 0
        self._ended = False
        self._changed = asyncio.Event()

    def write(self, block: bytes) -> None:
        """Add at the end."""
        self._file.seek(self._n_written)
        self._n_written += self._file.write(block)
        self._changed.set()

    def end(self) -> None:
        """Nothing more will be written."""
        self._ended = True
        self._changed.set()

    async def blocks(self) -> AsyncIterator[bytes]:
        """What is written, until the end."""
        while True:
            self._changed.clear()
            if self._n_read < self._n_written:
                self._file.seek(self._n_read)
                block = self._file.read(_BLOCK)
                self._n_read += len(block)
                yield block
            elif self._ended:
                return
            else:
                await self._changed.wait()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

"""`/v1/receipts/{channel}`: where providers report. They have no key; the adapter checks their signature."""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import PlainTextResponse

from features.history.channels import load_channels
from serving.channels.contract import AnswersHandshake, ChannelAdapter, ForgedEventsError
from serving.provider_events import Told, record_provider_events
from serving.routes.examples import PROBLEMS, UNSIGNED
from serving.service import Service
from serving.store.availability import reaching_the_store

MOST_BODY_BYTES = 1_048_576
_log = logging.getLogger(__name__)

ChannelName = Annotated[str, Path(min_length=1, max_length=64, pattern="^[A-Za-z_][A-Za-z0-9_]*$")]


def receipt_routes(service: Service) -> APIRouter:
    """The webhooks of every channel that has an adapter."""
    router = APIRouter(prefix="/v1/receipts", tags=["receipts"], responses=PROBLEMS)

    def adapter_of(channel: str) -> ChannelAdapter:
        adapter = service.adapters.get(channel)
        if adapter is None:
            raise HTTPException(status_code=404, detail=f"No adapter serves the channel {channel!r}.")
        return adapter

    @router.post("/{channel}", response_class=PlainTextResponse, responses=UNSIGNED)
    async def receive(channel: ChannelName, request: Request) -> PlainTextResponse:
        """Take a provider's report; 200 with an empty body once it is written, so that it is not sent again.

        A body whose signature is missing or wrong is refused (401) and leaves no trace.
        """
        adapter = adapter_of(channel)
        body = await _body_of(request)
        headers = {name.lower(): value for name, value in request.headers.items()}
        headers[":path"] = (
            f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
        )
        try:
            events = adapter.parse_events(body, headers)
        except ForgedEventsError as exc:
            _log.warning("a report for %s was refused: %s", channel, exc)
            raise HTTPException(status_code=401, detail="The signature is missing or wrong.") from exc
        received_at = service.clock()

        def write() -> Told:
            with reaching_the_store(), service.engine.begin() as conn:
                return record_provider_events(conn, load_channels(conn)[channel], events, received_at)

        if events:
            told = await service.in_thread(write)
            service.refresher.request(told.customer_ids)
        return PlainTextResponse("")

    @router.get("/{channel}", response_class=PlainTextResponse)
    async def shake_hands(channel: ChannelName, request: Request) -> PlainTextResponse:
        """Answer the question by which Meta and WeChat find out that this webhook is yours."""
        adapter = adapter_of(channel)
        if not isinstance(adapter, AnswersHandshake):
            raise HTTPException(status_code=404, detail=f"The provider of {channel!r} asks nothing by GET.")
        try:
            answer = adapter.answer_handshake(dict(request.query_params))
        except ForgedEventsError as exc:
            raise HTTPException(status_code=401, detail="The token or signature is wrong.") from exc
        return PlainTextResponse(answer, headers={"X-Content-Type-Options": "nosniff"})

    return router


async def _body_of(request: Request) -> bytes:
    """The raw body, at most `MOST_BODY_BYTES` of it: signatures cover bytes."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY_BYTES:
            raise HTTPException(status_code=413, detail=f"The body has more than {MOST_BODY_BYTES} bytes.")
    return bytes(body)

"""The adapter passes the conformance kit against a server that remembers."""

from __future__ import annotations

import json

import httpx
from nextchannel_ntfy import NtfyAdapter

from models.domain.channel import IdentityKind
from serving.channels.contract import AdapterContext
from serving.channels.testing import AdapterLaws, ExampleLinks, HttpWire, Scene, example_message


class Ntfy(HttpWire):
    """https://docs.ntfy.sh/publish/#publish-as-json."""

    def recipient_of(self, request: httpx.Request) -> str | None:
        topic: str = json.loads(request.content)["topic"]
        return topic

    def answer(self, request: httpx.Request) -> httpx.Response:
        said = json.loads(request.content)
        if len(said["message"].encode()) > 4_096:
            return httpx.Response(413, json={"code": 41301, "error": "attachment too large"})
        return httpx.Response(200, json={"id": f"id{len(self.taken)}", "event": "message"})

    def refusing(self) -> httpx.Response:
        return httpx.Response(400, json={"code": 40009, "error": "topic name is not allowed"})

    def exhausted(self) -> httpx.Response:
        return httpx.Response(429, json={"code": 42901, "error": "limit reached"})


class TestNtfy(AdapterLaws):
    def open(self) -> Scene:
        wire = Ntfy()
        adapter = NtfyAdapter.build(AdapterContext(links=ExampleLinks()), wire)
        message = example_message(channel="push", identity_kind=IdentityKind.DEVICE, recipient="ada-topic")
        return Scene(adapter=adapter, wire=wire, message=message)

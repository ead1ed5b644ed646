"""Push by ntfy, an open service that anybody can run: https://docs.ntfy.sh/publish/."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

import httpx

from models.domain.channel import ContentKind
from models.domain.interaction import InteractionKind
from models.domain.message import Message, Receipt, ReceiptStatus
from serving.channels.adapter_settings import HttpSettings, read_settings
from serving.channels.contract import (
    AdapterContext,
    Capabilities,
    FinalRefusalError,
    Idempotency,
    Limit,
)
from serving.channels.http import HttpAdapter, answer_of, exchange, http_client, refusal

__all__ = ["NtfyAdapter", "NtfySettings"]

_TOPIC = re.compile(r"[-_A-Za-z0-9]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NtfySettings(HttpSettings):
    """Settings of the adapter.

    Attributes:
        base_url: Of the server.
        token: Access token, where the server asks for one.
    """

    base_url: str = "https://ntfy.sh"
    token: str = ""


class NtfyAdapter(HttpAdapter):
    """Publishes to the topic that a customer's identity names."""

    name = "ntfy"
    capabilities = Capabilities(
        content_kinds=frozenset({ContentKind.TEXT}),
        receipts=frozenset({InteractionKind.CLICKED}),
        idempotency=Idempotency.NONE,
        limits=(
            Limit(
                subject="text",
                at_most=4_096,
                unit="bytes",
                source="https://docs.ntfy.sh/publish/#limitations",
                kind=ContentKind.TEXT,
            ),
        ),
    )

    def __init__(self, settings: NtfySettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        log_in = {"authorization": f"Bearer {settings.token}"} if settings.token else {}
        super().__init__(http_client(settings, settings.base_url, transport, log_in))

    @classmethod
    def build(cls, context: AdapterContext, transport: httpx.AsyncBaseTransport | None = None) -> Self:
        """`transport` stands in for the network."""
        return cls(read_settings(NtfySettings, cls.name, context.settings), transport)

    async def send(self, message: Message) -> Receipt:
        """Publish one message; see the contract for what it raises."""
        self.capabilities.require(message)
        if not _TOPIC.fullmatch(message.recipient):
            raise FinalRefusalError("the recipient is no topic: letters, digits, - and _, at most 64")
        said = {
            "topic": message.recipient,
            "title": " ".join(message.content.subject.split()),
            "message": message.content.body.strip(),
        }
        if message.content.link_url:
            said["click"] = message.content.link_url
        response = await exchange(self._client, "POST", "/", json=said)
        answer = answer_of(response)
        if not response.is_success:
            raise refusal(response, f"{answer.get('code', '')} {answer.get('error', '')}".strip())
        return Receipt(
            status=ReceiptStatus.ACCEPTED,
            provider=self.name,
            provider_message_id=str(answer.get("id", "")),
        )

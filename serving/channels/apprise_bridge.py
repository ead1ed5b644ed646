"""A bridge to the services that Apprise knows, more than a hundred: https://github.com/caronc/apprise/wiki.

Apprise answers yes or no, nothing more, so a receipt says "accepted" alone, and a no is tried again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

import apprise

from models.domain.channel import ContentKind
from models.domain.errors import require
from models.domain.interaction import InteractionKind
from models.domain.message import Message, Receipt, ReceiptStatus
from serving.channels.adapter_settings import read_settings
from serving.channels.contract import (
    AdapterContext,
    Capabilities,
    DeliveryEvent,
    FinalRefusalError,
    ForgedEventsError,
    Idempotency,
    RetryLaterError,
)
from serving.channels.rendering import text_with_link

_PLACE = "{recipient}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppriseSettings:
    """Settings of the adapter.

    Attributes:
        service: Apprise's address of the service, with `{recipient}` where the contact point belongs, for example
            `tgram://<bot token>/{recipient}`.
    """

    service: str

    def __post_init__(self) -> None:
        require(_PLACE in self.service, "apprise.service", self.service, f"must hold {_PLACE}")
        usable = apprise.Apprise.instantiate(self.service.replace(_PLACE, "1"), suppress_exceptions=True)
        require(usable is not None, "apprise.service", self.service, "must be an address that Apprise knows")


class AppriseAdapter:
    """Speaks to one service of Apprise's."""

    name = "apprise"
    capabilities = Capabilities(
        content_kinds=frozenset({ContentKind.TEXT, ContentKind.HTML}),
        receipts=frozenset({InteractionKind.CLICKED}),
        idempotency=Idempotency.NONE,
    )

    def __init__(self, settings: AppriseSettings) -> None:
        self._settings = settings

    @classmethod
    def build(cls, context: AdapterContext, transport: Any = None) -> Self:  # noqa: ARG003
        """The wire is in `service`; there is no other."""
        return cls(read_settings(AppriseSettings, cls.name, context.settings))

    async def send(self, message: Message) -> Receipt:
        """Send one message; see the contract for what it raises."""
        self.capabilities.require(message)
        # Quoted whole, so that a contact point cannot become another part of the address.
        address = self._settings.service.replace(_PLACE, quote(message.recipient, safe=""))
        service = apprise.Apprise.instantiate(address, suppress_exceptions=True)
        if service is None:
            raise FinalRefusalError("the recipient makes no address that Apprise knows")
        html = message.content_kind is ContentKind.HTML
        taken = await asyncio.to_thread(
            service.notify,
            body=message.content.body if html else text_with_link(message.content),
            title=" ".join(message.content.subject.split()),
            body_format=apprise.NotifyFormat.HTML if html else apprise.NotifyFormat.TEXT,
        )
        if not taken:
            raise RetryLaterError("Apprise says no and does not say why; its log does")
        return Receipt(
            status=ReceiptStatus.ACCEPTED, provider=self.name, provider_message_id=message.message_id
        )

    def parse_events(self, body: bytes, headers: Mapping[str, str]) -> Sequence[DeliveryEvent]:  # noqa: ARG002
        """Apprise reports nothing, so whatever claims to come from it is forged."""
        raise ForgedEventsError("Apprise has no webhook")

    async def aclose(self) -> None:
        """Nothing is held."""

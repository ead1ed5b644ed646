"""WhatsApp Cloud API: approved templates at any time, free text and media within 24 hours of the customer's message.

https://developers.facebook.com/docs/whatsapp/cloud-api/reference/messages. It knows no idempotency key; our id
travels as `biz_opaque_callback_data`, so that a message whose answer was lost is recognised by its status.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

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
    Idempotency,
    Limit,
)
from serving.channels.meta import MetaAdapter, MetaSettings
from serving.channels.rendering import provider_part, required_media, text_with_link
from serving.channels.webhooks import event_id, is_opt_out, moment, readable

_NUMBER = re.compile(r"\+?([1-9][0-9]{6,14})")
_CAPTION = 1_024
_KINDS = {
    "sent": InteractionKind.SENT,
    "delivered": InteractionKind.DELIVERED,
    "read": InteractionKind.OPENED,
    "failed": InteractionKind.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatsAppSettings(MetaSettings):
    """Settings of the adapter.

    Attributes:
        phone_number_id: Of the sending number (not the number itself).
        template_name: Approved template with one body parameter, for template content of plain text.
        template_language: Of that template.
        callback_data: Whether our id travels along, so that a message whose answer was lost is recognised by its
            status. Meta documents the field in words, not in its published description of the API.
    """

    phone_number_id: str
    template_name: str = ""
    template_language: str = "en"
    callback_data: bool = True

    def __post_init__(self) -> None:
        MetaSettings.__post_init__(self)
        require(
            self.phone_number_id.isdigit(),
            "whatsapp.phone_number_id",
            self.phone_number_id,
            "must be digits",
        )


class WhatsAppAdapter(MetaAdapter):
    """Speaks for one WhatsApp business number."""

    name = "whatsapp"
    capabilities = Capabilities(
        content_kinds=frozenset(
            {ContentKind.TEXT, ContentKind.IMAGE, ContentKind.VIDEO, ContentKind.TEMPLATE}
        ),
        receipts=frozenset(
            {
                InteractionKind.SENT,
                InteractionKind.DELIVERED,
                InteractionKind.OPENED,
                InteractionKind.FAILED,
                InteractionKind.REPLIED,
                InteractionKind.CLICKED,
                InteractionKind.UNSUBSCRIBED,
            }
        ),
        idempotency=Idempotency.NONE,
        limits=(
            Limit(
                subject="text",
                at_most=4_096,
                unit="characters",
                source="https://developers.facebook.com/docs/whatsapp/cloud-api/messages/text-messages",
                kind=ContentKind.TEXT,
            ),
            Limit(
                subject="caption",
                at_most=_CAPTION,
                unit="characters",
                source="https://developers.facebook.com/docs/whatsapp/cloud-api/messages/image-messages",
                kind=ContentKind.IMAGE,
            ),
        ),
    )

    def __init__(self, settings: WhatsAppSettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        super().__init__(settings, transport)
        self._settings = settings

    @classmethod
    def build(cls, context: AdapterContext, transport: httpx.AsyncBaseTransport | None = None) -> Self:
        """`transport` stands in for the network."""
        return cls(read_settings(WhatsAppSettings, cls.name, context.settings), transport)

    async def send(self, message: Message) -> Receipt:
        """Send one message; see the contract for what it raises."""
        self.capabilities.require(message)
        number = _NUMBER.fullmatch(message.recipient)
        if number is None:
            raise FinalRefusalError("the recipient is no WhatsApp number like 15550100")
        said = {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": number[1],
            **self._said(message),
        }
        if self._settings.callback_data:
            said["biz_opaque_callback_data"] = message.message_id
        answer = await self._post(f"/{self._settings.phone_number_id}/messages", said)
        taken = (answer.get("messages") or [{}])[0]
        return Receipt(
            status=ReceiptStatus.ACCEPTED,
            provider=self.name,
            provider_message_id=str(taken.get("id", "")),
            detail=str(taken.get("message_status", "")),
        )

    def parse_events(self, body: bytes, headers: Mapping[str, str]) -> Sequence[DeliveryEvent]:
        """Statuses of messages, replies, and who stops or resumes marketing messages."""
        entries = self._signed_entries(body, headers)
        with readable():
            changes = [change["value"] for entry in entries for change in entry.get("changes", [])]
            return [event for value in changes for event in self._events(value)]

    def _said(self, message: Message) -> dict[str, Any]:
        content = message.content
        match message.content_kind:
            case ContentKind.TEXT:
                text = text_with_link(content)
                self.capabilities.require_length(ContentKind.TEXT, text)
                return {"type": "text", "text": {"body": text, "preview_url": True}}
            case ContentKind.IMAGE | ContentKind.VIDEO as kind:
                media: dict[str, Any] = {"link": required_media(content)}
                if caption := text_with_link(content):
                    self.capabilities.require_length(ContentKind.IMAGE, caption)
                    media["caption"] = caption
                return {"type": str(kind), str(kind): media}
            case _:
                return {"type": "template", "template": self._template(message)}

    def _template(self, message: Message) -> dict[str, Any]:
        part = provider_part(self.name, message.content)
        if part is None:
            name, language = self._settings.template_name, self._settings.template_language
            if not name:
                raise FinalRefusalError("a template of plain text needs the setting whatsapp.template_name")
            # Parameters hold neither line breaks nor four blanks in a row.
            text = " ".join(text_with_link(message.content).split())
            parameters = [{"type": "text", "text": text}]
            part = {
                "name": name,
                "language": language,
                "components": [{"type": "body", "parameters": parameters}],
            }
        if not isinstance(part, dict) or not part.get("name") or not part.get("language"):
            raise FinalRefusalError("a template needs name and language")
        language = part["language"]
        return {
            **part,
            "language": language
            if isinstance(language, dict)
            else {"policy": "deterministic", "code": language},
        }

    def _events(self, value: Mapping[str, Any]) -> Iterator[DeliveryEvent]:
        for status in value.get("statuses", []):
            kind = _KINDS.get(status.get("status", ""))
            if kind is not None:
                errors = status.get("errors") or [{}]
                yield DeliveryEvent(
                    provider=self.name,
                    event_id=event_id(status.get("id"), status["status"]),
                    kind=kind,
                    occurred_at=moment(status.get("timestamp")),
                    provider_message_id=str(status.get("id", "")),
                    message_id=str(status.get("biz_opaque_callback_data", "")),
                    identity=str(status.get("recipient_id", "")),
                    detail=f"{errors[0].get('code', '')} {errors[0].get('title', '')}".strip(),
                )
        for said in value.get("messages", []):
            text = _words(said)
            yield DeliveryEvent(
                provider=self.name,
                event_id=event_id(said.get("id")),
                kind=InteractionKind.UNSUBSCRIBED if is_opt_out(text) else InteractionKind.REPLIED,
                occurred_at=moment(said.get("timestamp")),
                provider_message_id=str(said.get("context", {}).get("id", "")),
                identity=str(said.get("from", "")),
                attributes={"text": text},
            )
        for wish in value.get("user_preferences", []):
            if wish.get("value") == "stop":
                yield DeliveryEvent(
                    provider=self.name,
                    event_id=event_id("preference", wish.get("wa_id"), wish.get("timestamp")),
                    kind=InteractionKind.UNSUBSCRIBED,
                    occurred_at=moment(wish.get("timestamp")),
                    identity=str(wish.get("wa_id", "")),
                    detail=str(wish.get("category", "")),
                )


def _words(said: Mapping[str, Any]) -> str:
    """What the customer typed or tapped."""
    kind = said.get("type", "")
    if kind == "text":
        return str(said["text"].get("body", ""))
    if kind == "button":
        return str(said["button"].get("text", ""))
    if kind == "interactive":
        tapped = said["interactive"]
        return str(tapped.get(tapped.get("type"), {}).get("title", ""))
    return f"({kind})"

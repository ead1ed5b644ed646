"""Messenger by the Send API: text, pictures and templates within 24 hours of the customer's message.

https://developers.facebook.com/docs/messenger-platform/reference/send-api. It knows no idempotency key. Deliveries and
reads come as watermarks: everything sent to that person until then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

from models.domain.campaign import Content
from models.domain.channel import ContentKind
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
from serving.channels.rendering import (
    cut,
    marked,
    marked_message,
    provider_part,
    required_media,
    text_with_link,
)
from serving.channels.webhooks import event_id, is_opt_out, moment, readable

_LONGEST_PAYLOAD = 1_000
_LONGEST_BUTTON_TEXT = 640
_LONGEST_TITLE = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSettings(MetaSettings):
    """Settings of the adapter.

    Attributes:
        account_id: Page, or professional Instagram account, that sends; `me` is that of the token.
        button_label: On the button of a template made from plain text.
    """

    account_id: str = "me"
    button_label: str = "Open"


class MessengerAdapter(MetaAdapter):
    """Speaks for one page."""

    name = "messenger"
    capabilities = Capabilities(
        content_kinds=frozenset({ContentKind.TEXT, ContentKind.IMAGE, ContentKind.TEMPLATE}),
        receipts=frozenset(
            {
                InteractionKind.DELIVERED,
                InteractionKind.OPENED,
                InteractionKind.REPLIED,
                InteractionKind.CLICKED,
                InteractionKind.UNSUBSCRIBED,
            }
        ),
        idempotency=Idempotency.NONE,
        limits=(
            Limit(
                subject="text",
                at_most=2_000,
                unit="characters",
                source="https://developers.facebook.com/docs/messenger-platform/reference/send-api",
                kind=ContentKind.TEXT,
            ),
        ),
    )

    def __init__(self, settings: PageSettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        super().__init__(settings, transport)
        self._settings = settings

    @classmethod
    def build(cls, context: AdapterContext, transport: httpx.AsyncBaseTransport | None = None) -> Self:
        """`transport` stands in for the network."""
        return cls(read_settings(PageSettings, cls.name, context.settings), transport)

    async def send(self, message: Message) -> Receipt:
        """Send one message; see the contract for what it raises.

        A picture goes without its words: they would be a second message, which could fail by itself. Use a template.
        """
        self.capabilities.require(message)
        answer = await self._post(
            f"/{self._settings.account_id}/messages",
            {
                "recipient": {"id": message.recipient},
                "messaging_type": "RESPONSE",
                "message": self._said(message),
            },
        )
        return Receipt(
            status=ReceiptStatus.ACCEPTED,
            provider=self.name,
            provider_message_id=str(answer.get("message_id", "")),
        )

    def parse_events(self, body: bytes, headers: Mapping[str, str]) -> Sequence[DeliveryEvent]:
        """Deliveries, reads, messages and postbacks; echoes of what we sent mean nothing."""
        entries = self._signed_entries(body, headers)
        with readable():
            said = [each for entry in entries for each in entry.get("messaging", [])]
            return [event for each in said for event in self._events(each)]

    def _said(self, message: Message) -> dict[str, Any]:
        content = message.content
        match message.content_kind:
            case ContentKind.TEXT:
                text = text_with_link(content)
                self.capabilities.require_length(ContentKind.TEXT, text)
                return {"text": text}
            case ContentKind.IMAGE:
                picture = {"url": required_media(content), "is_reusable": True}
                return {"attachment": {"type": "image", "payload": picture}}
            case _:
                payload = provider_part(self.name, content)
                if payload is None:
                    payload = self._template(content)
                if not isinstance(payload, dict) or not payload.get("template_type"):
                    raise FinalRefusalError("a template needs a template_type")
                payload = marked(payload, "payload", message.message_id, _LONGEST_PAYLOAD)
                return {"attachment": {"type": "template", "payload": payload}}

    def _template(self, content: Content) -> dict[str, Any]:
        """Words and a button; with a picture or a title the card that Meta calls generic."""
        buttons = []
        if content.link_url:
            label = cut(self._settings.button_label, 20)
            buttons = [{"type": "web_url", "url": content.link_url, "title": label}]
        if not content.media_url and not content.subject:
            if not buttons:
                raise FinalRefusalError("a template of plain text needs a link_url for its button")
            text = content.body.strip()
            if not 0 < len(text) <= _LONGEST_BUTTON_TEXT:
                raise FinalRefusalError(f"text: {len(text)} characters, must be 1 to {_LONGEST_BUTTON_TEXT}")
            return {"template_type": "button", "text": text, "buttons": buttons}
        card: dict[str, Any] = {"title": cut(content.subject or content.body.strip(), _LONGEST_TITLE)}
        if content.subject and content.body.strip():
            card["subtitle"] = cut(content.body.strip(), _LONGEST_TITLE)
        if content.media_url:
            card["image_url"] = required_media(content)
        if buttons:
            card["buttons"] = buttons
        return {"template_type": "generic", "elements": [card]}

    def _events(self, each: Mapping[str, Any]) -> Iterator[DeliveryEvent]:
        person, at = str(each["sender"]["id"]), moment(each.get("timestamp"), divide_by=1_000)

        def event(kind: InteractionKind, *ids: object, **more: Any) -> DeliveryEvent:
            known = event_id(*ids)
            return DeliveryEvent(
                provider=self.name, event_id=known, kind=kind, occurred_at=at, identity=person, **more
            )

        if "delivery" in each:
            mids = each["delivery"].get("mids") or []
            for mid in mids:
                yield event(InteractionKind.DELIVERED, mid, "delivered", provider_message_id=str(mid))
            if not mids:
                yield event(
                    InteractionKind.DELIVERED,
                    person,
                    "delivered",
                    each["delivery"]["watermark"],
                    up_to=moment(each["delivery"]["watermark"], divide_by=1_000),
                )
        elif "read" in each:
            mid, watermark = each["read"].get("mid"), each["read"].get("watermark")
            if mid:
                yield event(InteractionKind.OPENED, mid, "read", provider_message_id=str(mid))
            else:
                until = moment(watermark, divide_by=1_000)
                yield event(InteractionKind.OPENED, person, "read", watermark, up_to=until)
        elif "postback" in each:
            tapped = each["postback"]
            payload = str(tapped.get("payload", ""))
            yield event(
                InteractionKind.CLICKED,
                tapped.get("mid") or f"{person}/{each['timestamp']}",
                "postback",
                message_id=marked_message(payload),
                attributes={"postback": payload},
            )
        elif "message" in each and not each["message"].get("is_echo"):
            text = str(each["message"].get("text", "(attachment)"))
            leaves = is_opt_out(text)
            yield event(
                InteractionKind.UNSUBSCRIBED if leaves else InteractionKind.REPLIED,
                each["message"]["mid"],
                attributes={"text": text},
            )

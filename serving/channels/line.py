"""LINE Messaging API: push, reply and multicast, each under a retry key, and the webhook.

https://developers.line.biz/en/reference/messaging-api/. A key is remembered for 24 hours; a repeated one is
answered 409, which means that the message was accepted before. Whether a message was opened LINE tells only as a sum
over many people, so here it is unknowable: what is known are clicks, postbacks and replies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self
from urllib.parse import parse_qs

import httpx

from models.domain.campaign import Content
from models.domain.channel import ContentKind
from models.domain.errors import require
from models.domain.interaction import InteractionKind
from models.domain.message import Message, Receipt, ReceiptStatus
from serving.channels.adapter_settings import HttpSettings, read_settings
from serving.channels.contract import (
    REPLY_TOKEN,
    SAID,
    AdapterContext,
    Capabilities,
    DeliveryEvent,
    FinalRefusalError,
    ForgedEventsError,
    Idempotency,
    Limit,
    ReplyExpiredError,
    UnknownOutcomeError,
)
from serving.channels.http import HttpAdapter, answer_of, exchange, http_client, refusal
from serving.channels.line_messages import messages_of, text_with_choices
from serving.channels.rendering import marked_message
from serving.channels.webhooks import hmac_base64, moment, readable, require_equal, signed_json

_ALREADY_ACCEPTED = 409
_TOKEN_REFUSED = (400, "invalid reply token")
_WORD = "say"  # in the data of a postback: the word that tapping it says
_FORBIDDEN = 403
_KINDS = {
    "follow": InteractionKind.FOLLOWED,
    "unfollow": InteractionKind.UNFOLLOWED,
    "message": InteractionKind.REPLIED,
    "postback": InteractionKind.CLICKED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSettings(HttpSettings):
    """Settings of the adapter.

    Attributes:
        channel_access_token: Long-lived token of the Messaging API channel.
        channel_secret: Signs the webhook.
        button_label: On the button of a template or card made from plain text.
        video_preview_url: Picture that stands for a film until it is played; without it films are refused.
        base_url: Of the API.
    """

    channel_access_token: str
    channel_secret: str
    button_label: str = "→"
    video_preview_url: str = ""
    base_url: str = "https://api.line.me"

    def __post_init__(self) -> None:
        require(
            len(self.button_label) <= 20,
            "line.button_label",
            self.button_label,
            "must have at most 20 characters",
        )


class LineAdapter(HttpAdapter):
    """Speaks for one LINE official account."""

    name = "line"
    # A token lasts for about a minute: https://developers.line.biz/en/reference/messaging-api/#send-reply-message
    reply_within = timedelta(seconds=50)
    capabilities = Capabilities(
        content_kinds=frozenset(
            {
                ContentKind.TEXT,
                ContentKind.STICKER,
                ContentKind.IMAGE,
                ContentKind.VIDEO,
                ContentKind.TEMPLATE,
                ContentKind.CARD,
            }
        ),
        receipts=frozenset(
            {
                InteractionKind.CLICKED,
                InteractionKind.REPLIED,
                InteractionKind.FOLLOWED,
                InteractionKind.UNFOLLOWED,
            }
        ),
        idempotency=Idempotency.KEYED,
        limits=(
            Limit(
                subject="text",
                at_most=5_000,
                unit="utf16_units",
                source="https://developers.line.biz/en/docs/messaging-api/text-character-count/",
                kind=ContentKind.TEXT,
            ),
            Limit(
                subject="recipients of a multicast",
                at_most=500,
                unit="customers",
                source="https://developers.line.biz/en/reference/messaging-api/#send-multicast-message",
            ),
        ),
        batch_size=500,
    )

    def __init__(self, settings: LineSettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        token = {"authorization": f"Bearer {settings.channel_access_token}"}
        super().__init__(http_client(settings, settings.base_url, transport, token))
        self._settings = settings

    @classmethod
    def build(cls, context: AdapterContext, transport: httpx.AsyncBaseTransport | None = None) -> Self:
        """`transport` stands in for the network."""
        return cls(read_settings(LineSettings, cls.name, context.settings), transport)

    async def send(self, message: Message) -> Receipt:
        """Push one message; see the contract for what it raises."""
        said = {"to": message.recipient, "messages": self._messages(message)}
        return await self._post("push", said, message, retry_key=message.message_id)

    async def send_batch(self, messages: Sequence[Message], batch_id: str) -> Sequence[Receipt]:
        """Multicast to up to 500 customers; all messages say the same.

        Content with tracked links differs from customer to customer, so this is for content without.
        """
        said = [self._messages(message) for message in messages]
        if not 0 < len(messages) <= self.capabilities.batch_size or any(each != said[0] for each in said):
            raise FinalRefusalError(
                f"a batch of {len(messages)} messages, must be 1 to 500 that say the same"
            )
        everybody = {"to": [message.recipient for message in messages], "messages": said[0]}
        first = await self._post("multicast", everybody, messages[0], retry_key=batch_id)
        return [_receipt(message, first.detail) for message in messages]

    async def reply(self, reply_token: str, message: Message) -> Receipt:
        """Answer an event of the webhook: free of charge, once, within about a minute; it knows no retry key.

        Raises:
            ReplyExpiredError: the token was used before, or is too old.
            UnknownOutcomeError: also where LINE failed inside, since no key makes another attempt harmless.
            ChannelError: as `send`.
        """
        said = {"replyToken": reply_token, "messages": self._messages(message)}
        return await self._post("reply", said, message)

    def with_choices(self, content: Content, choices: Sequence[str]) -> tuple[ContentKind, Content]:
        """The text with a quick reply for each word; see the contract."""
        return ContentKind.CARD, text_with_choices(self.name, content, choices)

    def parse_events(self, body: bytes, headers: Mapping[str, str]) -> Sequence[DeliveryEvent]:
        """Follows, unfollows, messages and postbacks; a postback names the message whose button was tapped.

        One whose data says `say=Opening hours` says that word, as if it had been typed.
        """
        require_equal(
            hmac_base64(self._settings.channel_secret, body, "sha256"), headers.get("x-line-signature")
        )
        events = signed_json(body).get("events")
        if not isinstance(events, list):
            raise ForgedEventsError("the signed body has no events")
        with readable():
            return [found for event in events if (found := self._event(event)) is not None]

    async def check_account(self) -> str:
        """Name of the account, and how much of this month's quota is used."""
        found: dict[str, object] = {}
        for path in ("/v2/bot/info", "/v2/bot/message/quota", "/v2/bot/message/quota/consumption"):
            response = await exchange(self._client, "GET", path)
            if not response.is_success:
                raise refusal(response)
            found |= answer_of(response)
        return (
            f"{found.get('displayName')}, {found.get('totalUsage')} of {found.get('value', 'unlimited')} sent"
        )

    def _messages(self, message: Message) -> list[dict[str, Any]]:
        self.capabilities.require(message)
        settings = self._settings
        return messages_of(message, settings.button_label, settings.video_preview_url)

    async def _post(
        self, way: str, said: Mapping[str, object], message: Message, *, retry_key: str | None = None
    ) -> Receipt:
        headers = {"x-line-retry-key": retry_key} if retry_key else {}
        response = await exchange(self._client, "POST", f"/v2/bot/message/{way}", json=said, headers=headers)
        if response.is_success or (retry_key and response.status_code == _ALREADY_ACCEPTED):
            return _receipt(message, response.headers.get("x-line-request-id", ""))
        words = str(answer_of(response).get("message", ""))
        if (response.status_code, words.lower()) == _TOKEN_REFUSED:
            raise ReplyExpiredError(words)
        if response.status_code == _FORBIDDEN:
            raise FinalRefusalError(f"403 {words}")
        if response.is_server_error and not retry_key:
            # It may have been taken: https://developers.line.biz/en/docs/messaging-api/retrying-api-request/
            raise UnknownOutcomeError(f"{response.status_code} {words}".strip())
        raise refusal(response, words)

    def _event(self, event: Mapping[str, Any]) -> DeliveryEvent | None:
        kind = _KINDS.get(event.get("type", ""))
        person = event.get("source", {}).get("userId", "")
        if kind is None or not person:
            return None  # groups, rich menus and the like
        message_id = ""
        attributes = {}
        if kind is InteractionKind.CLICKED:
            data = str(event.get("postback", {}).get("data", ""))
            message_id = marked_message(data)
            attributes["postback"] = data
            if word := parse_qs(data).get(_WORD, [""])[-1]:
                attributes[SAID] = word
        elif kind is InteractionKind.REPLIED:
            said = event.get("message", {})
            attributes[SAID] = str(said.get("text", f"({said.get('type', 'message')})"))
        if event.get("replyToken"):
            attributes[REPLY_TOKEN] = str(event["replyToken"])
        return DeliveryEvent(
            provider=self.name,
            event_id=str(event.get("webhookEventId", "")),
            kind=kind,
            occurred_at=moment(event.get("timestamp"), divide_by=1_000),
            message_id=message_id,
            identity=person,
            attributes=attributes,
        )


def _receipt(message: Message, detail: str) -> Receipt:
    """Our own id stands for LINE's: the webhook hands ours back, never theirs."""
    return Receipt(
        status=ReceiptStatus.ACCEPTED,
        provider=LineAdapter.name,
        provider_message_id=message.message_id,
        detail=detail,
    )

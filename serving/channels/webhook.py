"""A signed webhook: the message as JSON to an address of the customer's own system.

Signed as https://www.standardwebhooks.com says: HMAC-SHA256 over `id.timestamp.body`, valid for five minutes. The
receiver tells repeated messages by `webhook-id`, which is the message's id. It may report back under the same signature.
"""

from __future__ import annotations

import binascii
import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import httpx

from models.domain.channel import ContentKind
from models.domain.errors import InvalidInputError, require
from models.domain.interaction import InteractionKind
from models.domain.message import Message, Receipt, ReceiptStatus
from serving.channels.adapter_settings import HttpSettings, read_settings
from serving.channels.contract import (
    AdapterContext,
    Capabilities,
    DeliveryEvent,
    FinalRefusalError,
    ForgedEventsError,
    Idempotency,
)
from serving.channels.http import HttpAdapter, exchange, http_client, refusal
from serving.channels.public_addresses import PublicOnlyTransport
from serving.channels.webhooks import Clock, event_id, moment, readable, require_equal, signed_json, utc_now

WINDOW_SECONDS = 300
_PREFIX = "whsec_"
_FEWEST_BYTES = 24
_MOST_EVENTS = 1_000
_KINDS = frozenset(
    {
        InteractionKind.DELIVERED,
        InteractionKind.FAILED,
        InteractionKind.OPENED,
        InteractionKind.CLICKED,
        InteractionKind.REPLIED,
        InteractionKind.UNSUBSCRIBED,
        InteractionKind.COMPLAINED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings(HttpSettings):
    """Settings of the adapter.

    Attributes:
        secret: `whsec_` and at least 24 random bytes in base64; both sides know it.
        allow_private: Whether addresses inside one's own network may be called; they are refused otherwise.
        allow_http: Whether addresses without encryption may be called.
    """

    secret: str
    allow_private: bool = False
    allow_http: bool = False


class WebhookAdapter(HttpAdapter):
    """Calls the address that a customer's identity holds."""

    name = "webhook"
    capabilities = Capabilities(
        content_kinds=frozenset(ContentKind),
        receipts=_KINDS,
        idempotency=Idempotency.NONE,
    )

    def __init__(
        self,
        settings: WebhookSettings,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(
            http_client(
                settings,
                transport=transport or PublicOnlyTransport(allow_private=settings.allow_private),
                headers={"content-type": "application/json"},
            )
        )
        self._settings = settings
        self._key = _key(settings.secret)
        self._clock = clock

    @classmethod
    def build(cls, context: AdapterContext, transport: httpx.AsyncBaseTransport | None = None) -> Self:
        """`transport` stands in for the network, and for the refusal of private addresses."""
        return cls(read_settings(WebhookSettings, cls.name, context.settings), transport)

    async def send(self, message: Message) -> Receipt:
        """Post one message; see the contract for what it raises."""
        self.capabilities.require(message)
        schemes = ("https://", "http://") if self._settings.allow_http else ("https://",)
        if not message.recipient.startswith(schemes):
            raise FinalRefusalError(f"the recipient must be an address that starts with {schemes[0]}")
        body = json.dumps(_document(message), ensure_ascii=False).encode()
        headers = self.signed(message.message_id, body, self._clock())
        response = await exchange(
            self._client, "POST", message.recipient, content=body, headers=headers, read_body=False
        )
        if not response.is_success:
            raise refusal(response, "the receiver did not take it")
        return Receipt(
            status=ReceiptStatus.ACCEPTED,
            provider=self.name,
            provider_message_id=message.message_id,
            detail=str(response.status_code),
        )

    def parse_events(self, body: bytes, headers: Mapping[str, str]) -> Sequence[DeliveryEvent]:
        """`{"events": [{"event_id", "message_id", "kind", "occurred_at"}]}`, signed like what we send."""
        sent_id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        require_equal(self._signature(sent_id, stamp, body), headers.get("webhook-signature"))
        if abs((self._clock() - moment(stamp)).total_seconds()) > WINDOW_SECONDS:
            raise ForgedEventsError(f"the time stamp is more than {WINDOW_SECONDS} s away")
        document = signed_json(body)
        with readable():
            if len(document["events"]) > _MOST_EVENTS:
                raise ForgedEventsError(f"{len(document['events'])} events, must be <= {_MOST_EVENTS}")
            return [self._event(each) for each in document["events"]]

    def signed(self, message_id: str, body: bytes, now: datetime) -> dict[str, str]:
        """The three headers that prove a body."""
        stamp = str(int(now.timestamp()))
        signature = self._signature(message_id, stamp, body)
        return {"webhook-id": message_id, "webhook-timestamp": stamp, "webhook-signature": signature}

    def _signature(self, message_id: str, stamp: str, body: bytes) -> str:
        covered = b".".join((message_id.encode(), stamp.encode(), body))
        return "v1," + b64encode(hmac.digest(self._key, covered, "sha256")).decode()

    def _event(self, each: Mapping[str, str]) -> DeliveryEvent:
        kind = InteractionKind(each["kind"])
        if kind not in _KINDS:
            raise ForgedEventsError(f"kind == {kind}, must be one of {', '.join(sorted(_KINDS))}")
        at = datetime.fromisoformat(each["occurred_at"])
        if at.tzinfo is None:
            raise ForgedEventsError("occurred_at must carry a time zone")
        return DeliveryEvent(
            provider=self.name,
            event_id=event_id(each["event_id"]),
            kind=kind,
            occurred_at=at,
            provider_message_id=str(each["message_id"]),
            detail=str(each.get("detail", "")),
        )


def _document(message: Message) -> dict[str, object]:
    content = message.content
    return {
        "type": "message",
        "message_id": message.message_id,
        "decision_id": message.decision_id,
        "customer_id": message.customer_id,
        "campaign_id": message.campaign_id,
        "offer_id": message.offer_id,
        "content_kind": message.content_kind,
        "content": {
            "subject": content.subject,
            "body": content.body,
            "media_url": content.media_url,
            "link_url": content.link_url,
        },
        "send_at": message.send_at.isoformat(),
        "expires_at": message.expires_at.isoformat(),
    }


def _key(secret: str) -> bytes:
    try:
        key = b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidInputError("webhook.secret", "...", "must be whsec_ and base64") from exc
    require(len(key) >= _FEWEST_BYTES, "webhook.secret", f"{len(key)} bytes", f"must be >= {_FEWEST_BYTES}")
    return key

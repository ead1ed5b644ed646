"""Web push by RFC 8030: encrypted for the browser (RFC 8291), signed by the server's key (RFC 8292, VAPID).

The identity is the browser's subscription, the JSON that `PushSubscription.toJSON()` gives. Its address comes from
outside, so only public servers are called. A repeated message replaces the pending one (`Topic`). Push services report
nothing afterwards: the service worker posts `receipt` to `receipt_url` when the message has arrived, fetches
`opened_url` when it is looked at, and leads to `link`, which counts the click.
"""

from __future__ import annotations

import asyncio
import binascii
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

import httpx
from py_vapid import Vapid02, VapidException
from pywebpush import WebPusher, WebPushException

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
    Limit,
    Links,
)
from serving.channels.http import HttpAdapter, exchange, http_client, refusal
from serving.channels.public_addresses import PublicOnlyTransport
from serving.channels.webhooks import Clock, require_equal, utc_now

# RFC 8291 section 4: what fits into the 4,096 bytes that every push service takes.
_LONGEST_PAYLOAD = 3_993
_LONGEST_LIFE = timedelta(days=28)
# RFC 8292 section 2: at most 24 hours.
_TOKEN_SECONDS = 12 * 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class WebPushSettings(HttpSettings):
    """Settings of the adapter.

    Attributes:
        private_key: VAPID key, base64url; its public half is the page's `applicationServerKey`.
        subject: How the push service reaches you: `mailto:` or an https address.
        allow_private: Whether push services inside one's own network may be called.
    """

    private_key: str
    subject: str
    allow_private: bool = False

    def __post_init__(self) -> None:
        require(
            self.subject.startswith(("mailto:", "https://")),
            "web_push.subject",
            self.subject,
            "must start with mailto: or https://",
        )


class WebPushAdapter(HttpAdapter):
    """Speaks to whatever push service a browser uses."""

    name = "web_push"
    capabilities = Capabilities(
        content_kinds=frozenset({ContentKind.TEXT}),
        receipts=frozenset({InteractionKind.DELIVERED, InteractionKind.OPENED, InteractionKind.CLICKED}),
        idempotency=Idempotency.NONE,
        limits=(
            Limit(
                subject="whole payload",
                at_most=_LONGEST_PAYLOAD,
                unit="bytes",
                source="https://www.rfc-editor.org/rfc/rfc8291#section-4",
                kind=ContentKind.TEXT,
            ),
        ),
    )

    def __init__(
        self,
        settings: WebPushSettings,
        links: Links,
        webhook_url: str = "",
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock = utc_now,
    ) -> None:
        guard = transport or PublicOnlyTransport(allow_private=settings.allow_private)
        super().__init__(http_client(settings, transport=guard))
        try:
            self._vapid = Vapid02.from_string(settings.private_key)
        except (VapidException, ValueError, binascii.Error) as exc:
            bound = "must be a VAPID private key in base64url"
            raise InvalidInputError("web_push.private_key", "...", bound) from exc
        self._settings = settings
        self._links = links
        self._webhook_url = webhook_url
        self._receipt_key = sha256(f"receipts/{settings.private_key}".encode()).digest()
        self._clock = clock

    @classmethod
    def build(cls, context: AdapterContext, transport: httpx.AsyncBaseTransport | None = None) -> Self:
        """`transport` stands in for the network, and for the refusal of private addresses."""
        settings = read_settings(WebPushSettings, cls.name, context.settings)
        return cls(settings, context.links, context.webhook_url, transport)

    async def send(self, message: Message) -> Receipt:
        """Send to one browser; see the contract for what it raises."""
        self.capabilities.require(message)
        subscription = _subscription(message.recipient)
        payload = json.dumps(self._said(message), ensure_ascii=False).encode()
        if len(payload) > _LONGEST_PAYLOAD:
            raise FinalRefusalError(f"whole payload: {len(payload)} bytes, must be <= {_LONGEST_PAYLOAD}")
        sealed, headers = await asyncio.to_thread(self._sealed, message, subscription, payload)
        endpoint = subscription["endpoint"]
        response = await exchange(
            self._client, "POST", endpoint, content=sealed, headers=headers, read_body=False
        )
        if not response.is_success:
            # 404 and 410: the subscription is gone (RFC 8030 section 7.3).
            raise refusal(response, "the push service did not take it")
        return Receipt(
            status=ReceiptStatus.ACCEPTED,
            provider=self.name,
            provider_message_id=message.message_id,
            detail=response.headers.get("location", "")[:200],
        )

    def parse_events(self, body: bytes, headers: Mapping[str, str]) -> Sequence[DeliveryEvent]:  # noqa: ARG002
        """The receipt that a service worker posts as it got it."""
        message_id, _, _ = body.decode(errors="replace").partition(".")
        require_equal(self._receipt(message_id), body.decode(errors="replace"))
        try:
            UUID(message_id)
        except ValueError as exc:
            raise ForgedEventsError("the receipt names no message") from exc
        return [
            DeliveryEvent(
                provider=self.name,
                event_id=f"{message_id}/delivered",
                kind=InteractionKind.DELIVERED,
                occurred_at=self._clock(),
                message_id=message_id,
            )
        ]

    def _receipt(self, message_id: str) -> str:
        return f"{message_id}.{hmac.digest(self._receipt_key, message_id.encode(), 'sha256').hex()}"

    def _said(self, message: Message) -> dict[str, str]:
        """What the service worker gets."""
        content = message.content
        said = {
            "message_id": message.message_id,
            "title": content.subject,
            "body": content.body.strip(),
            "opened_url": self._links.pixel(message.message_id),
        }
        if content.link_url:
            said["link"] = content.link_url
        if self._webhook_url:
            said["receipt_url"] = self._webhook_url
            said["receipt"] = self._receipt(message.message_id)
        return said

    def _sealed(
        self, message: Message, subscription: Mapping[str, Any], payload: bytes
    ) -> tuple[bytes, dict[str, str]]:
        """The encrypted payload, and the headers that go with it."""
        now = self._clock()
        address = urlsplit(subscription["endpoint"])
        claims = {
            "aud": f"{address.scheme}://{address.netloc}",
            "sub": self._settings.subject,
            "exp": int(now.timestamp()) + _TOKEN_SECONDS,
        }
        life = min(max(message.expires_at - now, timedelta()), _LONGEST_LIFE)
        try:
            sealed = WebPusher(subscription).encode(payload)["body"]
        except (WebPushException, ValueError, TypeError, IndexError) as exc:
            raise FinalRefusalError(f"the subscription's keys are wrong: {exc}") from exc
        return sealed, {
            **self._vapid.sign(claims),
            "content-encoding": "aes128gcm",
            "content-type": "application/octet-stream",
            "ttl": str(int(life.total_seconds())),
            "topic": urlsafe_b64encode(UUID(message.message_id).bytes).decode().rstrip("="),
            "urgency": "normal",
        }


def _subscription(text: str) -> dict[str, Any]:
    try:
        subscription = json.loads(text)
        keys, endpoint = subscription["keys"], subscription["endpoint"]
        complete = keys["p256dh"] and keys["auth"] and endpoint.startswith("https://")
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise FinalRefusalError("the recipient is no push subscription in JSON") from exc
    if not complete:
        raise FinalRefusalError("the subscription needs an https endpoint and both keys")
    return {"endpoint": endpoint, "keys": dict(keys)}

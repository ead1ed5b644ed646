"""App push straight to Apple: HTTP/2, a provider token signed by ES256, one request a message.

https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns. `apns-id` only
identifies; a repeated message replaces the first on the lock screen (`apns-collapse-id`). Apple reports nothing
afterwards: the app fetches `opened_url` when it is opened by the message, and leads to `link`, which counts the click.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from models.domain.channel import ContentKind
from models.domain.errors import InvalidInputError
from models.domain.interaction import InteractionKind
from models.domain.message import Message, Receipt, ReceiptStatus
from serving.channels.adapter_settings import HttpSettings, read_settings
from serving.channels.contract import (
    AdapterContext,
    Capabilities,
    ChannelError,
    FinalRefusalError,
    Idempotency,
    Limit,
    Links,
    QuotaError,
    RetryLaterError,
)
from serving.channels.http import HttpAdapter, answer_of, exchange, http_client, refusal, retry_after
from serving.channels.rendering import required_media
from serving.channels.webhooks import Clock, utc_now

_LONGEST_PAYLOAD = 4_096
# Apple wants a token not older than an hour and not renewed more often than every 20 minutes.
_TOKEN_SECONDS = 40 * 60
_DEVICE = re.compile(r"[0-9A-Fa-f]{64,200}")
# https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns
_LATER = frozenset(
    {"ExpiredProviderToken", "InvalidProviderToken", "MissingProviderToken", "TooManyRequests"}
)
_QUOTA = frozenset({"TooManyProviderTokenUpdates"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApnsSettings(HttpSettings):
    """Settings of the adapter.

    Attributes:
        key_file: The `.p8` key from Apple.
        key_id: Of that key.
        team_id: Of the developer account.
        topic: Bundle id of the app.
        base_url: `https://api.sandbox.push.apple.com` for builds from the developer's machine.
    """

    key_file: str
    key_id: str
    team_id: str
    topic: str
    base_url: str = "https://api.push.apple.com"


class ApnsAdapter(HttpAdapter):
    """Speaks for one app."""

    name = "apns"
    capabilities = Capabilities(
        content_kinds=frozenset({ContentKind.TEXT, ContentKind.IMAGE}),
        receipts=frozenset({InteractionKind.OPENED, InteractionKind.CLICKED}),
        idempotency=Idempotency.NONE,
        limits=(
            Limit(
                subject="whole payload",
                at_most=_LONGEST_PAYLOAD,
                unit="bytes",
                source="https://developer.apple.com/documentation/usernotifications/generating-a-remote-notification",
                kind=ContentKind.TEXT,
            ),
        ),
    )

    def __init__(
        self,
        settings: ApnsSettings,
        links: Links,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(http_client(settings, settings.base_url, transport, http2=True))
        self._settings = settings
        self._key = _signing_key(settings.key_file)
        self._links = links
        self._clock = clock
        self._token = ""
        self._token_until = 0.0

    @classmethod
    def build(cls, context: AdapterContext, transport: httpx.AsyncBaseTransport | None = None) -> Self:
        """`transport` stands in for the network."""
        return cls(read_settings(ApnsSettings, cls.name, context.settings), context.links, transport)

    async def send(self, message: Message) -> Receipt:
        """Send to one device; see the contract for what it raises."""
        self.capabilities.require(message)
        if not _DEVICE.fullmatch(message.recipient):
            raise FinalRefusalError("the recipient is no device token in hexadecimal digits")
        payload = self._payload(message)
        if len(payload) > _LONGEST_PAYLOAD:
            raise FinalRefusalError(f"whole payload: {len(payload)} bytes, must be <= {_LONGEST_PAYLOAD}")
        headers = {
            "authorization": f"bearer {self._provider_token()}",
            "apns-topic": self._settings.topic,
            "apns-push-type": "alert",
            "apns-id": message.message_id,
            "apns-collapse-id": message.message_id,
            "apns-expiration": str(int(message.expires_at.timestamp())),
            "apns-priority": "10",
        }
        path = f"/3/device/{message.recipient}"
        response = await exchange(self._client, "POST", path, content=payload, headers=headers)
        if not response.is_success:
            if response.status_code == 403:
                self._token_until = 0.0
            raise _refusal(response)
        return Receipt(
            status=ReceiptStatus.ACCEPTED,
            provider=self.name,
            provider_message_id=response.headers.get("apns-id", message.message_id),
        )

    def _payload(self, message: Message) -> bytes:
        content = message.content
        alert = {"title": content.subject, "body": content.body.strip()}
        shown: dict[str, Any] = {
            "alert": {name: text for name, text in alert.items() if text},
            "sound": "default",
        }
        said: dict[str, Any] = {"message_id": message.message_id}
        said["opened_url"] = self._links.pixel(message.message_id)
        if message.content_kind is ContentKind.IMAGE:
            # The app's notification service extension fetches the picture.
            shown["mutable-content"] = 1
            said["image"] = required_media(content)
        if content.link_url:
            said["link"] = content.link_url
        return json.dumps({"aps": shown, **said}, ensure_ascii=False, separators=(",", ":")).encode()

    def _provider_token(self) -> str:
        now = self._clock().timestamp()
        if now >= self._token_until:
            claims = {"iss": self._settings.team_id, "iat": int(now)}
            headers = {"kid": self._settings.key_id}
            self._token = jwt.encode(claims, self._key, algorithm="ES256", headers=headers)
            self._token_until = now + _TOKEN_SECONDS
        return self._token


def _signing_key(file: str) -> EllipticCurvePrivateKey:
    bound = "must be the .p8 key from Apple"
    try:
        key = load_pem_private_key(Path(file).read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise InvalidInputError("apns.key_file", file, f"{bound} ({exc})") from exc
    if not isinstance(key, EllipticCurvePrivateKey):
        raise InvalidInputError("apns.key_file", file, bound)
    return key


def _refusal(response: httpx.Response) -> ChannelError:
    reason = str(answer_of(response).get("reason", ""))
    if reason in _QUOTA:
        return QuotaError(f"{response.status_code} {reason}", retry_after(response))
    if reason in _LATER:
        return RetryLaterError(f"{response.status_code} {reason}", retry_after(response))
    if response.status_code == 403:
        return RetryLaterError(f"403 {reason}")
    return refusal(response, reason)

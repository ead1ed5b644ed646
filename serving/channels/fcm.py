"""App push by Firebase Cloud Messaging, HTTP v1, for Android, Apple and web apps.

https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages. It knows no idempotency key; a repeated
message replaces the first on the lock screen (collapse key). FCM reports nothing afterwards: the app fetches
`opened_url` when it is opened by the message, and leads to `link`, which counts the click.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import httpx
from google.auth import crypt, jwt

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

_SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_EARLIER_SECONDS = 300
_LONGEST_PAYLOAD = 4_096
_LONGEST_LIFE = timedelta(days=28)
# https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
_FINAL = frozenset({"UNREGISTERED", "SENDER_ID_MISMATCH", "INVALID_ARGUMENT"})
_LATER = frozenset({"UNAVAILABLE", "INTERNAL", "THIRD_PARTY_AUTH_ERROR"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FcmSettings(HttpSettings):
    """Settings of the adapter.

    Attributes:
        service_account_file: JSON key of a service account that may send messages.
        base_url: Of the API.
    """

    service_account_file: str
    base_url: str = "https://fcm.googleapis.com"


class FcmAdapter(HttpAdapter):
    """Speaks for one Firebase project."""

    name = "fcm"
    capabilities = Capabilities(
        content_kinds=frozenset({ContentKind.TEXT, ContentKind.IMAGE}),
        receipts=frozenset({InteractionKind.OPENED, InteractionKind.CLICKED}),
        idempotency=Idempotency.NONE,
        limits=(
            Limit(
                subject="notification and data",
                at_most=_LONGEST_PAYLOAD,
                unit="bytes",
                source="https://firebase.google.com/docs/cloud-messaging/customize-messages/set-message-type",
                kind=ContentKind.TEXT,
            ),
        ),
    )

    def __init__(
        self,
        settings: FcmSettings,
        links: Links,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(http_client(settings, settings.base_url, transport))
        self._account = _service_account(settings.service_account_file)
        self._signer = crypt.RSASigner.from_service_account_info(self._account)
        self._links = links
        self._clock = clock
        self._token = ""
        self._token_until = 0.0
        self._renewing = asyncio.Lock()

    @classmethod
    def build(cls, context: AdapterContext, transport: httpx.AsyncBaseTransport | None = None) -> Self:
        """`transport` stands in for the network."""
        return cls(read_settings(FcmSettings, cls.name, context.settings), context.links, transport)

    async def send(self, message: Message) -> Receipt:
        """Send to one device; see the contract for what it raises."""
        self.capabilities.require(message)
        said = self._said(message)
        path = f"/v1/projects/{self._account['project_id']}/messages:send"
        headers = {"authorization": f"Bearer {await self._access_token()}"}
        response = await exchange(self._client, "POST", path, json={"message": said}, headers=headers)
        if not response.is_success:
            if response.status_code == 401:
                self._token_until = 0.0
            raise _refusal(response)
        return Receipt(
            status=ReceiptStatus.ACCEPTED,
            provider=self.name,
            provider_message_id=str(answer_of(response).get("name", "")),
        )

    async def check_account(self) -> str:
        """Whether the service account gets a token."""
        self._token_until = 0.0
        await self._access_token()
        return f"{self._account['client_email']} gets a token for {self._account['project_id']}"

    def _said(self, message: Message) -> dict[str, Any]:
        content, key = message.content, message.message_id
        shown = {"title": content.subject, "body": content.body.strip()}
        if message.content_kind is ContentKind.IMAGE:
            shown["image"] = required_media(content)
        data = {"message_id": key, "opened_url": self._links.pixel(key)}
        if content.link_url:
            data["link"] = content.link_url
        length = len(json.dumps({"notification": shown, "data": data}, ensure_ascii=False).encode())
        if length > _LONGEST_PAYLOAD:
            raise FinalRefusalError(f"notification and data: {length} bytes, must be <= {_LONGEST_PAYLOAD}")
        life = min(max(message.expires_at - self._clock(), timedelta()), _LONGEST_LIFE)
        until = int(message.expires_at.timestamp())
        said: dict[str, Any] = {
            "token": message.recipient,
            "notification": {name: text for name, text in shown.items() if text},
            "data": data,
            "android": {"collapseKey": key, "ttl": f"{int(life.total_seconds())}s"},
            "apns": {"headers": {"apns-collapse-id": key, "apns-expiration": str(until)}},
        }
        if content.link_url and content.link_url.startswith("https://"):
            said["webpush"] = {"fcmOptions": {"link": content.link_url}}
        return said

    async def _access_token(self) -> str:
        """A token for an hour, bought with a signed assertion (RFC 7523)."""
        async with self._renewing:
            now = self._clock().timestamp()
            if now >= self._token_until:
                claims = {
                    "iss": self._account["client_email"],
                    "scope": _SCOPE,
                    "aud": self._account["token_uri"],
                    "iat": int(now),
                    "exp": int(now) + 3_600,
                }
                assertion = jwt.encode(self._signer, claims).decode()
                form = {"grant_type": _GRANT, "assertion": assertion}
                response = await exchange(self._client, "POST", self._account["token_uri"], data=form)
                answer = answer_of(response)
                if "access_token" not in answer:
                    # Without a token nothing can have been taken.
                    raise RetryLaterError(f"no token: {response.status_code} {answer.get('error')}")
                self._token = str(answer["access_token"])
                self._token_until = now + float(answer["expires_in"]) - _EARLIER_SECONDS
            return self._token


def _service_account(file: str) -> dict[str, str]:
    name = "fcm.service_account_file"
    try:
        account = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise InvalidInputError(name, file, f"must be the JSON key of a service account ({exc})") from exc
    for part in ("project_id", "client_email", "token_uri", "private_key", "private_key_id"):
        if not isinstance(account, dict) or not account.get(part):
            raise InvalidInputError(name, file, f"must hold {part}")
    return dict(account)


def _refusal(response: httpx.Response) -> ChannelError:
    error: Mapping[str, Any] = answer_of(response).get("error", {})
    codes = [part.get("errorCode") for part in error.get("details", []) if isinstance(part, dict)]
    code = next((found for found in codes if found), error.get("status", ""))
    words = f"{code} {error.get('message', '')}".strip()
    if code in _FINAL:
        return FinalRefusalError(words)
    if code == "QUOTA_EXCEEDED":
        return QuotaError(words, retry_after(response))
    if code in _LATER:
        return RetryLaterError(words, retry_after(response))
    return refusal(response, words)

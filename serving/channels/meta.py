"""What WhatsApp, Messenger and Instagram share: Meta's Graph API, its error codes and its signed webhook.

https://developers.facebook.com/docs/graph-api/guides/error-handling,
https://developers.facebook.com/docs/graph-api/webhooks/getting-started
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from models.domain.errors import require
from serving.channels.adapter_settings import HttpSettings
from serving.channels.contract import (
    ChannelError,
    FinalRefusalError,
    ForgedEventsError,
    QuotaError,
    RetryLaterError,
)
from serving.channels.http import HttpAdapter, answer_of, exchange, http_client, refusal, retry_after
from serving.channels.webhooks import hmac_hex, require_equal, signed_json

# https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes and
# https://developers.facebook.com/docs/messenger-platform/error-codes
_QUOTA = frozenset({4, 17, 32, 341, 613, 80006, 80007, 130429, 131048, 131056})
# Busy, or the account or token is at fault: the message may go out later.
_LATER = frozenset({0, 1, 2, 10, 190, 131000, 131005, 131016, 131031, 131042, 131045, 131057, 133004})
# Code 10 for a message outside the 24 hours after the customer's last one.
_WINDOW_CLOSED = 2018278


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaSettings(HttpSettings):
    """Settings that the adapters have in common.

    Attributes:
        access_token: Of the system user or page.
        app_secret: Signs the webhook.
        verify_token: Free choice; typed in where the webhook is set up.
        api_version: Of the Graph API.
        base_url: Of the Graph API.
    """

    access_token: str
    app_secret: str
    verify_token: str
    api_version: str = "v23.0"
    base_url: str = "https://graph.facebook.com"

    def __post_init__(self) -> None:
        require(len(self.verify_token) >= 8, "verify_token", "...", "must have at least 8 characters")


class MetaAdapter(HttpAdapter):
    """Calls the Graph API and checks what claims to come from Meta."""

    def __init__(self, settings: MetaSettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        token = {"authorization": f"Bearer {settings.access_token}"}
        base = f"{settings.base_url}/{settings.api_version}"
        super().__init__(http_client(settings, base, transport, token))
        self._meta = settings

    def answer_handshake(self, query: Mapping[str, str]) -> str:
        """Meta's challenge, for who knows the verify token."""
        require_equal(self._meta.verify_token, query.get("hub.verify_token"))
        if query.get("hub.mode") != "subscribe":
            raise ForgedEventsError("the handshake has no hub.mode=subscribe")
        return query.get("hub.challenge", "")

    async def check_account(self) -> str:
        """Name and id of what the token belongs to."""
        response = await exchange(self._client, "GET", "/me")
        if not response.is_success:
            raise graph_refusal(response)
        answer = answer_of(response)
        return f"{answer.get('name', '')} {answer.get('id', '')}".strip()

    async def _post(self, path: str, said: Mapping[str, Any]) -> dict[str, Any]:
        response = await exchange(self._client, "POST", path, json=said)
        if not response.is_success:
            raise graph_refusal(response)
        return answer_of(response)

    def _signed_entries(self, body: bytes, headers: Mapping[str, str]) -> list[dict[str, Any]]:
        """Entries of a signed webhook body."""
        expected = "sha256=" + hmac_hex(self._meta.app_secret, body, "sha256")
        require_equal(expected, headers.get("x-hub-signature-256"))
        entries = signed_json(body).get("entry")
        if not isinstance(entries, list):
            raise ForgedEventsError("the signed body has no entry")
        return [entry for entry in entries if isinstance(entry, dict)]


def graph_refusal(response: httpx.Response) -> ChannelError:
    """The error that Graph's own code means, else that of the status."""
    error = answer_of(response).get("error")
    if not isinstance(error, dict):
        return refusal(response)
    code, subcode = error.get("code"), error.get("error_subcode")
    said = error.get("error_data", {}).get("details") or error.get("message", "")
    words = f"{code}{f'/{subcode}' if subcode else ''} {said}"
    if subcode == _WINDOW_CLOSED:
        return FinalRefusalError(words)
    if code in _QUOTA:
        return QuotaError(words, retry_after(response))
    if code in _LATER:
        return RetryLaterError(words, retry_after(response))
    if response.status_code >= 500:
        return refusal(response, words)
    return FinalRefusalError(words)

"""SMS by Twilio: one request a message, priced per segment, status callbacks and replies.

https://www.twilio.com/docs/messaging/api/message-resource knows no idempotency key: a message whose answer was lost
may be sent twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, urlsplit

import httpx

from models.domain.channel import ContentKind
from models.domain.errors import require
from models.domain.interaction import InteractionKind
from models.domain.message import Message, Receipt, ReceiptStatus
from models.domain.sms import sms_length
from serving.channels.adapter_settings import HttpSettings, read_settings
from serving.channels.contract import (
    AdapterContext,
    Capabilities,
    ChannelError,
    CostUnit,
    DeliveryEvent,
    FinalRefusalError,
    ForgedEventsError,
    Idempotency,
    Limit,
    QuotaError,
    RetryLaterError,
)
from serving.channels.http import HttpAdapter, answer_of, exchange, http_client, refusal, retry_after
from serving.channels.rendering import text_with_link
from serving.channels.webhooks import Clock, hmac_base64, is_opt_out, require_equal, utc_now

# https://www.twilio.com/docs/api/errors: the account is at fault or busy, not the message.
_LATER = frozenset({20003, 20005, 20008, 30001, 30003})
_QUOTA = frozenset({14107, 20429, 30022, 63018})
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
# What a browser-style form may hold (https://url.spec.whatwg.org/#urlencoded-serializing); the signature covers
# the parameters, so a body that spells them in another way is refused.
_FORM = re.compile(rb"(?:[A-Za-z0-9*._~+=&-]|%[0-9A-Fa-f]{2})*")
_KINDS = {
    "sent": InteractionKind.SENT,
    "delivered": InteractionKind.DELIVERED,
    "read": InteractionKind.OPENED,
    "undelivered": InteractionKind.FAILED,
    "failed": InteractionKind.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioSettings(HttpSettings):
    """Settings of the adapter.

    Attributes:
        account_sid: Of the account, `AC...`.
        auth_token: Signs the webhooks and, where no API key is given, logs in.
        sender: Phone number, short code or alphanumeric sender; or else
        messaging_service_sid: of the service that chooses one, `MG...`.
        api_key_sid: Log-in by an API key instead of the auth token.
        api_key_secret: Of that key.
        webhook_url: Address that Twilio signs; empty: that of the installation.
        base_url: Of the API.
    """

    account_sid: str
    auth_token: str
    sender: str = ""
    messaging_service_sid: str = ""
    api_key_sid: str = ""
    api_key_secret: str = ""
    webhook_url: str = ""
    base_url: str = "https://api.twilio.com"

    def __post_init__(self) -> None:
        require(
            bool(re.fullmatch("AC[0-9a-fA-F]{32}", self.account_sid)),
            "twilio.account_sid",
            self.account_sid,
            "must be AC and 32 hexadecimal digits",
        )
        require(
            bool(self.sender) != bool(self.messaging_service_sid),
            "twilio.sender",
            self.sender,
            "must be set, or else twilio.messaging_service_sid",
        )
        require(
            bool(self.api_key_sid) == bool(self.api_key_secret),
            "twilio.api_key_secret",
            "...",
            "must be set with twilio.api_key_sid",
        )


class TwilioAdapter(HttpAdapter):
    """Speaks to one Twilio account."""

    name = "twilio"
    capabilities = Capabilities(
        content_kinds=frozenset({ContentKind.TEXT}),
        receipts=frozenset(
            {
                InteractionKind.DELIVERED,
                InteractionKind.FAILED,
                InteractionKind.CLICKED,
                InteractionKind.REPLIED,
                InteractionKind.UNSUBSCRIBED,
            }
        ),
        idempotency=Idempotency.NONE,
        limits=(
            Limit(
                subject="text",
                at_most=1_600,
                unit="characters",
                source="https://www.twilio.com/docs/api/errors/21617",
                kind=ContentKind.TEXT,
            ),
        ),
        cost_unit=CostUnit.SEGMENT,
    )

    def __init__(
        self,
        settings: TwilioSettings,
        webhook_url: str = "",
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(http_client(settings, settings.base_url, transport))
        self._settings = settings
        self._webhook_url = settings.webhook_url or webhook_url
        self._clock = clock

    @classmethod
    def build(cls, context: AdapterContext, transport: httpx.AsyncBaseTransport | None = None) -> Self:
        """`transport` stands in for the network."""
        return cls(read_settings(TwilioSettings, cls.name, context.settings), context.webhook_url, transport)

    async def send(self, message: Message) -> Receipt:
        """Send one SMS; see the contract for what it raises."""
        self.capabilities.require(message)
        if not _PHONE.fullmatch(message.recipient):
            raise FinalRefusalError("the recipient is no phone number like +15550100")
        text = text_with_link(message.content)
        self.capabilities.require_length(ContentKind.TEXT, text)
        settings = self._settings
        form = {"To": message.recipient, "Body": text}
        if settings.messaging_service_sid:
            form["MessagingServiceSid"] = settings.messaging_service_sid
        else:
            form["From"] = settings.sender
        if self._webhook_url.startswith("https://"):
            form["StatusCallback"] = self._webhook_url
        path = f"/2010-04-01/Accounts/{settings.account_sid}/Messages.json"
        response = await exchange(self._client, "POST", path, data=form, auth=self._log_in())
        answer = answer_of(response)
        if not response.is_success:
            raise _refusal(response, answer)
        return Receipt(
            status=ReceiptStatus.ACCEPTED,
            provider=self.name,
            provider_message_id=str(answer.get("sid", "")),
            detail=str(answer.get("status", "")),
            n_units=sms_length(text).n_segments,
        )

    def parse_events(self, body: bytes, headers: Mapping[str, str]) -> Sequence[DeliveryEvent]:
        """Status callbacks and incoming messages; the signature covers the address and every parameter."""
        if not _FORM.fullmatch(body):
            raise ForgedEventsError("the body is no form")
        try:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True)
        except ValueError as exc:
            raise ForgedEventsError(f"the body is no form: {exc}") from exc
        query = urlsplit(headers.get(":path", "")).query
        address = f"{self._webhook_url}?{query}" if query else self._webhook_url
        covered = address + "".join(name + value for name, value in sorted(set(pairs)))
        signature = hmac_base64(self._settings.auth_token, covered.encode(), "sha1")
        require_equal(signature, headers.get("x-twilio-signature"))
        event = self._event(dict(pairs))
        return [event] if event else []

    async def check_account(self) -> str:
        """Name and state of the account."""
        path = f"/2010-04-01/Accounts/{self._settings.account_sid}.json"
        response = await exchange(self._client, "GET", path, auth=self._log_in())
        if not response.is_success:
            raise _refusal(response, answer_of(response))
        answer = answer_of(response)
        return f"{answer.get('friendly_name')}, {answer.get('status')}"

    def _log_in(self) -> tuple[str, str]:
        settings = self._settings
        if settings.api_key_sid:
            return settings.api_key_sid, settings.api_key_secret
        return settings.account_sid, settings.auth_token

    def _event(self, form: Mapping[str, str]) -> DeliveryEvent | None:
        sid = form.get("MessageSid", "")
        if not sid or form.get("AccountSid") != self._settings.account_sid:
            raise ForgedEventsError("the form names no message of this account")
        status = form.get("MessageStatus")
        if status is None:
            text = form.get("Body", "")
            leaves = form.get("OptOutType") == "STOP" or is_opt_out(text)
            return DeliveryEvent(
                provider=self.name,
                event_id=sid,
                kind=InteractionKind.UNSUBSCRIBED if leaves else InteractionKind.REPLIED,
                occurred_at=self._clock(),
                identity=form.get("From", ""),
                attributes={"text": text},
            )
        if status not in _KINDS:
            return None  # queued, sending and the like: nothing that a history needs
        return DeliveryEvent(
            provider=self.name,
            event_id=f"{sid}/{status}",
            kind=_KINDS[status],
            occurred_at=self._clock(),
            provider_message_id=sid,
            detail=f"error {form['ErrorCode']}" if form.get("ErrorCode") else "",
        )


def _refusal(response: httpx.Response, answer: Mapping[str, object]) -> ChannelError:
    code, words = answer.get("code"), f"{answer.get('code', '')} {answer.get('message', '')}".strip()
    if code in _QUOTA:
        return QuotaError(words, retry_after(response))
    if code in _LATER:
        return RetryLaterError(words, retry_after(response))
    return refusal(response, words)

"""WeChat official account: approved templates, and customer-service messages within 48 hours of the customer's own.

https://developers.weixin.qq.com/doc/offiaccount/en/. The plain signature of WeChat covers a time stamp and not the body,
so only bodies in *safe mode* are taken: they are encrypted, and `msg_signature` covers what was encrypted.
"""

from __future__ import annotations

import asyncio
import binascii
import hashlib
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from xml.etree import ElementTree

import httpx
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from models.domain.channel import ContentKind
from models.domain.errors import require
from models.domain.interaction import InteractionKind
from models.domain.message import Message, Receipt, ReceiptStatus
from serving.channels.adapter_settings import HttpSettings, read_settings
from serving.channels.contract import (
    AdapterContext,
    Capabilities,
    ChannelError,
    DeliveryEvent,
    FinalRefusalError,
    ForgedEventsError,
    Idempotency,
    Limit,
    QuotaError,
    RetryLaterError,
)
from serving.channels.http import HttpAdapter, answer_of, exchange, http_client, refusal
from serving.channels.rendering import cut, provider_part, required_media, text_with_link
from serving.channels.webhooks import Clock, event_id, moment, query_of, readable, require_equal, utc_now

# https://developers.weixin.qq.com/doc/offiaccount/en/Getting_Started/Global_Return_Code.html
_STALE_TOKEN = frozenset({40001, 40014, 42001})
_QUOTA = frozenset({45009, 45011, 45047})
_LATER = frozenset({-1, 40013, 40125, 40164, 48001, 50001, 50002})
_KEY = re.compile(r"[A-Za-z0-9+/]{43}")
# A token lives for two hours; it is fetched again before that.
_EARLIER_SECONDS = 300
_BLOCK = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class WeChatSettings(HttpSettings):
    """Settings of the adapter.

    Attributes:
        app_id: Of the official account.
        app_secret: Of the official account.
        token: Free choice; typed in where the server is set up.
        encoding_aes_key: 43 characters, made where the server is set up; its mode must be *safe*.
        template_id: Approved template for template content of plain text.
        template_field: Its field that takes the words.
        base_url: Of the API.
    """

    app_id: str
    app_secret: str
    token: str
    encoding_aes_key: str
    template_id: str = ""
    template_field: str = "thing1"
    base_url: str = "https://api.weixin.qq.com"

    def __post_init__(self) -> None:
        require(
            bool(_KEY.fullmatch(self.encoding_aes_key)),
            "wechat.encoding_aes_key",
            "...",
            "must be 43 letters and digits",
        )


class WeChatAdapter(HttpAdapter):
    """Speaks for one WeChat official account."""

    name = "wechat"
    capabilities = Capabilities(
        content_kinds=frozenset({ContentKind.TEXT, ContentKind.IMAGE, ContentKind.TEMPLATE}),
        receipts=frozenset(
            {
                InteractionKind.DELIVERED,
                InteractionKind.FAILED,
                InteractionKind.CLICKED,
                InteractionKind.REPLIED,
                InteractionKind.FOLLOWED,
                InteractionKind.UNFOLLOWED,
            }
        ),
        idempotency=Idempotency.NONE,
        limits=(
            Limit(
                subject="text",
                at_most=2_048,
                unit="bytes",
                source="https://developers.weixin.qq.com/doc/offiaccount/en/Message_Management/Service_Center_messages.html",
                kind=ContentKind.TEXT,
            ),
        ),
    )

    def __init__(
        self,
        settings: WeChatSettings,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(http_client(settings, settings.base_url, transport))
        self._settings = settings
        self._clock = clock
        self._access_token = ""
        self._token_until = 0.0
        self._renewing = asyncio.Lock()

    @classmethod
    def build(cls, context: AdapterContext, transport: httpx.AsyncBaseTransport | None = None) -> Self:
        """`transport` stands in for the network."""
        return cls(read_settings(WeChatSettings, cls.name, context.settings), transport)

    async def send(self, message: Message) -> Receipt:
        """Send one message; see the contract for what it raises."""
        self.capabilities.require(message)
        if message.content_kind is ContentKind.TEMPLATE:
            path, said = "/cgi-bin/message/template/send", self._template(message)
        else:
            path, said = "/cgi-bin/message/custom/send", self._service_message(message)
        answer = await self._call(path, said)
        return Receipt(
            status=ReceiptStatus.ACCEPTED,
            provider=self.name,
            # A customer-service message gets no id, and no receipt either.
            provider_message_id=str(answer.get("msgid", message.message_id)),
        )

    def parse_events(self, body: bytes, headers: Mapping[str, str]) -> Sequence[DeliveryEvent]:
        """Messages, follows, unfollows and the fate of templates, in safe mode alone."""
        query = query_of(headers.get(":path", ""))
        outer = _xml(body)
        sealed = outer.get("Encrypt", "")
        covered = (query.get("timestamp", ""), query.get("nonce", ""), sealed)
        require_equal(self._signature(*covered), query.get("msg_signature"))
        with readable():
            said = _xml(self._opened(sealed))
            require_equal(said["ToUserName"], outer.get("ToUserName"))
            event = self._event(said)
        return [event] if event else []

    def answer_handshake(self, query: Mapping[str, str]) -> str:
        """WeChat's echo, for who signs with the token."""
        expected = self._signature(query.get("timestamp", ""), query.get("nonce", ""))
        require_equal(expected, query.get("signature"))
        return query.get("echostr", "")

    async def check_account(self) -> str:
        """Whether the account gives a token."""
        await self._token(renew=True)
        return f"{self._settings.app_id} gives a token"

    def _service_message(self, message: Message) -> dict[str, Any]:
        content = message.content
        if message.content_kind is ContentKind.TEXT:
            text = text_with_link(content)
            self.capabilities.require_length(ContentKind.TEXT, text)
            return {"touser": message.recipient, "msgtype": "text", "text": {"content": text}}
        # A picture by its address is only taken as an article.
        article = {
            "title": cut(content.subject or content.body.strip(), 64),
            "description": cut(content.body.strip(), 120),
            "url": content.link_url or required_media(content),
            "picurl": required_media(content),
        }
        return {"touser": message.recipient, "msgtype": "news", "news": {"articles": [article]}}

    def _template(self, message: Message) -> dict[str, Any]:
        content = message.content
        part = provider_part(self.name, content)
        if part is None:
            if not self._settings.template_id:
                raise FinalRefusalError("a template of plain text needs the setting wechat.template_id")
            words = {self._settings.template_field: {"value": content.body.strip()}}
            part = {"template_id": self._settings.template_id, "data": words}
            if content.link_url:
                part["url"] = content.link_url
        if not isinstance(part, dict) or not part.get("template_id") or "data" not in part:
            raise FinalRefusalError("a template needs template_id and data")
        return {**part, "touser": message.recipient, "client_msg_id": message.message_id.replace("-", "")}

    async def _call(self, path: str, said: Mapping[str, Any]) -> dict[str, Any]:
        """Post under a token; one that WeChat calls stale is renewed once."""
        for renew in (False, True):
            token = await self._token(renew=renew)
            response = await exchange(self._client, "POST", path, params={"access_token": token}, json=said)
            if not response.is_success:
                raise refusal(response)
            answer = answer_of(response)
            if answer.get("errcode", 0) not in _STALE_TOKEN:
                break
        if answer.get("errcode", 0):
            raise _refusal(answer)
        return answer

    async def _token(self, *, renew: bool = False) -> str:
        stale = self._access_token
        async with self._renewing:
            now = self._clock().timestamp()
            if now >= self._token_until or (renew and self._access_token == stale):
                settings = self._settings
                asked = {
                    "grant_type": "client_credential",
                    "appid": settings.app_id,
                    "secret": settings.app_secret,
                    "force_refresh": renew,
                }
                response = await exchange(self._client, "POST", "/cgi-bin/stable_token", json=asked)
                answer = answer_of(response)
                if "access_token" not in answer:
                    # Without a token nothing can have been taken.
                    raise RetryLaterError(f"no token: {answer.get('errcode')} {answer.get('errmsg')}")
                self._access_token = answer["access_token"]
                self._token_until = now + float(answer["expires_in"]) - _EARLIER_SECONDS
            return self._access_token

    def _signature(self, *parts: str) -> str:
        ordered = "".join(sorted((self._settings.token, *parts)))
        return hashlib.sha1(ordered.encode(), usedforsecurity=False).hexdigest()

    def _opened(self, sealed: str) -> bytes:
        """What was encrypted: 16 random bytes, a length, the body, the account's id (AES-256-CBC)."""
        key = b64decode(self._settings.encoding_aes_key + "=")
        try:
            cipher = Cipher(algorithms.AES(key), modes.CBC(key[:16])).decryptor()
            plain = cipher.update(b64decode(sealed, validate=True)) + cipher.finalize()
        except (binascii.Error, ValueError) as exc:
            raise ForgedEventsError(f"the body cannot be decrypted: {exc}") from exc
        plain = plain[: -plain[-1]] if plain and 1 <= plain[-1] <= _BLOCK else plain
        end = 20 + int.from_bytes(plain[16:20], "big")
        if plain[end:].decode(errors="replace") != self._settings.app_id:
            raise ForgedEventsError("the body is for another account")
        return plain[20:end]

    def _event(self, said: Mapping[str, str]) -> DeliveryEvent | None:
        person, at = said["FromUserName"], moment(said["CreateTime"])
        message_id, detail, attributes = "", "", {}
        name = said.get("Event", "").upper()
        ids: tuple[str, ...] = (person, said["CreateTime"], name)
        match said["MsgType"], name:
            case "event", "SUBSCRIBE":
                kind = InteractionKind.FOLLOWED
            case "event", "UNSUBSCRIBE":
                kind = InteractionKind.UNFOLLOWED
            case "event", "CLICK":
                kind, attributes = InteractionKind.CLICKED, {"postback": said.get("EventKey", "")}
            case "event", "TEMPLATESENDJOBFINISH":
                message_id, detail = said["MsgID"], said["Status"]
                reached = detail == "success"
                kind = InteractionKind.DELIVERED if reached else InteractionKind.FAILED
                ids = (message_id, name)
            case "event", _:
                return None
            case what, _:
                kind = InteractionKind.REPLIED
                attributes = {"text": said.get("Content", f"({what})")}
                ids = (said["MsgId"],)
        return DeliveryEvent(
            provider=self.name,
            event_id=event_id(*ids),
            kind=kind,
            occurred_at=at,
            provider_message_id=message_id,
            identity=person,
            detail=detail,
            attributes=attributes,
        )


def _xml(body: bytes) -> dict[str, str]:
    """The children of a flat XML document; one that declares entities or a document type is refused."""
    try:
        text = body.decode()
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ForgedEventsError("the body declares a document type")
        root = ElementTree.fromstring(text)  # noqa: S314 - no entities: see above
    except (UnicodeDecodeError, ElementTree.ParseError) as exc:
        raise ForgedEventsError(f"the body is no XML: {exc}") from exc
    return {child.tag: child.text or "" for child in root}


def _refusal(answer: Mapping[str, Any]) -> ChannelError:
    code, words = answer["errcode"], f"{answer['errcode']} {answer.get('errmsg', '')}"
    if code in _QUOTA:
        return QuotaError(words)
    if code in _LATER or code in _STALE_TOKEN:
        return RetryLaterError(words)
    return FinalRefusalError(words)

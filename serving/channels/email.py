"""E-mail by SMTP: text and HTML, one-click unsubscribe, pooled connections.

SMTP knows no idempotency key: a message whose answer was lost may be sent twice. Both copies carry the same
Message-ID, by which many mailboxes show them once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import aiosmtplib

from models.domain.channel import ContentKind
from models.domain.errors import InvalidInputError, require
from models.domain.interaction import InteractionKind
from models.domain.message import Message, Receipt, ReceiptStatus
from serving.channels.contract import (
    AdapterContext,
    Capabilities,
    DeliveryEvent,
    FinalRefusalError,
    ForgedEventsError,
    Idempotency,
    Limit,
    Links,
    RecipientBusyError,
    RetryLaterError,
    UnknownOutcomeError,
)
from serving.channels.dsn import return_path
from serving.channels.mime import Mailbox, is_address, mail
from serving.channels.smtp_session import (
    LostAnswerError,
    LostBeforeMailError,
    RefusedError,
    Reply,
    SmtpSession,
)

_LONGEST_QUEUE_SECONDS = 20
_SERVER_BUSY = frozenset({421, 454})
_ANY_ID = "00000000-0000-0000-0000-000000000000"
_TLS = ("none", "starttls", "tls")
_WHOLE_MAIL = Limit(
    subject="whole message",
    at_most=10_240_000,
    unit="bytes",
    source="https://www.postfix.org/postconf.5.html#message_size_limit",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailSettings:
    """Settings of the adapter.

    Attributes:
        host: Mail server.
        port: Of the mail server.
        sender: From address, `Name <user@domain>` or bare.
        username: At the mail server; empty for none.
        password: At the mail server.
        tls: `none`, `starttls` or `tls`.
        connections: Most connections at a time.
        timeout_seconds: To connect, for the server's answer to an envelope, and for its answer to a mail.
        return_path: Where bounces go: `bounces@domain`; each message adds its own token. Empty: to the sender.
    """

    host: str
    port: int
    sender: Mailbox
    username: str = ""
    password: str = ""
    tls: str = "none"
    connections: int = 4
    timeout_seconds: float = 10.0
    return_path: str = ""

    @classmethod
    def parse(cls, settings: Mapping[str, str]) -> Self:
        """Read settings given as text.

        Raises:
            InvalidInputError: a setting is missing, unknown or wrong.
        """
        names = cls.__dataclass_fields__.keys()
        for name in settings:
            require(name in names, f"email.{name}", settings[name], f"is none of {', '.join(names)}")
        for name in ("host", "port", "sender"):
            require(bool(settings.get(name)), f"email.{name}", settings.get(name), "must be set")
        tls = settings.get("tls", "none")
        require(tls in _TLS, "email.tls", tls, f"must be one of {', '.join(_TLS)}")
        back = settings.get("return_path", "")
        require(
            not back or is_address(return_path(back, _ANY_ID)),
            "email.return_path",
            back,
            "must be an address such as bounces@news.example.com",
        )
        return cls(
            return_path=back,
            host=settings["host"],
            port=int(_number("port", settings["port"], 1)),
            sender=Mailbox.parse(settings["sender"], "email.sender"),
            username=settings.get("username", ""),
            password=settings.get("password", ""),
            tls=tls,
            connections=int(_number("connections", settings.get("connections", "4"), 1)),
            timeout_seconds=_number("timeout_seconds", settings.get("timeout_seconds", "10"), 0.001),
        )


class EmailAdapter:
    """Speaks SMTP to one mail server."""

    name = "email"
    capabilities = Capabilities(
        content_kinds=frozenset({ContentKind.TEXT, ContentKind.HTML, ContentKind.IMAGE}),
        receipts=frozenset(
            {
                InteractionKind.BOUNCED,
                InteractionKind.OPENED,
                InteractionKind.CLICKED,
                InteractionKind.UNSUBSCRIBED,
                InteractionKind.COMPLAINED,
            },
        ),
        idempotency=Idempotency.NONE,
        limits=(_WHOLE_MAIL,),
    )

    def __init__(
        self, settings: EmailSettings, links: Links, client: Callable[[], aiosmtplib.SMTP] | None = None
    ) -> None:
        self._settings = settings
        self._links = links
        self._client = client or self._new_client
        self._idle: list[SmtpSession] = []
        self._free = asyncio.Semaphore(settings.connections)

    @classmethod
    def build(cls, context: AdapterContext, transport: Callable[[], aiosmtplib.SMTP] | None = None) -> Self:
        """`transport` makes an unconnected SMTP client."""
        return cls(EmailSettings.parse(context.settings), context.links, transport)

    async def send(self, message: Message) -> Receipt:
        """Send one mail; see the contract for what it raises."""
        if message.content_kind not in self.capabilities.content_kinds:
            raise FinalRefusalError(f"content kind {message.content_kind} is not carried by {self.name}")
        if not is_address(message.recipient):
            raise FinalRefusalError("the recipient is not an e-mail address in ASCII")
        sender = self._settings.sender
        _require_size(len(message.content.body))  # before time goes into writing it
        content = mail(message, sender, self._links)
        _require_size(len(content))
        back = self._settings.return_path
        envelope_sender = return_path(back, message.message_id) if back else sender.address
        async with self._connection() as session:
            try:
                answer = await session.send(envelope_sender, message.recipient, content, message.message_id)
            except RefusedError as exc:
                raise _refusal(exc.reply) from exc
            except LostBeforeMailError as exc:
                raise RetryLaterError(
                    f"the connection was lost before the mail was handed over: {exc}"
                ) from exc
            except LostAnswerError as exc:
                raise UnknownOutcomeError(f"the answer to the mail was lost: {exc}") from exc
        return Receipt(
            status=ReceiptStatus.ACCEPTED,
            provider=self.name,
            provider_message_id=message.message_id,
            detail=str(answer),
        )

    def parse_events(self, body: bytes, headers: Mapping[str, str]) -> Sequence[DeliveryEvent]:  # noqa: ARG002
        """SMTP has no webhook, so whatever claims to come from it is forged."""
        raise ForgedEventsError("SMTP has no webhook")

    async def aclose(self) -> None:
        """Say goodbye on every idle connection."""
        while self._idle:
            await self._idle.pop().quit()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[SmtpSession]:
        """An open session for one mail; it goes back to the pool where the server still listens."""
        try:
            async with asyncio.timeout(_LONGEST_QUEUE_SECONDS):
                await self._free.acquire()
        except TimeoutError as exc:
            raise RetryLaterError(f"no connection was free within {_LONGEST_QUEUE_SECONDS} s") from exc
        try:
            session = await self._session()
            try:
                yield session
            finally:
                if session.is_open:
                    self._idle.append(session)
        finally:
            self._free.release()

    async def _session(self) -> SmtpSession:
        while self._idle:
            session = self._idle.pop()
            if session.is_open:
                return session
        try:
            return await SmtpSession.open(self._client(), self._settings.timeout_seconds)
        except (aiosmtplib.SMTPException, OSError) as exc:
            # Also a refused log-in: the account is at fault, not the message.
            raise RetryLaterError(f"cannot connect to the mail server: {exc}") from exc

    def _new_client(self) -> aiosmtplib.SMTP:
        settings = self._settings
        return aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            username=settings.username or None,
            password=settings.password or None,
            use_tls=settings.tls == "tls",
            start_tls=settings.tls == "starttls",
            timeout=settings.timeout_seconds,
        )


def _require_size(n_bytes: int) -> None:
    if n_bytes > _WHOLE_MAIL.at_most:
        raise FinalRefusalError(f"{n_bytes} bytes, must be <= {_WHOLE_MAIL.at_most}")


def _refusal(reply: Reply) -> FinalRefusalError | RetryLaterError:
    """By the code (RFC 5321 section 4.2.1).

    421 and 454 speak of the server; other codes of the fours speak of this mail or its recipient.
    """
    if 500 <= reply.code <= 599:
        return FinalRefusalError(str(reply))
    return RetryLaterError(str(reply)) if reply.code in _SERVER_BUSY else RecipientBusyError(str(reply))


def _number(name: str, text: str, least: float) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InvalidInputError(f"email.{name}", text, "must be a number") from None
    require(least <= value < float("inf"), f"email.{name}", text, f"must be >= {least:g}")
    return value

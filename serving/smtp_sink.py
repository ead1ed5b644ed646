"""A mail server that delivers nothing: it keeps what it is sent, and can refuse as told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from types import TracebackType
from typing import Any, Self, TextIO

from aiosmtpd.smtp import SMTP

_START_SECONDS = 10


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """One mail as it came over the wire."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes

    @property
    def parsed(self) -> EmailMessage:
        """Headers and parts."""
        message = message_from_bytes(self.content, policy=default)
        assert isinstance(message, EmailMessage)
        return message


class SmtpSink:
    """Listens in a thread of its own, on loopback unless told otherwise.

    Args:
        host: To listen on.
        port: To listen on; 0 for a free one.
        answers: What to say to RCPT by recipient, for example `550 5.1.1 no such user`; may be changed later.
        silent_to: Recipients whose mail is kept and never answered; may be changed later.
        pipelining: Whether to take several commands at a time (RFC 2920), as most mail servers do.
        echo: Where to print each mail.

    Attributes:
        received: Every mail, in order of arrival.
        n_connections: Connections made so far.

    Example:
        >>> with SmtpSink() as sink:
        ...     sink.port > 0
        True
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        answers: Mapping[str, str] | None = None,
        silent_to: Iterable[str] = (),
        pipelining: bool = True,
        echo: TextIO | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.answers = dict(answers or {})
        self.silent_to = set(silent_to)
        self.received: list[ReceivedMail] = []
        self.n_connections = 0
        self._pipelining = pipelining
        self._echo = echo
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="smtp-sink", daemon=True)
        self._server: asyncio.Server | None = None

    def start(self) -> Self:
        """Begin to listen; returns once mail can be sent.

        Raises:
            OSError: the port is taken.
        """
        self._thread.start()
        try:
            server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(_START_SECONDS)
        except OSError:
            self._end_loop()
            raise
        self._server = server
        self.port = server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        """Close every connection and stop listening."""
        asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result(_START_SECONDS)
        self._end_loop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def to(self, recipient: str) -> list[ReceivedMail]:
        """Mails for that recipient."""
        return [mail for mail in self.received if recipient in mail.recipients]

    # aiosmtpd calls these by name: https://aiosmtpd.aio-libs.org/en/latest/handlers.html
    async def handle_EHLO(  # noqa: N802
        self,
        server: SMTP,  # noqa: ARG002
        session: Any,
        envelope: Any,  # noqa: ARG002
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        """Announce PIPELINING as mail servers do; aiosmtpd takes commands that wait in line, and does not say so."""
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", responses[-1]] if self._pipelining else responses

    async def handle_RCPT(  # noqa: N802
        self,
        server: SMTP,  # noqa: ARG002
        session: Any,  # noqa: ARG002
        envelope: Any,
        address: str,
        options: list[str],  # noqa: ARG002
    ) -> str:
        """Refuse as told, else take the recipient."""
        if address in self.answers:
            return self.answers[address]
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802, ARG002
        """Keep the mail."""
        mail = ReceivedMail(envelope.mail_from, tuple(envelope.rcpt_tos), envelope.original_content)
        self.received.append(mail)
        if self._echo is not None:
            self._echo.write(mail.content.decode("utf-8", "replace") + "\n")
            self._echo.flush()
        if self.silent_to.intersection(mail.recipients):
            await asyncio.Event().wait()
        return f"250 2.0.0 kept as {len(self.received)}"

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _listen(self) -> asyncio.Server:
        return await self._loop.create_server(self._new_session, self.host, self.port)

    def _new_session(self) -> SMTP:
        self.n_connections += 1
        return SMTP(self, hostname="smtp-sink", loop=self._loop, enable_SMTPUTF8=True)

    async def _hang_up(self) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_SECONDS)
        self._loop.close()

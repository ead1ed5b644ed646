"""An open connection to a mail server, over which one mail after another goes.

`aiosmtplib` connects, encrypts and logs in; then the dialogue of each mail (RFC 5321 section 3.3) is spoken here. Where
the server announces PIPELINING (RFC 2920) the whole envelope goes in one packet: two round trips a mail instead of
four. Written out by hand because there is little of it and it runs for every mail: the library takes twice as long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import aiosmtplib

_START_INPUT = 354
_CLOSING = 421
_LONGEST_REPLY_BYTES = 65_536
_GOODBYE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server said: a code, and words of one or several lines."""

    code: int
    words: str

    @property
    def accepts(self) -> bool:
        """Whether the command was done."""
        return 200 <= self.code <= 299

    def __str__(self) -> str:
        return f"{self.code} {self.words}"


class RefusedError(Exception):
    """The server said no: to the envelope or to the mail, which it has not taken."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(str(reply))


class LostBeforeMailError(Exception):
    """The connection was lost, or the server silent, before the mail was handed over."""


class LostAnswerError(Exception):
    """The mail was handed over and nobody knows whether the server took it."""


class SmtpSession(asyncio.Protocol):
    """Speaks to one mail server; made by `open`."""

    def __init__(self, *, timeout_seconds: float, pipelining: bool, dsn: bool) -> None:
        self._timeout_seconds = timeout_seconds
        self._pipelining = pipelining
        self._dsn = dsn
        self._transport: asyncio.WriteTransport | None = None
        self._busy = False
        self._unread = b""
        self._lines: list[bytes] = []
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, client: aiosmtplib.SMTP, timeout_seconds: float) -> Self:
        """Connect, and take over the connection.

        Args:
            client: Not connected.
            timeout_seconds: Longest that the server may take to answer an envelope, and again to answer a mail.

        Raises:
            aiosmtplib.SMTPException: the server refuses.
            OSError: there is no way to it.
        """
        try:
            await client.connect()
            if client.is_ehlo_or_helo_needed:
                try:
                    await client.ehlo()
                except aiosmtplib.SMTPHeloError:
                    await client.helo()
        except BaseException:
            client.close()
            raise
        session = cls(
            timeout_seconds=timeout_seconds,
            pipelining=client.supports_extension("pipelining"),
            dsn=client.supports_extension("dsn"),
        )
        transport = client.transport
        assert isinstance(transport, asyncio.WriteTransport), "a connected client has a transport"
        transport.set_protocol(session)
        session.connection_made(transport)
        return session

    @property
    def is_open(self) -> bool:
        """Whether another mail may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def send(self, sender: str, recipient: str, content: bytes, envelope_id: str) -> Reply:
        """Send one mail; the server's answer to it.

        Args:
            sender: Where bounces go; an address in ASCII.
            recipient: An address in ASCII.
            content: Lines that end with CRLF.
            envelope_id: What a bounce brings back (RFC 3461 section 4.4); ASCII without space, `+` and `=`.

        Raises:
            RefusedError: it was refused; the session can be used again, unless it `is_open` no more.
            LostBeforeMailError: it was not sent; the session is closed.
            LostAnswerError: perhaps it was sent; the session is closed.
        """
        identified = f" ENVID={envelope_id}" if self._dsn else ""
        envelope = (f"MAIL FROM:<{sender}>{identified}", f"RCPT TO:<{recipient}>", "DATA")
        self._busy = True
        failure: type[Exception] = LostBeforeMailError
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._envelope(envelope)
            failure = LostAnswerError
            async with asyncio.timeout(self._timeout_seconds):
                self._write(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
                reply = await self._reply()
            if not reply.accepts:
                raise RefusedError(reply)
        except RefusedError as exc:
            self._busy = False
            if exc.reply.code == _CLOSING:
                self.close()
            raise
        except (OSError, TimeoutError) as exc:
            self.close()
            raise failure(str(exc) or f"no answer within {self._timeout_seconds:g} s") from exc
        except BaseException:
            self.close()  # in the middle of a mail
            raise
        self._busy = False
        return reply

    async def _envelope(self, commands: tuple[str, ...]) -> None:
        """Up to where the server waits for the mail itself."""
        if self._pipelining:
            self._write(_lines(*commands))
            replies = [await self._reply() for _ in commands]
        else:
            replies = []
            for command in commands:
                self._write(_lines(command))
                replies.append(await self._reply())
                if replies[-1].code >= 400:
                    break
        refusal = next((reply for reply in replies if reply.code >= 400), None)
        if refusal is None and replies[-1].code == _START_INPUT:
            return
        if replies[-1].code == _START_INPUT:
            # It waits for a mail to nobody (RFC 2920 section 3.1): it gets an empty one, which it refuses.
            self._write(b".\r\n")
            await self._reply()
        elif refusal is not None and refusal.code != _CLOSING:
            self._write(_lines("RSET"))
            await self._reply()
        raise RefusedError(refusal or replies[-1])

    async def quit(self) -> None:
        """Say goodbye."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                self._busy = True
                self._write(_lines("QUIT"))
                await self._reply()
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _write(self, lines: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the server hung up")
        self._transport.write(lines)

    async def _reply(self) -> Reply:
        while not self._replies:
            if self._transport is None:
                raise ConnectionResetError("the server hung up")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._replies.popleft()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Called by the event loop."""
        self._transport = None
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop: read replies; whoever speaks unasked, or without end, is hung up on."""
        *lines, self._unread = (self._unread + data).split(b"\n")
        self._lines += lines
        if not self._busy or len(self._unread) + sum(map(len, self._lines)) > _LONGEST_REPLY_BYTES:
            self.close()
            self._lines.clear()
        while (end := _last_line(self._lines)) is not None:
            reply, self._lines = self._lines[: end + 1], self._lines[end + 1 :]
            try:
                code = int(reply[-1][:3])
            except ValueError:
                self.close()
                break
            words = b"\n".join(line[4:].strip() for line in reply).decode("utf-8", "replace")
            self._replies.append(Reply(code, words))
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _lines(*commands: str) -> bytes:
    """The commands as they go over the wire; none can bring another one with it."""
    for command in commands:
        if not (command.isascii() and command.isprintable()):
            raise ValueError("an SMTP command must be one line of printable ASCII")
    return ("\r\n".join(commands) + "\r\n").encode("ascii")


def _last_line(lines: list[bytes]) -> int | None:
    """Where the first whole reply ends: at a line without hyphen after its code (RFC 5321 section 4.2.1)."""
    return next((number for number, line in enumerate(lines) if line[3:4] != b"-"), None)

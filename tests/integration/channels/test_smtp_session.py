"""One mail after another over one connection, with servers that answer by a script."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import aiosmtplib
import pytest

from serving.channels.smtp_session import (
    LostAnswerError,
    LostBeforeMailError,
    RefusedError,
    SmtpSession,
)

_BODY = b"Subject: x\r\n\r\n.hidden\r\n"
_OK, _GO = b"250 ok\r\n", b"354 go\r\n"


class Script:
    """Answers the first words of commands, and the mail itself (`.`), as told; remembers what it read."""

    def __init__(self, answers: dict[str, bytes | None], *extensions: str) -> None:
        self.answers = {
            "MAIL": _OK,
            "RCPT": _OK,
            "DATA": _GO,
            ".": b"250 2.0.0 kept\r\n",
            "RSET": _OK,
        } | answers
        self.extensions = extensions
        self.read: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 script\r\n")
        in_mail = False
        while line := await reader.readline():
            self.read.append(line)
            if in_mail and line != b".\r\n":
                continue
            word = "." if in_mail else line.split()[0].decode()
            if word == "EHLO":
                lines = ["script", *self.extensions]
                marks = ["-"] * (len(lines) - 1) + [" "]
                answer = "".join(f"250{m}{x}\r\n" for m, x in zip(marks, lines, strict=True)).encode()
            elif word == "QUIT":
                answer = b"221 bye\r\n"
            else:
                answer = self.answers[word]
            in_mail = word == "DATA" and answer == _GO
            if answer is None:
                writer.close()
                return
            for at in range(0, len(answer), 7):  # in small pieces
                writer.write(answer[at : at + 7])
                await asyncio.sleep(0)


def talk(script: Script, work: Callable[[SmtpSession], object], timeout_seconds: float = 5.0) -> object:
    """What `work` gives with an open session."""

    async def run() -> object:
        server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False)
        session = await SmtpSession.open(client, timeout_seconds)
        try:
            return await work(session)
        finally:
            await session.quit()
            server.close()

    return asyncio.run(run())


def send(session: SmtpSession, recipient: str = "ada@example.com"):
    return session.send("shop@example.com", recipient, _BODY, "id-1")


@pytest.fixture(params=[(), ("PIPELINING",)], ids=["one command at a time", "pipelining"])
def extensions(request) -> Sequence[str]:
    return request.param


def test_a_mail_is_handed_over_with_its_dots_doubled(extensions):
    script = Script({}, "DSN", *extensions)
    assert str(talk(script, send)) == "250 2.0.0 kept"
    assert script.read[1:-1] == [
        b"MAIL FROM:<shop@example.com> ENVID=id-1\r\n",
        b"RCPT TO:<ada@example.com>\r\n",
        b"DATA\r\n",
        b"Subject: x\r\n",
        b"\r\n",
        b"..hidden\r\n",
        b".\r\n",
    ]


@pytest.mark.parametrize("data", [_GO, b"503 no recipient\r\n"])
def test_after_a_refused_recipient_the_connection_takes_the_next_mail(extensions, data):
    script = Script({"RCPT": b"550-5.1.1 no such user\r\n550 5.1.1 sorry\r\n", "DATA": data}, *extensions)

    async def twice(session: SmtpSession):
        with pytest.raises(RefusedError) as refused:
            await send(session)
        script.answers |= {"RCPT": _OK, "DATA": _GO}
        return refused.value.reply, await send(session, "bob@example.com")

    refusal, taken = talk(script, twice)
    assert (refusal.code, refusal.words) == (550, "5.1.1 no such user\n5.1.1 sorry")
    assert taken.accepts
    assert script.read.count(b"Subject: x\r\n") == 1


def test_a_mail_that_is_refused_after_its_end_leaves_the_connection_open(extensions):
    script = Script({".": b"554 5.7.1 spam\r\n"}, *extensions)

    async def twice(session: SmtpSession):
        with pytest.raises(RefusedError):
            await send(session)
        script.answers["."] = _OK
        return await send(session)

    assert talk(script, twice).accepts


def test_a_server_that_closes_says_so_by_421_and_is_left(extensions):
    async def work(session: SmtpSession):
        with pytest.raises(RefusedError):
            await send(session)
        return session.is_open

    assert talk(Script({"MAIL": b"421 4.3.2 closing\r\n"}, *extensions), work) is False


@pytest.mark.parametrize(
    ("word", "answer", "raised"),
    [
        ("MAIL", None, LostBeforeMailError),
        ("DATA", None, LostBeforeMailError),
        ("RCPT", b"", LostBeforeMailError),
        ("RCPT", b"nonsense\r\n", LostBeforeMailError),
        (".", None, LostAnswerError),
        (".", b"", LostAnswerError),
    ],
)
def test_what_is_known_when_the_connection_is_lost_or_silent(extensions, word, answer, raised):
    async def work(session: SmtpSession):
        with pytest.raises(raised):
            await send(session)
        return session.is_open

    assert talk(Script({word: answer}, *extensions), work, timeout_seconds=0.3) is False


def test_words_that_nobody_asked_for_close_the_connection(extensions):
    script = Script({".": b"250 kept\r\n421 4.4.2 idle for too long\r\n"}, *extensions)

    async def work(session: SmtpSession):
        await send(session)
        await asyncio.sleep(0.1)
        return session.is_open

    assert talk(script, work) is False


@pytest.mark.parametrize("recipient", ["a@b.example>\r\nRSET", "a@b.example\n", "\u00e4@b.example"])
def test_no_address_brings_a_command_with_it(extensions, recipient):
    script = Script({}, *extensions)

    async def work(session: SmtpSession):
        with pytest.raises(ValueError, match="one line of printable ASCII"):
            await send(session, recipient)

    talk(script, work)
    assert not any(line.startswith((b"RSET", b"DATA")) for line in script.read)

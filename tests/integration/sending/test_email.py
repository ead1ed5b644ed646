"""The e-mail adapter over real sockets: connections, refusals by code, lost answers, TLS."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from uuid import uuid4

import pytest

from models.domain.campaign import Content
from models.domain.channel import ContentKind
from serving.channels.contract import (
    AdapterContext,
    FinalRefusalError,
    RecipientBusyError,
    RetryLaterError,
    UnknownOutcomeError,
)
from serving.channels.email import EmailAdapter
from serving.channels.testing import ExampleLinks, example_message
from serving.smtp_sink import SmtpSink

LINKS = ExampleLinks()


def adapter_to(port: int, **settings: str) -> EmailAdapter:
    given = {"host": "127.0.0.1", "port": str(port), "sender": "Bulb Shop <offers@shop.example>", **settings}
    return EmailAdapter.build(AdapterContext(settings=given, links=LINKS))


def play(port: int, *messages, **settings: str) -> list:
    """Send one after the other over one adapter; receipts and errors."""

    async def work():
        adapter = adapter_to(port, **settings)
        answers = []
        for message in messages:
            try:
                answers.append(await adapter.send(message))
            except (FinalRefusalError, RetryLaterError, UnknownOutcomeError) as exc:
                answers.append(exc)
        await adapter.aclose()
        return answers

    return asyncio.run(work())


def messages(n: int) -> list:
    return [replace(example_message(), message_id=str(uuid4())) for _ in range(n)]


def test_what_arrives_is_what_was_said(sink):
    message = example_message(
        content_kind=ContentKind.HTML,
        content=Content(
            subject="Frühling 🌷", body='<p>Zehn <a href="https://a.example/?a=1&amp;b=2">Tulpen</a></p>'
        ),
    )
    (receipt,) = play(sink.port, message)
    assert receipt.detail == "250 2.0.0 kept as 1"
    (mail,) = sink.received
    assert (mail.sender, mail.recipients) == ("offers@shop.example", ("ada@example.com",))
    assert mail.parsed["Subject"] == "Frühling 🌷"
    html = mail.parsed.get_body(("html",)).get_content()
    assert '<a href="https://a.example/?a=1&amp;b=2">Tulpen</a>' in html
    assert LINKS.pixel(message.message_id) in html


def test_one_connection_carries_many_mails(sink):
    play(sink.port, *messages(10))
    assert (len(sink.received), sink.n_connections) == (10, 1)


def test_no_more_connections_are_opened_than_allowed(sink):
    async def work():
        adapter = adapter_to(sink.port, connections="3")
        await asyncio.gather(*(adapter.send(message) for message in messages(30)))
        await adapter.aclose()

    asyncio.run(work())
    assert len(sink.received) == 30
    assert 1 <= sink.n_connections <= 3


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("550 5.1.1 no such user", FinalRefusalError),
        ("552 5.2.2 mailbox full", FinalRefusalError),
        ("450 4.2.1 busy", RecipientBusyError),
        ("451 4.3.0 try again", RecipientBusyError),
        ("452 4.2.2 full", RecipientBusyError),
        ("421 4.7.0 too many of you", RetryLaterError),
    ],
)
def test_the_code_decides_whether_a_refusal_is_final(sink, answer, error):
    sink.answers["ada@example.com"] = answer
    refused, other = example_message(), example_message(recipient="bob@example.com", number=1)
    first, second = play(sink.port, refused, other)
    assert type(first) is error
    assert answer[:3] in str(first)
    assert second.provider_message_id == other.message_id
    assert [mail.recipients for mail in sink.received] == [("bob@example.com",)]


def test_a_server_that_is_away_means_later_and_it_is_found_again(sink):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one, two, three = messages(3)

    async def work():
        adapter = adapter_to(port)
        with pytest.raises(RetryLaterError, match="cannot connect"):
            await adapter.send(one)
        for message in (two, three):  # the server restarts between the two
            with SmtpSink(port=port) as server:
                await adapter.send(message)
                assert len(server.received) == 1
            await asyncio.sleep(0.05)
        await adapter.aclose()

    asyncio.run(work())


def test_a_server_that_is_silent_before_the_mail_means_later():
    async def work():
        greeted = asyncio.Event()

        async def greet_and_say_no_more(reader, writer):
            writer.write(b"220 silent\r\n")
            await writer.drain()
            await reader.readline()
            writer.write(b"250 silent\r\n")  # EHLO is answered, MAIL is not
            greeted.set()
            await reader.read()
            writer.close()

        server = await asyncio.start_server(greet_and_say_no_more, "127.0.0.1", 0)
        adapter = adapter_to(server.sockets[0].getsockname()[1], timeout_seconds="0.2")
        with pytest.raises(RetryLaterError):
            await adapter.send(example_message())
        assert greeted.is_set()
        await adapter.aclose()
        server.close()
        await server.wait_closed()

    asyncio.run(work())


def test_a_server_that_is_silent_after_the_mail_means_unknown(sink):
    sink.silent_to.add("ada@example.com")
    lost, other = example_message(), example_message(recipient="bob@example.com", number=1)
    first, second = play(sink.port, lost, other, timeout_seconds="0.3")
    assert type(first) is UnknownOutcomeError
    assert second.provider_message_id == other.message_id
    assert sink.n_connections == 2, "a connection in the middle of a mail is not used again"


def test_a_mail_beyond_the_limit_is_refused_before_it_is_sent(sink):
    huge = example_message(content=Content(body="x" * 11_000_000))
    (answer,) = play(sink.port, huge)
    assert type(answer) is FinalRefusalError
    assert str(answer).endswith("bytes, must be <= 10240000")
    assert sink.n_connections == 0


def test_starttls_is_insisted_on_where_it_is_configured(sink):
    (answer,) = play(sink.port, example_message(), tls="starttls")
    assert type(answer) is RetryLaterError
    assert sink.received == []


def test_a_log_in_that_the_server_does_not_offer_means_later_and_sends_nothing(sink):
    (answer,) = play(sink.port, example_message(), username="shop", password="wrong")
    assert type(answer) is RetryLaterError
    assert sink.received == []

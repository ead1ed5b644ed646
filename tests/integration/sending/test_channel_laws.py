"""Both shipped adapters pass the conformance kit: e-mail against a real SMTP server on loopback."""

from __future__ import annotations

import io
from collections.abc import Sequence

from models.domain.channel import ContentKind
from serving.channels.console import ConsoleAdapter
from serving.channels.contract import AdapterContext
from serving.channels.email import EmailAdapter
from serving.channels.testing import AdapterLaws, ExampleLinks, Scene, Wire, example_message
from serving.smtp_sink import SmtpSink


class SmtpWire(Wire):
    def __init__(self) -> None:
        self.sink = SmtpSink().start()

    def accepted(self) -> Sequence[bytes]:
        return [mail.content for mail in self.sink.received]

    def refuse(self, recipient: str) -> bool:
        self.sink.answers[recipient] = "550 5.1.1 no such user"
        return True

    def delay(self, recipient: str) -> bool:
        self.sink.answers[recipient] = "451 4.3.0 try again later"
        return True

    def go_silent(self, recipient: str) -> bool:
        self.sink.silent_to.add(recipient)
        return True

    def close(self) -> None:
        self.sink.stop()


class ConsoleWire(Wire):
    def __init__(self) -> None:
        self.stream = io.StringIO()

    def accepted(self) -> Sequence[bytes]:
        return self.stream.getvalue().encode().splitlines()

    def close(self) -> None:
        self.stream.close()


class TestEmail(AdapterLaws):
    content_kind = ContentKind.TEXT

    def open(self) -> Scene:
        wire = SmtpWire()
        settings = {
            "host": "127.0.0.1",
            "port": str(wire.sink.port),
            "sender": "Bulb Shop <offers@shop.example>",
            "timeout_seconds": "0.3",
        }
        adapter = EmailAdapter.build(AdapterContext(settings=settings, links=ExampleLinks()))
        return Scene(adapter=adapter, wire=wire, message=example_message(content_kind=self.content_kind))


class TestEmailInHtml(TestEmail):
    content_kind = ContentKind.HTML


class TestConsole(AdapterLaws):
    def open(self) -> Scene:
        wire = ConsoleWire()
        adapter = ConsoleAdapter.build(AdapterContext(links=ExampleLinks()), wire.stream)
        return Scene(adapter=adapter, wire=wire, message=example_message(channel="sms"))

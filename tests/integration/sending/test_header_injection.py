"""Nobody who writes a part of a mail writes a header: read from the wire, byte by byte."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

import pytest
from sqlalchemy import update

from features.history.tables import customers, decisions
from models.domain.campaign import Content
from models.domain.channel import ContentKind
from models.domain.errors import InvalidInputError
from serving.channels.contract import AdapterContext, FinalRefusalError
from serving.channels.email import EmailAdapter
from serving.channels.registry import AdapterConfiguration, build_adapters
from serving.channels.testing import ExampleLinks, example_message
from serving.dispatch_settings import DispatchSettings
from serving.dispatcher import Dispatcher
from serving.tracking import Signer, TrackedLinks
from tests.integration.sending.conftest import NOON
from tests.mail_headers import HEADERS

# What ends a line somewhere: in SMTP, in Python, in Unicode, or once an encoded word has been read.
BREAKS = [
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\n.\r\n",
    "\r\n.\r\n",
    "\0\n",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x85",
    "\u2028",
    "\u2029",
]
ATTACKS = [f"Ada{line_break}Bcc: eve@example.com" for line_break in BREAKS] + [
    "=?utf-8?q?Ada=0D=0ABcc:_eve@example.com?=",
    "Ada\r\n\tBcc: eve@example.com",
    "Ada\r\n.\r\nMAIL FROM:<eve@example.com>\r\nRCPT TO:<eve@example.com>",
]
ONE_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def header_lines(content: bytes) -> list[str]:
    """Names of the headers as they stand on the wire; a folded line belongs to the one before it."""
    head, _, _ = content.partition(b"\r\n\r\n")
    assert b"\n" not in head.replace(b"\r\n", b"")
    assert b"\r" not in head.replace(b"\r\n", b"")
    return [line.partition(":")[0] for line in head.decode("ascii").split("\r\n") if not line.startswith(" ")]


def sent_to(shop, sink, links=None, **settings: str) -> None:
    given = {"host": "127.0.0.1", "port": str(sink.port), "sender": "offers@shop.example"} | settings
    links = links or shop.links
    adapters = build_adapters(["email"], AdapterConfiguration(settings={"email": given}), links)

    async def work() -> None:
        await Dispatcher(shop.engine, adapters, links, DispatchSettings(), Random(1)).run_once(NOON)
        await adapters["email"].aclose()

    asyncio.run(work())


@ONE_SQLITE
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_subject_a_name_and_a_body_add_no_header_no_mail_and_no_recipient(shop, sink, attack):
    content = Content(subject=f"{attack}, {{{{ first_name }}}}", body=f"{attack} {{{{ first_name }}}}")
    offer = replace(shop.add_campaign().offers[0], content={ContentKind.TEXT: content})
    version = shop.add_campaign(offers=(offer,), fields={"first_name": attack}).version
    shop.add_messages(2)
    with shop.engine.begin() as conn:
        conn.execute(update(decisions).values(campaign_version=version))
        named = {"first_name": attack, "locale": attack}
        conn.execute(update(customers).where(customers.c.customer_id == "c0").values(attributes=named))
    sent_to(shop, sink)
    assert sorted(mail.recipients for mail in sink.received) == [("c0@example.com",), ("c1@example.com",)]
    for mail in sink.received:
        assert mail.sender == "offers@shop.example"
        assert header_lines(mail.content) == HEADERS
        assert mail.parsed.keys() == HEADERS
        assert "\n" not in mail.parsed["Subject"]
        assert "\r" not in mail.parsed["Subject"]
        assert mail.parsed["Bcc"] is None


@ONE_SQLITE
@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if not attack.isprintable()])
def test_neither_sender_nor_return_path_nor_public_address_can_hold_a_line_break(shop, sink, attack):
    for setting in ("sender", "return_path"):
        for value in (attack, f"{attack} <offers@shop.example>", f"offers@shop.example{attack[3:]}"):
            with pytest.raises(InvalidInputError, match=setting):
                sent_to(shop, sink, **{setting: value})
    with pytest.raises(InvalidInputError, match="public_url"):
        TrackedLinks(f"https://news.example/{attack}", Signer("a secret for tests only"))
    assert sink.received == []


@ONE_SQLITE
@pytest.mark.parametrize("longer", ["", ", Eve and Bob of the Shop by the Sea" * 3], ids=["short", "folded"])
def test_a_strange_name_of_the_sender_stays_one_header(shop, sink, longer):
    shop.add_messages(1)
    name = f"Ada, =?utf-8?q?x=0D=0ABcc:_eve@example.com?={longer}"
    sent_to(shop, sink, sender=f'"{name}" <offers@shop.example>')
    (mail,) = sink.received
    assert header_lines(mail.content) == HEADERS
    assert mail.parsed.keys() == HEADERS
    assert mail.parsed["From"].addresses[0].addr_spec == "offers@shop.example"
    # The library's parser keeps a blank where a name was folded.
    assert mail.parsed["From"].addresses[0].display_name.replace(" ", "") == name.replace(" ", "")


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_address_with_a_line_break_is_refused_before_a_word_is_said(sink, attack):
    settings = {"host": "127.0.0.1", "port": str(sink.port), "sender": "offers@shop.example"}
    adapter = EmailAdapter.build(AdapterContext(settings=settings, links=ExampleLinks()))
    for address in (attack, f"ada@example.com{attack[3:]}", f"<ada@example.com>{attack[3:]}"):
        with pytest.raises(FinalRefusalError):
            asyncio.run(adapter.send(example_message(recipient=address)))
    assert sink.n_connections == 0

"""Bounces and complaints, in the form in which mail servers send them, from a mailbox to the history."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from features.history.query import load_customers
from models.domain.channel import IdentityKind
from models.domain.customer import ConsentStatus
from models.domain.errors import InvalidInputError
from serving.bounces import read_bounces
from serving.channels.dsn import parse_report, return_path
from serving.channels.registry import AdapterConfiguration, build_adapters
from serving.dispatch_settings import DispatchSettings
from serving.dispatcher import Dispatcher

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
MESSAGE = "0c0a2c51-7a0e-5c8e-9a63-3f1f5a8f6b77"

# The form of Postfix: https://www.postfix.org/bounce.8.html
BOUNCE = """\
Return-Path: <>
Delivered-To: {to}
From: MAILER-DAEMON@mx.example (Mail Delivery System)
To: {to}
Date: Mon, 02 Mar 2026 12:00:05 +0000
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="B1/mx.example"

--B1/mx.example
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.example.

--B1/mx.example
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example
{envelope}X-Postfix-Queue-ID: 4FhXyz
Arrival-Date: Mon,  2 Mar 2026 12:00:01 +0000 (UTC)

Final-Recipient: rfc822; c0@example.com
Original-Recipient: rfc822;c0@example.com
Action: {action}
Status: {status}
Diagnostic-Code: smtp; 550 {status} no such user
    here

--B1/mx.example
Content-Type: text/rfc822-headers

From: offers@shop.example
To: c0@example.com
Message-ID: <{returned}@shop.example>

--B1/mx.example--
"""

COMPLAINT = """\
From: fbl@provider.example
To: bounces+{token}@news.example
Date: Mon, 02 Mar 2026 12:30:00 +0000
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="F"

--F
Content-Type: text/plain

This is an abuse report.

--F
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1

--F
Content-Type: message/rfc822

From: offers@shop.example
Subject: Tulips

hello
--F--
"""


def bounce(
    message_id: str = MESSAGE, *, action: str = "failed", status: str = "5.1.1", named: str = "address"
) -> bytes:
    to = return_path("bounces@news.example", message_id) if named == "address" else "bounces@news.example"
    envelope = f"Original-Envelope-Id: {message_id}\n" if named == "envelope" else ""
    returned = message_id if named == "header" else "something-else"
    return BOUNCE.format(to=to, envelope=envelope, action=action, status=status, returned=returned).encode()


@pytest.mark.parametrize("named", ["address", "envelope", "header"])
def test_the_message_is_found_by_return_path_envelope_or_returned_header(named):
    (event,) = parse_report(bounce(named=named), LATER)
    assert (event.message_id, event.kind) == (MESSAGE, "bounced")
    assert event.detail.startswith("5.1.1 smtp; 550 5.1.1 no such user")
    assert event.occurred_at == NOON + timedelta(seconds=5)


@pytest.mark.parametrize(
    ("action", "status", "kinds"),
    [
        ("failed", "5.1.1", ["bounced"]),
        ("failed", "5.1.10", ["bounced"]),
        ("failed", "5.2.1", ["bounced"]),
        ("failed", "5.2.2", ["failed"]),
        ("failed", "5.7.1", ["failed"]),
        ("failed", "4.4.7", ["failed"]),
        ("delayed", "4.4.1", []),
        ("delivered", "2.0.0", ["delivered"]),
        ("relayed", "2.0.0", []),
    ],
)
def test_only_a_dead_address_bounces(action, status, kinds):
    assert [event.kind for event in parse_report(bounce(action=action, status=status), LATER)] == kinds


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"Content-Type: multipart/report\n\n",
        b"\xff\xfe",
        bounce(named="nowhere"),
        bounce()[:700],
    ],
)
def test_what_is_no_report_of_a_message_of_ours_reports_nothing(content):
    assert parse_report(content, LATER) == []


def test_bounces_come_back_to_the_messages_own_address_and_close_the_address(shop, sink, tmp_path):
    one, two = shop.add_messages(2)
    settings = {
        "host": "127.0.0.1",
        "port": str(sink.port),
        "sender": "offers@shop.example",
        "return_path": "bounces@news.example",
    }

    async def send():
        adapters = build_adapters(["email"], AdapterConfiguration(settings={"email": settings}), shop.links)
        await Dispatcher(shop.engine, adapters, shop.links, DispatchSettings(), Random(1)).run_once(NOON)
        await adapters["email"].aclose()

    asyncio.run(send())
    back = {mail.recipients[0]: mail.sender for mail in sink.received}
    assert back["c0@example.com"] == return_path("bounces@news.example", one)
    box = tmp_path / "Maildir"
    for folder in ("new", "cur", "tmp"):
        (box / folder).mkdir(parents=True)
    (box / "new" / "1.a.mx").write_bytes(bounce(one))
    complaint = COMPLAINT.format(token=back["c1@example.com"].partition("+")[2].partition("@")[0])
    (box / "new" / "2.b.mx").write_text(complaint)
    (box / "new" / "3.c.mx").write_text("Subject: out of office\n\nback on Monday\n")
    told = read_bounces(shop.engine, box, LATER)
    assert (told.n_mails, told.n_new, told.n_unmatched) == (3, 2, 0)
    assert [len(list((box / folder).iterdir())) for folder in ("new", "cur")] == [0, 3]
    assert read_bounces(shop.engine, box, LATER).n_mails == 0
    with shop.engine.begin() as conn:
        people = load_customers(conn, ["c0", "c1"], LATER)
    assert IdentityKind.EMAIL not in people["c0"].identities
    assert people["c1"].consents["email", "marketing"] is ConsentStatus.COMPLAINED
    assert (shop.row(one)["receipt"], shop.row(two)["receipt"]) == ("bounced", "complained")


def test_a_path_that_is_no_mailbox_is_refused(shop, tmp_path):
    with pytest.raises(InvalidInputError) as caught:
        read_bounces(shop.engine, tmp_path / "nothing", LATER)
    assert caught.value.field == "mailbox"

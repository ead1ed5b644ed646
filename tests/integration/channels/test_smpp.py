"""SMS by SMPP against a small message centre on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from models.domain.campaign import Content
from models.domain.channel import IdentityKind
from models.domain.interaction import InteractionKind
from serving.channels.contract import (
    AdapterContext,
    DeliveryEvent,
    FinalRefusalError,
    QuotaError,
    RetryLaterError,
)
from serving.channels.smpp import SmppAdapter
from serving.channels.testing import ExampleLinks, example_message
from tests.integration.channels.message_centre import MessageCentre

RECEIPT = "id:id-1 sub:001 dlvrd:001 submit date:2603020900 done date:2603020901 stat:{} err:000 text:Tulips"


@pytest.fixture
def centre() -> Iterator[MessageCentre]:
    opened = MessageCentre()
    yield opened
    opened.close()


def opened(centre: MessageCentre, report=None, password: str = "secret") -> SmppAdapter:  # noqa: S107
    settings = {
        "host": "127.0.0.1",
        "port": str(centre.port),
        "system_id": "bulbs",
        "password": password,
        "sender": "BULBS",
        "timeout_seconds": "2",
    }
    return SmppAdapter.build(AdapterContext(links=ExampleLinks(), settings=settings, report=report))


def said(body: str, recipient: str = "+15550100"):
    return example_message(
        channel="sms", identity_kind=IdentityKind.PHONE, recipient=recipient, content=Content(body=body)
    )


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        ("a" * 160, 1),
        ("a" * 152 + "€" + "b" * 153, 3),  # the euro takes two units and is not cut: 152, 2 + 151, 2
        ("春" * 71, 2),
        ("\U0001f337" * 40, 2),  # 80 units; 33 whole tulips fit into 67
    ],
)
def test_a_long_text_arrives_in_parts_that_join_to_the_same_text(centre, body, parts):
    async def play() -> int:
        adapter = opened(centre)
        try:
            return (await adapter.send(said(body))).n_units
        finally:
            await adapter.aclose()

    assert asyncio.run(play()) == parts == len(centre.submitted)
    joined, references = "", set()
    for n, pdu in enumerate(centre.submitted, start=1):
        content = bytes(pdu.short_message)
        if parts > 1:
            assert pdu.esm_class & 0x40
            assert content[:3] == b"\x05\x00\x03"
            references.add(content[3])
            assert (content[4], content[5]) == (parts, n)
            content = content[6:]
        assert len(content) <= 140 if pdu.data_coding == 8 else len(content) <= 160
        joined += (
            content.decode("utf-16-be")
            if pdu.data_coding == 8
            else content.replace(b"\x1be", b"\xa4").decode("iso-8859-15")
        )
    assert joined == body
    assert len(references) <= 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (RECEIPT.format("DELIVRD"), InteractionKind.DELIVERED),
        (RECEIPT.format("UNDELIV"), InteractionKind.FAILED),
        (RECEIPT.format("ENROUTE"), None),
    ],
)
def test_a_receipt_comes_over_the_connection(centre, text, kind):
    events: list[DeliveryEvent] = []

    async def play() -> None:
        adapter = opened(centre, events.extend)
        receipt = await adapter.send(said("Tulips"))
        assert receipt.provider_message_id == "id-1"
        centre.deliver(text)
        assert await asyncio.to_thread(centre.wait_for_answers, 1) == [0]
        await adapter.aclose()

    asyncio.run(play())
    assert [(event.kind, event.provider_message_id) for event in events] == ([(kind, "id-1")] if kind else [])


def test_a_receipt_that_cannot_be_recorded_is_to_be_delivered_again(centre):
    def lost(_events: object) -> None:
        raise OSError("no database")

    async def play() -> list[int]:
        adapter = opened(centre, lost)
        await adapter.send(said("Tulips"))
        centre.deliver(RECEIPT.format("DELIVRD"))
        try:
            return await asyncio.to_thread(centre.wait_for_answers, 1)
        finally:
            await adapter.aclose()

    assert asyncio.run(play()) == [0x64]


def test_an_incoming_text_is_a_reply_or_an_unsubscription(centre):
    events: list[DeliveryEvent] = []

    async def play() -> None:
        adapter = opened(centre, events.extend)
        await adapter.send(said("Tulips"))
        centre.deliver("stop", receipt=False)
        centre.deliver("哪些顏色?", receipt=False, ucs2=True)
        await asyncio.to_thread(centre.wait_for_answers, 2)
        await adapter.aclose()

    asyncio.run(play())
    assert [(event.kind, event.identity) for event in events] == [
        (InteractionKind.UNSUBSCRIBED, "+15550100"),
        (InteractionKind.REPLIED, "+15550100"),
    ]
    assert events[1].attributes == {"text": "哪些顏色?"}


def test_it_binds_again_after_the_connection_was_lost(centre):
    async def play() -> None:
        adapter = opened(centre)
        await adapter.send(said("one"))
        centre.hang_up()
        for _ in range(50):
            try:
                await adapter.send(said("two"))
                break
            except Exception:
                await asyncio.sleep(0.02)
        await adapter.aclose()

    asyncio.run(play())
    assert centre.accepted()[-1].endswith(b"two")


def test_throttling_a_wrong_number_and_a_refused_login_are_told_apart(centre):
    centre.exhaust_quota("+15550101")
    centre.refuse("+15550102")

    async def play() -> None:
        adapter = opened(centre)
        with pytest.raises(QuotaError):
            await adapter.send(said("x", "+15550101"))
        with pytest.raises(FinalRefusalError):
            await adapter.send(said("x", "+15550102"))
        await adapter.aclose()
        with pytest.raises(RetryLaterError, match="cannot bind"):
            await opened(centre, password="wrong").send(said("x"))

    asyncio.run(play())

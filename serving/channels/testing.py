"""The conformance kit: inherit `AdapterLaws`, say how to build the adapter and its wire, and run pytest.

    class TestPigeon(AdapterLaws):
        def open(self) -> Scene:
            loft = FakeLoft()  # a `Wire`
            return Scene(adapter=PigeonAdapter.build(context, loft), wire=loft, message=example_message())

The wire is the provider's end: a real server on loopback, or a fake that enforces what the provider does. For
a provider over HTTP inherit `HttpWire`: it is the transport, and keeps what was accepted.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid5

import httpx
import pytest

from models.domain.campaign import Content
from models.domain.channel import ContentKind, IdentityKind, LengthUnit
from models.domain.message import Message, ReceiptStatus
from serving.channels.contract import (
    ChannelAdapter,
    FinalRefusalError,
    ForgedEventsError,
    Idempotency,
    QuotaError,
    RetryLaterError,
    UnknownOutcomeError,
)

_INJECTED = "X-Injected: yes"
_LINE_BREAKS = ("\r\n", "\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\x00\r\n")
_NAMESPACE = UUID(int=0)
_N_ALTERED = 1_000


class Wire(ABC):
    """The provider's end, as the laws see it.

    `refuse`, `delay` and `go_silent` are for providers that ever do so: override them and answer True.
    """

    @abstractmethod
    def accepted(self) -> Sequence[bytes]:
        """What the provider has taken, as it came over the wire, oldest first."""

    def refuse(self, recipient: str) -> bool:  # noqa: ARG002
        """From now on refuse that recipient for good."""
        return False

    def delay(self, recipient: str) -> bool:  # noqa: ARG002
        """From now on ask to be tried later."""
        return False

    def go_silent(self, recipient: str) -> bool:  # noqa: ARG002
        """From now on take messages and never answer; the adapter's time limit must be short."""
        return False

    def exhaust_quota(self, recipient: str) -> bool:  # noqa: ARG002
        """From now on answer that the rate or quota of the account is used up."""
        return False

    @abstractmethod
    def close(self) -> None:
        """End of the test."""


class HttpWire(Wire, httpx.AsyncBaseTransport):
    """The provider's end over HTTP, in this process: give it to `build` as the transport.

    A subclass says to whom a request goes and answers it; `taken` keeps the requests that it accepts.
    """

    def __init__(self) -> None:
        self.taken: list[httpx.Request] = []
        self._answers: dict[str, httpx.Response] = {}
        self._silent: set[str] = set()

    @abstractmethod
    def recipient_of(self, request: httpx.Request) -> str | None:
        """Contact point that the request wants to reach; None where it is no message."""

    @abstractmethod
    def answer(self, request: httpx.Request) -> httpx.Response:
        """The provider's answer; a request that is a message is kept where this is a success."""

    def refusing(self) -> httpx.Response | None:
        """The answer of a final refusal; None where the provider never refuses for good."""
        return None

    def delaying(self) -> httpx.Response | None:
        """The answer that asks to be tried later."""
        return httpx.Response(503)

    def exhausted(self) -> httpx.Response | None:
        """The answer when a rate or quota is used up."""
        return httpx.Response(429, headers={"retry-after": "7"})

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request over the wire."""
        await request.aread()
        await asyncio.sleep(0)  # others go on meanwhile, as over a real wire
        recipient = self.recipient_of(request)
        if recipient in self._answers:
            given = self._answers[recipient]
            return httpx.Response(given.status_code, headers=given.headers, content=given.content)
        response = self.answer(request)
        if recipient is not None and response.is_success:
            self.taken.append(request)
        if recipient in self._silent:
            raise httpx.ReadTimeout("silence", request=request)
        return response

    def accepted(self) -> Sequence[bytes]:
        """Bodies of the accepted requests."""
        return [request.content for request in self.taken]

    def refuse(self, recipient: str) -> bool:
        """See `Wire`."""
        return self._set(recipient, self.refusing())

    def delay(self, recipient: str) -> bool:
        """See `Wire`."""
        return self._set(recipient, self.delaying())

    def exhaust_quota(self, recipient: str) -> bool:
        """See `Wire`."""
        return self._set(recipient, self.exhausted())

    def go_silent(self, recipient: str) -> bool:
        """See `Wire`."""
        self._silent.add(recipient)
        return True

    def close(self) -> None:
        """See `Wire`."""

    def _set(self, recipient: str, answer: httpx.Response | None) -> bool:
        if answer is None:
            return False
        self._answers[recipient] = answer
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedEvents:
    """What a provider posts to the webhook, with its signature.

    Attributes:
        body: As it comes over the wire.
        headers: Names in lower case, `:path` among them where the adapter reads it.
        signature: Name of the header that holds the signature; empty where the body holds it.
        n_events: How many events the adapter makes of it.
        covered: The part of the body that the signature covers; empty for all of it.
    """

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    signature: str = ""
    n_events: int = 1
    covered: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """An adapter, the wire that it is built on, and a message that the provider takes.

    Attributes:
        events: What the provider posts; None where it has no webhook.
    """

    adapter: ChannelAdapter
    wire: Wire
    message: Message
    events: SignedEvents | None = None


class ExampleLinks:
    """Addresses that lead nowhere."""

    def pixel(self, message_id: str) -> str:
        """See `serving.channels.contract.Links`."""
        return f"https://links.example/t/o/{message_id}.gif"

    def click(self, message_id: str, number: int) -> str:
        """See `serving.channels.contract.Links`."""
        return f"https://links.example/t/c/{message_id}-{number}"

    def unsubscribe(self, message_id: str) -> str:
        """See `serving.channels.contract.Links`."""
        return f"https://links.example/u/{message_id}"

    def redeem(self, message_id: str) -> str:
        """See `serving.channels.contract.Links`."""
        return f"https://links.example/r/{message_id}"


def example_message(
    *,
    channel: str = "email",
    identity_kind: IdentityKind = IdentityKind.EMAIL,
    recipient: str = "ada@example.com",
    content_kind: ContentKind = ContentKind.TEXT,
    content: Content | None = None,
    number: int = 0,
) -> Message:
    """A harmless message; messages of different `number` have different ids."""
    send_at = datetime(2026, 3, 2, 9, tzinfo=UTC)
    return Message(
        message_id=str(uuid5(_NAMESPACE, str(number))),
        decision_id=f"decision-{number}",
        customer_id="c-1",
        campaign_id="spring",
        offer_id="tulips",
        channel=channel,
        identity_kind=identity_kind,
        recipient=recipient,
        content_kind=content_kind,
        content=content or Content(subject="Spring is here", body="Ten tulips for the price of eight."),
        send_at=send_at,
        expires_at=send_at + timedelta(hours=6),
    )


class AdapterLaws(ABC):
    """What every adapter must satisfy."""

    @abstractmethod
    def open(self) -> Scene:
        """A fresh adapter on a fresh wire; called inside the event loop."""

    def test_it_has_every_part_of_the_contract(self) -> None:
        """Its class offers what the protocol lists, and says what it can do."""

        async def law(scene: Scene) -> None:
            assert isinstance(scene.adapter, ChannelAdapter)
            assert scene.adapter.name
            assert scene.adapter.capabilities.content_kinds
            for limit in scene.adapter.capabilities.limits:
                assert limit.at_most > 0, limit
                assert limit.source.startswith("https://"), limit

        self._hold(law)

    def test_an_accepted_message_gives_a_receipt_and_is_on_the_wire_once(self) -> None:
        """One send, one message."""

        async def law(scene: Scene) -> None:
            receipt = await scene.adapter.send(scene.message)
            assert receipt.status is ReceiptStatus.ACCEPTED
            assert receipt.provider == scene.adapter.name
            assert len(scene.wire.accepted()) == 1

        self._hold(law)

    def test_the_same_message_again_is_the_same_on_the_wire(self) -> None:
        """With a key the provider takes it once; without one both copies are equal, so they can be told."""

        async def law(scene: Scene) -> None:
            first = await scene.adapter.send(scene.message)
            second = await scene.adapter.send(scene.message)
            taken = scene.wire.accepted()
            if scene.adapter.capabilities.idempotency is Idempotency.KEYED:
                assert first.provider_message_id == second.provider_message_id
                assert len(taken) == 1
            else:
                assert len(taken) == 2
                assert taken[0] == taken[1]

        self._hold(law)

    def test_messages_sent_at_the_same_time_all_arrive(self) -> None:
        """An adapter is shared by many tasks."""

        async def law(scene: Scene) -> None:
            messages = [replace(scene.message, message_id=str(uuid5(_NAMESPACE, f"m{n}"))) for n in range(20)]
            receipts = await asyncio.gather(*(scene.adapter.send(message) for message in messages))
            assert len(receipts) == 20
            assert len(scene.wire.accepted()) == 20

        self._hold(law)

    def test_a_final_refusal_is_final(self) -> None:
        """It is told apart from a delay, and the adapter does not try again by itself."""

        async def law(scene: Scene) -> None:
            if not scene.wire.refuse(scene.message.recipient):
                pytest.skip("this provider never refuses for good")
            with pytest.raises(FinalRefusalError):
                await scene.adapter.send(scene.message)
            assert scene.wire.accepted() == []

        self._hold(law)

    def test_a_delay_is_retried_later_and_not_by_the_adapter(self) -> None:
        """Whether and when is the dispatcher's business."""

        async def law(scene: Scene) -> None:
            if not scene.wire.delay(scene.message.recipient):
                pytest.skip("this provider never asks to be tried later")
            with pytest.raises(RetryLaterError) as caught:
                await scene.adapter.send(scene.message)
            assert caught.value.retry_after is None or caught.value.retry_after >= timedelta()
            assert scene.wire.accepted() == []

        self._hold(law)

    def test_a_used_up_quota_is_told_apart(self) -> None:
        """It is the account's, so that other messages of the account can wait as well."""

        async def law(scene: Scene) -> None:
            if not scene.wire.exhaust_quota(scene.message.recipient):
                pytest.skip("this provider has no quota")
            with pytest.raises(QuotaError):
                await scene.adapter.send(scene.message)
            assert scene.wire.accepted() == []

        self._hold(law)

    def test_a_body_beyond_its_limit_is_refused_before_it_is_sent(self) -> None:
        """And one that just reaches it is not."""

        async def law(scene: Scene) -> None:
            kind = scene.message.content_kind
            limits = [limit for limit in scene.adapter.capabilities.limits if limit.kind is kind]
            if not limits:
                pytest.skip("this provider states no limit of this content kind")
            for limit in limits:
                assert LengthUnit(limit.unit).length("a") == 1
                long = replace(scene.message.content, body="a" * (limit.at_most + 1), link_url=None)
                with pytest.raises(FinalRefusalError):
                    await scene.adapter.send(replace(scene.message, content=long))
            assert scene.wire.accepted() == []

        self._hold(law)

    def test_a_refused_message_does_not_spoil_the_next(self) -> None:
        """A shared connection is left clean."""

        async def law(scene: Scene) -> None:
            other = replace(
                scene.message, recipient=f"not-{scene.message.recipient}", message_id=str(UUID(int=9))
            )
            if not scene.wire.refuse(other.recipient):
                pytest.skip("this provider never refuses for good")
            with pytest.raises(FinalRefusalError):
                await scene.adapter.send(other)
            await scene.adapter.send(scene.message)
            assert len(scene.wire.accepted()) == 1

        self._hold(law)

    def test_a_lost_answer_is_an_unknown_outcome(self) -> None:
        """Neither a success nor a failure may be claimed."""

        async def law(scene: Scene) -> None:
            if not scene.wire.go_silent(scene.message.recipient):
                pytest.skip("this provider always answers")
            with pytest.raises(UnknownOutcomeError):
                await scene.adapter.send(scene.message)

        self._hold(law)

    def test_content_that_it_does_not_carry_is_refused(self) -> None:
        """Nothing is silently turned into something else."""

        async def law(scene: Scene) -> None:
            carried = scene.adapter.capabilities.content_kinds
            for kind in ContentKind:
                if kind not in carried:
                    with pytest.raises(FinalRefusalError):
                        await scene.adapter.send(replace(scene.message, content_kind=kind))
            assert scene.wire.accepted() == []

        self._hold(law)

    @pytest.mark.parametrize("part", ["subject", "recipient"])
    def test_line_breaks_cannot_begin_a_header(self, part: str) -> None:
        """They are taken out, or the message is refused."""

        async def law(scene: Scene) -> None:
            for number, line_break in enumerate(_LINE_BREAKS):
                bad = f"{line_break}{_INJECTED}{line_break}{line_break}<p>injected</p>"
                message = replace(scene.message, message_id=str(uuid5(_NAMESPACE, f"break-{number}")))
                if part == "subject":
                    content = replace(message.content, subject=message.content.subject + bad)
                    message = replace(message, content=content)
                else:
                    message = replace(message, recipient=message.recipient + bad)
                before = len(scene.wire.accepted())
                try:
                    await scene.adapter.send(message)
                except FinalRefusalError:
                    assert len(scene.wire.accepted()) == before
                for taken in scene.wire.accepted()[before:]:
                    lines = taken.splitlines()
                    assert not any(line.startswith(_INJECTED.encode()) for line in lines), repr(line_break)

        self._hold(law)

    def test_events_without_the_providers_signature_are_refused(self) -> None:
        """Anybody can post to a webhook."""

        async def law(scene: Scene) -> None:
            for body in (b"", b"{}", b'{"events": [{"type": "delivered"}]}', b"\xff\x00"):
                with pytest.raises(ForgedEventsError):
                    scene.adapter.parse_events(body, {"content-type": "application/json"})

        self._hold(law)

    def test_signed_events_are_read_and_repeat_themselves(self) -> None:
        """The same body gives the same event ids, so that a repeated report is known."""

        async def law(scene: Scene) -> None:
            if (signed := scene.events) is None:
                pytest.skip("this provider has no webhook")
            events = scene.adapter.parse_events(signed.body, signed.headers)
            again = scene.adapter.parse_events(signed.body, signed.headers)
            assert [(event.event_id, event.kind) for event in again] == [
                (event.event_id, event.kind) for event in events
            ]
            assert len(events) == signed.n_events
            assert len({event.event_id for event in events}) == signed.n_events
            for event in events:
                assert event.provider == scene.adapter.name
                assert 0 < len(event.event_id) <= 128
                assert event.provider_message_id or event.message_id or event.identity
                assert event.occurred_at.tzinfo is not None

        self._hold(law)

    def test_a_thousand_altered_bodies_are_refused(self) -> None:
        """One byte changed, added or taken away, in the body or in the signature."""

        async def law(scene: Scene) -> None:
            if (signed := scene.events) is None:
                pytest.skip("this provider has no webhook")
            rng, n_refused = Random(7), 0
            for n in range(_N_ALTERED):
                body, headers = signed.body, dict(signed.headers)
                if n % 4 == 3 and signed.signature:
                    headers[signed.signature] = _altered_text(headers[signed.signature], rng)
                else:
                    before, covered, after = body.partition(signed.covered or body)
                    body = before + _altered(covered, rng) + after
                with pytest.raises(ForgedEventsError):
                    scene.adapter.parse_events(body, headers)
                n_refused += 1
            assert n_refused == _N_ALTERED

        self._hold(law)

    def _hold(self, law: Callable[[Scene], Awaitable[None]]) -> None:
        async def play() -> None:
            scene = self.open()
            try:
                await law(scene)
            finally:
                await scene.adapter.aclose()
                scene.wire.close()

        asyncio.run(play())


def _altered(body: bytes, rng: Random) -> bytes:
    """The body with one byte changed, added or taken away."""
    place = rng.randrange(len(body))
    match rng.randrange(3):
        case 0:
            return body[:place] + bytes([body[place] ^ (1 + rng.randrange(255))]) + body[place + 1 :]
        case 1:
            return body[:place] + bytes([body[place] ^ 1]) + body[place:]
        case _:
            return body[:place] + body[place + 1 :]


def _altered_text(text: str, rng: Random) -> str:
    """The text with one letter or digit in its last twenty characters turned into another one.

    The very last character is left alone: in base64 it can have bits that carry nothing.
    """
    places = [place for place in range(max(0, len(text) - 20), len(text) - 3) if text[place].isalnum()]
    place = rng.choice(places)
    return text[:place] + rng.choice([c for c in "0123456789abcdef" if c != text[place]]) + text[place + 1 :]

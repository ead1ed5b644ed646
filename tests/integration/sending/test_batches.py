"""What says the same to many LINE users goes out in one call, and each of them gets it once, whatever happens."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

import httpx
import pytest
from sqlalchemy import delete, select, update

from features.history.tables import decisions, identities, outbox
from models.domain.campaign import Content
from models.domain.channel import ContentKind
from serving.accounts import accounts_of
from serving.backoff import Backoff
from serving.channels.contract import Idempotency
from serving.channels.line import LineAdapter, LineSettings
from serving.claiming import Claiming
from serving.dispatch_settings import DispatchSettings
from serving.dispatcher import Dispatcher, DispatchReport
from serving.store.outbox_by_hand import cancel, retry
from tests.integration.channels.providers import Line, problem
from tests.integration.sending.conftest import NOON

RETRY = Backoff(base_seconds=1, cap_seconds=1)
Fault = Callable[[httpx.Request], httpx.Response | None]


class MoodyLine(Line):
    """LINE with a fault: an answer in its place, or, where `lost`, silence after it took the message."""

    def __init__(self) -> None:
        super().__init__(quota=10_000)
        self.fault: Fault = lambda _: None
        self.lost = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        if (instead := self.fault(request)) is not None:
            return instead
        response = await super().handle_async_request(request)
        if self.lost:
            raise httpx.ReadTimeout("silence", request=request)
        return response

    def calls(self) -> list[tuple[str, int]]:
        """Way and number of recipients of each request that LINE took."""
        return [(request.url.path.rpartition("/")[2], len(_people(request))) for request in self.taken]

    def reached(self) -> Counter[str]:
        return Counter(person for request in self.taken for person in _people(request))


def _people(request: httpx.Request) -> list[str]:
    to = json.loads(request.content)["to"]
    return to if isinstance(to, list) else [to]


def says(shop, n: int, *, first: int = 0, **content: str) -> list[str]:
    """Messages to n LINE users with the same content."""
    given = {"body": "Tulips are in.", **content}
    offer = replace(shop.add_campaign().offers[0], content={ContentKind.TEXT: Content(**given)})
    fields = {"first_name": "you"}
    version = shop.add_campaign(offers=(offer,), channels=("line",), fields=fields).version
    messages = shop.add_messages(n, first=first, channel="line")
    with shop.engine.begin() as conn:
        conn.execute(
            update(decisions)
            .where(decisions.c.decision_id.in_([f"d{i}" for i in range(first, first + n)]))
            .values(campaign_version=version)
        )
    return messages


def opened(wire: Line) -> LineAdapter:
    return LineAdapter(LineSettings(channel_access_token=wire.token, channel_secret=wire.secret), wire)


def play(shop, wire: Line, *seconds: float, **settings: object) -> list[DispatchReport]:
    """A round of one dispatcher at each second after noon."""

    async def work() -> list[DispatchReport]:
        adapter = opened(wire)
        given = DispatchSettings(**{"backoff": RETRY, **settings})
        sender = Dispatcher(shop.engine, {"line": adapter}, shop.links, given, Random(1))
        reports = [await sender.run_once(NOON + timedelta(seconds=second)) for second in seconds]
        await adapter.aclose()
        return reports

    return asyncio.run(work())


def statuses(shop) -> Counter[str]:
    with shop.engine.connect() as conn:
        return Counter(conn.scalars(select(outbox.c.status)))


def test_six_hundred_equal_messages_take_two_calls_and_each_has_its_own_row_and_receipt(shop):
    messages = says(shop, 600)
    wire = MoodyLine()
    reports = play(shop, wire, 0, 1)
    assert [report.sent for report in reports] == [500, 100]
    assert wire.calls() == [("multicast", 500), ("multicast", 100)]
    assert set(wire.reached().values()) == {1}
    assert len(wire.reached()) == 600
    with shop.engine.connect() as conn:
        rows = conn.execute(select(outbox)).all()
    assert {row.provider_message_id for row in rows} == set(messages)
    assert len({row.batch_id for row in rows}) == 2
    assert Counter(fact["customer_id"] for fact in shop.facts("sent")) == Counter(f"c{n}" for n in range(600))


@pytest.mark.parametrize(
    "content",
    [
        {"body": "Tulips: https://shop.example/tulips"},
        {"link_url": "https://shop.example/tulips"},
        {"body": "Tulips for {{ first_name }}."},
    ],
)
def test_what_differs_from_person_to_person_goes_to_each_alone(shop, content):
    says(shop, 5, **content)
    wire = MoodyLine()
    play(shop, wire, 0)
    assert wire.calls() == [("push", 1)] * 5


def test_different_words_are_different_calls(shop):
    says(shop, 3)
    says(shop, 4, first=10, body="Roses are in.")
    wire = MoodyLine()
    play(shop, wire, 0)
    assert sorted(wire.calls()) == [("multicast", 3), ("multicast", 4)]


def test_a_lost_answer_is_asked_for_again_under_the_same_key_with_the_same_people(shop):
    says(shop, 40)
    wire = MoodyLine()
    wire.lost = True
    (first,) = play(shop, wire, 0)
    wire.lost = False
    says(shop, 3, first=100, body="Roses are in.")
    (second,) = play(shop, wire, 2)
    assert (first.later, second.sent) == (40, 43)
    assert wire.calls() == [("multicast", 40), ("multicast", 3)]
    assert set(wire.reached().values()) == {1}
    assert statuses(shop) == {"sent": 43}


def test_a_request_that_never_arrived_is_sent_again_and_arrives_once(shop):
    says(shop, 40)
    wire = MoodyLine()

    def cut(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("silence", request=request)

    wire.fault = cut
    play(shop, wire, 0)
    assert wire.calls() == []
    wire.fault = lambda _: None
    (report,) = play(shop, wire, 2)
    assert report.sent == 40
    assert wire.calls() == [("multicast", 40)]


@pytest.mark.parametrize("had_it", [True, False])
def test_who_must_not_get_it_any_more_is_left_out_of_the_repetition_and_known_to_be_in_doubt(shop, had_it):
    messages = says(shop, 10)
    wire = MoodyLine()
    wire.lost = had_it
    if not had_it:
        wire.fault = lambda request: (_ for _ in ()).throw(httpx.ReadTimeout("silence", request=request))
    play(shop, wire, 0)
    wire.lost, wire.fault = False, lambda _: None
    shop.withdraw("c0", "line", NOON)
    play(shop, wire, 2)
    assert shop.row(messages[0])["status"] == "unknown"
    assert statuses(shop) == {"sent": 9, "unknown": 1}
    assert wire.calls() == [("multicast", 10 if had_it else 9)]


def test_a_refused_batch_is_tried_one_by_one(shop):
    says(shop, 10)
    wire = MoodyLine()
    bad = "+15550003"

    def refuse(request: httpx.Request) -> httpx.Response | None:
        return problem(400, message="to is invalid") if bad in _people(request) else None

    wire.fault = refuse
    first, second = play(shop, wire, 0, 1)
    assert (first.later, second.sent, second.failed) == (10, 9, 1)
    assert wire.calls() == [("push", 1)] * 9
    assert bad not in wire.reached()


def test_a_busy_provider_takes_them_later_and_once(shop):
    says(shop, 10)
    wire = MoodyLine()
    wire.fault = lambda _: httpx.Response(500)
    play(shop, wire, 0)
    wire.fault = lambda _: None
    (report,) = play(shop, wire, 2)
    assert report.sent == 10
    assert set(wire.reached().values()) == {1}
    assert len(wire.reached()) == 10


def claimed_by_somebody_who_dies(shop, wire: Line, at: datetime, *, sends: bool, limit: int = 500) -> int:
    """Claim, perhaps send, and settle nothing; how many messages."""

    async def work() -> int:
        adapter = opened(wire)
        settings = DispatchSettings(lease_seconds=60)
        sender = Dispatcher(shop.engine, {"line": adapter}, shop.links, settings, Random(1))
        claim = sender._claiming.claim(lambda: at, limit)
        sender._enter_loop()
        account = sender._account_of["line"]
        if sends and claim.messages:
            await sender._delivery.attempt(claim.messages, account, claim.facts, lambda: at)
        return len(claim.messages)

    return asyncio.run(work())


@pytest.mark.parametrize("sends", [True, False])
def test_a_sender_that_is_killed_leaves_a_batch_that_another_sends_once(shop, sends):
    says(shop, 30)
    wire = MoodyLine()
    assert claimed_by_somebody_who_dies(shop, wire, NOON, sends=sends) == 30
    # The next one has room for ten, and takes the whole batch all the same: a part under the key would lose the rest.
    assert claimed_by_somebody_who_dies(shop, wire, NOON + timedelta(seconds=61), sends=False, limit=10) == 30
    (report,) = play(shop, wire, 122)
    assert report.sent == 30
    assert wire.calls() == [("multicast", 30)]
    assert statuses(shop) == {"sent": 30}


def test_two_senders_never_share_a_batch(shop):
    says(shop, 30)
    wire = MoodyLine()
    claimed_by_somebody_who_dies(shop, wire, NOON, sends=False)

    async def work() -> list[int]:
        accounts = accounts_of({"line": opened(wire)}, {}, DispatchSettings().breaker)
        senders = [Claiming(shop.engine, accounts, DispatchSettings()) for _ in range(4)]
        at = NOON + timedelta(seconds=61)
        claims = await asyncio.gather(*(asyncio.to_thread(each.claim, lambda: at, 7) for each in senders))
        return sorted(len(claim.messages) for claim in claims)

    assert asyncio.run(work()) == [0, 0, 0, 30]


def test_a_first_message_that_is_cancelled_holds_up_no_batch(shop):
    says(shop, 5)
    wire = MoodyLine()
    claimed_by_somebody_who_dies(shop, wire, NOON, sends=False)
    with shop.engine.begin() as conn:
        first = conn.execute(select(outbox.c.customer_id).order_by(outbox.c.message_id).limit(1)).scalar_one()
        assert cancel(conn, [first], NOON, "erased") == 1
    (report,) = play(shop, wire, 61)
    assert report.sent == 4
    assert wire.calls() == [("multicast", 4)]


def test_a_message_that_a_person_retries_goes_alone(shop):
    messages = says(shop, 4)
    wire = MoodyLine()
    wire.lost = True
    play(shop, wire, 0)
    with shop.engine.begin() as conn:
        conn.execute(update(outbox).values(status="unknown"))
        assert retry(conn, messages[:1], NOON) == messages[:1]
    wire.lost = False
    play(shop, wire, 2)
    assert wire.calls() == [("multicast", 4), ("push", 1)]  # twice to one: that is what the person chose


def test_a_contact_point_that_is_gone_leaves_the_others_in_the_call(shop):
    says(shop, 5)
    with shop.engine.begin() as conn:
        conn.execute(delete(identities).where(identities.c.customer_id == "c2"))
    wire = MoodyLine()
    (report,) = play(shop, wire, 0)
    assert (report.sent, report.suppressed) == (4, 1)
    assert wire.calls() == [("multicast", 4)]


def test_an_adapter_without_a_key_sends_no_batches(shop):
    class KeylessAdapter(LineAdapter):
        capabilities = replace(LineAdapter.capabilities, idempotency=Idempotency.NONE)

    says(shop, 3)
    wire = MoodyLine()
    adapter = KeylessAdapter(LineSettings(channel_access_token=wire.token, channel_secret=wire.secret), wire)
    sender = Dispatcher(shop.engine, {"line": adapter}, shop.links, DispatchSettings(), Random(1))
    assert asyncio.run(sender.run_once(NOON)).sent == 3
    assert wire.calls() == [("push", 1)] * 3

"""Who is decided together: requests of one event loop, whatever turn of it they come in."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sqlalchemy import create_engine

from models.domain.errors import StoreUnavailableError
from serving.store.arrivals import Arrivals
from serving.store.writer import LARGEST_GROUP, DecisionWriter


class Groups:
    """A desk that answers with the work itself, and remembers what came together.

    Args:
        begun: Set when a group is begun.
        may_go_on: What a group waits for.
    """

    def __init__(self, begun: threading.Event | None = None, may_go_on: threading.Event | None = None):
        self.seen: list[list[int]] = []
        self._begun, self._may_go_on = begun, may_go_on

    def prepare(self, works):
        self.seen.append(list(works))
        if self._begun is not None and self._may_go_on is not None:
            self._begun.set()
            assert self._may_go_on.wait(30)

    def settle(self, _conn, works):
        return works


@pytest.fixture
def writer():
    made = DecisionWriter(create_engine("sqlite://"))
    made.start()
    yield made
    made.stop()


async def in_turns(writer, desk, works):
    """Submit one a turn of the loop."""
    submitted = []
    for work in works:
        submitted.append(writer.submit_from_loop(desk, work))
        await asyncio.sleep(0)
    return submitted


def test_requests_of_successive_turns_are_decided_together(writer):
    desk = Groups()

    async def ask():
        return await asyncio.gather(*await in_turns(writer, desk, range(16)))

    assert asyncio.run(ask()) == list(range(16))
    assert desk.seen == [list(range(16))]


def test_who_comes_while_others_are_decided_is_next_together(writer):
    begun, may_go_on = threading.Event(), threading.Event()
    desk = Groups(begun, may_go_on)

    async def ask():
        first = writer.submit_from_loop(desk, 0)
        await asyncio.to_thread(begun.wait, 30)
        later = await in_turns(writer, desk, [1, 2, 3])
        may_go_on.set()
        return await asyncio.gather(first, *later)

    assert asyncio.run(ask()) == [0, 1, 2, 3]
    assert desk.seen == [[0], [1, 2, 3]]


def test_more_than_a_transaction_holds_are_decided_in_parts(writer):
    desk = Groups()
    n = LARGEST_GROUP + 5

    async def ask():
        return await asyncio.gather(*[writer.submit_from_loop(desk, i) for i in range(n)])

    assert asyncio.run(ask()) == list(range(n))
    assert desk.seen == [list(range(LARGEST_GROUP)), list(range(LARGEST_GROUP, n))]


def test_a_group_of_the_largest_size_waits_for_nobody():
    async def queued_after_one_turn():
        queued: list[Arrivals[int]] = []
        arrivals = Arrivals[int](asyncio.get_running_loop(), 2, queued.append)
        arrivals.add(1)
        arrivals.add(2)
        await asyncio.sleep(0)
        return queued == [arrivals]

    assert asyncio.run(queued_after_one_turn())


def test_stopping_decides_what_has_just_arrived(writer):
    desk = Groups()

    async def ask():
        submitted = writer.submit_from_loop(desk, 1)
        writer.stop()
        return await submitted

    assert asyncio.run(ask()) == 1


def test_what_is_queued_too_late_is_refused(writer):
    async def ask():
        arrivals = Arrivals(asyncio.get_running_loop(), 1, writer._queue_arrivals)
        writer._arrivals = arrivals
        submitted = writer.submit_from_loop(Groups(), 1)
        writer._arrivals = None
        writer.stop()
        await submitted

    with pytest.raises(StoreUnavailableError):
        asyncio.run(ask())


def test_after_the_end_nothing_is_taken(writer):
    writer.stop()

    async def ask():
        writer.submit_from_loop(Groups(), 1)

    with pytest.raises(StoreUnavailableError):
        asyncio.run(ask())

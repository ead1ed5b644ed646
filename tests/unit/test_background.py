"""Work beside the requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

from serving.background import Repeating
from serving.refresh import FeatureRefresher

_SOON = 10.0


def test_work_rests_after_a_turn_though_there_is_more() -> None:
    turns: list[tuple[float, float]] = []
    enough = threading.Event()

    def work() -> bool:
        began = time.monotonic()
        time.sleep(0.02)
        turns.append((began, time.monotonic()))
        if len(turns) == 4:
            enough.set()
        repeating.wake()
        return True

    repeating = Repeating("work", work, 60.0, rest=3.0)
    repeating.start()
    assert enough.wait(_SOON)
    repeating.stop()
    for (began, ended), (next_began, _) in pairwise(turns):
        assert next_began - ended >= 2.9 * (ended - began)


def test_a_rest_is_no_longer_than_the_pause_and_ends_with_the_work() -> None:
    turns = []
    for every_seconds in (0.01, 60.0):
        turns.clear()
        repeating = Repeating("work", lambda: turns.append(time.sleep(0.05)), every_seconds, rest=1e6)
        repeating.start()
        end = time.monotonic() + _SOON
        while len(turns) < (3 if every_seconds < 1 else 1):
            assert time.monotonic() < end
            time.sleep(0.001)
        repeating.stop()
        assert time.monotonic() < end


class _Writer:
    """Remembers who was refreshed together; somebody else comes while it does."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.refresher: FeatureRefresher | None = None

    def refresh(self, customer_ids: Sequence[str], _now: datetime) -> None:
        self.batches.append(list(customer_ids))
        n = sum(map(len, self.batches))
        if n < 10:
            assert self.refresher is not None
            self.refresher.request([f"c-{n}"])

    def tidy(self, _now: datetime) -> None:
        pass

    def close(self) -> None:
        pass


def test_the_refresher_takes_everybody_up_who_comes_while_it_works() -> None:
    writer = _Writer()
    writer.refresher = FeatureRefresher(writer, lambda: datetime.now(UTC))
    writer.refresher.request(["c-0", "c-0"])
    assert writer.refresher.run_once() == 10
    assert writer.batches == [[f"c-{n}"] for n in range(10)]
    assert writer.refresher.n_due == 0


def test_the_refreshers_thread_does_the_same_turn_by_turn() -> None:
    writer = _Writer()
    writer.refresher = FeatureRefresher(writer, lambda: datetime.now(UTC))
    writer.refresher.request(["c-0"])
    writer.refresher.start()
    end = time.monotonic() + _SOON
    while len(writer.batches) < 10:
        assert time.monotonic() < end
        time.sleep(0.001)
    writer.refresher.stop()
    assert writer.batches == [[f"c-{n}"] for n in range(10)]

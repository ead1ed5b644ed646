"""kill -9 of a sending process: nothing is lost, and what can be sent twice is known."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
_PROGRAM = Path(__file__).with_name("sender_process.py")


@contextmanager
def sender(engine, port: int, *, lease: float = 60.0, offset: float = 0.0):
    """A running sender; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, _PROGRAM, engine.url.render_as_string(hide_password=False), str(port), str(lease)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "CLOCK_OFFSET_SECONDS": str(offset)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, "waited in vain"
        time.sleep(0.02)


def test_killed_between_decision_and_send_the_message_is_sent_once(shop, sink):
    (message,) = shop.add_messages(1, send_at=NOON + timedelta(hours=1))
    with sender(shop.engine, sink.port) as process:
        time.sleep(0.3)  # it looks for due messages several times
        process.kill()
    assert shop.row(message)["status"] == "pending"
    assert sink.received == []
    with sender(shop.engine, sink.port, offset=3600) as process:
        wait_until(lambda: shop.row(message)["status"] == "sent")
        process.terminate()
        assert process.stdout.read() == "sent 1\n"
    assert len(sink.received) == 1
    assert len(shop.facts("sent")) == 1


def test_killed_between_claim_and_settlement_the_message_is_sent_again_under_the_same_id(shop, sink):
    (message,) = shop.add_messages(1)
    sink.silent_to.add("c0@example.com")
    with sender(shop.engine, sink.port) as process:
        wait_until(lambda: len(sink.received) == 1)
        process.kill()
    assert shop.row(message)["status"] == "claimed"
    sink.silent_to.clear()
    with sender(shop.engine, sink.port, offset=30):
        time.sleep(0.3)
        assert len(sink.received) == 1, "the lease of the dead sender still holds"
    with sender(shop.engine, sink.port, offset=61):
        wait_until(lambda: shop.row(message)["status"] == "sent")
    assert len(sink.received) == 2
    assert sink.received[0].content == sink.received[1].content
    assert len(shop.facts("sent")) == 1

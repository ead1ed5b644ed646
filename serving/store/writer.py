"""One thread that writes decisions, many requests to a commit.

Requests that arrive while a commit is under way share the next one, so the cost of a durable commit is divided
among them and nobody waits for a timer. A request hears of success only after the commit.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from sqlalchemy import Engine

from models.domain.errors import StoreUnavailableError
from serving.store.availability import lost
from serving.store.record import RecordDecision, RecordOutcome, record

# Commands in one transaction: enough to share a commit, few enough to keep locks short.
_LARGEST_GROUP = 1_000


@dataclass(slots=True)
class _Submission:
    commands: Sequence[RecordDecision]
    outcomes: Future[list[RecordOutcome]] = field(default_factory=Future)


class DecisionWriter:
    """Records decisions through one thread and one transaction a group.

    Args:
        engine: The database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: queue.SimpleQueue[_Submission | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to write."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="decision-writer", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Write what was submitted, then end."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._waiting.put(None)
        if thread is not None:
            thread.join()

    @property
    def running(self) -> bool:
        """Whether decisions can be recorded."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    @property
    def n_waiting(self) -> int:
        """How many submissions wait for a commit."""
        return self._waiting.qsize()

    def record(self, commands: Sequence[RecordDecision]) -> list[RecordOutcome]:
        """Write decisions and wait for the commit.

        Args:
            commands: Written in one transaction, all of them or, on an error, none.

        Raises:
            StoreUnavailableError: the database cannot be reached; whether a commit that was under way took
                place is then unknown, and asking again with the same decision id tells.
        """
        return self.submit(commands).result()

    def submit(self, commands: Sequence[RecordDecision]) -> Future[list[RecordOutcome]]:
        """The same without waiting."""
        submission = _Submission(commands)
        with self._lock:  # nothing may queue up behind the end mark
            if self._thread is None:
                raise StoreUnavailableError("the service is not running")
            self._waiting.put(submission)
        return submission.outcomes

    def _run(self) -> None:
        ended = False
        while not ended:
            group, ended = self._next_group()
            if not group:
                continue
            try:
                self._commit(group)
            except Exception as exc:  # each submission hears of it; the thread lives on
                self._fail(group, exc)

    def _next_group(self) -> tuple[list[_Submission], bool]:
        """What has queued up, and whether the end mark was met."""
        group: list[_Submission] = []
        size = 0
        while size < _LARGEST_GROUP:
            try:
                submission = self._waiting.get(block=not group)
            except queue.Empty:
                break
            if submission is None:
                return group, True
            group.append(submission)
            size += len(submission.commands)
        return group, False

    def _commit(self, group: Sequence[_Submission]) -> None:
        commands = [command for submission in group for command in submission.commands]
        with self._engine.begin() as conn:
            outcomes = record(conn, commands)
        start = 0
        for submission in group:
            end = start + len(submission.commands)
            submission.outcomes.set_result(outcomes[start:end])
            start = end

    def _fail(self, group: Sequence[_Submission], error: Exception) -> None:
        """Unless the database is gone, try each by itself, once: a second look sees what a first one ran into."""
        if lost(error):
            for submission in group:
                submission.outcomes.set_exception(_told(error))
            return
        for submission in group:
            try:
                self._commit([submission])
            except Exception as exc:  # it is this submission's own error
                submission.outcomes.set_exception(_told(exc))


def _told(error: Exception) -> Exception:
    """What the caller hears."""
    if not lost(error):
        return error
    told = StoreUnavailableError("the decision was not acknowledged by the database")
    told.__cause__ = error
    return told

"""One thread that decides and writes, many requests to a transaction.

Requests that arrive while a transaction is under way share the next one, and so do those that come at once: one read of
the customers, one commit. Nobody waits for a timer, and a request hears of success only after the commit. Since reading, choosing and writing are
one transaction, nothing has to be read twice.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine

from models.domain.errors import StoreUnavailableError
from serving.store.arrivals import Arrivals
from serving.store.availability import lost

# Decisions in one transaction: enough to share a commit, few enough to keep locks short.
LARGEST_GROUP = 128

WorkT = TypeVar("WorkT", contravariant=True)
AnswerT = TypeVar("AnswerT", covariant=True)


class Desk(Protocol[WorkT, AnswerT]):
    """What is done with the work that was submitted."""

    def prepare(self, works: Sequence[WorkT], /) -> None:
        """What can be done before the transaction begins, so that locks are held for less time."""
        ...

    def settle(self, conn: Connection, works: Sequence[WorkT], /) -> Sequence[AnswerT]:
        """Read, decide and write in the transaction of `conn`, which the caller commits; an answer to each.

        A group that fails is rolled back and settled again, one by one.
        """
        ...


@dataclass(slots=True)
class _Submission:
    """Work that waits.

    Attributes:
        waiting: What a thread waits for, or a coroutine.
    """

    desk: Desk[Any, Any]
    work: object
    size: int
    waiting: Future[Any] | asyncio.Future[Any]

    def begin(self) -> bool:
        """Whether anybody still waits."""
        if isinstance(self.waiting, Future):
            return self.waiting.set_running_or_notify_cancel()
        return not self.waiting.done()


@dataclass(slots=True)
class _Outcome:
    """What a submission hears: an answer or an error."""

    submission: _Submission
    answer: object = None
    error: Exception | None = None

    def tell(self) -> None:
        """Say it, on the thread of whoever waits."""
        waiting = self.submission.waiting
        if not isinstance(waiting, Future) and waiting.done():
            return  # it was late, or the caller has gone
        if self.error is None:
            waiting.set_result(self.answer)
        else:
            waiting.set_exception(self.error)


class DecisionWriter:
    """Decides and records through one thread and one transaction a group.

    Args:
        engine: The database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._conn: Connection | None = None
        self._waiting: queue.SimpleQueue[_Submission | Arrivals[_Submission] | None] = queue.SimpleQueue()
        self._held: _Submission | None = None
        # Of the loop that submitted last; there is one.
        self._arrivals: Arrivals[_Submission] | None = None
        self._open: Arrivals[_Submission] | None = None
        self._taken: list[Arrivals[_Submission]] = []
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
                if self._arrivals is not None:
                    self._waiting.put(self._arrivals)
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
        """How many submissions wait for the next transaction."""
        return self._waiting.qsize() + (0 if self._arrivals is None else len(self._arrivals))

    def submit(self, desk: Desk[WorkT, AnswerT], work: WorkT, size: int = 1) -> Future[AnswerT]:
        """Have work done in one of the next transactions.

        Args:
            desk: Does it, together with the other work that waits for the same desk.
            work: All of it is written or, on an error, nothing.
            size: How many decisions it asks for.

        Returns:
            Fails with `StoreUnavailableError` where nothing runs, or the database cannot be reached; whether a commit that was under way
            took place is then unknown, and asking again with the same decision id tells. Cancelled before its turn
            has come, it was never begun.
        """
        answer: Future[AnswerT] = Future()
        try:
            self._queue(_Submission(desk, work, size, answer))
        except StoreUnavailableError as exc:
            answer.set_exception(exc)
        return answer

    def submit_from_loop(
        self, desk: Desk[WorkT, AnswerT], work: WorkT, size: int = 1
    ) -> asyncio.Future[AnswerT]:
        """The same for a coroutine of the running loop, which is woken once for all answers of a transaction.

        A future that is done before its turn has come was never begun.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[AnswerT] = loop.create_future()
        if self._thread is None:
            raise _not_running()
        if self._arrivals is None or self._arrivals.loop is not loop:
            self._arrivals = Arrivals(loop, LARGEST_GROUP, self._queue_arrivals)
        self._arrivals.add(_Submission(desk, work, size, answer))
        return answer

    def _queue(self, waiting: _Submission | Arrivals[_Submission]) -> None:
        with self._lock:  # nothing may queue up behind the end mark
            if self._thread is None:
                raise _not_running()
            self._waiting.put(waiting)

    def _queue_arrivals(self, arrivals: Arrivals[_Submission]) -> None:
        try:
            self._queue(arrivals)
        except StoreUnavailableError as exc:
            _tell_all([_Outcome(one, error=exc) for one in iter(arrivals.take, None)])
            arrivals.answered()

    def _run(self) -> None:
        ended = False
        while not ended:
            group, ended = self._next_group()
            group = [one for one in group if one.begin()]
            try:
                if group:
                    self._work(group)
            except Exception as exc:  # each submission hears of it; the thread lives on
                self._fail(group, exc)
            for arrivals in self._taken:
                with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                    arrivals.loop.call_soon_threadsafe(arrivals.answered)
            self._taken.clear()
        self._let_go()

    def _next_group(self) -> tuple[list[_Submission], bool]:
        """What has queued up for one desk, and whether the end mark was met."""
        group: list[_Submission] = []
        size = 0
        while True:
            try:
                submission = self._next(block=not group)
            except queue.Empty:
                return group, False
            if submission is None:
                return group, True
            too_many = size + submission.size > LARGEST_GROUP
            if group and (too_many or submission.desk is not group[0].desk):
                self._held = submission
                return group, False
            group.append(submission)
            size += submission.size

    def _next(self, *, block: bool) -> _Submission | None:
        """The submission that waits longest; None is the end mark.

        Raises:
            queue.Empty: nothing waits, or all that has arrived on a loop was taken: its answers come first.
        """
        if self._held is not None:
            submission, self._held = self._held, None
            return submission
        if self._open is None:
            waiting = self._waiting.get(block=block)
            if not isinstance(waiting, Arrivals):
                return waiting
            self._open = waiting
        taken = self._open.take()
        if taken is None:
            self._taken.append(self._open)
            self._open = None
            raise queue.Empty
        return taken

    def _work(self, group: Sequence[_Submission]) -> None:
        desk, works = group[0].desk, [submission.work for submission in group]
        desk.prepare(works)
        answers = self._settled(desk, works)
        _tell([_Outcome(one, answer) for one, answer in zip(group, answers, strict=True)])

    def _settled(self, desk: Desk[Any, Any], works: Sequence[object]) -> Sequence[Any]:
        """The answers, after the commit.

        The connection is kept from one transaction to the next. Where it turns out to have been lost in between, a new
        one is tried at once: nothing was committed.
        """
        kept = self._conn is not None
        try:
            return self._transact(desk, works)
        except _NotCommittedError as exc:
            if kept and lost(exc.reason):
                try:
                    return self._transact(desk, works)
                except _NotCommittedError as again:
                    raise again.reason from None
            raise exc.reason from None

    def _transact(self, desk: Desk[Any, Any], works: Sequence[object]) -> Sequence[Any]:
        transaction = None
        try:
            if self._conn is None:
                self._conn = self._engine.connect()
            transaction = self._conn.begin()
            answers = desk.settle(self._conn, works)
        except Exception as exc:
            if lost(exc) or transaction is None:
                self._let_go()
            else:
                transaction.rollback()
            raise _NotCommittedError(exc) from exc
        except BaseException:
            self._let_go()
            raise
        try:
            transaction.commit()
        except BaseException:
            self._let_go()
            raise
        return answers

    def _let_go(self) -> None:
        """Give the connection back; a transaction that is open is rolled back."""
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()

    def _fail(self, group: Sequence[_Submission], error: Exception) -> None:
        """Unless the database is gone, try each by itself, once."""
        for submission in group:
            if lost(error) or len(group) == 1:
                _tell([_Outcome(submission, error=_told(error))])
                continue
            try:
                self._work([submission])
            except Exception as exc:  # it is this submission's own error
                _tell([_Outcome(submission, error=_told(exc))])


class _NotCommittedError(Exception):
    """The transaction was rolled back for this reason."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _tell(outcomes: Iterable[_Outcome]) -> None:
    """Let everybody know; a loop is woken once."""
    of_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        waiting = outcome.submission.waiting
        if isinstance(waiting, Future):
            outcome.tell()
        else:
            of_loop.setdefault(waiting.get_loop(), []).append(outcome)
    for loop, some in of_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_tell_all, some)


def _tell_all(outcomes: Sequence[_Outcome]) -> None:
    for outcome in outcomes:
        outcome.tell()


def _not_running() -> StoreUnavailableError:
    return StoreUnavailableError("the service is not running")


def _told(error: Exception) -> Exception:
    """What the caller hears."""
    if not lost(error):
        return error
    told = StoreUnavailableError("the decision was not acknowledged by the database")
    told.__cause__ = error
    return told

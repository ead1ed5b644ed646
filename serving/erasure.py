"""Erase people: messages stopped, tables made nameless, stores and files cleaned; resumed where it was cut short.

1. one transaction: what is in flight is cancelled, every row is nameless, the erasure is written down with the ids;
2. online store, caches and files lose the person's rows;
3. the ids themselves are dropped, and the database's files keep nothing of them.

Whoever dies in between leaves an erasure that is not finished; the next start goes on with it. Each step can be
done twice.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Engine

from features.history.engine import compact
from features.history.erase import (
    Erasure,
    erase_rows,
    finish,
    forget_subject,
    load_unfinished,
    subject_of,
    was_erased,
)
from features.history.members import lock_people
from features.workspace import FeatureWorkspace
from models.domain.errors import ConflictError, NotFoundError
from serving.store.availability import reaching_the_store
from serving.store.outbox_by_hand import cancel

logger = logging.getLogger(__name__)

REASON = "erased"
# How often a service looks for erasures that were cut short.
UPKEEP_SECONDS = 30.0


class Eraser:
    """Erases people from one installation.

    Args:
        engine: The history.
        workspace: Its features; None where there are none.
        clock: Gives the present.
    """

    def __init__(
        self, engine: Engine, workspace: FeatureWorkspace | None, clock: Callable[[], datetime]
    ) -> None:
        self._engine = engine
        self._workspace = workspace
        self._clock = clock
        self._working = threading.Lock()

    def erase(self, customer_id: str) -> Erasure:
        """Erase a person, whichever of their ids is given, and clean up behind them.

        Returns:
            The erasure; `finished_at` is None where something still reads a file that must be cleaned: the
            service goes on with it.

        Raises:
            NotFoundError: nothing is recorded under the id.
            ConflictError: they were erased already.
        """
        begun = self.begin(customer_id)
        self.resume()
        with self._engine.connect() as conn:
            unfinished = {one.tombstone_id for one in load_unfinished(conn)}
        finished_at = None if begun.tombstone_id in unfinished else self._clock()
        return Erasure(
            tombstone_id=begun.tombstone_id,
            customer_ids=(),
            requested_at=begun.requested_at,
            finished_at=finished_at,
            rows=begun.rows,
        )

    def begin(self, customer_id: str) -> Erasure:
        """The first step alone: from its commit on the person is unknown to decisions, reports and senders."""
        with reaching_the_store(), self._engine.begin() as conn:
            lock_people(conn)
            try:
                ids = subject_of(conn, customer_id)
            except NotFoundError:
                if was_erased(conn, customer_id):
                    raise ConflictError("this customer was erased already") from None
                raise
            lock_people(conn, ids)
            cancel(conn, ids, self._clock(), REASON)
            return erase_rows(conn, ids, self._clock())

    def resume(self, after: Callable[[str], None] = lambda _step: None) -> int:
        """Finish every erasure that was begun; how many are finished now.

        Args:
            after: Told the name of each step that is done.
        """
        with self._working, reaching_the_store():
            with self._engine.connect() as conn:
                unfinished = load_unfinished(conn)
            if not unfinished:
                return 0
            ids = sorted({customer_id for one in unfinished for customer_id in one.customer_ids})
            if self._workspace is not None and ids:
                from features.changes import announce
                from features.erasure import forget

                forget(self._workspace, ids)
                with self._engine.begin() as conn:
                    announce(conn, None, self._clock())  # everybody's: nobody is named
            after("stores")
            with self._engine.begin() as conn:
                for one in unfinished:
                    forget_subject(conn, one)
            after("subject")
            if not compact(self._engine):
                logger.warning("others are reading the database: %d erasures go on later", len(unfinished))
                return 0
            after("files")
            with self._engine.begin() as conn:
                for one in unfinished:
                    finish(conn, one, self._clock())
            return len(unfinished)

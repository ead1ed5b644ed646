"""From a mailbox of bounces to receipts."""

from __future__ import annotations

import mailbox
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine

from models.domain.errors import InvalidInputError
from serving.channels.dsn import parse_report
from serving.receipts import record_events
from serving.store.availability import reaching_the_store


@dataclass(frozen=True, slots=True)
class ReadBounces:
    """How many mails were read, and what they reported; see `serving.receipts.Recorded`."""

    n_mails: int
    n_new: int
    n_repeated: int
    n_unmatched: int


def read_bounces(engine: Engine, path: Path, now: datetime) -> ReadBounces:
    """Record the reports in a Maildir's new mails, which are then marked as seen, or in an mbox file.

    Args:
        engine: The history.
        path: A folder with `new` and `cur`, or a file.
        now: Aware.

    Raises:
        InvalidInputError: there is no mailbox.
        StoreUnavailableError: the database cannot be reached; the mail stays new.
    """
    n_mails = n_new = n_repeated = n_unmatched = 0
    for content, done in _mails(path):
        n_mails += 1
        events = parse_report(content, now)
        if events:
            with reaching_the_store(), engine.begin() as conn:
                told = record_events(conn, events, now)
            n_new += told.n_new
            n_repeated += told.n_repeated
            n_unmatched += told.n_unmatched
        done()
    return ReadBounces(n_mails, n_new, n_repeated, n_unmatched)


def _mails(path: Path) -> Iterator[tuple[bytes, Callable[[], object]]]:
    """Each mail, and what to call when it is recorded."""
    if (path / "new").is_dir() and (path / "cur").is_dir():
        for file in sorted((path / "new").iterdir()):
            seen = path / "cur" / f"{file.name}:2,S"
            yield file.read_bytes(), lambda file=file, seen=seen: file.rename(seen)  # type: ignore[misc]
    elif path.is_file():
        box = mailbox.mbox(path, create=False)
        for key in box.iterkeys():
            yield box.get_bytes(key), lambda: None
        box.close()
    else:
        raise InvalidInputError(
            "mailbox", str(path), "must be a Maildir with `new` and `cur`, or an mbox file"
        )
